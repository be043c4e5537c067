"""Quarantine and release outlive the update, and no more is taken in than can be held."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

import pytest
from lifecycle.world import MONTHS, World, with_generation_one

from springtide_api.update.status import Cursor
from springtide_operator.lifecycle.state.quarantine_records import MAX_QUARANTINED

if TYPE_CHECKING:
    from springtide_api.generation.status import QuarantineRecord

SUSPECT = (0.50, 0.50)


def quarantined_world() -> World:
    """A world that holds out a month with shuffled labels, and had it quarantined."""
    world = with_generation_one()
    world.months += ["2025-03", "2025-04"]
    world.aucs |= {"2025-03": SUSPECT, "2025-04": SUSPECT}
    world.rounds(6)
    assert world.update.status.cursor.proposed_for_quarantine
    world.ask("quarantine@1")
    world.rounds(3)
    assert quarantined(world)
    return world


def quarantined(world: World) -> list[str]:
    return world.update.status.cursor.quarantined


def record(world: World) -> dict[str, QuarantineRecord]:
    holders = [g for g in world.generations.values() if g.status.quarantine_records]
    newest = max(holders, key=lambda g: g.spec.number)
    return {each.partition: each for each in newest.status.quarantine_records}


def test_a_quarantine_is_recorded_with_its_time_on_the_newest_generation() -> None:
    world = quarantined_world()
    newest = max(world.generations.values(), key=lambda g: g.spec.number)
    assert [each.partition for each in newest.status.quarantine_records] == quarantined(world)
    assert all(each.released_at is None for each in newest.status.quarantine_records)
    assert all(each.quarantined_at <= world.now for each in newest.status.quarantine_records)


@pytest.mark.survives(
    "People",
    "an update is deleted and restored from Git after a quarantine",
    "exactly the same partitions are quarantined",
)
def test_a_restored_update_has_its_earlier_quarantine() -> None:
    world = quarantined_world()
    before = quarantined(world)
    world.recreate()
    world.settle()
    assert quarantined(world) == before


@pytest.mark.survives(
    "People",
    "an update is deleted and restored from Git after a release from quarantine",
    "the released partitions stay released, and are still never a holdout",
)
def test_a_restored_update_does_not_quarantine_again_what_was_released() -> None:
    world = quarantined_world()
    before = quarantined(world)
    world.ask("reject@2")
    world.settle()
    world.ask("release@3")
    world.settle()
    assert quarantined(world) == []
    assert all(each.released_at for each in record(world).values())
    world.recreate()
    world.settle()
    assert quarantined(world) == []
    assert world.update.status.cursor.released == before


def test_a_release_is_restored_although_another_version_wrote_the_newest_generation() -> None:
    world = quarantined_world()
    world.ask("reject@2")
    world.settle()
    newest = max(world.generations.values(), key=lambda g: g.spec.number)
    world.set_status_values(newest.metadata.name, outcome="Shadowed")
    world.now += timedelta(minutes=1)
    world.ask("release@3")
    world.settle()
    assert quarantined(world) == []
    world.recreate()
    world.settle()
    assert quarantined(world) == []
    assert world.generations[newest.metadata.name].status.outcome == "Shadowed"


@pytest.mark.survives(
    "Operator",
    "is ended between the adoption of generations and the write of the update's status",
    "the quarantine is restored all the same",
)
@pytest.mark.parametrize("written", range(6))
def test_a_quarantine_is_restored_although_the_operator_crashed_in_between(written: int) -> None:
    world = quarantined_world()
    before = quarantined(world)
    world.recreate()
    world.crash_after(written)
    world.settle()
    assert quarantined(world) == before


def test_the_record_is_copied_when_its_generation_is_pruned() -> None:
    world = quarantined_world()
    before = quarantined(world)
    world.ask("reject@2")
    world.edit(history={"generations": 2, "rejected": 0})
    for month in MONTHS[4:9]:
        world.months.append(month)
        world.rounds(6)
    assert "shop-g2" not in world.generations
    assert quarantined(world) == before
    world.recreate()
    world.settle()
    assert quarantined(world) == before


def test_more_partitions_than_can_be_held_are_refused_and_none_is_dropped() -> None:
    world = with_generation_one()
    world.months += ["2025-03", "2025-04"]
    world.aucs |= {"2025-03": SUSPECT, "2025-04": SUSPECT}
    world.rounds(6)
    assert world.update.status.cursor.proposed_for_quarantine
    held = [f"2019-{number:02d}" for number in range(1, MAX_QUARANTINED + 1)]
    status = world.update.status.model_copy(update={"cursor": Cursor(quarantined=held)})
    world.update = world.update.model_copy(update={"status": status})
    world.ask("quarantine@1")
    world.settle()
    last = world.update.status.last_request
    assert last.result == "Refused"
    assert "17 partitions would be quarantined (16 are), and at most 16 can be" in last.message
    assert quarantined(world) == held


def test_more_released_partitions_than_can_be_held_are_refused_and_none_is_dropped() -> None:
    world = with_generation_one()
    world.edit(trigger={})
    world.rounds(2)
    held = [f"2019-{number:02d}" for number in range(1, MAX_QUARANTINED + 1)]
    cursor = Cursor(quarantined=held, released=["2018-01"])
    status = world.update.status.model_copy(update={"cursor": cursor})
    world.update = world.update.model_copy(update={"status": status})
    world.ask("release@1")
    world.settle()
    last = world.update.status.last_request
    assert last.result == "Refused"
    assert "17 partitions would be released" in last.message
    assert quarantined(world) == held
