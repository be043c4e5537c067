"""Every CEL rule of the CRDs refuses what it should and nothing else, on a real API server."""

import re

import pytest
from api.canary_examples import CANARIES
from api.data_examples import DATA, MODEL, SERVING, STORAGE
from api.dialogue_examples import DIALOGUES, RESPONDING
from api.embedding_examples import EMBEDDED, RETRIEVAL
from api.example import ABSENT, Example, changed
from api.gate_examples import EVALUATION, GATE
from api.gateway_examples import GATEWAYS
from api.generation_examples import SPEC, STATUS, TRAINED
from api.masking_examples import ENCODED, MASKING
from api.ratio_examples import RATIOS
from api.training_examples import PLACEMENT, TRAINING
from api.update_examples import BAKE, ROLLOUT, TRACKING, TRIGGER, WHOLE

from springtide_api.crd.definitions import KINDS
from springtide_api.crd.openapi import nodes

pytestmark = pytest.mark.apiserver

IN_RECIPE = [
    *(*MODEL, *EMBEDDED, *RESPONDING, *ENCODED),
    *(*DATA, *TRAINING, *EVALUATION, *GATE, *STORAGE, *SERVING),
]
"""Of the blocks that a generation's recipe repeats, and with them their rules."""
UPDATE = [
    *(*WHOLE, *RETRIEVAL, *DIALOGUES, *MASKING, *TRIGGER, *ROLLOUT, *BAKE),
    *(*CANARIES, *GATEWAYS, *RATIOS),
    *PLACEMENT,
    *TRACKING,
    *IN_RECIPE,
]


RULES = [
    (kind.short, path, rule)
    for kind in KINDS
    for path, node in nodes(kind.schema())
    for rule in node.get("x-kubernetes-validations", [])
    if path
]
"""All rules but those on names: kind, path of the block, rule."""


def the_refusal(answer, example: Example, root: str) -> None:
    """Check that the example's rule refused, at its place and with the values that it shows."""
    place = re.escape(f"{root}.{example.at}".rstrip(".")).replace(r"\[\]", r"\[\d+\]")
    (message,) = (
        message
        for field, message in getattr(answer, "causes", ())
        if re.fullmatch(place, field) and example.message in message
    )
    at = f"{root}.{example.at}".rstrip(".")
    for _, path, rule in RULES:
        if path == at and rule["message"].startswith(example.message):
            shown = re.findall(r"self\.(\w+)", rule.get("messageExpression", ""))
            assert all(f"{field}: " in message for field in shown), message


@pytest.mark.survives(
    "Update",
    "values that contradict each other or lead out of a folder (every CEL rule)",
    "refused at the block's path with the values and what to write instead",
)
@pytest.mark.parametrize("example", UPDATE, ids=str)
def test_each_rule_on_an_update_accepts_and_refuses(objects, store, minimal, example):
    spec = minimal["spec"]
    fits, fits_not = changed(spec, example.accepted), changed(spec, example.refused)
    if example.before is None:
        accepted = objects.create({**minimal, "spec": fits})
        refused = objects.create({**minimal, "spec": fits_not})
    else:
        existing = store({**minimal, "spec": changed(spec, example.before)})
        accepted, refused = objects.replace(existing, fits), objects.replace(existing, fits_not)

    assert isinstance(accepted, dict), accepted
    the_refusal(refused, example, "spec")


@pytest.mark.parametrize("example", IN_RECIPE, ids=str)
def test_each_rule_on_a_recipe_accepts_and_refuses(objects, generation, example):
    recipe = generation["spec"]["recipe"]

    def create(change):
        spec = {**generation["spec"], "recipe": changed(recipe, change)}
        return objects.create({**generation, "spec": spec})

    accepted = create(example.accepted)
    assert isinstance(accepted, dict), accepted
    the_refusal(create(example.refused), example, "spec.recipe")


@pytest.mark.parametrize("example", SPEC, ids=str)
def test_each_rule_on_a_generation_accepts_and_refuses(objects, store, generation, example):
    spec = generation["spec"]
    fits, fits_not = changed(spec, example.accepted), changed(spec, example.refused)
    if example.before is None:
        accepted = objects.create({**generation, "spec": fits})
        refused = objects.create({**generation, "spec": fits_not})
    else:
        existing = store({**generation, "spec": changed(spec, example.before)})
        accepted, refused = objects.replace(existing, fits), objects.replace(existing, fits_not)

    assert isinstance(accepted, dict), accepted
    the_refusal(refused, example, "spec")


