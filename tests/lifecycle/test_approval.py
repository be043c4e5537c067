"""With gate.approval Manual an accepted generation waits for a person, and nothing else starts."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest
from lifecycle.declared import SPEC
from lifecycle.invariants import Invariants
from lifecycle.world import World, stuck_in_a_rollout, with_generation_one

from springtide_operator.lifecycle.decide import decide
from springtide_operator.metrics import Metrics

MANUAL = {**SPEC["gate"], "approval": "Manual"}


def awaiting() -> World:
    """A world whose second generation was accepted, and waits; the first was approved."""
    world = World(spec={**SPEC, "gate": MANUAL})
    Invariants(world)
    world.settle()
    world.months = ["2025-01", "2025-02"]
    world.rounds(8)
    assert world.decide_on_approval("shop-g1", "Approved")
    world.rounds(2)
    world.months.append("2025-03")
    world.rounds(8)
    return world


def test_an_accepted_generation_waits_for_approval_and_says_with_which_command() -> None:
    world = awaiting()
    status, second = world.update.status, world.generation(2).status
    assert (status.phase, second.phase) == ("AwaitingApproval", "AwaitingApproval")
    assert (second.verdict, second.outcome) == ("Accepted", "")
    assert (status.live.number, world.target.number) == (1, 1)
    assert status.progress.summary == "AwaitingApproval"
    found = world.condition("ActionRequired")
    assert (found.status, found.reason) == ("True", "AwaitingApproval")
    assert found.message.startswith(
        "shop-g2 was accepted and waits for approval (gate.approval is Manual): kubectl "
        "--namespace search patch mg/shop-g2 --type merge --patch "
        '\'{"spec": {"approval": {"decision": "Approved", "reason": ""}}}\', or Rejected, '
        "and a reason; "
    )
    assert world.condition("Ready").status == "True"
    assert world.announced.count("AwaitingApproval") == 2  # once for each generation


def test_a_generation_waits_for_approval_though_the_condition_asks_for_something_else() -> None:
    world = awaiting()
    world.target = replace(world.target, foreign_manager="argocd-controller")
    plan = world.settle()
    assert world.condition("ActionRequired").reason == "FieldConflict"
    assert plan.status.phase == "AwaitingApproval"
    metrics, update = Metrics(), {"namespace": "search", "update": "shop"}
    metrics.updates.show(**update, plan=plan)
    assert metrics.registry.get_sample_value("springtide_awaiting_approval", update) == 1
    world.target = replace(world.target, foreign_manager="")
    world.settle()
    assert world.decide_on_approval("shop-g2", "Approved")
    metrics.updates.show(**update, plan=world.settle())
    assert metrics.registry.get_sample_value("springtide_awaiting_approval", update) == 0


def test_an_approved_generation_rolls_out_and_the_event_has_the_reason() -> None:
    world = awaiting()
    assert world.decide_on_approval("shop-g2", "Approved", "checked by the search team")
    world.rounds(2)
    assert world.generation(2).status.outcome == "Live"
    assert world.condition("ActionRequired").status == "False"
    message = "shop-g2 rolls out to Deployment ranker; approved: checked by the search team"
    assert message in world.event_messages


def test_a_generation_rejected_by_an_approver_keeps_its_verdict_and_is_never_served() -> None:
    world = awaiting()
    assert world.decide_on_approval("shop-g2", "Rejected", "wrong season")
    world.rounds(2)
    status = world.generation(2).status
    assert (status.verdict, status.outcome) == ("Accepted", "Retired")
    assert (status.retired_reason, status.message) == (
        "RejectedByApprover",
        "rejected by an approver: wrong season",
    )
    assert world.announced[-1] == "RejectedByApprover"
    assert (world.update.status.last_run.outcome, world.update.status.last_run.reason) == (
        "Retired",
        "RejectedByApprover",
    )
    assert world.condition("LastRunSucceeded").reason == "RejectedByApprover"
    assert world.update.status.counters.rejected == 0
    assert len(world.served) == 2 - world.seeded
    assert world.update.status.last_probe.reason == "AlreadyEvaluated"
    world.months.append("2025-04")
    world.rounds(8)
    assert world.generation(3).status.phase == "AwaitingApproval"


@pytest.mark.survives(
    "People",
    "new data arrives, and a run is requested, while a generation waits for approval",
    "no other run starts; the request is refused with the reason",
)
def test_nothing_starts_while_a_generation_waits_for_approval() -> None:
    world = awaiting()
    world.months.append("2025-04")
    world.rounds(8)
    world.ask("run@1")
    world.rounds(2)
    assert max(g.spec.number for g in world.generations.values()) == 2
    last = world.update.status.last_request
    assert (last.result, last.message) == (
        "Refused",
        "shop-g2 waits for approval; set its spec.approval, or use reject",
    )


def test_reject_ends_the_wait_for_an_approval() -> None:
    world = awaiting()
    world.ask("reject@1")
    world.rounds(2)
    status = world.generation(2).status
    assert (status.outcome, status.retired_reason) == ("Retired", "RejectedByRequest")
    assert world.condition("ActionRequired").status == "False"


def test_the_initial_model_needs_no_approval() -> None:
    world = World(spec={**SPEC, "gate": MANUAL}, seeded=False)
    Invariants(world)
    world.settle()
    world.rounds(2)
    assert world.update.status.live.number == 0


def test_a_rejection_of_the_initial_model_that_the_api_server_did_not_see_has_no_effect() -> None:
    world = World(seeded=False)
    Invariants(world)
    while "shop-g0" not in world.generations:
        world.step()
    world.set_approval("shop-g0", "Rejected")
    world.settle()
    world.rounds(2)
    assert (world.update.status.live.number, world.target.number) == (0, 0)


def test_approval_is_no_part_of_the_recipe_and_its_switch_fails_no_run() -> None:
    automatic, manual = World(), World(spec={**SPEC, "gate": MANUAL})
    for world in (automatic, manual):
        world.settle()
        world.months = ["2025-01", "2025-02"]
    while "shop-g1" not in manual.generations:
        manual.round()
    manual.edit(gate={**MANUAL, "approval": "Auto"})
    for world in (automatic, manual):
        world.rounds(8)
    assert manual.generation(1).spec.recipe_hash == automatic.generation(1).spec.recipe_hash
    assert manual.generation(1).status.outcome == "Live"


@pytest.mark.survives(
    "People",
    "gate.approval is switched to Auto while a generation waits, or to Manual before it starts",
    "a waiting generation rolls out, or waits; no run is repeated",
)
def test_a_switch_of_approval_concerns_a_generation_that_has_not_started() -> None:
    world = awaiting()
    world.edit(gate={**MANUAL, "approval": "Auto"})
    world.rounds(2)
    assert world.generation(2).status.outcome == "Live"
    world.edit(suspend=False)
    world.months.append("2025-04")
    world.target = replace(world.target, complete=False, stalled="the owner's change is stuck")
    world.pods_ready = False
    world.rounds(8)
    assert world.update.status.progress.summary == "TargetChanging"
    world.edit(gate=MANUAL)
    world.target = replace(world.target, complete=True, updated=2, available=2, old=0, stalled="")
    world.pods_ready = True
    world.rounds(2)
    assert world.update.status.phase == "AwaitingApproval"
    assert world.target.number == 2


def test_a_rollout_that_started_is_finished_although_approval_becomes_manual() -> None:
    world = stuck_in_a_rollout()
    Invariants(world)
    world.edit(gate=MANUAL)
    world.settle()
    assert world.update.status.phase == "RollingOut"
    world.pods_ready = True
    world.rounds(2)
    assert world.generation(2).status.outcome == "Live"


def test_an_approval_that_was_restored_before_its_verdict_counts_once_it_is_accepted() -> None:
    world = World(spec={**SPEC, "gate": MANUAL})
    Invariants(world)
    world.settle()
    world.months = ["2025-01", "2025-02"]
    while "shop-g1" not in world.generations:
        world.round()
    assert not world.decide_on_approval("shop-g1", "Approved"), "the API server refuses it"
    world.set_approval("shop-g1", "Approved")
    world.rounds(8)
    assert world.generation(1).status.outcome == "Live"


def test_a_rejection_counts_with_automatic_approval_too_and_at_any_stage_before_the_rollout() -> (
    None
):
    world = World()
    Invariants(world)
    world.settle()
    world.months = ["2025-01", "2025-02"]
    while "shop-g1" not in world.generations:
        world.round()
    world.set_approval("shop-g1", "Rejected")
    world.rounds(3)
    status = world.generation(1).status
    assert (status.verdict, status.outcome) == ("Pending", "Retired")
    assert status.message == "rejected by an approver: no reason given"
    assert world.served == []


@pytest.mark.survives(
    "People",
    "an approver rejects a generation in the moment in which its rollout starts",
    "it is rolled back, before anything is applied or after",
)
@pytest.mark.parametrize("writes", [1, 2, 3])
def test_a_rejection_in_the_moment_of_the_start_rolls_back(writes: int) -> None:
    world = with_generation_one()
    Invariants(world)
    world.months.append("2025-03")
    world.pods_ready = False
    while "shop-g2" not in world.generations:
        world.round()
    while not world.generation(2).status.rollout.step_started_at:
        world.now += timedelta(minutes=1)
        world.complete_jobs()
        world.step()
    for _ in range(writes - 1):
        world.step()
    world.set_approval("shop-g2", "Rejected", "too early")
    world.pods_ready = True
    world.rounds(2)
    status = world.generation(2).status
    assert status.outcome == "RolledBack"
    assert status.rollout.rollback_reason == "rejected by an approver: too early"
    assert world.target.number == 1


@pytest.mark.survives(
    "People",
    "an update is deleted and restored from Git while a generation waits for approval",
    "it waits on; an approval that was given meanwhile counts",
)
@pytest.mark.parametrize("meanwhile", [True, False])
def test_a_restored_update_still_waits_for_approval(meanwhile: bool) -> None:
    world = awaiting()
    if meanwhile:
        world.decide_on_approval("shop-g2", "Approved")
    world.recreate()
    world.rounds(3)
    assert world.update.status.live.number == (2 if meanwhile else 1)
    assert (world.update.status.phase == "AwaitingApproval") is not meanwhile


def test_a_suspended_update_still_asks_for_approval() -> None:
    world = awaiting()
    world.edit(suspend=True)
    world.settle()
    assert world.update.status.phase == "Suspended"
    assert world.condition("ActionRequired").reason == "AwaitingApproval"
    world.decide_on_approval("shop-g2", "Approved")
    world.rounds(2)
    assert world.update.status.progress.summary == "Suspended"
    assert world.target.number == 1


def test_nothing_is_written_while_a_generation_waits() -> None:
    world = awaiting()
    world.settle()
    world.now += timedelta(hours=30)
    plan = decide(world.seen(), world.now)
    assert (plan.actions, plan.status) == ((), world.update.status)
