"""An API server with everything that the commands of the documentation name."""

import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from docs.pages import ROOT
from local_cluster.apiserver import ApiServer
from local_cluster.places import program

GENERATION = {
    "apiVersion": "springtide.dev/v1alpha1",
    "kind": "ModelGeneration",
    "metadata": {"namespace": "shop", "name": "recommender-g2"},
}
STATUS = {"phase": "Promoted", "verdict": "Accepted", "outcome": "Live"}


class Shop:
    """The namespace `shop` on a bare API server, and a shell whose kubectl reaches it."""

    def __init__(self, server: ApiServer) -> None:
        self.server = server

    def fill(self) -> None:
        """Apply the CRDs and the example's objects, and a generation."""
        self.server.kubectl("apply", "--server-side", "-f", str(ROOT / "crds"))
        self.server.wait_for_crds()
        applied = self.server.kubectl("kustomize", str(ROOT / "examples"))
        update = next(
            each for each in yaml.safe_load_all(applied) if each["kind"] == "IncrementalUpdate"
        )
        self.apply(applied)
        self.apply(json.dumps(self._generation(update)))
        status = json.dumps({**GENERATION, "status": STATUS})
        self.apply(status, "--subresource=status", "--field-manager=status")

    def add_accepted(self, name: str) -> None:
        """Create a generation that was accepted, and is not decided on."""
        stored = json.loads(
            self.server.kubectl("-n", "shop", "get", "mg/recommender-g2", "-o=json")
        )
        number = int(name.rpartition("-g")[2])
        object_ = {**GENERATION, "metadata": {"namespace": "shop", "name": name}}
        self.apply(json.dumps({**object_, "spec": {**stored["spec"], "number": number}}))
        status = {"phase": "AwaitingApproval", "verdict": "Accepted", "retiredReason": ""}
        body = json.dumps({**object_, "status": status})
        self.apply(body, "--subresource=status", "--field-manager=status")

    def apply(self, text: str, *options: str) -> str:
        """Apply manifests server-side, with strict validation."""
        options = ("--server-side", "--force-conflicts", "--validate=strict", *options)
        return self.server.kubectl("apply", *options, "-f", "-", input=text)

    def run(self, script: str, folder: Path) -> str:
        """Run lines of a page in a shell, in a folder of their own; return what they print.

        Raises:
            CalledProcessError: a line failed.
        """
        tools = {str(Path(program(name)).parent) for name in ("kubectl", "helm")}
        known = {
            **os.environ,
            "KUBECONFIG": str(self.server.kubeconfig),
            "PATH": os.pathsep.join([*sorted(tools), os.environ["PATH"]]),
        }
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", script],
            cwd=folder,
            env=known,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert done.returncode == 0, f"{script}\n{done.stdout}\n{done.stderr}"
        return done.stdout

    @staticmethod
    def _generation(update: dict) -> dict:
        spec = update["spec"]
        copied = ("model", "data", "training", "evaluation", "gate", "storage")
        recipe = {key: spec[key] for key in copied}
        return {
            **GENERATION,
            "spec": {
                "updateRef": {"name": "recommender"},
                "number": 2,
                "origin": "Trained",
                "parent": {"name": "recommender-g1", "digest": f"sha256:{'1' * 64}"},
                "data": {"rows": 2000},
                "recipe": recipe,
                "recipeHash": f"sha256:{'2' * 64}",
            },
        }


@pytest.fixture(scope="module")
def bare() -> Iterator[ApiServer]:
    """An API server of this module alone: its commands delete CRDs."""
    server = ApiServer()
    try:
        server.open()
        yield server
    finally:
        server.close()


@pytest.fixture(scope="module")
def shop(bare: ApiServer) -> Shop:
    """The namespace with all objects; a test that deletes some fills it again."""
    made = Shop(bare)
    made.fill()
    return made
