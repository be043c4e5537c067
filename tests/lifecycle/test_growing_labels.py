"""Labels are appended between two generations: the next run has them, and nothing is stuck."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from lifecycle.declared import SPEC
from lifecycle.test_bad_input import refuse, the_job
from lifecycle.world import MONTHS, World

from springtide_api.contract import Failure

if TYPE_CHECKING:
    from typing import Any

BEFORE, AFTER = ["no", "yes"], ["no", "yes", "perhaps"]
NEW = Failure(
    reason="UnknownLabel",
    message="40 of 1,000 rows have a label that is not one of the 2 model.labels: 'perhaps' (40)",
    field="data.source.columns.label",
)


def labelled(labels: list[str]) -> dict[str, Any]:
    return {**SPEC["model"], "labels": labels}


def replaying() -> World:
    training = {"retention": {"replay": {"rowsPerClass": 10, "bufferRows": 30}}}
    world = World(spec={**SPEC, "model": labelled(BEFORE), "training": training})
    world.months = MONTHS[:2]
    world.rounds(10)
    assert world.update.status.live.number == 1
    return world


def trained(world: World, number: int):
    (run,) = (
        start.run
        for start in world.runs.values()
        if start.run.stage == "train" and start.run.number == number
    )
    return run


def test_the_next_generation_has_the_appended_label_and_continues_from_live_and_its_buffer():
    world = replaying()
    world.edit(model=labelled(AFTER))
    world.months = MONTHS[:3]
    world.rounds(10)
    first, second = world.generation(1), world.generation(2)

    assert first.spec.recipe.model.labels == BEFORE
    assert second.spec.recipe.model.labels == AFTER
    assert second.spec.parent.digest == first.status.artifact.weights_digest
    assert second.spec.baseline == second.spec.parent
    assert trained(world, 2).recipe.model.labels == AFTER
    assert trained(world, 2).train.buffer == first.status.artifact.buffer
    assert second.status.verdict == "Accepted"


def test_an_appended_label_makes_another_recipe_of_rows_that_were_rejected_before():
    world = replaying()
    world.aucs[MONTHS[2]] = (0.57, 0.60)
    world.months = MONTHS[:3]
    world.rounds(10)
    assert world.generation(2).status.verdict == "Rejected"
    world.edit(model=labelled(AFTER))
    world.aucs[MONTHS[2]] = (0.65, 0.60)
    world.ask("run@with-the-label")
    world.rounds(10)

    assert world.generation(3).spec.data.digest == world.generation(2).spec.data.digest
    assert world.generation(3).status.verdict == "Accepted"


def waiting() -> World:
    """Return a world whose second generation waits for a longer holdout, which has a new label."""
    world = replaying()
    world.error = 0.02
    world.aucs[MONTHS[2]] = (0.61, 0.60)
    world.months = MONTHS[:3]
    world.rounds(6)
    second = world.generation(2)
    assert (second.status.verdict, second.status.reason) == ("Inconclusive", "ExtendHoldout")
    world.error = 0.002
    world.months = MONTHS[:4]
    world.ask("run@longer")
    world.settle()
    refuse(world, the_job(world, "probe"), NEW, 3)
    assert world.update.status.last_probe.reason == "UnknownLabel"
    return world


@pytest.mark.survives(
    "Data",
    "a label arrives that a waiting candidate does not have, and is appended to `model.labels`",
    "the candidate is retired; the next run trains on the same rows with all labels",
)
def test_a_candidate_that_waits_for_rows_with_an_appended_label_is_retired_and_not_stuck():
    world = waiting()
    world.edit(model=labelled(AFTER))
    world.rounds(10)
    second, third = world.generation(2), world.generation(3)

    assert second.status.retired_reason == "LabelsAppended"
    assert "it has 2 labels, and newer rows have others" in second.status.message
    assert "extended by perhaps" in second.status.message
    assert set(second.spec.data.partitions) <= set(third.spec.data.partitions)
    assert third.spec.parent == second.spec.parent
    assert third.spec.recipe.model.labels == AFTER


def test_a_waiting_candidate_is_kept_while_its_longer_holdout_has_only_its_labels():
    world = replaying()
    world.error = 0.02
    world.aucs[MONTHS[2]] = (0.61, 0.60)
    world.months = MONTHS[:3]
    world.rounds(6)
    world.edit(model=labelled(AFTER))
    world.error = 0.002
    world.aucs[MONTHS[3]] = (0.63, 0.60)
    world.months = MONTHS[:4]
    world.rounds(10)

    second = world.generation(2)
    assert second.status.retired_reason == ""
    assert second.status.verdict == "Accepted"
    assert second.spec.recipe.model.labels == BEFORE


def test_the_label_that_is_unknown_is_reported_until_it_is_appended():
    world = waiting()

    data = next(c for c in world.update.status.conditions if c.type == "DataReady")
    assert (data.status, data.reason) == ("False", "UnknownLabel")
    assert world.generation(2).status.retired_reason == ""
