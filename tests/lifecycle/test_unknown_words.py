"""Words of a later version: their generation is left alone, and nothing begins beside it."""

from __future__ import annotations

from dataclasses import replace

import pytest
from lifecycle.world import World, with_generation_one

from springtide_api.crd.definitions import GENERATION, UPDATE
from springtide_api.crd.openapi import nodes
from springtide_operator.lifecycle.state.plan import Serve

WORDS = ["verdict", "outcome", "phase"]


def trained() -> World:
    """A world whose second generation is trained and not evaluated yet."""
    world = with_generation_one()
    world.months.append("2025-03")
    while not any(job.stage == "evaluate" for job in world.jobs.values()):
        world.round()
    return world


def waiting_for(world: World) -> str:
    return world.update.status.progress.waiting_for


def action_required(world: World) -> str:
    (found,) = (c for c in world.update.status.conditions if c.type == "ActionRequired")
    return found.reason if found.status == "True" else ""


@pytest.mark.survives(
    "Operator",
    "an older version finds a verdict, outcome or phase that a newer one wrote",
    "that generation is left alone, no run starts, the live generation stays; the update "
    "reports it and is not Invalid",
)
@pytest.mark.parametrize("field", WORDS)
def test_a_generation_with_a_value_of_a_later_version_is_not_changed(field: str) -> None:
    world = trained()
    world.set_status_values("shop-g2", **{field: "Shadowed"})
    left = world.generation(2)
    world.months.append("2025-04")
    world.rounds(6)
    assert world.generation(2) == left
    assert "shop-g3" not in world.generations
    assert world.update.status.live.number == 1
    assert world.update.status.phase != "Invalid"
    assert f"shop-g2 has {field} 'Shadowed'" in waiting_for(world)
    assert action_required(world) == "UnknownStatusValue"


def test_the_job_of_such_a_generation_is_not_changed() -> None:
    world = trained()
    world.set_status_values("shop-g2", verdict="Shadowed")
    (name,) = (name for name, job in world.jobs.items() if job.stage == "evaluate")
    world.rounds(4)
    assert name in world.jobs


@pytest.mark.parametrize("verb", ["run", "retry", "reject"])
def test_a_request_beside_such_a_generation_is_refused(verb: str) -> None:
    world = trained()
    world.set_status_values("shop-g2", verdict="Shadowed")
    world.settle()
    world.ask(f"{verb}@1")
    world.settle()
    assert world.update.status.last_request.result == "Refused"
    assert "shop-g3" not in world.generations


def test_the_newer_version_continues_where_it_was() -> None:
    world = trained()
    world.set_status_values("shop-g2", verdict="Shadowed")
    world.rounds(3)
    world.set_status_values("shop-g2", verdict="Pending")
    world.rounds(6)
    assert world.generation(2).status.rollout.promoted_at


def test_targets_stay_as_they_are_while_another_version_rolls_it_out() -> None:
    world = with_generation_one()
    world.months.append("2025-03")
    world.pods_ready = False
    while not any(g.status.phase == "RollingOut" for g in world.generations.values()):
        world.round(1)
    world.set_status_values("shop-g2", phase="Canary")
    carried = world.target.digest
    for _ in range(4):
        plan = world.round(20)
        assert not [action for action in plan.actions if isinstance(action, Serve)]
    assert world.target.digest == carried
    assert not world.generation(2).status.rollout.rollback_reason


def test_a_live_generation_with_an_unknown_value_stays_live_and_runs_continue() -> None:
    world = with_generation_one()
    world.set_status_values("shop-g1", phase="Baking")
    world.months.append("2025-03")
    world.rounds(8)
    assert world.update.status.live.number == 2
    assert world.generation(1).status.phase == "Baking"


def test_a_generation_with_an_unknown_value_is_adopted_without_a_change_of_its_status() -> None:
    world = trained()
    world.set_status_values("shop-g2", verdict="Shadowed")
    left = world.generation(2).status
    world.recreate()
    world.rounds(3)
    assert world.generation(2).status == left
    assert "shop-g3" not in world.generations


@pytest.mark.parametrize("kind", [UPDATE, GENERATION], ids=["update", "generation"])
def test_status_values_are_open_strings_in_the_schema(kind) -> None:
    status = kind.schema()["properties"]["status"]
    closed = {path for path, node in nodes(status) if "enum" in node}
    assert closed <= {"conditions[].status", "artifact.head"}


def test_no_target_changes_while_a_deletion_is_refused_and_another_version_rolls_out() -> None:
    world = trained()
    world.pods_ready = False
    world.refuse_deletions = True
    while world.target.number != 2:
        world.round()
    world.set_status_values("shop-g2", phase="Shadowed")
    (name,) = (name for name, job in world.jobs.items() if job.stage == "evaluate")
    world.jobs["of-g1"] = replace(world.jobs[name], name="of-g1", uid="of-g1", number=1)
    world.target = replace(world.target, digest=None, number=None, uri=None)
    served = list(world.served)
    world.rounds(2)
    assert (world.served, world.condition("ActionRequired").reason) == (served, "WriteRefused")
