"""Prometheus for a whole cluster: a process in its network that scrapes the pods of servers.

Debian builds it without the discovery of Kubernetes, so this module tells it the pods, at each of
its questions as the API server has them. In the cluster it is reached under `ADDRESS`.
"""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from local_cluster.node import Node
from local_cluster.prometheus import Page, Prometheus

NAMESPACE, SERVICE, PORT = "monitoring", "prometheus", 9090
ADDRESS = f"http://{SERVICE}.{NAMESPACE}:{PORT}"
LABEL = "springtide.dev/{}"
SERVERS = "/api/v1/pods?labelSelector=" + LABEL.format("generation")
SCRAPED = "http"
"""Name of the port that is scraped."""
EVERY = "1s"


@contextmanager
def monitored(cluster: Node) -> Iterator[Prometheus]:
    """Run it in a cluster that is up.

    Its series have the labels namespace, pod, generation and role, the last two from the pod's.
    """
    network = cluster.network
    service = json.dumps(_service(network.node_address))
    cluster.kubectl("apply", "--server-side", "-f", "-", input=service)

    def targets() -> str:
        pods = cluster.plane.read(SERVERS)["items"]
        return json.dumps([found for pod in pods for found in _targets(pod)])

    page = Page(targets, kind="application/json", host=network.host_address)
    discovery = {"url": f"http://{page.address}/", "refresh_interval": EVERY}
    made = Prometheus(
        cluster.home,
        [{"job_name": "servers", "http_sd_configs": [discovery]}],
        interval=EVERY,
        address=network.node_address,
        port=PORT,
        enter=network.enter,
    )
    try:
        made.stop()  # one that was left behind reads a page that is gone
        made.start()
        yield made
    finally:
        made.stop()
        page.close()


def _targets(pod: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield the address of each port that is scraped, where the pod runs."""
    metadata, status = pod["metadata"], pod["status"]
    if status.get("phase") != "Running":
        return
    labels = {
        name: metadata["labels"].get(LABEL.format(name), "") for name in ("generation", "role")
    }
    labels |= {"namespace": metadata["namespace"], "pod": metadata["name"]}
    for container in pod["spec"]["containers"]:
        for port in container.get("ports", []):
            if port.get("name") == SCRAPED:
                address = f"{status['podIP']}:{port['containerPort']}"
                yield {"targets": [address], "labels": labels}


def _service(address: str) -> dict[str, Any]:
    """A Service without a selector, and the address behind it."""
    metadata = {"name": SERVICE, "namespace": NAMESPACE}
    labels = {"kubernetes.io/service-name": SERVICE}
    objects = [
        {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}},
        {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": metadata,
            "spec": {"ports": [{"name": "http", "port": PORT}]},
        },
        {
            "apiVersion": "discovery.k8s.io/v1",
            "kind": "EndpointSlice",
            "metadata": metadata | {"labels": labels},
            "addressType": "IPv4",
            "ports": [{"name": "http", "port": PORT}],
            "endpoints": [{"addresses": [address]}],
        },
    ]
    return {"apiVersion": "v1", "kind": "List", "items": objects}
