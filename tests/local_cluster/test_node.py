import json
import os
import signal
import subprocess
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
from local_cluster import processes
from local_cluster.node import Node
from local_cluster.node_config import PAUSE

pytestmark = pytest.mark.cluster

RESTRICTED = {
    "allowPrivilegeEscalation": False,
    "capabilities": {"drop": ["ALL"]},
    "readOnlyRootFilesystem": True,
    "runAsNonRoot": True,
    "runAsUser": 12345,
    "seccompProfile": {"type": "RuntimeDefault"},
}


def busybox(*words: str) -> dict:
    return {
        "name": "busybox",
        "image": PAUSE,
        "command": ["/bin/busybox", *words],
        "securityContext": RESTRICTED,
    }


def deployment(name: str, container: dict) -> str:
    labels = {"app": name}
    template = {"metadata": {"labels": labels}, "spec": {"containers": [container]}}
    spec = {"replicas": 2, "selector": {"matchLabels": labels}, "template": template}
    metadata = {"name": name}
    body = {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": metadata, "spec": spec}
    return json.dumps(body)


def pod(name: str, container: dict, **spec: object) -> str:
    spec = {"restartPolicy": "Never", "containers": [container], **spec}
    metadata = {"name": name}
    return json.dumps({"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec})


def completed(cluster: Node, namespace: str, name: str) -> str:
    done = "--for=jsonpath={.status.phase}=Succeeded"
    cluster.kubectl("-n", namespace, "wait", f"pod/{name}", done, "--timeout=180s")
    return cluster.kubectl("-n", namespace, "logs", name)


@pytest.fixture
def namespace(node_cluster: Node) -> Iterator[str]:
    name = f"restricted-{uuid.uuid4().hex[:8]}"
    node_cluster.kubectl("create", "namespace", name)
    enforced = "pod-security.kubernetes.io/enforce=restricted"
    node_cluster.kubectl("label", "namespace", name, enforced)
    yield name
    node_cluster.kubectl("delete", "namespace", name, "--wait=false")


def test_a_restricted_deployment_answers_under_its_name(node_cluster: Node, namespace: str) -> None:
    served = busybox("nc", "-ll", "-p", "8080", "-e", "/bin/busybox", "id")
    node_cluster.kubectl("-n", namespace, "apply", "-f", "-", input=deployment("hello", served))
    node_cluster.kubectl("-n", namespace, "rollout", "status", "deployment/hello", "--timeout=180s")
    node_cluster.kubectl("-n", namespace, "expose", "deployment/hello", "--port=8080")

    ask = busybox("nc", "-w", "10", f"hello.{namespace}.svc.cluster.local", "8080")
    node_cluster.kubectl("-n", namespace, "apply", "-f", "-", input=pod("ask", ask))

    assert "uid=12345" in completed(node_cluster, namespace, "ask")


def test_a_pod_writes_into_the_storage_folder(node_cluster: Node, namespace: str) -> None:
    claim = {
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": {"name": "data"},
        "spec": {
            "accessModes": ["ReadWriteMany"],
            "storageClassName": "local",
            "resources": {"requests": {"storage": "1Gi"}},
        },
    }
    writes = busybox("touch", "/data/written")
    writes["volumeMounts"] = [{"name": "data", "mountPath": "/data"}]
    volumes = [{"name": "data", "persistentVolumeClaim": {"claimName": "data"}}]

    node_cluster.kubectl("-n", namespace, "apply", "-f", "-", input=json.dumps(claim))
    body = pod("writes", writes, volumes=volumes)
    node_cluster.kubectl("-n", namespace, "apply", "-f", "-", input=body)
    completed(node_cluster, namespace, "writes")

    assert (node_cluster.storage_dir / "written").exists()


def test_a_privileged_pod_is_refused(node_cluster: Node, namespace: str) -> None:
    privileged = busybox("id") | {"securityContext": {"privileged": True}}

    with pytest.raises(RuntimeError, match="violates PodSecurity"):
        node_cluster.kubectl("-n", namespace, "apply", "-f", "-", input=pod("no", privileged))


def test_a_fake_gpu_is_scheduled(node_cluster: Node, namespace: str) -> None:
    patch = json.dumps({"status": {"capacity": {"nvidia.com/gpu": "1"}}})
    node_cluster.kubectl("patch", "node", "node", "--subresource=status", "-p", patch)
    wants = busybox("true") | {"resources": {"limits": {"nvidia.com/gpu": "1"}}}

    node_cluster.kubectl("-n", namespace, "apply", "-f", "-", input=pod("wants", wants))

    completed(node_cluster, namespace, "wants")


@pytest.fixture(scope="module")
def second() -> Iterator[Node]:
    cluster = Node("test-second")
    try:
        cluster.purge()
        yield cluster
    finally:
        cluster.purge()


@pytest.fixture
def second_cluster(second: Node) -> Node:
    second.up()
    return second


def test_a_second_cluster_shares_nothing_with_the_first(
    node_cluster: Node, second_cluster: Node
) -> None:
    second_cluster.kubectl("create", "namespace", "only-in-the-second")

    assert "only-in-the-second" not in node_cluster.kubectl("get", "namespaces")
    assert second_cluster.network.node_address != node_cluster.network.node_address


def test_it_comes_up_again_after_everything_was_killed_at_once(second_cluster: Node) -> None:
    run = deployment("kept", busybox("sleep", "1000"))
    second_cluster.kubectl("apply", "-f", "-", input=run)
    second_cluster.kubectl("rollout", "status", "deployment/kept", "--timeout=180s")

    kill_everything(second_cluster)
    assert not second_cluster.is_up()
    second_cluster.up()

    second_cluster.kubectl("rollout", "status", "deployment/kept", "--timeout=180s")
    second_cluster.kubectl("delete", "deployment", "kept")


def test_down_leaves_nothing_behind(second_cluster: Node) -> None:
    run = deployment("running", busybox("sleep", "1000"))
    second_cluster.kubectl("apply", "-f", "-", input=run)
    second_cluster.kubectl("rollout", "status", "deployment/running", "--timeout=180s")
    assert second_cluster.traces()

    second_cluster.down()

    assert second_cluster.traces() == []
    assert mentions(second_cluster.home) == []


def kill_everything(cluster: Node) -> None:
    daemons = [processes.running(cluster.home, name) for name in processes.names(cluster.home)]
    for pid in [*daemons, *mentions(cluster.home)]:
        os.kill(pid, signal.SIGKILL)


def mentions(home: Path) -> list[int]:
    """Processes that name the cluster's folder or run in a container of it."""
    found = subprocess.run(
        ["grep", "-lsF", str(home), *(f"/proc/{pid}/cmdline" for pid in processes.command_lines())],
        capture_output=True,
        text=True,
        check=False,
    )
    return [int(line.split("/")[2]) for line in found.stdout.splitlines()]
