"""The chart brings both kinds, as `make generate` wrote them."""

import pytest
import yaml
from chart.strict_yaml import load_all
from local_cluster.places import REPOSITORY


def kinds(documents: list[dict]) -> list[dict]:
    return [document for document in documents if document["kind"] == "CustomResourceDefinition"]


def generated() -> list[dict]:
    folder = REPOSITORY / "crds"
    paths = sorted(folder.glob("*.yaml"))
    return [document for path in paths for document in load_all(path.read_text())]


def test_a_key_that_stands_twice_is_found():
    with pytest.raises(yaml.YAMLError, match="'annotations' stands twice"):
        load_all("metadata:\n  annotations: {a: b}\n  name: x\n  annotations: {a: b}\n")


def test_the_chart_installs_what_was_generated(render):
    assert kinds(render("crds.keep=false")) == generated()


def test_an_uninstall_removes_kinds_that_are_not_kept(render):
    for kind in kinds(render("crds.keep=false")):
        assert "helm.sh/resource-policy" not in kind["metadata"].get("annotations", {})


def test_kept_kinds_survive_an_uninstall(render):
    for kind, plain in zip(kinds(render()), generated(), strict=True):
        kept = {"helm.sh/resource-policy": "keep"}
        assert kind["metadata"]["annotations"] == plain["metadata"].get("annotations", {}) | kept
        assert kind["spec"] == plain["spec"]


def test_kinds_are_left_out_on_request(render):
    assert kinds(render("crds.install=false")) == []