@pytest.mark.parametrize("example", STATUS, ids=str)
def test_each_rule_on_the_status_of_a_generation_accepts_and_refuses(
    objects, store, generation, example
):
    existing = store(generation)

    accepted = objects.write_status(existing, changed({}, example.accepted))
    refused = objects.write_status(existing, changed({}, example.refused))

    assert isinstance(accepted, dict), accepted
    the_refusal(refused, example, "status")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        (33 * "a", "metadata.name must be at most 32 characters"),
        ("ranker.v2", "metadata.name must not contain dots"),
    ],
)
def test_an_update_with_a_name_too_long_for_jobs_is_refused(objects, minimal, name, message):
    assert isinstance(objects.create({**minimal, "metadata": {"name": 32 * "a"}}), dict)

    refused = objects.create({**minimal, "metadata": {"name": name}})

    the_refusal(refused, Example("", message, {}, {}), "<nil>")


@pytest.mark.parametrize("name", ["ranker-g1", "ranker-g00", "rank-g0", "ranker-g9-g0", "ranker"])
def test_a_generation_is_named_after_its_update_and_number(objects, generation, name):
    assert isinstance(objects.create(generation), dict)

    refused = objects.create({**generation, "metadata": {"name": name}})

    assert refused.code == 422


ACCEPTED = {"verdict": "Accepted", "retiredReason": ""}
STARTED = {"rollout": {"stepStartedAt": "2026-03-01T00:00:00Z"}}


@pytest.mark.survives(
    "People",
    "a generation is approved or rejected that is not accepted, was retired or rolls out",
    "refused; while it is accepted and nothing has started, it is decided once",
)
@pytest.mark.parametrize(
    "status",
    [
        {},
        {"verdict": "Pending"},
        {"verdict": "Inconclusive"},
        {**ACCEPTED, "retiredReason": "RejectedByRequest"},
        {**ACCEPTED, **STARTED},
    ],
    ids=str,
)
@pytest.mark.parametrize("decision", ["Approved", "Rejected"])
def test_a_generation_is_decided_on_between_its_verdict_and_its_rollout(
    objects, store, generation, status, decision
):
    spec = trained(generation["spec"])
    stored = store({**generation, "spec": spec})
    decided = {**spec, "approval": {"decision": decision}}

    written = objects.write_status(stored, status, dry_run=False)
    refused = objects.replace(written, decided)
    message = "spec.approval can be set once status.verdict is Accepted and before the rollout"
    the_refusal(refused, Example("", message, {}, {}), "<nil>")

    written = objects.write_status(written, ACCEPTED, dry_run=False)
    assert isinstance(objects.replace(written, decided), dict)


def trained(imported):
    """The spec of a generation that was trained, from that of one that was imported."""
    return {key: value for key, value in {**imported, **TRAINED}.items() if value is not ABSENT}


def test_a_generation_is_restored_with_its_approval(objects, generation):
    approval = {"approval": {"decision": "Approved", "reason": "before the restore"}}

    made = objects.create({**generation, "spec": {**trained(generation["spec"]), **approval}})

    assert isinstance(made, dict), made


def test_no_rule_is_without_an_example():
    examples = [
        *(("iu", f"spec.{each.at}".rstrip("."), each.message) for each in UPDATE),
        *(("mg", f"spec.recipe.{each.at}".rstrip("."), each.message) for each in IN_RECIPE),
        *(("mg", f"spec.{each.at}".rstrip("."), each.message) for each in SPEC),
        *(("mg", f"status.{each.at}", each.message) for each in STATUS),
    ]

    without = [
        (kind, path, rule["message"])
        for kind, path, rule in RULES
        if not any(
            (kind, path) == (of_kind, at) and rule["message"].startswith(beginning)
            for of_kind, at, beginning in examples
        )
    ]

    assert without == []
    assert len(set(examples)) == len(RULES)
    assert [len(kind.rules) for kind in KINDS] == [
        2,
        2,
    ]  # those over names and approval, tested above


def test_a_refusal_says_what_to_do_and_shows_the_value(objects, minimal):
    spec = changed(minimal["spec"], {"gate.rules[0].max": "0.5", "rollout.deadline": "5s"})

    refused = objects.create({**minimal, "spec": spec})

    assert set(refused.causes) == {
        (
            "spec.gate.rules[0]",
            "Invalid value: min must not be greater than max; nothing could pass"
            " (min: 0.6, max: 0.5)",
        ),
        (
            "spec.rollout",
            "Invalid value: deadline must be at least 10s: new pods need time to become"
            " available; 10m is usual (deadline: 5s)",
        ),
    }
