"""Kueue in a cluster: its manager in an image that holds nothing else, installed by its chart.

The set-up takes the chart from the module that the manager is built with.
"""

import json
import shutil
import subprocess
from dataclasses import dataclass

from local_cluster import images
from local_cluster.node import Node
from local_cluster.node_config import REGISTRY
from local_cluster.places import IMAGES, VERSIONS, alone, manifests, program

NAME = "kueue"
NAMESPACE = "kueue-system"
MANAGER = "deployment/kueue-controller-manager"
IMAGE = f"{REGISTRY}/kueue:v{VERSIONS[NAME]}"
DOCKERFILE = """\
FROM scratch
COPY kueue /manager
USER 65532:65532
"""
READY_SECONDS = 180
SMALL = {"requests": {"cpu": "20m", "memory": "128Mi"}, "limits": {"memory": "512Mi"}}
"""Resources of the manager: the node of the tests has few."""


@dataclass(frozen=True)
class Kueue:
    """Kueue in `cluster`."""

    cluster: Node

    def start(self) -> None:
        """Install it, and return once its webhooks answer."""
        ensure_image()
        repository, _, tag = IMAGE.rpartition(":")
        self.cluster.push(IMAGE)
        manager = {
            "image": {"repository": repository, "tag": tag, "pullPolicy": "IfNotPresent"},
            "resources": SMALL,
        }
        values = json.dumps({"controllerManager": {"manager": manager}})
        command = ["upgrade", "--install", NAME, str(manifests(NAME)), f"--namespace={NAMESPACE}"]
        options = ["--create-namespace", "--values=-", f"--kubeconfig={self.cluster.kubeconfig}"]
        subprocess.run([program("helm"), *command, *options], input=values, text=True, check=True)
        seconds = f"--timeout={READY_SECONDS}s"
        self.cluster.kubectl("-n", NAMESPACE, "wait", MANAGER, "--for=condition=Available", seconds)

    def stop(self) -> None:
        """Remove it with its kinds and all their objects."""
        options = [f"--namespace={NAMESPACE}", f"--kubeconfig={self.cluster.kubeconfig}"]
        subprocess.run(
            [program("helm"), "uninstall", NAME, "--ignore-not-found", *options], check=True
        )


def ensure_image() -> str:
    """Build the image of the manager unless it is there; return its name."""
    with alone(images.LOCK):
        if not images.exists(IMAGE):
            context = IMAGES / NAME
            context.mkdir(parents=True, exist_ok=True)
            shutil.copy(program(NAME), context / NAME)
            (context / "Dockerfile").write_text(DOCKERFILE)
            images.buildah("bud", "--quiet", "--tag", IMAGE, str(context))
            (context / NAME).unlink()
    return IMAGE
