"""Loads images from the build store into a cluster: into its registry and onto its node.

The kubelet pulls them for a pod that does nothing, in the same way as for users' pods, so that the
first pod of a test starts at once.
"""

from __future__ import annotations

import json
import subprocess
import uuid
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from local_cluster import images

if TYPE_CHECKING:
    from local_cluster.node import Node

NAMESPACE = "kube-system"
PULL_SECONDS = 900


def push(node: Node, reference: str) -> str:
    """Push an image of the build store to the cluster's registry and return its digest."""
    return images.push(reference, reference, enter=node.network.enter)


def pull(node: Node, reference: str) -> None:
    """Let the kubelet pull an image by its digest, then remove other versions from the node."""
    repository, _, digest = reference.partition("@")
    stamp = node.image_slot / "pulled" / repository.replace("/", "_")
    if stamp.exists() and stamp.read_text() == digest:
        return
    name = f"pull-{repository.rpartition('/')[2]}"
    node.kubectl("-n", NAMESPACE, "delete", "pod", name, "--ignore-not-found", "--now")
    node.kubectl("apply", "-f", "-", input=json.dumps(_pod(name, reference)))
    seconds = f"--timeout={PULL_SECONDS}s"
    done = "--for=jsonpath={.status.phase}=Succeeded"
    node.kubectl("-n", NAMESPACE, "wait", f"pod/{name}", done, seconds)
    node.kubectl("-n", NAMESPACE, "delete", "pod", name, "--now")
    _remove_others(node, repository, digest)
    images.share_layers(_layers(node))
    stamp.parent.mkdir(exist_ok=True)
    stamp.write_text(digest)


def _pod(name: str, reference: str) -> dict:
    container = {
        "name": "pull",
        "image": reference,
        "imagePullPolicy": "IfNotPresent",
        "command": ["/bin/true"],
    }
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "namespace": NAMESPACE},
        "spec": {"restartPolicy": "Never", "containers": [container]},
    }


def _remove_others(node: Node, repository: str, digest: str) -> None:
    for line in _ctr(node, "images", "ls").splitlines()[1:]:
        name, _, found, *_ = line.split()
        if name.startswith((f"{repository}@", f"{repository}:")) and found != digest:
            _ctr(node, "images", "rm", name)


def _layers(node: Node) -> set[Path]:
    """Return the folders of all layers of images; those of containers are writable."""
    rows = [line.split() for line in _ctr(node, "snapshots", "ls").splitlines()[1:]]
    parents = {key: "".join(parent) for key, *parent, kind in rows if kind == "Committed"}
    tops = parents.keys() - parents.values()
    return {folder for top in tops for folder in _layers_below(node, top)}


def _layers_below(node: Node, top: str) -> list[Path]:
    """Return the folders of a layer and its parents; containerd prints them only for a view."""
    view = f"springtide-{uuid.uuid4()}"
    try:
        mounts = json.loads(_ctr(node, "snapshots", "view", "--mounts", view, top))
    except subprocess.CalledProcessError:
        return []  # a layer of an image that was removed is deleted a little later
    with suppress(subprocess.CalledProcessError):  # containerd's garbage collection was faster
        _ctr(node, "snapshots", "rm", view)
    return layer_folders(mounts[0])


def layer_folders(mount: dict) -> list[Path]:
    """Return the folders that a read-only mount of an image shows.

    Args:
        mount: as containerd prints it: an overlay, or a bind mount of an only layer.
    """
    key = "lowerdir="
    lower = [option.removeprefix(key) for option in mount["Options"] if option.startswith(key)]
    return [Path(folder) for folder in (lower[0].split(":") if lower else [mount["Source"]])]


def _ctr(node: Node, *arguments: str) -> str:
    address = f"--address={node.home}/run/containerd.sock"
    argv = ["ctr", address, "--namespace=k8s.io", *arguments]
    return subprocess.run(argv, check=True, capture_output=True, text=True).stdout
