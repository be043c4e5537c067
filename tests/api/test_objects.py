import pytest

from springtide_api.objects import InvalidObject, parse_generation, parse_update
from springtide_api.schema import hub_repository

METADATA = {
    "name": "ranker",
    "namespace": "search",
    "uid": "5f0c",
    "creationTimestamp": "2026-03-01T00:00:00Z",
}


def test_an_update_is_read_with_its_defaults(minimal):
    update = parse_update({**minimal, "metadata": METADATA})

    assert update.metadata.name == "ranker"
    assert update.metadata.finalizers == ()
    assert update.spec.training.hyperparameters.learning_rate is None  # depends on the method
    assert update.spec.training.hyperparameters.schedule == "Linear"
    assert update.spec.evaluation.datasets[0].role == "Holdout"
    assert update.status.phase == "Idle"


def test_fields_of_a_newer_version_are_ignored(minimal):
    minimal["spec"]["rollout"]["bake"] = {"duration": "1h"}

    update = parse_update({**minimal, "metadata": {**METADATA, "managedFields": []}})

    assert update.spec.rollout.deadline == "10m"


def test_every_mismatch_is_reported_with_its_path_and_value(minimal):
    minimal["spec"]["gate"]["rules"][0]["minEntities"] = 0
    minimal["spec"]["rollout"]["deadline"] = "soon"
    del minimal["spec"]["storage"]

    with pytest.raises(InvalidObject) as refusal:
        parse_update({**minimal, "metadata": METADATA})

    assert [problem.field for problem in refusal.value.problems] == [
        "spec.gate.rules[0].minEntities",
        "spec.rollout.deadline",
        "spec.storage",
    ]
    entities, deadline, storage = map(str, refusal.value.problems)
    assert entities == (
        "spec.gate.rules[0].minEntities: Input should be greater than or equal to 10 (is 0)"
    )
    assert deadline.endswith("(is 'soon')")
    assert storage == "spec.storage: Field required"


@pytest.mark.parametrize(
    ("block", "field", "value"),
    [
        ("storage", "uri", "file:///models/../etc"),
        ("storage", "uri", "ftp://bucket/models"),
        ("storage", "uri", "s3://key:secret@bucket/models"),
        ("rollout", "deadline", "999999h"),
        ("trigger", "timeZone", "../../etc/passwd"),
        ("storage", "uri", "hf://shop/minilm@main"),
    ],
)
def test_what_the_server_refuses_the_operator_refuses_too(minimal, block, field, value):
    minimal["spec"].setdefault(block, {})[field] = value

    with pytest.raises(InvalidObject) as refusal:
        parse_update({**minimal, "metadata": METADATA})

    assert [problem.field for problem in refusal.value.problems] == [f"spec.{block}.{field}"]


@pytest.mark.parametrize(
    "uri",
    [
        "hf://shop/minilm",
        "hf://shop/minilm@",
        "hf://minilm@main",
        "hf://shop/minilm@refs/pr/1",
        "hf://shop/mini/lm@main",
        "hf://shop/../etc@main",
        "hf://hub.example:80/shop/minilm@main",
        "hf://token@shop/minilm@main",
    ],
)
def test_a_model_of_a_hub_is_a_repository_at_a_revision(minimal, uri):
    minimal["spec"]["model"]["initial"]["uri"] = uri
    with pytest.raises(InvalidObject) as refusal:
        parse_update({**minimal, "metadata": METADATA})
    assert [problem.field for problem in refusal.value.problems] == ["spec.model.initial.uri"]


@pytest.mark.parametrize("revision", ["main", "v1.0", "0a1b" * 10])
def test_only_the_initial_model_may_come_from_a_hub(minimal, revision):
    uri = f"hf://Shop-1/mini.LM_v2@{revision}"
    minimal["spec"]["model"]["initial"]["uri"] = uri
    read = parse_update({**minimal, "metadata": METADATA}).spec
    assert hub_repository(read.model.initial.uri) == ("Shop-1/mini.LM_v2", revision)
    minimal["spec"]["data"]["source"]["uri"] = uri
    with pytest.raises(InvalidObject):
        parse_update({**minimal, "metadata": METADATA})


def test_a_generation_is_read_with_its_recipe(generation):
    read = parse_generation({**generation, "metadata": {**METADATA, "name": "ranker-g0"}})

    assert read.spec.recipe.model.labels == ["no", "yes"]
    assert read.status.verdict == "Pending"
    assert read.status.rollout.promoted_at is None


def test_defaults_are_shared_because_nothing_changes_them(minimal):
    first = parse_update({**minimal, "metadata": METADATA})
    second = parse_update({**minimal, "metadata": METADATA})

    assert first.spec.training is second.spec.training
    assert first.status is second.status
