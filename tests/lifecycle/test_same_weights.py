"""Early stopping may keep the weights of the live model: nothing waits for such a candidate."""

from __future__ import annotations

from dataclasses import replace

import pytest
from lifecycle.world import MONTHS, World, with_generation_one

from springtide_operator.lifecycle.maintenance.history import MAX_STILL_NEEDED

EARLY = {"earlyStopping": {"metric": "log_loss"}}
MESSAGE = (
    "the candidate has the weights of the live model, so it was not evaluated: early stopping kept "
    "the weights of step 0, because no step improved log_loss on the validation split, 0.1235 at "
    "step 0"
)


def unimproved_world() -> World:
    """A world whose second generation has the weights of the first."""
    world = with_generation_one()
    world.edit(training=EARLY)
    world.without_gain = True
    world.months.append("2025-03")
    world.rounds(5)
    return world


@pytest.mark.survives(
    "People",
    "early stopping finds no weights that are better than those of the live model",
    "the candidate is rejected as `SameWeights` without an evaluation, and the next run is trained "
    "on its rows and newer ones: nothing waits for a longer holdout or for a user",
)
def test_a_candidate_with_the_weights_of_live_is_rejected_without_an_evaluation() -> None:
    world = unimproved_world()
    status = world.generation(2).status
    assert (status.verdict, status.reason, status.message) == ("Rejected", "SameWeights", MESSAGE)
    assert status.evaluation.interim_analyses == 0
    assert not any("g2-evaluate" in name for name in world.job_names_ever)
    assert world.condition("ActionRequired").status == "False"
    assert world.update.status.live.number == 1
    (trained,) = (each for each in world.event_messages if each.startswith("shop-g2 has weights"))
    assert trained.endswith(MESSAGE.partition(": ")[2])


def test_two_such_candidates_in_a_row_do_not_hold_the_next_run() -> None:
    world = unimproved_world()
    world.months.append("2025-04")
    world.rounds(5)
    third = world.generation(3)
    assert third.status.reason == "SameWeights"
    assert third.spec.data.partitions == ["2025-02", "2025-03"]
    assert world.condition("ActionRequired").status == "False"

    world.without_gain = False
    world.months.append("2025-05")
    world.rounds(8)
    assert world.generation(4).status.verdict == "Accepted"
    assert world.generation(4).spec.data.partitions == ["2025-02", "2025-03", "2025-04"]


def test_it_separates_two_rejections_in_a_row_on_the_same_rows_from_nothing() -> None:
    world = with_generation_one()
    world.edit(training=EARLY)
    for month, better, kept in (
        ("2025-03", 0.1, False),
        ("2025-04", 0, True),
        ("2025-05", 0.1, False),
    ):
        world.aucs[month] = (0.70 - better, 0.70)
        world.without_gain = kept
        world.months.append(month)
        world.rounds(6)
    reasons = [world.generation(number).status.reason for number in (2, 3, 4)]
    assert reasons == ["RuleFailed", "SameWeights", "RuleFailed"]
    assert world.condition("ActionRequired").message.startswith(
        "shop-g4 is the second rejection in a row that was trained on 2025-0"
    )


def test_such_candidates_are_deleted_although_their_weights_are_served_and_the_weights_stay() -> (
    None
):
    world = with_generation_one()
    world.edit(training=EARLY, history={"rejected": 1})
    world.without_gain = True
    served = world.generation(1).status.artifact
    world.target = replace(world.target, named=frozenset({served.served_digest}))
    for month in MONTHS[2:14]:
        world.months.append(month)
        world.rounds(6)
    numbers = sorted(g.spec.number for g in world.generations.values())
    assert numbers == [0, 1, *range(14 - MAX_STILL_NEEDED, 14)]
    assert served.uri in world.storage.folders
