"""The local cluster as pytest fixtures; tests/conftest.py activates them."""

from collections.abc import Iterator

import pytest
from local_cluster.apiserver import ApiServer


@pytest.fixture(scope="session")
def apiserver() -> Iterator[ApiServer]:
    """An API server without nodes, shared by all tests of the session; leave it running."""
    server = ApiServer()
    try:
        server.open()
        yield server
    finally:
        server.close()
