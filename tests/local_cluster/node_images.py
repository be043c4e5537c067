"""Takes images from the build store into a cluster: into its registry and onto its node.

The pull is done by the kubelet for a pod that does nothing, so that a test's first pod starts at
once, and through the very path that users' pods take.
"""

from __future__ import annotations

import json
import subprocess
from typing import TYPE_CHECKING

from local_cluster import images

if TYPE_CHECKING:
    from local_cluster.node import Node

NAMESPACE = "kube-system"
PULL_SECONDS = 900


def push(node: Node, reference: str) -> None:
    """Push an image of the build store to the cluster's registry; only new layers travel."""
    images.buildah(
        "push",
        "--quiet",
        "--tls-verify=false",
        # Half the time of gzip in both directions, and containerd reads either.
        "--compression-format=zstd",
        "--compression-level=1",
        reference,
        f"docker://{reference}",
        enter=node.network.enter,
    )


def pull(node: Node, reference: str) -> None:
    """Have the kubelet pull the image, then forget the one that had this name before."""
    stamp = node.image_slot / "pulled" / reference.replace("/", "_")
    identity = images.identity(reference)
    if stamp.exists() and stamp.read_text() == identity:
        return
    name = f"pull-{reference.rpartition('/')[2].partition(':')[0]}"
    node.kubectl("-n", NAMESPACE, "delete", "pod", name, "--ignore-not-found", "--now")
    node.kubectl("apply", "-f", "-", input=json.dumps(_pod(name, reference)))
    seconds = f"--timeout={PULL_SECONDS}s"
    done = "--for=jsonpath={.status.phase}=Succeeded"
    node.kubectl("-n", NAMESPACE, "wait", f"pod/{name}", done, seconds)
    node.kubectl("-n", NAMESPACE, "delete", "pod", name, "--now")
    _forget_earlier(node, reference)
    stamp.parent.mkdir(exist_ok=True)
    stamp.write_text(identity)


def _pod(name: str, reference: str) -> dict:
    container = {
        "name": "pull",
        "image": reference,
        "imagePullPolicy": "Always",
        "command": ["/bin/true"],
    }
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "namespace": NAMESPACE},
        "spec": {"restartPolicy": "Never", "containers": [container]},
    }


def _forget_earlier(node: Node, reference: str) -> None:
    rows = [line.split()[:3] for line in _ctr(node, "images", "ls").splitlines()[1:]]
    digests = {name: digest for name, _, digest in rows}
    repository = reference.rpartition(":")[0]
    for name, digest in digests.items():
        if name.startswith(f"{repository}@") and digest != digests[reference]:
            _ctr(node, "images", "rm", name)


def _ctr(node: Node, *arguments: str) -> str:
    address = f"--address={node.home}/run/containerd.sock"
    argv = ["ctr", address, "--namespace=k8s.io", *arguments]
    return subprocess.run(argv, check=True, capture_output=True, text=True).stdout
