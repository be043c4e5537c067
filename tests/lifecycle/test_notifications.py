"""Which notifications follow from the facts of an update, and when they are new ones."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

from lifecycle.choices import ANALYSIS
from lifecycle.declared import SPEC
from lifecycle.test_approval import MANUAL, awaiting
from lifecycle.test_freeze import frozen
from lifecycle.test_rollout_retries import failed
from lifecycle.world import World, stuck_in_a_rollout, with_generation_one

from springtide_operator.lifecycle.decide import decide
from springtide_operator.lifecycle.state.observation import InvalidUpdate
from springtide_operator.ports.outbox import Outbox

if TYPE_CHECKING:
    from springtide_operator.lifecycle.state.plan import Notification, Plan


def of(world: World) -> tuple[Notification, ...]:
    return decide(world.seen(), world.now).notifications


def kinds(world: World) -> list[str]:
    return [f"{each.kind} {each.generation}".strip() for each in of(world)]


def test_an_accepted_generation_has_a_verdict_then_a_promotion() -> None:
    world = with_generation_one()
    verdict, promoted = of(world)
    assert (verdict.kind, verdict.verdict, verdict.reason) == ("verdict", "Accepted", "NoBaseline")
    assert verdict.message == world.generation(1).status.message
    assert verdict.at == world.generation(1).status.verdict_at
    assert (promoted.kind, promoted.outcome) == ("promoted", "Live")
    assert {each.generation for each in (verdict, promoted)} == {"shop-g1"}
    assert {(each.namespace, each.update) for each in (verdict, promoted)} == {("search", "shop")}
    assert (promoted.live, promoted.previous) == ("shop-g1", "")


def test_a_rejected_candidate_has_a_verdict_and_live_stays() -> None:
    world = with_generation_one()
    world.months.append("2025-03")
    world.aucs["2025-03"] = (0.55, 0.66)
    world.rounds(4)
    verdict = of(world)[-1]
    assert (verdict.kind, verdict.generation, verdict.verdict) == ("verdict", "shop-g2", "Rejected")
    assert (verdict.outcome, verdict.live) == ("Rejected", "shop-g1")


def test_the_same_facts_have_the_same_ids_at_any_time_and_by_any_operator() -> None:
    world = with_generation_one()
    before = of(world)
    world.now += timedelta(days=3)
    assert decide(world.seen(), world.now).notifications == before
    assert len({each.id for each in before}) == len(before)


def test_a_rollback_is_notified_when_it_starts_and_when_it_is_complete() -> None:
    world = stuck_in_a_rollout()
    while not world.generation(2).status.rollout.rollback_reason:
        world.round()
    world.settle()
    started = of(world)[-1]
    assert (started.kind, started.generation) == ("rollbackstarted", "shop-g2")
    assert "new pods available after 10m" in started.message
    assert started.at == world.generation(2).status.rollout.rollback_started_at

    world.pods_ready = True
    world.rounds(2)
    assert kinds(world)[-2:] == ["rollbackstarted shop-g2", "rolledback shop-g2"]
    back = of(world)[-1]
    assert (back.at, back.live) == (world.generation(2).status.rollout.rolled_back_at, "shop-g1")


def test_a_hold_requires_an_action_and_names_what_to_do() -> None:
    world = with_generation_one()
    world.months.append("2025-03")
    world.aucs["2025-03"] = (0.50, 0.50)
    world.rounds(8)
    action = next(each for each in of(world) if each.kind == "actionrequired")
    condition = world.condition("ActionRequired")
    assert (action.reason, action.message) == ("HoldoutSuspect", condition.message)
    assert (action.generation, action.at) == ("shop-g2", condition.last_transition_time)

    world.ask("reject@1")
    world.rounds(2)
    assert "actionrequired" not in {each.kind for each in of(world)}


def test_another_reason_to_act_is_another_notification_and_another_message_is_none() -> None:
    world = with_generation_one()
    uid = world.update.metadata.uid
    found = []
    for problem in ("a: wrong", "b: wrong"):
        seen = InvalidUpdate(world.update.metadata, world.update.status, (problem,))
        found += decide(seen, world.now).notifications
    first, second = found
    assert first.id == second.id
    assert (first.kind, first.uid, first.reason) == ("actionrequired", uid, "InvalidObject")
    world.edit(trigger={"schedule": "99 * * * *"})
    world.settle()
    third = next(each for each in of(world) if each.kind == "actionrequired")
    assert third.id != first.id


def test_a_retired_candidate_is_notified_with_its_reason_and_no_verdict() -> None:
    world = with_generation_one()
    world.months.append("2025-03")
    world.aucs["2025-03"] = (0.61, 0.60)
    world.error = 0.05
    world.rounds(6)
    assert kinds(world)[-1] == "verdict shop-g2"
    status = world.update.status
    cursor = status.cursor.model_copy(update={"quarantined": ["2025-02"]})
    status = status.model_copy(update={"cursor": cursor})
    world.update = world.update.model_copy(update={"status": status})
    world.settle()
    retired = of(world)[-1]
    assert (retired.kind, retired.reason) == ("retired", "PartitionQuarantined")
    assert kinds(world).count("verdict shop-g2") == 0


async def test_a_candidate_that_retires_as_soon_as_it_is_accepted_is_notified() -> None:
    """Both writes come before the next one of the update's status, with which facts are offered."""
    world, queue = World(spec={**SPEC, "mode": "Observe"}), Outbox(timedelta(hours=1), str)
    decided = world.step

    def offered() -> Plan:
        plan = decided()
        if plan.facts or not plan.requeue:
            queue.offer(("search", "shop"), plan.notifications, world.now)
        return plan

    world.step = offered
    world.settle()
    world.months = ["2025-01", "2025-02"]
    world.rounds(8)
    status = world.generation(1).status
    assert (status.verdict, status.retired_reason) == ("Accepted", "ObserveMode")
    sent = [(await queue.next()).notification for _ in range(queue.waiting())]
    (retired,) = (each for each in sent if each.generation == "shop-g1")
    assert (retired.kind, retired.reason) == ("retired", "ObserveMode")
    assert retired.at == status.verdict_at


