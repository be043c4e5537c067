"""Validation by the schema alone: unknown fields, bounds, numbers and names."""

import pytest
from api.canary_examples import canary
from api.example import changed

from springtide_api.crd.definitions import UPDATE
from springtide_api.crd.openapi import nodes

pytestmark = pytest.mark.apiserver


@pytest.mark.survives(
    "Update", "an unknown field", "refused under Strict with its path; pruned for a lax client"
)
def test_an_unknown_field_is_refused_under_strict_and_named(objects, minimal):
    spec = changed(minimal["spec"], {"gate.rules[0].minimum": "0.6"})

    refused = objects.create({**minimal, "spec": spec})

    assert refused.code == 400
    assert 'unknown field "spec.gate.rules[0].minimum"' in refused.text


def test_an_unknown_field_of_a_lax_client_is_pruned(objects, minimal):
    spec = changed(minimal["spec"], {"rollout.retries.most": "1h", "suspend": True})

    stored = objects.create({**minimal, "spec": spec}, validation="Ignore")

    assert "retries" not in stored["spec"]["rollout"]
    assert stored["spec"]["suspend"] is True


@pytest.mark.survives(
    "Update", "NaN, infinity and other text that is not a number", "refused with the field's path"
)
@pytest.mark.parametrize("number", ["NaN", "nan", "Infinity", "-inf", "1e999", "0x1", "", "0,5"])
@pytest.mark.parametrize("field", ["gate.rules[0].min", "training.hyperparameters.learningRate"])
def test_a_decimal_that_is_no_finite_number_is_refused(objects, minimal, field, number):
    refused = objects.create({**minimal, "spec": changed(minimal["spec"], {field: number})})

    assert refused.code == 422
    assert refused.causes[0][0] == f"spec.{field}"


@pytest.mark.survives(
    "Update", "NaN and infinity in JSON, floating point numbers", "refused by the API server"
)
@pytest.mark.parametrize("number", [0.6, float("nan"), float("inf")])
def test_a_floating_point_number_is_refused(objects, minimal, number):
    spec = changed(minimal["spec"], {"gate.rules[0].min": number})

    assert objects.create({**minimal, "spec": spec}).code in (400, 422)


@pytest.mark.parametrize(
    ("optimise", "field"),
    [
        ({"quantization": "Int4"}, "quantization"),
        ({"pruning": {}}, "pruning.sparsity"),
        ({"pruning": {"sparsity": "50%"}}, "pruning.sparsity"),
        ({"pruning": {"sparsity": "-0.5"}}, "pruning.sparsity"),
        ({"pruning": {"sparsity": "0.12345"}}, "pruning.sparsity"),
        ({"pruning": {"sparsity": 0.5}}, "pruning.sparsity"),
    ],
)
def test_a_form_that_is_not_offered_is_refused_with_its_field(objects, minimal, optimise, field):
    accepted = {"optimise": {"quantization": "Int8Dynamic", "pruning": {"sparsity": "0.5"}}}
    stored = objects.create({**minimal, "spec": {**minimal["spec"], "serving": accepted}})
    wrong = {"optimise": {**accepted["optimise"], **optimise}}
    refused = objects.create({**minimal, "spec": {**minimal["spec"], "serving": wrong}})

    assert stored["spec"]["serving"] == accepted
    assert refused.code == 422
    assert refused.causes[0][0] == f"spec.serving.optimise.{field}"


@pytest.mark.parametrize("queries", [-1, 257, "8"])
def test_a_number_of_warm_up_queries_is_refused_outside_its_bounds(objects, minimal, queries):
    def update(queries):
        return {**minimal, "spec": {**minimal["spec"], "serving": {"warmUp": {"queries": queries}}}}

    stored = objects.create(update(0))
    refused = objects.create(update(queries))

    assert stored["spec"]["serving"] == {"warmUp": {"queries": 0}}
    assert refused.code == 422
    assert refused.causes[0][0] == "spec.serving.warmUp.queries"


FLOOR = {"metric": "auc", "min": "0.6"}


