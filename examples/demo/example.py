"""The shop on a cluster: what the demo's hands do there, and what its eyes see."""

from __future__ import annotations

import io
import json
import shutil
import tarfile
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import yaml
from demo.cluster import EXAMPLES
from demo.kubectl import DemoError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from demo.cluster import Cluster
    from demo.kubectl import Kubectl

NAMESPACE = "shop"
UPDATE = "recommender"
EXAMPLE_IMAGE = "localhost:5000/springtide-trainer:dev"
CLAIMS = ("models", "data")
UNPACK = "import sys, tarfile; tarfile.open(fileobj=sys.stdin.buffer, mode='r|').extractall('{}')"
PACK = "import sys, tarfile; tarfile.open(fileobj=sys.stdout.buffer, mode='w|').add('{}', '.')"
DELIVER = """
import os, sys
with open('/data/.arriving', 'wb') as file:
    file.write(sys.stdin.buffer.read())
os.rename('/data/.arriving', '/data/{}')
"""


@dataclass(frozen=True)
class Example:
    """One namespace of one cluster."""

    cluster: Cluster
    namespace: str = NAMESPACE

    @property
    def kubectl(self) -> Kubectl:
        """Run kubectl against the cluster; the namespace is the caller's to name."""
        return self.cluster.kubectl

    def clear(self) -> None:
        """Remove what an earlier demo left.

        Raises:
            DemoError: there is a namespace of this name that no demo made.
        """
        name = self.namespace
        if there := self.kubectl.get("namespace", name):
            labels = there["metadata"].get("labels", {})
            if labels.get("app.kubernetes.io/part-of") != "springtide-demo":
                raise DemoError(f"there is a namespace {name} that is not the demo's; rename it")
            self.kubectl("delete", "namespace", name, "--wait", "--timeout=300s", seconds=330)
        if self.cluster.volumes:
            volumes = [f"{name}-{claim}" for claim in CLAIMS]
            self.kubectl("delete", "persistentvolume", *volumes, "--ignore-not-found")
            shutil.rmtree(self.cluster.volumes / name, ignore_errors=True)

    def open(self, model: Path, *, change: Callable[[dict[str, Any]], None] | None = None) -> None:
        """Apply `examples/` and hand over the model to begin with.

        Args:
            model: folder of the Hugging Face model.
            change: changes the update's spec in place; without it the example stands as it is.
        """
        objects = self._examples()
        update = next(one for one in objects if one["kind"] == "IncrementalUpdate")
        if self.cluster.volumes:
            self.kubectl.apply([self._volume(claim, self.cluster.volumes) for claim in CLAIMS])
        self.kubectl.apply([one for one in objects if one is not update])
        self._in_shop("wait", "--for=condition=Ready", "pod/shopper", "--timeout=180s")
        self._hand_over(UNPACK.format("/models/minilm"), _archive(model))
        if change:
            change(update["spec"])
        self.kubectl.apply([update])

    def deliver(self, file: str, content: bytes) -> None:
        """Let one month's file arrive, whole or not at all."""
        self._hand_over(DELIVER.format(file), content)

    def request(self, verb: str, token: str) -> None:
        """Ask the operator for something, as `kubectl annotate` does."""
        asked = f"springtide.dev/request={verb}@{token}"
        self._in_shop("annotate", "--overwrite", f"iu/{UPDATE}", asked)

    def update(self) -> dict[str, Any]:
        """Return the status of the update."""
        return self.kubectl.get(f"iu/{UPDATE}", f"--namespace={self.namespace}").get("status", {})

    def generations(self) -> dict[int, dict[str, Any]]:
        """Return the generations by number."""
        items = self.kubectl.get("mg", f"--namespace={self.namespace}").get("items", [])
        return {item["spec"]["number"]: item for item in items}

    def events(self) -> list[dict[str, Any]]:
        """Return the events of the namespace."""
        return self.kubectl.get("events", f"--namespace={self.namespace}").get("items", [])

    def served(self) -> dict[str, Any]:
        """Return what the target carries and the pods that serve it."""
        target = self.kubectl.get("deployment/recommender", f"--namespace={self.namespace}")
        (container,) = target["spec"]["template"]["spec"]["containers"]
        pods = self.kubectl.get(
            "pods", "--selector=app=recommender", f"--namespace={self.namespace}"
        )
        environment = {entry["name"]: entry.get("value") for entry in container["env"]}
        return {
            "digest": environment.get("MODEL_DIGEST"),
            "revision": target["metadata"]["annotations"]["deployment.kubernetes.io/revision"],
            "pods": sorted(
                pod["metadata"]["uid"]
                for pod in pods["items"]
                if "deletionTimestamp" not in pod["metadata"]
            ),
        }

    def totals(self) -> dict[str, Any]:
        """Return what the shopper has counted."""
        text = self._in_shop("exec", "shopper", "--", "cat", "/tmp/totals.json")
        return json.loads(text)

    def python(self, script: str, *arguments: str) -> str:
        """Run a script inside the cluster's network, beside both claims."""
        command = ("exec", "-i", "shopper", "--", "python", "-", *arguments)
        return self._in_shop(*command, stdin=script.encode())

    def fetch(self, folder: str, to: Path) -> None:
        """Copy a folder of the models claim to this machine."""
        packed = self.kubectl.bytes(
            f"--namespace={self.namespace}",
            "exec",
            "shopper",
            "--",
            "python",
            "-c",
            PACK.format(folder),
        )
        with tarfile.open(fileobj=io.BytesIO(packed)) as archive:
            archive.extractall(to, filter="data")

    def show(self, *arguments: str) -> str:
        """Return what kubectl prints for people."""
        return self._in_shop(*arguments)

    def _in_shop(self, *arguments: str, stdin: bytes | None = None) -> str:
        return self.kubectl(f"--namespace={self.namespace}", *arguments, stdin=stdin)

    def _hand_over(self, script: str, content: bytes) -> None:
        self._in_shop("exec", "-i", "shopper", "--", "python", "-c", script, stdin=content)

    def _examples(self) -> list[dict[str, Any]]:
        text = self.kubectl("kustomize", str(EXAMPLES))
        if EXAMPLE_IMAGE not in text:
            raise DemoError(
                f"{EXAMPLES} no longer names {EXAMPLE_IMAGE}; change demo/example.py too"
            )
        return list(yaml.safe_load_all(text.replace(EXAMPLE_IMAGE, self.cluster.trainer_image)))

    def _volume(self, claim: str, root: Path) -> dict[str, Any]:
        folder = root / self.namespace / claim
        folder.mkdir(parents=True)
        folder.chmod(0o777)
        return {
            "apiVersion": "v1",
            "kind": "PersistentVolume",
            "metadata": {"name": f"{self.namespace}-{claim}"},
            "spec": {
                "capacity": {"storage": "20Gi"},
                "accessModes": ["ReadWriteMany"],
                "persistentVolumeReclaimPolicy": "Retain",
                "claimRef": {"namespace": self.namespace, "name": claim},
                "hostPath": {"path": str(folder)},
            },
        }


def _archive(folder: Path) -> bytes:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as archive:
        for file in sorted(folder.rglob("*")):
            if file.is_file() and file.suffix != ".py" and "__pycache__" not in file.parts:
                entry = archive.gettarinfo(file, str(file.relative_to(folder)))
                entry.mode, entry.uid, entry.gid = 0o644, 65532, 65532
                with file.open("rb") as content:
                    archive.addfile(entry, content)
    return packed.getvalue()
