"""An update without targets: what is accepted is live at once, and the parent of the next run."""

from __future__ import annotations

from datetime import timedelta

import pytest
from lifecycle.declared import WITHOUT_TARGETS
from lifecycle.invariants import Invariants
from lifecycle.world import World, end_of

LOSS = (0.55, 0.66)


def adapting(months: int, *, seeded: bool = True, **spec: object) -> World:
    """A world of an update without targets, after so many months of data; each has a run."""
    world = World(spec={**WITHOUT_TARGETS, **spec}, seeded=seeded)
    Invariants(world)
    world.settle()
    world.rounds(2)
    for _ in range(months):
        world.months.append(world.next_month())
        world.rounds(8)
    return world


def outcomes(world: World) -> list[str]:
    """Outcomes of all generations, by number."""
    there = sorted(world.generations.values(), key=lambda g: g.spec.number)
    return [g.status.outcome for g in there]


def lineage(world: World) -> list[tuple[str, list[str], str]]:
    """Name of the parent, partitions and outcome of each trained generation."""
    trained = [g for g in world.generations.values() if g.spec.origin == "Trained"]
    return [
        (g.spec.parent.name, list(g.spec.data.partitions), g.status.outcome)
        for g in sorted(trained, key=lambda g: g.spec.number)
    ]


def test_each_month_continues_from_the_generation_of_the_month_before() -> None:
    world = adapting(4)
    assert lineage(world) == [
        ("shop-g0", ["2025-01"], "Superseded"),
        ("shop-g1", ["2025-02"], "Superseded"),
        ("shop-g2", ["2025-03"], "Live"),
    ]
    third = world.generation(3)
    assert third.spec.baseline.name == "shop-g2"
    assert third.status.reason == "RulesPassed"
    status = world.update.status
    assert (status.live.number, status.previous.number, status.candidate) == (3, 2, None)
    assert status.cursor.trained_through == end_of("2025-03")
    assert status.counters.promoted == 3
    assert (status.last_run.summary, status.targets) == ("Live g3", [])
    assert world.served == []
    assert world.update.metadata.finalizers == ()


def test_an_initial_model_with_a_trained_head_is_live_and_the_baseline_of_the_first_run() -> None:
    world = adapting(2, seeded=False)
    assert outcomes(world) == ["Superseded", "Live"]
    assert world.generation(1).spec.baseline.name == "shop-g0"


def test_conditions_and_events_say_what_the_live_weights_are_for() -> None:
    world = adapting(1)
    serving = world.condition("Serving")
    assert (serving.status, serving.reason) == ("False", "NoLiveGeneration")
    world.months.append("2025-02")
    world.rounds(8)
    uri = world.generation(1).status.artifact.uri
    live = f"shop-g1 is live; {uri} can be model.initial.uri of an update with another task"
    serving, in_sync = world.condition("Serving"), world.condition("TargetsInSync")
    assert (serving.status, serving.reason) == ("Unknown", "NoTargets")
    assert serving.message == f"rollout.targets is [], so nothing serves: {live}"
    assert (in_sync.status, in_sync.reason) == ("True", "NoTargets")
    assert world.condition("Ready").status == "True"
    assert world.condition("ActionRequired").status == "False"
    assert world.condition("LastRunSucceeded").status == "True"
    assert live in world.event_messages
    assert "RollingOut" not in world.events
    assert world.announced[-2:] == ["Accepted", "Promoted"]


def test_a_rejected_generation_leaves_the_lineage_as_it_was() -> None:
    world = adapting(2)
    world.aucs["2025-03"] = LOSS
    world.months.append("2025-03")
    world.rounds(8)
    world.months.append("2025-04")
    world.rounds(8)
    assert lineage(world)[1:] == [
        ("shop-g1", ["2025-02"], "Rejected"),
        ("shop-g1", ["2025-02", "2025-03"], "Live"),
    ]


def test_a_rollback_makes_the_generation_before_live_and_its_rows_new_again() -> None:
    world = adapting(3)
    world.ask("rollback.g2@1")
    world.settle()
    assert world.update.status.last_request.message == (
        "shop-g2 is rolled back to shop-g1; it will not be served again"
    )
    assert outcomes(world)[1:] == ["Live", "RolledBack"]
    assert world.events[-2:] == ["RollbackStarted", "RollbackCompleted"]
    assert world.event_messages[-1] == (
        "shop-g2 is rolled back and will not be served again; shop-g1 is live again"
    )
    status = world.update.status
    assert (status.live.number, status.previous) == (1, None)
    assert status.cursor.trained_through == end_of("2025-01")
    assert status.cursor.proposed_for_quarantine == ["2025-02"]
    assert world.update.metadata.finalizers == ()

    world.months.append("2025-04")
    world.rounds(4)
    assert "shop-g3" not in world.generations, "a user has yet to decide on its rows"
    world.ask("quarantine@2")
    world.rounds(8)
    assert lineage(world)[2] == ("shop-g1", ["2025-03"], "Live")


def test_a_rollback_of_the_only_live_generation_is_refused() -> None:
    world = adapting(2)
    world.ask("rollback.g1@1")
    world.settle()
    last = world.update.status.last_request
    assert (last.result, world.generation(1).status.outcome) == ("Refused", "Live")
    assert "no earlier generation is there to return to, so shop-g1 stays live" in last.message


