"""The local cluster as pytest fixtures; tests/conftest.py activates them."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from local_cluster import object_store as s3
from local_cluster import prometheus as loopback
from local_cluster.apiserver import ApiServer
from local_cluster.controllers import JOB_SET, KUEUE, running
from local_cluster.gateway import Traefik
from local_cluster.monitoring import monitored
from local_cluster.node import Node
from local_cluster.object_store import ObjectStore
from local_cluster.places import manifests
from local_cluster.prometheus import Prometheus, Samples

OWN_NAME = "test"


@pytest.fixture(scope="session")
def apiserver() -> Iterator[ApiServer]:
    """An API server without nodes, shared by all tests of the session; leave it running."""
    server = ApiServer()
    try:
        server.open()
        yield server
    finally:
        server.close()


@pytest.fixture(scope="session")
def samples() -> Iterator[Samples]:
    """What `prometheus` scrapes; each test sets series of its own names or labels."""
    page = Samples()
    yield page
    page.close()


@pytest.fixture(scope="session")
def prometheus(samples: Samples, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Prometheus]:
    """A Prometheus on a loopback port, shared by all tests of the session; leave it running."""
    home = tmp_path_factory.mktemp("prometheus")
    server = loopback.on_loopback(home, samples)
    yield server
    server.stop()


@pytest.fixture(scope="session")
def object_store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ObjectStore]:
    """An S3 server on a loopback port, shared by all tests of the session; leave it running."""
    server = s3.on_loopback(tmp_path_factory.mktemp("s3"))
    yield server
    server.stop()


@pytest.fixture(scope="session")
def node_cluster() -> Iterator[Node]:
    """A whole cluster, shared by all tests of the session.

    $SPRINGTIDE_CLUSTER names one to use as it is; without it a new one is started, and at the end
    nothing of it is left.
    """
    if name := os.environ.get("SPRINGTIDE_CLUSTER"):
        cluster = Node(name)
        cluster.up()
        yield cluster
        return
    cluster = Node(OWN_NAME)
    try:
        cluster.purge()
        cluster.up()
        yield cluster
    finally:
        cluster.purge()


@pytest.fixture(scope="session")
def node_prometheus(node_cluster: Node) -> Iterator[Prometheus]:
    """A Prometheus that scrapes every server of the cluster."""
    with monitored(node_cluster) as server:
        yield server


@pytest.fixture(scope="session")
def node_object_store(node_cluster: Node) -> Iterator[ObjectStore]:
    """An S3 server that the pods of the cluster reach."""
    with s3.in_cluster(node_cluster) as server:
        yield server


@pytest.fixture(scope="session")
def route_kind() -> Path:
    """The CRD of HTTPRoute."""
    return manifests("traefik") / "gateway.networking.k8s.io_httproutes.yaml"


@pytest.fixture(scope="session")
def node_gateway(node_cluster: Node) -> Iterator[Traefik]:
    """The gateway of the cluster, with the kinds of the Gateway API."""
    traefik = Traefik(node_cluster)
    traefik.start()
    yield traefik
    traefik.stop()


@pytest.fixture(scope="module")
def node_kueue(node_cluster: Node) -> Iterator[None]:
    """Kueue in the cluster, and JobSet, whose kind it manages too."""
    with running(node_cluster, JOB_SET, KUEUE):
        yield
