"""The life of an update, one sentence a test, in a world without a cluster."""

from __future__ import annotations

from dataclasses import replace

import pytest
from lifecycle.world import World, digest, end_of, with_generation_one


def test_the_initial_model_is_imported_and_its_seeded_head_is_never_served() -> None:
    world = World()
    world.settle()
    world.rounds(4)

    assert world.generation(0).status.artifact.head == "Seeded"
    assert world.served == []
    assert world.update.status.live is None
    assert world.update.status.phase == "Idle"
    ready = next(c for c in world.update.status.conditions if c.type == "Ready")
    assert (ready.status, ready.reason) == ("True", "AwaitingFirstGeneration")


def test_an_imported_model_with_a_trained_head_is_rolled_out_once_without_a_gate() -> None:
    world = World(seeded=False)
    world.settle()
    world.rounds(3)

    assert world.served == [digest("initial")]
    assert world.update.status.live.number == 0


def test_generation_one_is_accepted_by_absolute_rules_and_moves_the_cursor_to_t1() -> None:
    world = with_generation_one()
    first = world.generation(1)

    assert (first.status.verdict, first.status.reason) == ("Accepted", "NoBaseline")
    assert first.spec.baseline is None
    assert world.served == [first.status.artifact.served_digest]
    assert world.update.status.cursor.trained_through == end_of("2025-01")
    assert world.update.status.live.name == "shop-g1"


def test_todays_holdout_is_training_data_of_the_next_run() -> None:
    world = with_generation_one()
    world.months.append("2025-03")
    world.rounds(6)
    second = world.generation(2)

    assert second.spec.data.partitions == ["2025-02"]
    assert second.spec.data.holdout_partitions == ["2025-03"]
    assert second.spec.parent.name == "shop-g1"
    assert second.spec.baseline.name == "shop-g1"
    assert (second.status.verdict, second.status.reason) == ("Accepted", "RulesPassed")
    assert world.update.status.cursor.trained_through == end_of("2025-02")
    assert world.update.status.previous.name == "shop-g1"


def test_historical_shards_are_frozen_at_promotion_and_first_used_by_the_next_generation() -> None:
    world = with_generation_one()
    world.months.append("2025-03")
    world.rounds(6)

    assert world.generation(1).spec.data.historical == []
    assert world.generation(2).spec.data.historical == [world.generation(1).spec.data.manifest]


def test_a_rejection_consumes_nothing_and_does_not_change_live() -> None:
    world = with_generation_one()
    served = list(world.served)
    world.months.append("2025-03")
    world.aucs["2025-03"] = (0.55, 0.66)
    world.rounds(6)

    assert world.generation(2).status.verdict == "Rejected"
    assert world.served == served
    assert world.update.status.cursor.trained_through == end_of("2025-01")
    assert world.update.status.live.name == "shop-g1"


def test_nothing_is_evaluated_twice_on_the_same_rows_recipe_and_weights() -> None:
    world = with_generation_one()
    world.months.append("2025-03")
    world.aucs["2025-03"] = (0.55, 0.66)
    world.rounds(10)

    assert sorted(world.generations) == ["shop-g0", "shop-g1", "shop-g2"]
    assert world.update.status.last_probe.reason == "AlreadyEvaluated"


@pytest.mark.survives(
    "Data",
    "two candidates in a row that were trained on one partition are rejected",
    "no third candidate is trained on it; it is proposed for quarantine",
)
def test_no_third_run_starts_on_a_partition_of_two_rejections() -> None:
    world = with_generation_one()
    for month in ("2025-03", "2025-04", "2025-05"):
        world.months.append(month)
        world.aucs[month] = (0.55, 0.66)
        world.rounds(7)

    assert max(g.spec.number for g in world.generations.values()) == 3
    assert world.update.status.phase == "OnHold"
    assert world.update.status.cursor.proposed_for_quarantine == ["2025-02"]

    world.aucs["2025-05"] = (0.70, 0.66)
    world.ask("quarantine@1")
    world.rounds(7)
    assert world.update.status.cursor.quarantined == ["2025-02"]
    assert world.generation(4).spec.data.partitions == ["2025-03", "2025-04"]
    assert world.update.status.live.number == 4


def test_a_recreated_update_adopts_and_targets_do_not_change() -> None:
    world = with_generation_one()
    served = list(world.served)
    world.months.append("2025-03")
    world.round()
    world.recreate()
    world.rounds(8)

    assert world.generation(2).status.reason == "Orphaned"
    assert world.update.status.live.number == 3
    assert world.served[: len(served)] == served
    assert world.generation(3).spec.data.digest == world.generation(2).spec.data.digest


@pytest.mark.survives(
    "People",
    "deleted with --cascade=orphan during training, and restored",
    "the Job without an owner is deleted with its pod; a Job of another client is left alone",
)
def test_an_orphaned_job_is_deleted_by_the_next_update() -> None:
    world = with_generation_one()
    world.months.append("2025-03")
    world.round()
    (orphan,) = (name for name, job in world.jobs.items() if job.stage == "train")
    world.recreate(cascade=False)
    world.jobs["forged"] = replace(world.jobs[orphan], name="forged", uid="another")
    world.settle()

    assert orphan not in world.jobs
    assert "forged" in world.jobs
    assert world.generation(2).status.reason == "Orphaned"


def test_a_request_found_on_an_update_without_history_is_recorded_and_not_run() -> None:
    world = World()
    world.ask("run@old")
    world.settle()
    assert world.update.status.last_request.result == "Recorded"


def test_a_suspended_update_refuses_to_probe() -> None:
    world = with_generation_one()
    world.edit(suspend=True)
    world.settle()
    world.ask("run@1")
    world.settle()
    assert world.update.status.last_request.result == "Refused"
    assert "spec.suspend" in world.update.status.last_request.message
    assert not world.jobs


def test_a_run_by_request_ignores_schedule_and_interval() -> None:
    world = World()
    world.edit(trigger={})
    world.settle()
    world.rounds(2)
    world.months = ["2025-01", "2025-02"]
    world.rounds(3)
    assert "shop-g1" not in world.generations
    world.ask("run@1")
    world.rounds(8)
    assert world.update.status.live.number == 1
    assert world.generation(1).spec.trigger == "Request"
