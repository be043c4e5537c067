"""Every CEL rule of the CRDs refuses what it should and nothing else, on a real API server."""

import re

import pytest
import yaml
from api.data_examples import DATA, MODEL, STORAGE
from api.example import Example, changed
from api.gate_examples import EVALUATION, GATE
from api.generation_examples import SPEC, STATUS
from api.training_examples import TRAINING
from api.update_examples import ROLLOUT, TRIGGER, WHOLE

from springtide_api.crd import KINDS
from springtide_api.generate import files
from springtide_api.openapi import nodes

pytestmark = pytest.mark.apiserver

IN_RECIPE = [*MODEL, *DATA, *TRAINING, *EVALUATION, *GATE, *STORAGE]
"""Of the blocks that a generation's recipe repeats, and with them their rules."""
UPDATE = [*WHOLE, *TRIGGER, *ROLLOUT, *IN_RECIPE]


def the_refusal(answer, example: Example, root: str) -> str:
    """Return the message with which the example's rule refused, or fail."""
    place = re.escape(f"{root}.{example.at}".rstrip(".")).replace(r"\[\]", r"\[\d+\]")
    found = [
        message
        for field, message in getattr(answer, "causes", ())
        if re.fullmatch(place, field) and example.message in message
    ]
    assert len(found) == 1, f"{place}: {answer}"
    return found[0]


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
        existing = store(generation)
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
def test_an_update_with_a_name_that_jobs_cannot_carry_is_refused(objects, minimal, name, message):
    assert isinstance(objects.create({**minimal, "metadata": {"name": 32 * "a"}}), dict)

    refused = objects.create({**minimal, "metadata": {"name": name}})

    the_refusal(refused, Example("", message, {}, {}), "<nil>")


@pytest.mark.parametrize("name", ["ranker-g1", "ranker-g00", "rank-g0", "ranker-g9-g0", "ranker"])
def test_a_generation_is_named_after_its_update_and_number(objects, generation, name):
    assert isinstance(objects.create(generation), dict)

    refused = objects.create({**generation, "metadata": {"name": name}})

    assert refused.code == 422


def test_no_rule_is_without_an_example():
    documents = [yaml.safe_load(text) for path, text in files().items() if path.startswith("crds/")]
    rules = [
        (document["spec"]["names"]["shortNames"][0], path, rule["message"])
        for document in documents
        for path, node in nodes(document["spec"]["versions"][0]["schema"]["openAPIV3Schema"])
        for rule in node.get("x-kubernetes-validations", [])
        if path
    ]
    examples = [
        *(("iu", f"spec.{each.at}".rstrip("."), each.message) for each in UPDATE),
        *(("mg", f"spec.recipe.{each.at}".rstrip("."), each.message) for each in IN_RECIPE),
        *(("mg", f"spec.{each.at}".rstrip("."), each.message) for each in SPEC),
        *(("mg", f"status.{each.at}", each.message) for each in STATUS),
    ]

    without = [
        (kind, path, message)
        for kind, path, message in rules
        if not any(
            (kind, path) == (of_kind, at) and message.startswith(beginning)
            for of_kind, at, beginning in examples
        )
    ]

    assert without == []
    assert len(examples) == len(rules)
    assert [len(kind.rules) for kind in KINDS] == [2, 1]  # the rules over names, tested above
