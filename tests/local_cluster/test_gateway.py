import http.client
import json
import uuid
from collections import Counter
from collections.abc import Iterator

import pytest
from local_cluster import gateway, processes
from local_cluster.gateway import Traefik
from local_cluster.node import Node
from local_cluster.node_config import PAUSE

pytestmark = pytest.mark.cluster

API = "gateway.networking.k8s.io/v1"
NAMES = ("stable", "canary")
REQUESTS = 1000


def server(name: str) -> list[dict]:
    serves = f"echo {name} >/tmp/index.html; exec /bin/busybox httpd -f -p 8080 -h /tmp"
    container = {
        "name": "server",
        "image": PAUSE,
        "command": ["/bin/busybox", "sh", "-c", serves],
        "volumeMounts": [{"name": "tmp", "mountPath": "/tmp"}],
    }
    labels = {"app": name}
    pod = {"containers": [container], "volumes": [{"name": "tmp", "emptyDir": {}}]}
    template = {"metadata": {"labels": labels}, "spec": pod}
    metadata = {"name": name}
    deployment = {"selector": {"matchLabels": labels}, "template": template}
    service = {"selector": labels, "ports": [{"port": 80, "targetPort": 8080}]}
    return [
        {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": metadata, "spec": deployment},
        {"apiVersion": "v1", "kind": "Service", "metadata": metadata, "spec": service},
    ]


def routing(host: str) -> list[dict]:
    listener = {"name": "web", "protocol": "HTTP", "port": gateway.PORT}
    made = {"gatewayClassName": gateway.CLASS, "listeners": [listener]}
    backends = [
        {"name": name, "port": 80, "weight": weight}
        for name, weight in zip(NAMES, (90, 10), strict=True)
    ]
    route = {
        "parentRefs": [{"name": "web"}],
        "hostnames": [host],
        "rules": [{"backendRefs": backends}],
    }
    return [
        {"apiVersion": API, "kind": "Gateway", "metadata": {"name": "web"}, "spec": made},
        {"apiVersion": API, "kind": "HTTPRoute", "metadata": {"name": "split"}, "spec": route},
    ]


@pytest.fixture
def namespace(node_cluster: Node, node_gateway: Traefik) -> Iterator[str]:
    name = f"routed-{uuid.uuid4().hex[:8]}"
    node_cluster.kubectl("create", "namespace", name)
    objects = [*server("stable"), *server("canary"), *routing(f"{name}.test")]
    body = json.dumps({"apiVersion": "v1", "kind": "List", "items": objects})
    node_cluster.kubectl("-n", name, "apply", "-f", "-", input=body)
    yield name
    node_cluster.kubectl("delete", "namespace", name, "--wait=false")


def test_the_share_of_the_requests_follows_the_weights_of_a_route(
    node_cluster: Node, node_gateway: Traefik, namespace: str
) -> None:
    def share(count: int = REQUESTS) -> float:
        seen = Counter(answer(node_gateway, namespace) for _ in range(count))
        assert seen.keys() <= set(NAMES), seen
        return seen["canary"] / count

    def weigh(stable: int, canary: int) -> None:
        path = "/spec/rules/0/backendRefs/{}/weight"
        change = [
            {"op": "test", "path": path.format(1), "value": 10},
            {"op": "replace", "path": path.format(0), "value": stable},
            {"op": "replace", "path": path.format(1), "value": canary},
        ]
        patch = ("patch", "httproute/split", "--type=json", f"--patch={json.dumps(change)}")
        node_cluster.kubectl("-n", namespace, *patch)

    def both_answer() -> bool:
        return set(NAMES) <= {answer(node_gateway, namespace) for _ in range(40)}

    assert processes.waited(both_answer, seconds=180)
    assert share() == pytest.approx(0.10, abs=0.01)

    weigh(100, 0)
    assert processes.waited(lambda: share(40) == 0, seconds=60)
    assert share() == 0
    with pytest.raises(RuntimeError, match="test"):
        weigh(0, 100)


def answer(traefik: Traefik, host: str) -> str:
    connection = http.client.HTTPConnection(traefik.address, gateway.PORT, timeout=30)
    try:
        connection.request("GET", "/", headers={"Host": f"{host}.test"})
        response = connection.getresponse()
        body = response.read().decode().strip()
        return body if response.status == 200 else f"{response.status} {body}"
    except OSError as error:
        return type(error).__name__
    finally:
        connection.close()