def test_a_rollback_ends_also_where_a_user_deletes_the_generation_to_return_to() -> None:
    world = adapting(3)
    world.ask("rollback.g2@1")
    world.step()
    world.delete_generation("shop-g1")
    world.settle()
    assert world.generation(2).status.outcome == "RolledBack"
    assert world.event_messages[-1].endswith("nothing is live")
    assert world.update.status.live is None


def test_several_rollbacks_in_a_row_freeze_the_update() -> None:
    rollback = {"freezeAfter": 1, "quarantineWindow": True}
    world = adapting(3, rollout={"targets": [], "rollback": rollback})
    world.ask("rollback.g2@1")
    world.rounds(2)
    assert world.update.status.phase == "Frozen"
    world.months.append("2025-04")
    world.rounds(4)
    assert "shop-g3" not in world.generations
    world.ask("unfreeze@2")
    world.rounds(8)
    assert world.update.status.live.number == 3


@pytest.mark.parametrize(
    ("decision", "outcome", "live"), [("Approved", "Live", 2), ("Rejected", "Retired", 1)]
)
def test_a_generation_waits_for_approval_before_it_is_live(
    decision: str, outcome: str, live: int
) -> None:
    world = adapting(2)
    world.edit(gate={**WITHOUT_TARGETS["gate"], "approval": "Manual"})
    world.months.append("2025-03")
    world.rounds(8)
    assert world.update.status.phase == "AwaitingApproval"
    assert world.update.status.live.number == 1
    world.decide_on_approval("shop-g2", decision)
    world.rounds(2)
    assert world.generation(2).status.outcome == outcome
    assert world.update.status.live.number == live


def test_a_person_who_rejects_a_generation_as_it_starts_is_obeyed() -> None:
    world = adapting(2)
    world.months.append("2025-03")
    while "shop-g2" not in world.generations or (
        not world.generation(2).status.rollout.step_started_at
    ):
        world.complete_jobs()
        world.step()
    world.set_approval("shop-g2", "Rejected")
    world.settle()
    assert world.generation(2).status.outcome == "RolledBack"
    assert world.update.status.live.number == 1


def test_history_keeps_live_and_previous_and_deletes_the_oldest_weights() -> None:
    world = adapting(6, history={"generations": 2, "rejected": 0})
    assert sorted(world.generations) == ["shop-g0", "shop-g4", "shop-g5"]
    assert world.generation(5).status.outcome == "Live"


def test_a_recreated_update_continues_the_lineage() -> None:
    world = adapting(3)
    world.recreate()
    world.months.append("2025-04")
    world.rounds(8)
    assert lineage(world)[2] == ("shop-g2", ["2025-03"], "Live")


def test_a_deleted_update_waits_for_nothing_during_a_rollback() -> None:
    world = adapting(3)
    world.ask("rollback.g2@1")
    world.step()
    world._meta(deletion_timestamp=world.now)
    world.settle()
    assert world.update.metadata.finalizers == ()


def test_in_observe_a_candidate_would_be_live_and_is_retired() -> None:
    world = adapting(2, mode="Observe")
    status = world.generation(1).status
    assert (status.verdict, status.outcome) == ("Accepted", "Retired")
    uri = status.artifact.uri
    assert status.message.startswith(f"stored at {uri}; would be live if spec.mode were Enforce")
    assert world.condition("TargetsInSync").reason == "ObserveMode"
    world.edit(mode="Enforce")
    world.months.append("2025-03")
    world.rounds(8)
    assert lineage(world)[1] == ("shop-g0", ["2025-01", "2025-02"], "Live")


def live_through(written: int | None = None) -> World:
    """Five months, a rollback and a quarantine; each plan is cut off after so many writes first."""
    world = adapting(0)
    requests = {"2025-04": "rollback.g2@1", "2025-05": "quarantine@2"}
    for month in ("2025-01", "2025-02", "2025-03", "2025-04", "2025-05"):
        world.months.append(month)
        if month in requests:
            world.ask(requests[month])
        for _ in range(12):
            world.now += timedelta(minutes=2)
            world.complete_jobs()
            requeue = True
            while requeue:
                if written is not None:
                    world.crash_after(written)
                requeue = world.step().requeue
    return world


@pytest.mark.survives(
    "Operator",
    "ends after one to three writes of each plan while an update without targets promotes, is "
    "rolled back and promotes again",
    "the lineage is the same: each generation continues from the live one, a rollback returns",
)
@pytest.mark.parametrize("written", [0, 1, 2, 3])
def test_an_operator_that_ends_between_its_writes_changes_no_lineage(written: int) -> None:
    undisturbed, disturbed = live_through(), live_through(written)
    assert lineage(disturbed) == lineage(undisturbed)
    assert lineage(undisturbed) == [
        ("shop-g0", ["2025-01"], "Superseded"),
        ("shop-g1", ["2025-02"], "RolledBack"),
        ("shop-g1", ["2025-03", "2025-04"], "Live"),
    ]
    assert disturbed.update.status.counters.promoted == 3
