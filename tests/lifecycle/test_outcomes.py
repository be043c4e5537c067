"""The outcome of a generation, as users and alerts read it."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING

import pytest
from lifecycle.world import World, stuck_in_a_rollout, with_generation_one

if TYPE_CHECKING:
    from springtide_api.objects import ModelGeneration


def rolled_back() -> World:
    """A world whose second generation was accepted and then rolled back."""
    world = with_generation_one()
    world.months.append("2025-03")
    world.pods_ready = False
    while not (
        "shop-g2" in world.generations and world.generation(2).status.rollout.rollback_reason
    ):
        world.round()
    world.pods_ready = True
    world.rounds(2)
    return world


def said(generation: ModelGeneration) -> dict[str, tuple[str, str]]:
    return {c.type: (c.status, c.reason) for c in generation.status.conditions}


@pytest.mark.survives(
    "Deployments",
    "a rollout is rolled back automatically",
    "outcome RolledBack in generation, last run and history, a counter, `RollbackStarted` and "
    "`RollbackCompleted` on generation and update; the verdict stays Accepted",
)
def test_a_rollback_is_reported_in_status_history_counters_and_events() -> None:
    world = rolled_back()
    second, status = world.generation(2).status, world.update.status
    assert (second.verdict, second.outcome) == ("Accepted", "RolledBack")
    assert (status.last_run.outcome, status.last_run.summary) == ("RolledBack", "RolledBack g2")
    assert status.last_run.reason == "RolledBack"
    assert (status.history[0].outcome, status.history[0].reason) == ("RolledBack", "RolledBack")
    assert status.counters.rolled_back == 1
    assert status.live.number == 1
    last_run = world.condition("LastRunSucceeded")
    assert (last_run.status, last_run.reason) == ("False", "RolledBack")
    assert [e for e in world.events if e.startswith("Rollback")] == [
        "RollbackStarted",
        "RollbackCompleted",
    ]
    assert said(world.generation(2))["Live"] == ("False", "RolledBack")
    assert said(world.generation(2))["Accepted"] == ("True", "RulesPassed")


def test_a_rollback_is_announced_once_although_the_spec_is_invalid_meanwhile() -> None:
    world = stuck_in_a_rollout()
    while not world.generation(2).status.rollout.rollback_reason:
        world.now += timedelta(minutes=1)
        world.step()
    world.settle()
    trigger = world.spec["trigger"]
    world.edit(trigger={"schedule": "99 * * * *"})
    world.settle()
    assert world.update.status.phase == "Invalid"
    world.edit(trigger=trigger)
    world.settle()
    assert world.update.status.phase == "RollingBack"
    world.pods_ready = True
    world.rounds(2)
    assert world.announced[-3:] == ["RollbackStarted", "InvalidSpec", "RollbackCompleted"]
    assert world.announced.count("RollbackStarted") == 1


def test_verdicts_promotions_and_rollbacks_are_events_of_the_update_too() -> None:
    world = rolled_back()
    assert world.announced == [
        "Accepted",
        "Promoted",
        "Accepted",
        "RollbackStarted",
        "RollbackCompleted",
    ]


def test_a_promotion_makes_the_one_before_superseded_and_no_longer_live() -> None:
    world = with_generation_one()
    assert said(world.generation(1))["Live"] == ("True", "Promoted")
    world.months.append("2025-03")
    world.rounds(8)
    assert [world.generation(n).status.outcome for n in (1, 2)] == ["Superseded", "Live"]
    assert said(world.generation(1))["Live"] == ("False", "Superseded")
    assert said(world.generation(2)) == {
        "Trained": ("True", "Trained"),
        "Evaluated": ("True", "Evaluated"),
        "Accepted": ("True", "RulesPassed"),
        "Live": ("True", "Promoted"),
    }


def test_a_rejected_generation_is_evaluated_and_not_accepted() -> None:
    world = with_generation_one()
    world.months.append("2025-03")
    world.aucs["2025-03"] = (0.53, 0.66)
    world.rounds(8)
    assert world.generation(2).status.outcome == "Rejected"
    assert said(world.generation(2)) == {
        "Trained": ("True", "Trained"),
        "Evaluated": ("True", "Evaluated"),
        "Accepted": ("False", "RuleFailed"),
        "Live": ("False", "Rejected"),
    }
    assert world.condition("ActionRequired").status == "False"


def test_consecutive_failures_are_counted_until_a_run_is_evaluated() -> None:
    world = with_generation_one()
    for month in ("2025-03", "2025-04"):
        world.months.append(month)
        world.ask(f"retry@{month}")
        failed = f"shop-g{len(world.generations)}"
        while failed not in world.generations:
            world.round()
        while world.generations[failed].status.verdict == "Pending":
            for name, job in list(world.jobs.items()):
                if job.stage == "train" and not job.failed:
                    world.fail(name, 3, reason="InvalidInput")
            world.settle()
        assert world.generations[failed].status.outcome == "Failed"
    assert world.update.status.consecutive_failures == 2
    world.ask("retry@3")
    world.rounds(8)
    assert world.update.status.live.number == 4
    assert world.update.status.consecutive_failures == 0


def test_a_hold_sets_action_required_and_names_the_possible_requests() -> None:
    world = with_generation_one()
    world.months.append("2025-03")
    world.aucs["2025-03"] = (0.50, 0.50)
    world.rounds(8)
    found = world.condition("ActionRequired")
    assert (found.status, found.reason) == ("True", "HoldoutSuspect")
    assert found.message.startswith(
        "shop-g2 is on hold: annotate springtide.dev/request=quarantine@<token> to leave 2025-03 "
        "out, or retry@<token> to evaluate again, or reject@<token>; the holdout is suspect: "
    )
    assert world.condition("Ready").status == "True"
    world.ask("quarantine@1")
    world.rounds(1)
    assert world.condition("ActionRequired").status == "False"


def test_a_hold_without_a_proposed_quarantine_names_retry_and_reject() -> None:
    world = with_generation_one()
    world.edit(gate={**world.spec["gate"], "onInconclusive": {"type": "Hold"}})
    world.months.append("2025-03")
    world.aucs["2025-03"] = (0.66, 0.665)
    world.rounds(8)
    found = world.condition("ActionRequired")
    assert (found.status, found.reason) == ("True", "OnHold")
    assert found.message.startswith(
        "shop-g2 is on hold: annotate springtide.dev/request=retry@<token> to evaluate again, or "
        "reject@<token>; "
    )


def test_an_import_is_a_phase_of_its_own() -> None:
    world = World()
    world.settle()
    assert world.update.status.phase == "Importing"
    assert world.generation(0).status.phase == "Importing"


def test_a_transition_time_stays_while_its_status_stays() -> None:
    world = with_generation_one()
    before = {c.type: c.last_transition_time for c in world.generation(1).status.conditions}
    world.months.append("2025-03")
    world.rounds(8)
    after = {c.type: c.last_transition_time for c in world.generation(1).status.conditions}
    assert {kind for kind in before if before[kind] != after[kind]} == {"Live"}


@pytest.mark.survives(
    "Deployments",
    "an accepted generation is to roll out while the owner's own change of the Deployment is stuck",
    "the rollout waits and names the Deployment, and starts once the change is finished; the "
    "generation is not given up",
)
def test_a_rollout_waits_for_the_owner_s_own_change_to_finish() -> None:
    world = with_generation_one()
    stuck = "ReplicaSet has timed out progressing"
    world.target = replace(
        world.target, complete=False, updated=1, available=1, old=1, stalled=stuck
    )
    world.pods_ready = False
    world.months.append("2025-03")
    world.rounds(30)
    assert world.generation(2).status.verdict == "Accepted"
    assert world.generation(2).status.rollout.step_started_at is None
    assert world.update.status.progress.summary == "TargetChanging"
    assert "kubectl rollout status deployment/ranker" in world.update.status.progress.waiting_for
    assert world.condition("ActionRequired").reason == "TargetChanging"
    world.target = replace(world.target, complete=True, updated=2, available=2, old=0, stalled="")
    world.pods_ready = True
    world.rounds(3)
    assert world.generation(2).status.outcome == "Live"


def test_a_live_model_that_crashes_its_pods_does_not_block_the_next_generation() -> None:
    world = with_generation_one()
    world.target = replace(world.target, available=0)
    world.pods_ready = False
    world.months.append("2025-03")
    world.rounds(3)
    assert world.target.number == 2


def test_pods_that_were_never_ready_do_not_block_the_first_generation() -> None:
    world = World()
    world.target = replace(
        world.target, complete=False, updated=2, available=0, stalled="ReplicaSet has timed out"
    )
    world.settle()
    world.months = ["2025-01", "2025-02"]
    world.rounds(8)
    assert world.generation(1).status.outcome == "Live"
