"""Observe trains and evaluates, TrainOnly trains: neither changes a Deployment."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest
from lifecycle.declared import SPEC
from lifecycle.invariants import Invariants
from lifecycle.world import World, digest, end_of, stuck_in_a_rollout, with_generation_one

MANUAL = {**SPEC["gate"], "approval": "Manual"}


def in_mode(mode: str, *, seeded: bool = True, **spec: object) -> World:
    """A world of that mode from the start, after two months of data."""
    world = World(spec={**SPEC, "mode": mode, **spec}, seeded=seeded)
    Invariants(world)
    world.settle()
    world.months = ["2025-01", "2025-02"]
    world.rounds(8)
    return world


def untouched(world: World) -> bool:
    """Whether nothing was ever applied to the target."""
    return not world.served and not world.target.claimed_by and world.target.digest is None


def test_observe_reports_what_would_be_rolled_out_and_changes_no_target() -> None:
    world = in_mode("Observe")
    status = world.generation(1).status
    assert (status.verdict, status.outcome) == ("Accepted", "Retired")
    assert status.retired_reason == "ObserveMode"
    assert status.message.startswith(
        "would be rolled out to Deployment ranker if spec.mode were Enforce, not Observe; floor: "
    )
    assert untouched(world)
    update = world.update.status
    assert (update.live, update.last_run.summary) == (None, "Accepted g1")
    assert (update.last_run.outcome, update.last_run.reason) == ("Retired", "ObserveMode")
    assert update.counters.promoted == 0
    assert world.announced[-2:] == ["ObserveMode", "Accepted"]
    succeeded = world.condition("LastRunSucceeded")
    assert (succeeded.status, succeeded.reason) == ("True", "ObserveMode")
    in_sync = world.condition("TargetsInSync")
    assert (in_sync.status, in_sync.reason) == ("Unknown", "ObserveMode")
    assert world.condition("ActionRequired").status == "False"


def test_observe_evaluates_a_window_once_and_the_next_begins_at_the_same_row() -> None:
    world = in_mode("Observe")
    assert world.update.status.last_probe.reason == "AlreadyEvaluated"
    assert world.update.status.cursor.trained_through is None
    world.months.append("2025-03")
    world.rounds(8)
    data = world.generation(2).spec.data
    assert data.partitions == ["2025-01", "2025-02"]
    assert world.generation(2).status.retired_reason == "ObserveMode"
    assert max(g.spec.number for g in world.generations.values()) == 2
    assert untouched(world)


def test_without_a_live_generation_a_candidate_is_compared_with_an_initial_model_with_a_head() -> (
    None
):
    seeded, trained = in_mode("Observe"), in_mode("Observe", seeded=False)
    assert seeded.generation(1).spec.baseline is None
    assert seeded.generation(1).status.reason == "NoBaseline"
    assert trained.generation(1).spec.baseline == trained.generation(1).spec.parent
    assert trained.generation(1).spec.parent.name == "shop-g0"
    assert trained.generation(1).status.reason == "RulesPassed"
    initial = trained.generation(0).status
    assert (initial.phase, initial.outcome) == ("Imported", "")
    assert trained.condition("Serving").message == "nothing was promoted yet; spec.mode is Observe"
    assert untouched(trained)


@pytest.mark.survives(
    "People",
    "spec.mode is switched from Observe to Enforce",
    "the initial model is rolled out as in a new update, and then the next accepted generation; "
    "nothing that was retired is served",
)
def test_enforce_after_observe_rolls_the_initial_model_out_first() -> None:
    world = in_mode("Observe", seeded=False)
    world.edit(mode="Enforce")
    world.rounds(3)
    assert world.update.status.live.number == 0
    world.months.append("2025-03")
    world.rounds(8)
    assert world.update.status.live.number == 2
    assert world.generation(1).status.outcome == "Retired"


@pytest.mark.parametrize("mode", ["Observe", "TrainOnly"])
def test_a_run_of_another_mode_is_rolled_out_if_the_mode_is_enforce_at_its_end(mode: str) -> None:
    world = World(spec={**SPEC, "mode": mode}, seeded=False)
    Invariants(world)
    world.settle()
    world.months = ["2025-01", "2025-02"]
    while "shop-g1" not in world.generations:
        world.round()
    world.edit(mode="Enforce")
    world.rounds(8)
    assert world.generation(1).status.outcome == "Live"
    assert (world.generation(0).status.outcome, world.generation(0).status.retired_reason) == (
        "Retired",
        "ParentNotLive",
    )


def test_train_only_stores_the_weights_without_a_verdict() -> None:
    world = in_mode("TrainOnly")
    status = world.generation(1).status
    assert (status.verdict, status.outcome) == ("Pending", "Retired")
    assert status.retired_reason == "TrainOnlyMode"
    assert status.message == (
        f"trained and stored at {status.artifact.uri}; spec.mode is TrainOnly: it is neither "
        "evaluated nor rolled out"
    )
    assert not [name for name in world.job_names_ever if "-evaluate-" in name]
    assert untouched(world)
    assert world.update.status.last_run.summary == "Trained g1"
    assert world.announced == ["TrainOnlyMode"]
    assert world.condition("LastRunSucceeded").reason == "TrainOnlyMode"
    assert world.update.status.last_probe.reason == "AlreadyEvaluated"


def test_rows_that_were_only_trained_on_are_trained_on_again_once_they_are_to_be_evaluated() -> (
    None
):
    world = in_mode("TrainOnly")
    world.edit(mode="Enforce")
    world.rounds(8)
    assert world.generation(2).status.outcome == "Live"
    assert world.generation(2).spec.data.digest == world.generation(1).spec.data.digest


@pytest.mark.survives(
    "People",
    "spec.mode is switched to Observe or TrainOnly during a rollout",
    "the rollout that has started is completed or rolled back, as with suspend; the next "
    "candidate is retired",
)
@pytest.mark.parametrize("ready", [True, False])
@pytest.mark.parametrize("mode", ["Observe", "TrainOnly"])
def test_a_rollout_that_started_ends_in_every_mode(mode: str, ready: bool) -> None:
    world = stuck_in_a_rollout()
    Invariants(world)
    world.edit(mode=mode)
    world.settle()
    assert world.update.status.phase == "RollingOut"
    world.pods_ready = ready
    while world.generation(2).status.outcome == "":
        world.round()
        world.pods_ready = ready or bool(world.generation(2).status.rollout.rollback_reason)
    assert world.generation(2).status.outcome == ("Live" if ready else "RolledBack")
    number = world.target.number
    world.pods_ready = True
    world.months.append("2025-04")
    world.rounds(8)
    assert world.generation(3).status.outcome == "Retired"
    assert world.target.number == number


@pytest.mark.parametrize("mode", ["Observe", "TrainOnly"])
def test_a_generation_that_waits_for_approval_is_retired_by_the_mode(mode: str) -> None:
    world = with_generation_one()
    Invariants(world)
    world.edit(gate=MANUAL)
    world.months.append("2025-03")
    world.rounds(8)
    assert world.update.status.phase == "AwaitingApproval"
    world.edit(mode=mode)
    world.rounds(2)
    assert world.generation(2).status.outcome == "Retired"
    assert world.generation(2).status.retired_reason == f"{mode}Mode"
    assert world.condition("ActionRequired").status == "False"
    assert world.target.number == 1


def test_train_only_ends_an_evaluation_in_progress_and_deletes_its_job() -> None:
    world = with_generation_one()
    Invariants(world)
    world.months.append("2025-03")
    while not any(job.stage == "evaluate" and job.number == 2 for job in world.jobs.values()):
        world.now += timedelta(minutes=1)
        world.complete_jobs()
        world.step()
    world.edit(mode="TrainOnly")
    world.settle()
    assert world.generation(2).status.retired_reason == "TrainOnlyMode"
    assert not any(job.stage == "evaluate" for job in world.jobs.values())


@pytest.mark.survives(
    "Deployments",
    "a target is missing, paused or has values of its owner, and spec.mode is Observe",
    "runs go on; TargetsInSync is Unknown and says what Enforce would stop at",
)
@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"uid": ""}, "Deployment ranker does not exist"),
        ({"foreign_manager": "helm"}, "Deployment ranker: helm sets MODEL_URI or MODEL_DIGEST"),
        ({"digest": digest("theirs")}, "which is of no generation, and none is live"),
        ({"claimed_by": "other"}, "is served by IncrementalUpdate other"),
        ({"paused": True}, ""),
    ],
    ids=str,
)
def test_targets_do_not_matter_where_none_is_written(
    changes: dict[str, object], problem: str
) -> None:
    world = World(spec={**SPEC, "mode": "Observe"})
    Invariants(world)
    world.target = replace(world.target, **changes)
    world.settle()
    world.months = ["2025-01", "2025-02"]
    world.rounds(8)
    assert world.generation(1).status.retired_reason == "ObserveMode"
    assert world.condition("ActionRequired").status == "False"
    assert world.condition("Ready").status == "True"
    found = world.condition("TargetsInSync")
    assert found.reason == "ObserveMode"
    assert problem in found.message
    assert world.served == []


def test_fields_that_were_removed_stay_removed_in_observe_and_come_back_with_enforce() -> None:
    world = with_generation_one()
    Invariants(world)
    world.edit(mode="Observe")
    world.settle()
    world.target = replace(world.target, digest=None, number=None, uri=None)
    world.rounds(2)
    assert world.target.digest is None
    assert world.condition("Serving").status == "False"
    world.edit(mode="Enforce")
    world.rounds(2)
    assert world.target.number == 1


def test_a_rollback_is_requested_in_observe_too() -> None:
    world = with_generation_one()
    Invariants(world)
    world.months.append("2025-03")
    world.rounds(8)
    world.edit(mode="Observe")
    world.ask("rollback.g2@1")
    world.rounds(3)
    assert world.generation(2).status.outcome == "RolledBack"
    assert world.target.number == 1


def test_the_mode_is_no_part_of_the_recipe() -> None:
    enforced, observed = with_generation_one(), in_mode("Observe")
    assert observed.generation(1).spec.recipe_hash == enforced.generation(1).spec.recipe_hash
    assert observed.generation(1).spec.recipe == enforced.generation(1).spec.recipe


def test_a_live_generation_keeps_its_cursor_while_the_update_observes() -> None:
    world = with_generation_one()
    Invariants(world)
    world.edit(mode="Observe")
    for month in ("2025-03", "2025-04"):
        world.months.append(month)
        world.rounds(8)
    assert world.update.status.cursor.trained_through == end_of("2025-01")
    assert world.generation(3).spec.baseline.name == "shop-g1"
    assert world.generation(3).spec.data.partitions == ["2025-02", "2025-03"]
    assert world.condition("Serving").status == "True"


def test_an_initial_model_that_was_deleted_in_observe_is_rolled_out_again_by_enforce() -> None:
    world = World(seeded=False)
    Invariants(world)
    world.settle()
    world.rounds(2)
    world.edit(mode="Observe")
    world.settle()
    world.delete_generation("shop-g0")
    world.rounds(3)
    world.edit(mode="Enforce")
    world.settle()
    world.rounds(2)
    assert world.update.status.live is not None
    assert world.condition("TargetsInSync").status == "True"
    assert world.target.number == world.update.status.live.number
