"""What counts as evaluated: evidence always, a failed run until its cause changes."""

from __future__ import annotations

from datetime import timedelta

import pytest
from lifecycle.world import World, with_generation_one

from springtide_operator.lifecycle.probing.run_start import evaluated_before

MORE_MEMORY = {"compute": {"resources": {"memory": "16Gi"}}}


def failed_in_training(code: int = 137, reason: str = "") -> World:
    """A world whose second generation could not be trained."""
    world = with_generation_one()
    world.months.append("2025-03")
    fail_training(world, code, reason)
    assert world.generation(2).status.verdict == "Failed"
    return world


def fail_training(world: World, code: int = 137, reason: str = "") -> None:
    for _ in range(100):
        world.now += timedelta(seconds=30)
        for name, job in list(world.jobs.items()):
            if job.stage == "train" and not job.failed:
                world.fail(name, code, reason=reason)
        world.complete_jobs()
        world.settle()


def evaluated_as(world: World) -> str | None:
    """Which generation keeps the rows of the second from being tried again."""
    spec = world.generation(2).spec
    before = evaluated_before(world.seen(), spec.data, spec.recipe_hash, spec.parent.digest)
    return before.metadata.name if before else None


@pytest.mark.survives(
    "Jobs and pods",
    "memory runs out until a run is given up, and `training.compute` is raised",
    "the same rows are used again at the next probe, once for each edit",
)
def test_a_run_out_of_memory_is_retried_once_it_has_more() -> None:
    world = failed_in_training()
    assert "shop-g3" not in world.generations
    assert world.update.status.last_probe.reason == "AlreadyEvaluated"
    world.edit(training=MORE_MEMORY)
    fail_training(world)
    assert world.generation(3).status.verdict == "Failed"
    assert "shop-g4" not in world.generations, "nothing changed since"
    assert world.update.status.last_probe.reason == "AlreadyEvaluated"
    world.edit(training={"compute": {"resources": {"memory": "32Gi"}}})
    world.rounds(8)
    assert world.generation(4).status.rollout.promoted_at
    assert world.generation(4).spec.data.digest == world.generation(2).spec.data.digest


@pytest.mark.parametrize(
    "training", [{"limits": {"maxAttempts": 5}}, {"compute": {"pendingTimeout": "3h"}}]
)
def test_more_attempts_and_longer_limits_retry_a_run_too(training: dict) -> None:
    world = failed_in_training()
    world.edit(training=training)
    assert evaluated_as(world) is None


def test_an_edit_without_effect_on_the_failure_retries_nothing() -> None:
    world = failed_in_training(3, "MissingColumn")
    world.edit(history={"generations": 9}, trigger={"onData": {"pollInterval": "1m"}})
    world.rounds(5)
    assert evaluated_as(world) == "shop-g2"
    assert "shop-g3" not in world.generations


def test_a_rejection_on_evidence_is_not_retried_with_more_memory() -> None:
    world = with_generation_one()
    world.months.append("2025-03")
    world.aucs["2025-03"] = (0.5, 0.8)
    world.rounds(8)
    assert world.generation(2).status.verdict == "Rejected"
    world.edit(training=MORE_MEMORY)
    world.rounds(5)
    assert evaluated_as(world) == "shop-g2"


def test_a_run_that_failed_after_an_interim_analysis_is_not_repeated() -> None:
    world = failed_in_training()
    trained = with_generation_one()
    trained.months.append("2025-03")
    trained.rounds(8)
    evaluation = trained.generation(2).status.evaluation
    name = "shop-g2"
    known = world.generations[name]
    status = known.status.model_copy(update={"evaluation": evaluation})
    world.generations[name] = known.model_copy(update={"status": status})
    world.edit(training=MORE_MEMORY)
    assert evaluation.interim_analyses == 1
    assert evaluated_as(world) == name


@pytest.mark.parametrize(("verdict", "kept"), [("Pending", None), ("Rejected", "shop-g2")])
def test_a_run_retired_for_a_quarantine_counts_only_if_it_was_evaluated(verdict, kept) -> None:
    world = failed_in_training()
    known = world.generation(2)
    status = known.status.model_copy(
        update={"verdict": verdict, "retired_reason": "PartitionQuarantined"}
    )
    world.generations["shop-g2"] = known.model_copy(update={"status": status})
    assert evaluated_as(world) == kept
