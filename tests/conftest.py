"""Makes the local cluster's fixtures known to all tests."""

pytest_plugins = ["local_cluster.fixtures"]
