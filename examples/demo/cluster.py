"""The cluster that the demo runs on: the local one of this machine, or one of the kubeconfig."""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from demo.kubectl import DemoError, Kubectl, run
from docs.pages import script
from local_cluster import project_images, publishing
from local_cluster.places import CACHE, REPOSITORY, program

if TYPE_CHECKING:
    from collections.abc import Callable

    from local_cluster.node import Node

EXAMPLES = REPOSITORY / "examples"
WORK = CACHE / "demo"
SYSTEM = "springtide-system"
INSTALL_SECONDS = 360
DOCUMENTED_HOST = "prometheus.monitoring:9090"
"""The Prometheus that the commands of the documentation allow."""


@dataclass(frozen=True)
class Cluster:
    """A cluster and the images that it can pull."""

    kubectl: Kubectl
    helm: tuple[str, ...]
    environment: dict[str, str]
    """Variables with which helm and kubectl reach this cluster without flags."""
    operator_image: str
    trainer_image: str
    work: Path = WORK
    """Folder in which the commands of `make images` run, with copies of chart and examples."""
    volumes: Path | None = None
    """Folder of this machine for the claims; None: the cluster makes volumes itself."""

    @property
    def kustomization(self) -> Path:
        """Return the user's copy of the example, made by `install`."""
        return self.work / "my-shop"


def local(node: Node, report: Callable[[str], None], work: Path = WORK) -> Cluster:
    """Start the local cluster if it does not run, and load the project's images into it."""
    report("the local cluster starts")
    node.up()
    report("images are built and loaded (the first time this takes minutes)")
    operator, trainer = node.load(project_images.OPERATOR, project_images.TRAINER)
    config = f"--kubeconfig={node.kubeconfig}"
    return Cluster(
        kubectl=Kubectl((program("kubectl"), config)),
        helm=(program("helm"), config),
        environment={"KUBECONFIG": str(node.kubeconfig)},
        operator_image=operator,
        trainer_image=trainer,
        work=work,
        volumes=node.storage_dir,
    )


def existing(context: str) -> Cluster:
    """Use a cluster of the user's kubeconfig; two variables name its images.

    Raises:
        DemoError: an image is not named, or not by its digest.
    """
    named = {name: os.environ.get(name, "") for name in ("OPERATOR_IMAGE", "TRAINER_IMAGE")}
    if wrong := [name for name, image in named.items() if "@sha256:" not in image]:
        raise DemoError(
            f"CONTEXT={context} needs {' and '.join(wrong)}: push the images with "
            "`make images REGISTRY=...` and name each as REPOSITORY@sha256:..., as it is printed"
        )
    return Cluster(
        kubectl=Kubectl(("kubectl", f"--context={context}")),
        helm=("helm", f"--kube-context={context}"),
        environment={"HELM_KUBECONTEXT": context},
        operator_image=named["OPERATOR_IMAGE"],
        trainer_image=named["TRAINER_IMAGE"],
    )


def install(cluster: Cluster, commands: str | None = None) -> None:
    """Run the commands that `make images REGISTRY=...` prints, in copies of chart and examples.

    Args:
        cluster: where the operator is installed.
        commands: what was printed; without it, what would be printed for the cluster's images.
    """
    enforce = {"pod-security.kubernetes.io/enforce": "restricted"}
    labelled = {"name": SYSTEM, "labels": enforce}
    cluster.kubectl.apply([{"apiVersion": "v1", "kind": "Namespace", "metadata": labelled}])
    prepare(cluster.work)
    if commands is None:
        published = map(publishing.parse, (cluster.operator_image, cluster.trainer_image))
        commands = publishing.commands(*published)
    shell(commands, cluster)


def allow_prometheus(cluster: Cluster, host: str) -> None:
    """Let the operator ask a Prometheus, with the command of the documentation.

    Args:
        cluster: where the operator is installed.
        host: its host and port.
    """
    command = script("docs/how-to/analysis.md", "hosts")
    shell(command.replace(DOCUMENTED_HOST, host), cluster)
    operator = ("deployment/springtide", f"--namespace={SYSTEM}")
    cluster.kubectl("rollout", "status", *operator, "--timeout=120s")


def prepare(work: Path) -> None:
    """Copy what the commands of the documentation name: the chart and the examples."""
    shutil.rmtree(work / "my-shop", ignore_errors=True)
    for folder in ("charts", "examples"):
        shutil.rmtree(work / folder, ignore_errors=True)
        shutil.copytree(
            REPOSITORY / folder, work / folder, ignore=shutil.ignore_patterns("__pycache__")
        )


def shell(commands: str, cluster: Cluster) -> str:
    """Run commands of the documentation as a user does, in the cluster's work folder."""
    folders = [str(Path(program(name)).parent) for name in ("kubectl", "helm")]
    path = os.pathsep.join([*folders, os.environ["PATH"]])
    environment = {**os.environ, **cluster.environment, "PATH": path}
    output = run(
        *("sh", "-euc", commands), seconds=INSTALL_SECONDS, env=environment, cwd=cluster.work
    )
    return output.decode(errors="replace")
