"""The example in a namespace: applies it, copies files into it and reads what it shows."""

from __future__ import annotations

import io
import json
import shlex
import shutil
import tarfile
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml
from demo.cluster import EXAMPLES
from demo.kubectl import DemoError
from docs.pages import commands

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from demo.cluster import Cluster
    from demo.kubectl import Kubectl

NAMESPACE = "shop"
UPDATE = "recommender"
CLAIMS = ("models", "data")
LABEL = {"app.kubernetes.io/part-of": "springtide-demo"}
"""Label of namespaces that the demo may delete."""
DOCUMENTED_FILE = "2026-01.csv.gz"
"""The file that the commands of the documentation copy."""
WAIT_SECONDS = 330
"""Longer than `kubectl wait` in the documentation."""
EXAMPLE_IMAGE = "image: springtide-trainer"
PACK = "import sys, tarfile; tarfile.open(fileobj=sys.stdout.buffer, mode='w|').add('{}', '.')"


@dataclass(frozen=True)
class Example:
    """A namespace of a cluster."""

    cluster: Cluster
    namespace: str = NAMESPACE

    @property
    def kubectl(self) -> Kubectl:
        """Run kubectl against the cluster; the namespace is the caller's to name."""
        return self.cluster.kubectl

    def clear(self) -> None:
        """Remove what an earlier demo left.

        Raises:
            DemoError: there is a namespace of this name that is not the demo's.
        """
        name = self.namespace
        if there := self.kubectl.get("namespace", name):
            labels = there["metadata"].get("labels", {})
            if not LABEL.items() <= labels.items():
                raise DemoError(f"there is a namespace {name} that is not the demo's; rename it")
            self.kubectl("delete", "namespace", name, "--wait", "--timeout=300s", seconds=330)
        if self.cluster.volumes:
            volumes = [f"{name}-{claim}" for claim in CLAIMS]
            self.kubectl("delete", "persistentvolume", *volumes, "--ignore-not-found")
            shutil.rmtree(self.cluster.volumes / name, ignore_errors=True)

    def open(
        self,
        model: Path,
        *,
        patches: str = "",
        objects: Sequence[dict[str, Any]] = (),
        client: Mapping[str, str] | None = None,
    ) -> None:
        """Apply `examples/` and copy the initial model, with the commands of the documentation.

        Args:
            model: folder of the Hugging Face model.
            patches: added to the kustomization, as a user would.
            objects: applied before the update.
            client: settings of the load generator.
        """
        if self.cluster.volumes:
            self.kubectl.apply([self._volume(claim, self.cluster.volumes) for claim in CLAIMS])
        with (self.cluster.kustomization / "kustomization.yaml").open("a") as file:
            file.write(patches)
        self._run(commands("docs/how-to/install.md", "storage"))
        label = [f"{name}={value}" for name, value in LABEL.items()]
        self.kubectl("label", "namespace", self.namespace, *label)
        self._run(commands("docs/how-to/install.md", "model"), {"./my-model": str(model)})
        self.kubectl.apply([*objects, *self._load_generator(client or {})])
        self._run(commands("docs/how-to/install.md", "example"))

    def deliver(self, file: str, content: bytes) -> None:
        """Copy a month's file into the claim, with the commands of the documentation."""
        documented = commands("docs/how-to/install.md", "data")
        with tempfile.TemporaryDirectory() as folder:
            source = Path(folder) / file
            source.write_bytes(content)
            named = [command.replace(DOCUMENTED_FILE, file) for command in documented]
            self._run(named, {file: str(source)})

    def request(self, verb: str, token: str) -> None:
        """Set the annotation of a request, as `kubectl annotate` does."""
        asked = f"springtide.dev/request={verb}@{token}"
        self._in_shop("annotate", "--overwrite", f"iu/{UPDATE}", asked)

    def edit(self, spec: dict[str, Any]) -> None:
        """Merge into the spec of the update, as `kubectl patch` does."""
        change = json.dumps({"spec": spec})
        self._in_shop("patch", f"iu/{UPDATE}", "--type=merge", f"--patch={change}")

    def run_documented(self, page: str, name: str) -> None:
        """Run the kubectl commands of a named block of the documentation."""
        self._run(commands(page, name))

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
        """Return digest and revision of the target, and the pods that serve it."""
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
        """Return the counts of the load generator."""
        text = self._in_shop("exec", "load-generator", "--", "cat", "/tmp/totals.json")
        return json.loads(text)

    def python(self, script: str, *arguments: str) -> str:
        """Run a script in the loader: in the cluster's network, with both claims mounted."""
        command = ("exec", "-i", "loader", "--", "python", "-", *arguments)
        return self._in_shop(*command, stdin=script.encode())

    def fetch(self, folder: str, to: Path) -> None:
        """Copy a folder of the models claim to this machine."""
        packed = self.kubectl.bytes(
            f"--namespace={self.namespace}",
            "exec",
            "loader",
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

    def _run(self, documented: list[str], words: dict[str, str] | None = None) -> None:
        """Run kubectl commands of the documentation, with some words replaced."""
        folder = str(self.cluster.kustomization)
        replaced = {"shop": self.namespace, "my-shop": folder, **(words or {})}
        for command in documented:
            _, *arguments = shlex.split(command)
            self.kubectl(*(replaced.get(word, word) for word in arguments), seconds=WAIT_SECONDS)

    def _load_generator(self, settings: Mapping[str, str]) -> list[dict[str, Any]]:
        text = self.kubectl("kustomize", str(EXAMPLES / "load-generator"))
        objects = list(yaml.safe_load_all(with_image(text, self.cluster.trainer_image)))
        (pod,) = (one for one in objects if one["kind"] == "Pod")
        (container,) = pod["spec"]["containers"]
        container["env"] = [{"name": name, "value": value} for name, value in settings.items()]
        return objects

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
                "accessModes": ["ReadWriteOnce", "ReadWriteMany"],
                "persistentVolumeReclaimPolicy": "Retain",
                "claimRef": {"namespace": self.namespace, "name": claim},
                "hostPath": {"path": str(folder)},
            },
        }


def with_image(manifests: str, image: str) -> str:
    """Return manifests of `examples/` with an image that the cluster can pull.

    Raises:
        DemoError: they do not name the image of the examples.
    """
    if EXAMPLE_IMAGE not in manifests:
        raise DemoError(f"no manifest with {EXAMPLE_IMAGE!r}; change demo/example.py too")
    return manifests.replace(EXAMPLE_IMAGE, f"image: {image}")
