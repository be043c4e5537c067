"""Histories that once broke a law of `invariants.py`, each as short as it was found."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest
from lifecycle.answers import MONTHS
from lifecycle.invariants import Invariants
from lifecycle.world import World, after_promotions, end_of, with_generation_one

from springtide_api.generation.spec import Ancestor, Range
from springtide_api.update.status import UpdateStatus


def watched(world: World) -> World:
    Invariants(world)
    return world


def test_an_import_started_while_a_candidate_waits_never_replaces_that_candidate() -> None:
    world = watched(World(seeded=False))
    world.settle()
    world.rounds(2)
    world.error = 0.02
    for month in ("2025-01", "2025-02"):
        world.months.append(month)
        world.aucs[month] = (0.61, 0.60)
    world.rounds(6)
    assert world.generation(1).status.reason == "ExtendHoldout"
    world.delete_generation("shop-g0")
    world.target = replace(world.target, digest=None, number=None)
    world.settle()
    world.error = 0.002
    world.months.append("2025-03")
    world.rounds(8)
    assert world.generation(1).status.rollout.promoted_at
    assert {g.spec.origin for g in world.generations.values()} == {"Trained"}
    assert world.update.status.cursor.trained_through is not None


def test_a_partition_released_before_any_promotion_is_never_in_a_holdout() -> None:
    world = watched(with_generation_one())
    world.months.append("2025-03")
    world.aucs["2025-03"] = (0.50, 0.50)
    world.rounds(6)
    assert world.generation(2).status.reason == "HoldoutSuspect"
    world.ask("quarantine@1")
    world.rounds(2)
    world.ask("reject@2")
    world.rounds(2)
    world.ask("release@3")
    world.rounds(2)
    world.edit(training={"hyperparameters": {"learningRate": "1e-5"}})
    world.rounds(2)
    assert "shop-g3" not in world.generations, "2025-03 was quarantined and is in no holdout"
    world.months.append("2025-04")
    world.rounds(6)
    data = world.generation(3).spec.data
    assert data.partitions == ["2025-02", "2025-03"]
    assert data.holdout_partitions == ["2025-04"]


@pytest.mark.parametrize("forged", ["window", "parent"])
def test_a_foreign_generation_with_our_label_recipe_and_baseline_changes_neither_cursor_nor_parent(
    forged: str,
) -> None:
    world = with_generation_one()
    live = world.generation(1)
    made = live.status.artifact.weights_digest
    own = Ancestor(name="shop-g1", digest=made)
    parent = Ancestor(name="shop-g0", digest=live.spec.parent.digest)
    window = Range(from_=end_of("2025-01"), to=end_of("2026-11"))
    data = live.spec.data
    if forged == "window":
        data = data.model_copy(update={"windows": [window]})
    changes = {
        "number": 7,
        "baseline": own,
        "parent": own if forged == "window" else parent,
        "data": data,
    }
    world.create_foreign_generation(live.spec.model_copy(update=changes), labelled=True)
    world.rounds(8)
    assert world.update.status.live.name == "shop-g1"
    assert world.update.status.cursor.trained_through == end_of("2025-01")


def test_a_probe_in_the_second_of_a_refused_generation_is_not_repeated() -> None:
    world = with_generation_one()
    live = world.generation(1)
    made = live.status.artifact.weights_digest
    forged = {"number": 2, "parent": Ancestor(name="shop-g1", digest=made)}
    world.create_foreign_generation(live.spec.model_copy(update=forged), labelled=True)
    world.settle()
    assert world.generation(2).status.reason == "SpecChanged"
    (probe,) = [name for name, job in world.jobs.items() if job.stage == "probe"]
    world.fail(probe, 1)
    world.settle()
    world.settle()
    assert world.update.status.last_probe.job == probe


def test_weights_of_live_are_not_deleted_as_rows_of_a_foreign_generation() -> None:
    world = with_generation_one()
    live = world.generation(1)
    for number in range(7, 15):
        rows = live.status.artifact.uri if number == 7 else live.spec.data.manifest
        data = live.spec.data.model_copy(update={"manifest": rows})
        spec = live.spec.model_copy(update={"number": number, "data": data})
        world.create_foreign_generation(spec, labelled=False)
    world.rounds(8)
    collected = [s.run.collect.delete for s in world.runs.values() if s.run.collect]
    folder = live.status.artifact.uri.removeprefix("file://")
    assert not any(folder in delete for delete in collected)


def test_a_generation_that_retired_without_a_verdict_stays_so_when_its_update_is_restored() -> None:
    world = watched(after_promotions(2))
    world.months.append("2025-04")
    while "shop-g3" not in world.generations:
        world.rounds(1)
    world.ask("rollback.g2@1")
    world.rounds(2)
    retired = world.generation(3).status
    assert (retired.verdict, retired.retired_reason) == ("Pending", "ParentRolledBack")
    world.now += timedelta(minutes=10)
    world.recreate()
    world.rounds(2)
    now = world.generation(3).status
    assert (now.verdict, now.message) == ("Pending", retired.message)
    assert now.verdict_at == retired.verdict_at


def test_a_refused_apply_that_was_done_meanwhile_blocks_nothing_once_it_is_due() -> None:
    world = World(seeded=False)
    checks = Invariants(world)
    world.step()
    world.refusing = {"Deployment ranker": "WriteRefused"}
    world.decide_on_old_observation()
    assert world.refusals
    world.now += timedelta(minutes=1)
    world.settle()
    checks.check_at_rest()
    assert world.update.status.phase == "Importing"


def test_numbers_and_attempts_begin_again_once_no_record_tells_of_earlier_ones() -> None:
    world = watched(World(seeded=False))
    world.edit(history={"generations": 2})
    world.settle()
    world.months = MONTHS[:2]
    world.rounds(8)
    world.months = MONTHS[:3]
    world.rounds(8)
    assert sorted(world.generations) == ["shop-g1", "shop-g2"], "the operator pruned generation 0"
    for name in sorted(world.generations):
        world.delete_generation(name)
    world.target = replace(world.target, digest=None, number=None, highest_number=None)
    world.update = world.update.model_copy(update={"status": UpdateStatus()})
    world.rounds(4)
    assert world.generation(0).status.artifact