def test_an_update_that_freezes_or_waits_for_approval_requires_an_action() -> None:
    for world, reason in ((frozen(), "Frozen"), (awaiting(), "AwaitingApproval")):
        (action,) = (each for each in of(world) if each.kind == "actionrequired")
        condition = world.condition("ActionRequired")
        assert (action.reason, action.message) == (reason, condition.message)


def test_each_generation_that_waits_for_approval_is_notified_while_another_cause_stays() -> None:
    """The host of Prometheus is not allowed all the time, so ActionRequired never becomes false."""
    analysis = {**ANALYSIS, "prometheus": {"address": "http://metrics:9090"}}
    rollout = {**SPEC["rollout"], "bake": {"duration": "1m"}, "analysis": analysis}
    world = World(spec={**SPEC, "gate": MANUAL, "rollout": rollout})
    world.settle()
    world.months = ["2025-01", "2025-02"]
    found = []
    for number in (1, 2):
        world.rounds(8)
        (action,) = (each for each in of(world) if each.kind == "actionrequired")
        found.append((action.reason, action.generation, action.id, action.at))
        world.decide_on_approval(f"shop-g{number}", "Approved")
        world.rounds(2)
        assert world.condition("ActionRequired").reason == "HostNotAllowed"
        world.ask(f"promote.g{number}@{number}")
        world.months.append("2025-03")
    (*first, one, began), (*second, other, again) = found
    assert first == ["AwaitingApproval", "shop-g1"]
    assert second == ["AwaitingApproval", "shop-g2"]
    assert one != other
    assert again == world.generation(2).status.verdict_at > began


def test_a_rollout_that_fails_for_another_cause_names_it_and_may_fail_twice() -> None:
    world = failed()
    *_, started, back = (each for each in of(world) if each.generation == "shop-g2")
    assert (started.kind, back.kind) == ("rollbackstarted", "rolledback")
    assert {started.reason, back.reason} == {"ImagePullFailed"}
    assert back.outcome == "RolloutFailed"

    world.ask("retry.g2@1")
    world.rounds(3)
    assert kinds(world)[-2:] == ["verdict shop-g2", "promoted shop-g2"]
