import json
import time
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml
from kubernetes import config
from kubernetes.client import ApiException, CustomObjectsApi
from local_cluster.control_plane import KubectlError

ROOT = Path(__file__).parents[2]
HERE = Path(__file__).parent
NAMESPACE = "springtide-api"
PLURALS = {"IncrementalUpdate": "incrementalupdates", "ModelGeneration": "modelgenerations"}


@dataclass(frozen=True)
class Refused:
    """What the API server said: (field, message) of each cause."""

    code: int
    causes: tuple[tuple[str, str], ...]
    text: str


class Objects:
    """Both kinds on a real API server, by plain requests, so that every refusal can be read."""

    def __init__(self, api: CustomObjectsApi) -> None:
        self.api = api

    def create(self, body, validation="Strict", dry_run=True):
        """Create, by default for show; return what was stored, or why it was refused."""
        return self._said(
            self.api.create_namespaced_custom_object,
            body=body,
            field_validation=validation,
            **({"dry_run": "All"} if dry_run else {}),
        )

    def delete(self, stored):
        """Delete a stored object."""
        self.api.delete_namespaced_custom_object(
            "springtide.dev",
            "v1alpha1",
            NAMESPACE,
            PLURALS[stored["kind"]],
            stored["metadata"]["name"],
        )

    def replace(self, stored, spec):
        """Replace the spec of a stored object, for show."""
        return self._said(
            self.api.replace_namespaced_custom_object,
            name=stored["metadata"]["name"],
            body={**stored, "spec": spec},
            field_validation="Strict",
            dry_run="All",
        )

    def write_status(self, stored, status, dry_run=True):
        """Replace the status of a stored object."""
        return self._said(
            self.api.replace_namespaced_custom_object_status,
            name=stored["metadata"]["name"],
            body={**stored, "status": status},
            field_validation="Strict",
            **({"dry_run": "All"} if dry_run else {}),
        )

    def _said(self, call, *, body, **options):
        try:
            return call(
                group="springtide.dev",
                version="v1alpha1",
                namespace=NAMESPACE,
                plural=PLURALS[body["kind"]],
                body=body,
                **options,
            )
        except ApiException as error:
            status = json.loads(error.body)
            causes = status.get("details", {}).get("causes", [])
            return Refused(
                error.status,
                tuple((cause.get("field", ""), cause["message"]) for cause in causes),
                status["message"],
            )


@pytest.fixture(scope="session")
def server(apiserver):
    """The API server with both CRDs and a namespace of our own."""
    apiserver.kubectl("apply", "--server-side", "--force-conflicts", "-f", str(ROOT / "crds"))
    apiserver.wait_for_crds()
    apiserver.kubectl("create", "namespace", NAMESPACE)
    until_explained(apiserver, time.monotonic() + 30)
    return apiserver


def until_explained(apiserver, deadline):
    """Wait until discovery and OpenAPI, which lag behind, know both kinds."""
    while True:
        try:
            for kind in ("iu", "mg"):
                apiserver.kubectl("explain", kind)
        except KubectlError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.2)
        else:
            return


@pytest.fixture(scope="session")
def namespace(server):
    return NAMESPACE


@pytest.fixture(scope="session")
def objects(server):
    client = config.new_client_from_config(str(server.kubeconfig))
    yield Objects(CustomObjectsApi(client))
    client.close()


@pytest.fixture
def store(objects):
    """Create an object that lasts as long as the test."""
    made = []

    def create(body):
        answer = objects.create(body, dry_run=False)
        assert isinstance(answer, dict), answer
        made.append(answer)
        return answer

    yield create
    for each in made:
        objects.delete(each)


@pytest.fixture
def minimal():
    """The least that an update must say."""
    return yaml.safe_load((HERE / "minimal.yaml").read_text())


@pytest.fixture
def complete():
    """An update that says everything but the other sides of choices."""
    return yaml.safe_load((HERE / "complete.yaml").read_text())


@pytest.fixture
def generation(minimal):
    """The imported generation of the minimal update, with its recipe by value."""
    blocks = ("model", "data", "gate", "storage")
    recipe = {block: minimal["spec"][block] for block in blocks}
    return {
        "apiVersion": "springtide.dev/v1alpha1",
        "kind": "ModelGeneration",
        "metadata": {"name": "ranker-g0"},
        "spec": {
            "updateRef": {"name": "ranker"},
            "number": 0,
            "origin": "Imported",
            "initial": minimal["spec"]["model"]["initial"],
            "recipe": {**recipe, "training": {}, "evaluation": {}},
            "recipeHash": "sha256:" + 64 * "0",
        },
    }
