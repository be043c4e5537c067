"""A manifest is refused here exactly where the API server refuses it, with the same message."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml
from api.canary_examples import CANARIES
from api.data_examples import DATA, MODEL, SERVING, STORAGE
from api.example import changed
from api.gate_examples import EVALUATION, GATE
from api.gateway_examples import GATEWAYS
from api.ratio_examples import RATIOS
from api.training_examples import TRAINING
from api.update_examples import BAKE, ROLLOUT, TRACKING, TRIGGER, WHOLE

from springtide_trainer.errors import Refused
from springtide_trainer.local.manifest_file import InvalidManifest, Places, load, read
from springtide_trainer.local.validation import problems

MINIMAL = Path(__file__).parents[2] / "api" / "minimal.yaml"
EXAMPLES = [
    *(*WHOLE, *TRIGGER, *MODEL, *DATA, *TRAINING, *TRACKING, *EVALUATION, *GATE),
    *(*ROLLOUT, *CANARIES, *GATEWAYS, *RATIOS, *BAKE, *SERVING, *STORAGE),
]


def minimal() -> dict:
    return yaml.safe_load(MINIMAL.read_text())


@pytest.mark.parametrize("example", [each for each in EXAMPLES if each.before is None], ids=str)
def test_each_rule_accepts_and_refuses_as_on_the_api_server(example):
    pytest.importorskip("cel")
    manifest = minimal()
    fits, fits_not = (
        problems({**manifest, "spec": changed(manifest["spec"], change)})
        for change in (example.accepted, example.refused)
    )

    assert fits == []
    assert any(example.message in each.message for each in fits_not), fits_not


def test_a_refusal_shows_path_value_and_what_to_do():
    pytest.importorskip("cel")
    manifest = minimal()
    spec = changed(manifest["spec"], {"gate.rules[0].max": "0.5", "rollout.deadline": "5s"})

    assert {str(each) for each in problems({**manifest, "spec": spec})} == {
        "spec.gate.rules[0]: min must not be greater than max; nothing could pass"
        " (min: 0.6, max: 0.5)",
        "spec.rollout: deadline must be at least 10s: new pods need time to become"
        " available; 10m is usual (deadline: 5s)",
    }


def test_unknown_fields_and_wrong_types_are_listed_with_their_paths():
    manifest = minimal()
    change = {"gate.rules[0].minimum": "0.6", "model.maxLength": 4, "gate.rules[0].metric": "f2"}

    found = [
        str(each) for each in problems({**manifest, "spec": changed(manifest["spec"], change)})
    ]

    assert any(each.startswith("spec.gate.rules[0].minimum: unknown field") for each in found)
    assert any(each.startswith("spec.model.maxLength: Input should be") for each in found)
    assert any(each.startswith("spec.gate.rules[0].metric: ") for each in found)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("kind: ConfigMap", "the file has 0 objects of kind IncrementalUpdate, not one"),
        ("kind: IncrementalUpdate", "apiVersion: must be springtide.dev/v1alpha1 (is None)"),
        ("a: 1\na: 2", "the key 'a' is written twice"),
        ("a: [", "YAML: while parsing"),
        ("", "the file has 0 objects"),
    ],
)
def test_a_file_that_is_no_manifest_is_named_with_the_reason(tmp_path, text, message):
    path = tmp_path / "update.yaml"
    path.write_text(text)

    with pytest.raises(InvalidManifest) as refused:
        load(path)

    assert message in str(refused.value)
    assert str(path) in str(refused.value)


@pytest.mark.parametrize("name", ["../../x", "Shop", "a" * 64, "", 7])
@pytest.mark.parametrize("field", ["name", "namespace"])
def test_a_name_that_leads_out_of_the_storage_is_refused(field, name):
    manifest = minimal()
    manifest["metadata"][field] = name

    found = [str(each) for each in problems(manifest)]

    assert any(each.startswith(f"metadata.{field}: must be lower case") for each in found)


def test_a_time_without_quotes_is_read_like_by_the_api_server(tmp_path):
    path = tmp_path / "update.yaml"
    path.write_text(
        MINIMAL.read_text().replace(
            "uri: file:///models/minilm",
            "uri: file:///models/minilm\n      trainedThrough: 2026-01-01T00:00:00Z",
        )
    )

    assert load(path)["spec"]["model"]["initial"]["trainedThrough"] == "2026-01-01T00:00:00Z"


def test_a_recipe_may_lack_rollout_and_storage_and_its_paths_are_replaced(tmp_path):
    manifest = minimal()
    del manifest["spec"]["rollout"], manifest["spec"]["storage"]
    path, data, model = (tmp_path / name for name in ("update.yaml", "data.csv", "minilm"))
    path.write_text(json.dumps(manifest))
    data.write_text("")
    model.mkdir()

    found = read(path, Places(data, model))

    assert found.recipe.data.source.uri == data.as_uri()
    assert found.recipe.model.initial.uri == model.as_uri()
    assert (found.namespace, found.name) == ("default", "ranker")


def test_a_copy_of_a_dataset_that_the_manifest_does_not_name_is_refused(tmp_path):
    manifest = minimal()
    own = tmp_path / "musts.csv"
    own.write_text("")
    guardrail = {"name": "musts", "role": "Guardrail", "uri": own.as_uri()}
    holdout = {"name": "holdout", "role": "Holdout"}
    manifest["spec"]["evaluation"] = {"datasets": [holdout, guardrail]}
    path = tmp_path / "update.yaml"
    path.write_text(json.dumps(manifest))

    with pytest.raises(Refused, match=r"--dataset must: no dataset .* known are musts"):
        read(path, Places(tmp_path, tmp_path, {"must": own}))
    assert read(path, Places(tmp_path, tmp_path, {"musts": own})).recipe.evaluation.datasets


NULL = [
    {"retention": {"replay": None, "interpolation": {"alphas": None}}, "earlyStopping": {}},
    {"retention": None, "earlyStopping": None, "method": {"type": "Full", "lora": None}},
]


@pytest.mark.parametrize("training", NULL, ids=["a part", "the whole"])
def test_fields_that_are_null_are_absent_as_on_the_api_server(training, tmp_path):
    pytest.importorskip("cel")
    manifest = minimal()
    manifest["spec"]["training"] = training
    (tmp_path / "update.yaml").write_text(json.dumps(manifest))

    assert problems(manifest) == []
    assert None not in load(tmp_path / "update.yaml")["spec"]["training"].values()


def test_a_retention_whose_parts_are_null_is_refused_by_its_rule():
    pytest.importorskip("cel")
    manifest = minimal()
    manifest["spec"]["training"] = {"retention": {"replay": None}}
    (found,) = problems(manifest)
    assert "retention needs replay, interpolation, distillation or ewc" in found.message


@pytest.mark.survives(
    "Update",
    "a number or a truth value that is written as text, in a manifest tried without a cluster",
    "refused with path and value, as on the API server",
)
@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        ("training.retention.replay", {"rowsPerClass": "10"}, "of type integer (is '10')"),
        ("training.method", {"type": "LoRA", "lora": {"rank": "4"}}, "of type integer (is '4')"),
        (
            "training.method",
            {"type": "LoRA", "lora": {"dora": "yes"}},
            "of type boolean (is 'yes')",
        ),
        ("suspend", 1, "of type boolean (is 1)"),
        ("training.hyperparameters", {"seed": True}, "of type integer (is True)"),
    ],
)
def test_numbers_and_truth_values_that_are_texts_are_refused(path, value, message):
    pytest.importorskip("cel")
    manifest = minimal()
    (found,) = problems({**manifest, "spec": changed(manifest["spec"], {path: value})})
    assert message in found.message
    assert found.field.startswith(f"spec.{path}")