@pytest.mark.survives(
    "Update", "more rules, labels or targets than a bound allows", "refused with the field's path"
)
@pytest.mark.parametrize(
    ("path", "most", "too_many"),
    [
        (
            "gate.rules",
            [{**FLOOR, "name": f"r{number}"} for number in range(16)],
            [{**FLOOR, "name": f"r{number}"} for number in range(17)],
        ),
        ("model.labels", [str(n) for n in range(256)], [str(n) for n in range(257)]),
        (
            "rollout.targets",
            [{"targetRef": {"name": f"t{n}"}, "container": "c"} for n in range(4)],
            [{"targetRef": {"name": f"t{n}"}, "container": "c"} for n in range(5)],
        ),
        (
            "training.compute.nodeSelector",
            {f"k{number}": "v" for number in range(16)},
            {f"k{number}": "v" for number in range(17)},
        ),
        ("data.source.columns.label", 128 * "ü", 129 * "ü"),
        ("model.maxLength", 8192, 8193),
        ("evaluation.bootstrap.samples", 200, 199),
        ("gate.rules", *([{**FLOOR, "name": "r", "minEntities": least}] for least in (10, 9))),
        ("history.rejected", 0, -1),
        ("rollout.pin", {"generation": 0}, {"generation": -1}),
        ("training.limits.maxAttempts", 10, 11),
        ("rollout.strategy", *(canary(*range(1, most + 1)) for most in (10, 11))),
        ("rollout.strategy", canary(1, 99), canary(1, 100)),
        ("rollout.strategy", canary(1), canary(0)),
        ("gate.onInconclusive", *(
            {"type": "ExtendHoldout", "extendHoldout": {"maxInterimAnalyses": n}} for n in (3, 4)
        )),
    ],
)  # fmt: skip
def test_a_bound_holds_to_the_last_one(objects, minimal, path, most, too_many):
    accepted = objects.create({**minimal, "spec": changed(minimal["spec"], {path: most})})
    refused = objects.create({**minimal, "spec": changed(minimal["spec"], {path: too_many})})

    assert isinstance(accepted, dict), accepted
    assert refused.code == 422
    assert path in refused.causes[0][0]


@pytest.mark.survives(
    "Update",
    "names with ../, of 254 characters, with capitals, spaces or umlauts",
    "refused with the field's path",
)
@pytest.mark.parametrize(
    "name", ["../etc", "a/b", "Ranker", "ränker", "ranker_", "-ranker", "", "ra nker", 254 * "a"]
)
def test_an_invalid_name_is_refused(objects, minimal, name):
    assert objects.create({**minimal, "metadata": {"name": name}}).code == 422


@pytest.mark.parametrize("name", ["../etc", "ränker", "a/b", "", 254 * "a"])
@pytest.mark.parametrize("path", ["rollout.targets[0].targetRef.name", "storage.volume.claimName"])
def test_an_invalid_name_of_another_object_is_refused(objects, minimal, path, name):
    refused = objects.create({**minimal, "spec": changed(minimal["spec"], {path: name})})

    assert refused.code == 422
    assert refused.causes[0][0] == f"spec.{path}"


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("model.initial.uri", "/models/minilm"),
        ("model.initial.uri", "file://models/minilm"),
        ("model.initial.uri", "https://example.com/minilm"),
        ("model.initial.digest", "sha256:" + 63 * "a"),
        ("model.initial.trainedThrough", "2026-01-01T00:00:00"),
        ("model.initial.trainedThrough", "2026-01-01"),
        ("data.source.partition.path", "/dt=%Y"),
        ("trigger.schedule", "0 3 * *"),
        ("trigger.cooldown", "1d"),
        ("trigger.cooldown", "-1h"),
        ("training.compute.resources.memory", "8 Gi"),
        ("rollout.targets[0].env.uri", "MODEL-URI"),
        ("gate.rules[0].metric", "ndcg@0"),
        ("gate.rules[0].metric", "f1"),
    ],
)
def test_a_value_in_another_form_is_refused(objects, minimal, path, value):
    refused = objects.create({**minimal, "spec": changed(minimal["spec"], {path: value})})

    assert refused.code == 422
    assert f"spec.{path}" in {field for field, _ in refused.causes}


def test_a_required_block_that_is_missing_is_named(objects, minimal):
    del minimal["spec"]["gate"]

    refused = objects.create(minimal)

    assert ("spec.gate", "Required value") in refused.causes


OTHER_SIDES = (
    *("model.causalLm", "model.embedding", "model.ranking", "model.regression"),
    *("training.method.adaLora", "training.method.adapter", "training.retention.ewc"),
    *("training.method.promptTuning", "training.method.prefixTuning"),
    *("training.pruning", "training.method.lora.quantization"),
)


def test_the_complete_example_names_every_field_but_the_other_sides_of_choices(complete):
    def given(value, path=""):
        yield path
        if isinstance(value, dict):
            for name, child in value.items():
                yield from given(child, f"{path}.{name}".lstrip("."))
        if isinstance(value, list):
            for child in value:
                yield from given(child, f"{path}[]")

    every = {path for path, _ in nodes(UPDATE.schema()["properties"]["spec"])}

    assert {path for path in every - set(given(complete["spec"])) if "{}" not in path} == {
        *(path for path in every if path.startswith(OTHER_SIDES) and "{}" not in path),
        "model.classification.multiLabel",
        "model.classification.separator",
        "data.source.columns.features",
        "data.source.columns.features[]",
        "data.source.columns.template",
        "data.holdout.strategy.latestPartitions",
        "data.holdout.strategy.latestPartitions.partitions",
        "training.hyperparameters.maxSteps",
        "training.method.lora.rebaseEvery",
        "training.method.lora.rebaseLearningRate",
        "training.robustness.averaging.lastK",
        "gate.rules[].minImprovement.relative",
        "gate.rules[].maxRegression.absolute",
        "gate.rules[].maxCumulativeRegression.relative",
    }
