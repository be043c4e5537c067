import json
import uuid
from collections.abc import Iterator

import pytest
from local_cluster import monitoring
from local_cluster.node import Node
from local_cluster.node_config import PAUSE
from local_cluster.prometheus import Prometheus

pytestmark = pytest.mark.cluster

METRICS = 'requests_total{generation="7"} 41'
SERVES = f"echo '{METRICS}' >/tmp/metrics; exec /bin/busybox httpd -f -p 8080 -h /tmp"


def server(name: str, port: str) -> dict:
    container = {
        "name": "server",
        "image": PAUSE,
        "command": ["/bin/busybox", "sh", "-c", SERVES],
        "ports": [{"name": port, "containerPort": 8080}],
        "volumeMounts": [{"name": "tmp", "mountPath": "/tmp"}],
    }
    labels = {"springtide.dev/generation": "7", "springtide.dev/role": "live"}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "labels": labels},
        "spec": {"containers": [container], "volumes": [{"name": "tmp", "emptyDir": {}}]},
    }


@pytest.fixture
def namespace(node_cluster: Node) -> Iterator[str]:
    name = f"monitored-{uuid.uuid4().hex[:8]}"
    node_cluster.kubectl("create", "namespace", name)
    yield name
    node_cluster.kubectl("delete", "namespace", name, "--wait=false")


def test_the_pods_of_a_server_are_scraped_and_named_by_their_labels(
    node_cluster: Node, node_prometheus: Prometheus, namespace: str
) -> None:
    pods = {"apiVersion": "v1", "kind": "List", "items": [server("one", "http"), server("b", "a")]}
    node_cluster.kubectl("-n", namespace, "apply", "-f", "-", input=json.dumps(pods))

    (found,) = node_prometheus.wait_for(f'requests_total{{namespace="{namespace}"}}', seconds=120)

    metric = found["metric"]
    assert (metric["namespace"], metric["pod"]) == (namespace, "one")
    assert (metric["generation"], metric["role"]) == ("7", "live")
    assert found["value"][1] == "41"
    ask = ("/bin/busybox", "wget", "-q", "-O", "-", f"{monitoring.ADDRESS}/api/v1/query?query=1")
    answer = node_cluster.kubectl("-n", namespace, "exec", "b", "--", *ask)
    assert json.loads(answer)["data"]["result"][1] == "1"
