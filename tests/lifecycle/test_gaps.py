"""Partitions that were due and not delivered: quarantined by name, or a user must act."""

from __future__ import annotations

import pytest
from lifecycle.invariants import Invariants
from lifecycle.world import MONTHS, World, with_generation_one

from springtide_operator.lifecycle.probing.gaps import MAX_QUARANTINED


def skipping(world: World, *months: str) -> None:
    """Let months be due that do not come."""
    Invariants(world)
    world.undelivered += months


@pytest.mark.survives(
    "Data",
    "a partition was never delivered, and maxGap is over",
    "quarantined by name in the update and its newest generation, with an Event; the run leaves it "
    "out",
)
def test_an_undelivered_partition_is_quarantined_by_name_before_a_run_passes_it() -> None:
    world = with_generation_one()
    skipping(world, "2025-03")
    world.months += ["2025-04"]
    while not world.update.status.cursor.quarantined:
        world.round()
    assert world.update.status.cursor.quarantined == ["2025-03"]
    assert world.generation(1).status.quarantined == ["2025-03"]
    assert "PartitionMissing" in world.events
    world.rounds(4)
    second = world.generation(2)
    assert (second.spec.data.quarantined, second.spec.data.partitions) == (["2025-03"], ["2025-02"])
    assert second.spec.data.holdout_partitions == ["2025-04"]


def test_the_next_probe_is_for_the_same_request() -> None:
    world = with_generation_one()
    skipping(world, "2025-03")
    while any(job.stage == "probe" for job in world.jobs.values()):
        world.round()
    world.months += ["2025-04"]
    world.ask("run@again")
    world.rounds(4)
    assert sorted(request for request in world.probes.values() if request) == ["run@again"] * 2
    assert world.generation(2).spec.trigger == "Request"


def test_a_late_partition_is_trained_on_once_it_is_released() -> None:
    world = with_generation_one()
    skipping(world, "2025-03")
    world.months += ["2025-04"]
    world.rounds(8)
    world.deliver_late("2025-03")
    world.months += ["2025-05"]
    world.ask("release@1")
    world.rounds(8)
    assert "2025-03" in world.generation(3).spec.data.partitions
    assert world.update.status.cursor.quarantined == []


def test_a_partition_released_before_its_delivery_is_quarantined_again() -> None:
    world = with_generation_one()
    skipping(world, "2025-03")
    world.months += ["2025-04"]
    world.rounds(8)
    world.ask("release@1")
    world.round(0)
    world.months += ["2025-05"]
    world.rounds(8)
    third = world.generation(3).spec.data
    assert (third.quarantined, third.holdout_partitions) == (["2025-03"], ["2025-05"])


@pytest.mark.survives(
    "Data",
    "more partitions are missing than a quarantine holds",
    "no run begins and none is dropped; ActionRequired with what to do",
)
def test_more_partitions_than_a_quarantine_holds_are_refused_and_a_user_must_act() -> None:
    world = with_generation_one()
    skipping(world, *MONTHS[2 : 3 + MAX_QUARANTINED])
    world.months += [MONTHS[3 + MAX_QUARANTINED]]
    world.rounds(4)
    status = world.update.status
    assert (status.cursor.quarantined, status.last_probe.reason) == ([], "QuarantineFull")
    assert "17 partitions" in status.last_probe.message
    (to_act,) = [c for c in status.conditions if c.type == "ActionRequired"]
    assert (to_act.status, to_act.reason) == ("True", "QuarantineFull")
    assert "shop-g2" not in world.generations


def test_a_gap_that_is_found_while_the_update_is_suspended_starts_no_other_probe() -> None:
    world = with_generation_one()
    skipping(world, "2025-03")
    world.months += ["2025-04"]
    while not any(job.stage == "probe" for job in world.jobs.values()):
        world.round()
    world.edit(suspend=True)
    world.rounds(2)
    assert not [job for job in world.jobs.values() if job.stage == "probe"]


@pytest.mark.survives(
    "Data",
    "a partition was never delivered, and a quota of Jobs refuses the probe that follows as long "
    "as the one before is there",
    "the quarantine is recorded, the Job is deleted, and the next probe starts, also for a request",
)
@pytest.mark.parametrize("asked", [False, True])
def test_a_quota_that_the_probe_itself_uses_does_not_block_the_next_probe(asked: bool) -> None:
    world = with_generation_one()
    skipping(world, "2025-03")
    while any(job.stage == "probe" for job in world.jobs.values()):
        world.round()
    world.months += ["2025-04"]
    world.refuse_jobs = lambda run: len(world.jobs) >= 1
    if asked:
        world.edit(trigger={"schedule": "@yearly"})
        world.ask("run@again")
    world.rounds(10)
    assert world.update.status.live.number == 2
    assert world.generation(2).spec.trigger == ("Request" if asked else "OnData")
