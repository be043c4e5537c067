"""Controllers of other projects in a cluster, each installed by its chart.

The set-up takes the chart from the module that the controller is built with; the image holds
nothing else. Both make the certificates of their webhooks themselves.
"""

import json
import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from local_cluster import images
from local_cluster.node import Node
from local_cluster.node_config import REGISTRY
from local_cluster.places import IMAGES, VERSIONS, alone, manifests, program

READY_SECONDS = 180
SMALL = {"requests": {"cpu": "20m", "memory": "128Mi"}, "limits": {"memory": "512Mi"}}
"""Resources of a controller: the node of the tests has few."""


@dataclass(frozen=True)
class Controller:
    """A program that a chart of its module runs as `/manager`."""

    name: str
    """Of the program, the image and the release."""
    deployment: str
    values: Callable[[dict[str, str]], dict[str, Any]]
    """Values of the chart for an image."""

    @property
    def namespace(self) -> str:
        return f"{self.name}-system"

    @property
    def image(self) -> str:
        return f"{REGISTRY}/{self.name}:v{VERSIONS[self.name]}"

    def install(self, cluster: Node) -> None:
        """Install it with its kinds."""
        self._ensure_image()
        cluster.push(self.image)
        repository, _, tag = self.image.rpartition(":")
        image = {"repository": repository, "tag": tag, "pullPolicy": "IfNotPresent"}
        command = ["upgrade", "--install", self.name, str(manifests(self.name))]
        values = json.dumps(self.values(image))
        self._helm(cluster, *command, "--create-namespace", "--values=-", stdin=values)

    def wait(self, cluster: Node) -> None:
        """Return once its webhooks answer."""
        condition = ("--for=condition=Available", f"--timeout={READY_SECONDS}s")
        deployment = f"deployment/{self.deployment}"
        cluster.kubectl("-n", self.namespace, "wait", deployment, *condition)

    def remove(self, cluster: Node) -> None:
        """Remove it with its kinds and all their objects."""
        self._helm(cluster, "uninstall", self.name, "--ignore-not-found")
        if (kinds := manifests(self.name) / "crds").exists():  # helm leaves these
            cluster.kubectl("delete", "--ignore-not-found", "-f", str(kinds))

    def _helm(self, cluster: Node, *command: str, stdin: str | None = None) -> None:
        options = [f"--namespace={self.namespace}", f"--kubeconfig={cluster.kubeconfig}"]
        subprocess.run([program("helm"), *command, *options], input=stdin, text=True, check=True)

    def _ensure_image(self) -> None:
        """Build the image unless it is there."""
        with alone(images.LOCK):
            if images.exists(self.image):
                return
            context = IMAGES / self.name
            context.mkdir(parents=True, exist_ok=True)
            shutil.copy(program(self.name), context / "manager")
            (context / "Dockerfile").write_text(
                "FROM scratch\nCOPY manager /manager\nUSER 65532:65532\n"
            )
            images.buildah("bud", "--quiet", "--tag", self.image, str(context))
            (context / "manager").unlink()


KUEUE = Controller(
    "kueue",
    "kueue-controller-manager",
    lambda image: {"controllerManager": {"manager": {"image": image, "resources": SMALL}}},
)
"""Its chart switches the integration with JobSet on."""

JOB_SET = Controller(
    "jobset",
    "jobset-controller",
    lambda image: {"image": image, "controller": {"resources": SMALL}},
)


@contextmanager
def running(cluster: Node, *controllers: Controller) -> Iterator[None]:
    """Run controllers in a cluster; those whose kinds another one looks for come first."""
    try:
        for each in controllers:
            each.install(cluster)
        for each in controllers:
            each.wait(cluster)
        yield
    finally:
        for each in reversed(controllers):
            each.remove(cluster)
