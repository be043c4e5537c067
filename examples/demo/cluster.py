"""Where the demo happens: the local cluster of this machine, or one that is there already."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING

from demo.kubectl import DemoError, Kubectl, run
from local_cluster import images
from local_cluster.places import REPOSITORY, program

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from local_cluster.node import Node

CHART = REPOSITORY / "charts" / "springtide"
EXAMPLES = REPOSITORY / "examples"
SYSTEM = "springtide-system"
INSTALL_SECONDS = 180


@dataclass(frozen=True)
class Cluster:
    """A cluster and the images that it can pull."""

    kubectl: Kubectl
    helm: tuple[str, ...]
    operator_image: str
    trainer_image: str
    version: str = ""
    """Changes whenever an image changes under the same name."""
    volumes: Path | None = None
    """Folder of this machine for the claims; None: the cluster makes volumes itself."""


def local(node: Node, say: Callable[[str], None]) -> Cluster:
    """Start the local cluster, or take it as it runs, and bring the project's images into it."""
    say("the local cluster starts")
    node.up()
    say("images are built and loaded (the first time this takes minutes)")
    operator, trainer = node.load(images.OPERATOR, images.TRAINER)
    config = f"--kubeconfig={node.kubeconfig}"
    return Cluster(
        kubectl=Kubectl((program("kubectl"), config)),
        helm=(program("helm"), config),
        operator_image=operator,
        trainer_image=trainer,
        version="-".join(images.identity(name)[-12:] for name in (operator, trainer)),
        volumes=node.storage_dir,
    )


def existing(context: str) -> Cluster:
    """Use a cluster of the user's kubeconfig; its images are named by two variables.

    Raises:
        DemoError: an image is not named.
    """
    named = {name: os.environ.get(name, "") for name in ("OPERATOR_IMAGE", "TRAINER_IMAGE")}
    if missing := [name for name, image in named.items() if not image]:
        raise DemoError(
            f"CONTEXT={context} needs {' and '.join(missing)}: push the images where the cluster "
            "can pull them, and name them (operator/Dockerfile, trainer_image/Dockerfile)"
        )
    return Cluster(
        kubectl=Kubectl(("kubectl", f"--context={context}")),
        helm=("helm", f"--kube-context={context}"),
        operator_image=named["OPERATOR_IMAGE"],
        trainer_image=named["TRAINER_IMAGE"],
    )


def install(cluster: Cluster) -> None:
    """Install or upgrade the chart and wait until the operator answers."""
    enforce = {"pod-security.kubernetes.io/enforce": "restricted"}
    labelled = {"name": SYSTEM, "labels": enforce}
    cluster.kubectl.apply([{"apiVersion": "v1", "kind": "Namespace", "metadata": labelled}])
    settings = {
        **_image("image", cluster.operator_image),
        **_image("trainer", cluster.trainer_image),
        "podAnnotations.images": cluster.version or "given",
    }
    flags = [
        flag for name, value in settings.items() for flag in ("--set-string", f"{name}={value}")
    ]
    wait = ("--wait", f"--timeout={INSTALL_SECONDS}s")
    command = (
        *cluster.helm,
        "upgrade",
        "--install",
        "springtide",
        str(CHART),
        "--namespace",
        SYSTEM,
    )
    run(*command, *flags, *wait, seconds=INSTALL_SECONDS + 30)


def _image(value: str, reference: str) -> dict[str, str]:
    name, _, digest = reference.partition("@")
    repository, colon, tag = name.rpartition(":")
    if not colon or "/" in tag:
        repository, tag = name, ""
    return {f"{value}.repository": repository, f"{value}.tag": tag, f"{value}.digest": digest}
