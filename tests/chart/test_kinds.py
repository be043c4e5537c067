"""The chart brings both kinds, as `make generate` wrote them."""

import yaml
from local_cluster.places import REPOSITORY


def kinds(documents: list[dict]) -> list[dict]:
    return [document for document in documents if document["kind"] == "CustomResourceDefinition"]


def generated() -> list[dict]:
    folder = REPOSITORY / "crds"
    return [yaml.safe_load(path.read_text()) for path in sorted(folder.glob("*.yaml"))]


def test_the_chart_installs_what_was_generated(render):
    assert kinds(render("crds.keep=false")) == generated()


def test_kept_kinds_survive_an_uninstall(render):
    for kind, plain in zip(kinds(render()), generated(), strict=True):
        kept = {"helm.sh/resource-policy": "keep"}
        assert kind["metadata"]["annotations"] == plain["metadata"].get("annotations", {}) | kept
        assert kind["spec"] == plain["spec"]


def test_kinds_are_left_out_on_request(render):
    assert kinds(render("crds.install=false")) == []
