"""The generated files are up to date and valid for an API server."""

import json

import pytest

from springtide_api.crd.definitions import KINDS, UPDATE
from springtide_api.crd.openapi import nodes
from springtide_api.generate import ROOT, files

DEFINITIONS = [kind.definition() for kind in KINDS]
SCHEMAS = [
    each["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"] for each in DEFINITIONS
]
FIELDS = [
    (f"{part}.{path}", node)
    for schema in SCHEMAS
    for part in ("spec", "status")
    for path, node in nodes(schema[part])
]


@pytest.mark.parametrize("path", files())
def test_the_generated_file_is_up_to_date(path):
    file = ROOT / path

    assert file.exists(), f"{path} is missing; run make generate"
    assert file.read_text(encoding="utf-8") == files()[path], f"{path} is stale; run make generate"


def test_there_are_no_other_files_among_the_definitions():
    expected = {path for path in files() if path.endswith(".yaml")}

    found = [*ROOT.glob("crds/*"), *ROOT.glob("charts/springtide/files/crds/*")]

    assert {str(file.relative_to(ROOT)) for file in found} == expected


def test_each_definition_is_smaller_than_200_kib():
    """As it is sent and stored, in JSON: a third of the YAML is indentation.

    `kubectl apply` on the client's side keeps a second copy in an annotation of at most 256 KiB.
    """
    assert max(len(json.dumps(each).encode()) for each in DEFINITIONS) < 200 * 1024


def test_every_value_is_bounded():
    for path, node in FIELDS:
        if node["type"] == "string":
            assert "maxLength" in node or "enum" in node, path
        if node["type"] == "array":
            assert "maxItems" in node, path
        if "additionalProperties" in node:
            assert "maxProperties" in node, path


def test_a_status_holds_every_name_of_a_deployment_that_a_spec_may_hold():
    bounds = {path: node for path, node in FIELDS if node["type"] == "string"}
    asked = bounds["spec.rollout.targets[].targetRef.name"]["maxLength"]
    assert asked == 253
    assert bounds["status.targets[].name"]["maxLength"] == asked
    assert bounds["status.rollout.targets[].name"]["maxLength"] == asked


def test_every_field_is_described_in_sentences():
    for path, node in FIELDS:
        if not path.endswith(("[]", "{}")):
            assert node["description"].endswith("."), path


def test_a_default_is_described_where_the_server_applies_it():
    for path, node in nodes(UPDATE.schema()["properties"]["spec"]):
        if "default" in node:
            assert "Default" in node["description"], path


def test_no_field_preserves_unknown_values():
    for path, node in FIELDS:
        assert not node.keys() & {"x-kubernetes-preserve-unknown-fields", "anyOf", "nullable"}, path
        assert "x-kubernetes-int-or-string" not in node, path
        assert node["type"] != "number", f"{path}: decimals are strings"


def test_the_schema_of_a_status_has_no_defaults():
    assert [path for path, node in FIELDS if path.startswith("status") and "default" in node] == []
