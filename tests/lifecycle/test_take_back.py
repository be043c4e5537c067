"""After `kubectl rollout undo` the request rollback.gN takes both variables back, once."""

from __future__ import annotations

from dataclasses import replace

import pytest
from lifecycle.invariants import Invariants
from lifecycle.world import World, after_promotions

from springtide_operator.lifecycle.state.plan import Serve


def undone() -> World:
    """Generation 2 is live; a person undid its rollout, so kubectl owns both variables."""
    world = after_promotions(2)
    world.edit(trigger={})
    first = world.generation(1).status.artifact
    undo = {"digest": first.served_digest, "number": 1, "uri": first.uri}
    world.target = replace(world.target, **undo, foreign_manager="kubectl-rollout")
    world.settle()
    Invariants(world)
    return world


@pytest.mark.survives(
    "People",
    "`kubectl rollout undo` of a target",
    "`FieldConflict` until `rollback.g<number>` is requested, which rolls the generation back and "
    "takes both variables back by force, once",
)
def test_a_rollback_by_request_takes_the_variables_back_once() -> None:
    world = undone()
    assert world.condition("TargetsInSync").reason == "FieldConflict"
    world.ask("rollback.g2@1")
    world.rounds(2)
    assert world.update.status.last_request.message == (
        "shop-g2 is rolled back to shop-g1; it will not be served again; both variables are taken "
        "back on Deployment ranker"
    )
    assert world.target.foreign_manager == ""
    assert world.target.number == 1
    assert world.condition("TargetsInSync").status == "True"
    assert world.generation(2).status.outcome == "RolledBack"
    assert world.generation(2).status.rollout.take_back == []
    assert world.events.count("FieldsTakenBack") == 1


def test_what_another_client_sets_again_is_reported_and_not_taken_back_again() -> None:
    world = undone()
    world.ask("rollback.g2@1")
    while world.target.foreign_manager:
        world.step()
    world.target = replace(world.target, foreign_manager="argocd-controller")
    world.rounds(4)
    assert world.target.foreign_manager == "argocd-controller"
    assert world.condition("TargetsInSync").reason == "FieldConflict"
    assert world.events.count("FieldsTakenBack") == 1


def test_nothing_is_taken_back_without_the_request() -> None:
    world = undone()
    forced = []
    check = world.on_action
    world.on_action = lambda seen, action: (check(seen, action), forced.append(action))
    world.rounds(4)
    assert not [a for a in forced if isinstance(a, Serve)]


def test_a_rollback_that_another_client_blocks_goes_on_with_a_second_request() -> None:
    world = after_promotions(2)
    world.edit(trigger={})
    world.pods_ready = False
    world.ask("rollback.g2@1")
    world.settle()
    world.target = replace(world.target, foreign_manager="helm", number=2)
    world.rounds(1)
    assert world.update.status.phase == "RollingBack"
    world.ask("rollback.g2@2")
    world.pods_ready = True
    world.rounds(3)
    assert world.target.foreign_manager == ""
    assert world.generation(2).status.outcome == "RolledBack"


def test_a_crash_between_the_force_and_its_record_does_not_force_twice() -> None:
    world = undone()
    world.ask("rollback.g2@1")
    while not world.generation(2).status.rollout.take_back:
        world.step()
    while world.target.foreign_manager:
        world.crash_after(1)
    assert world.generation(2).status.rollout.take_back
    forced = []
    check = world.on_action
    world.on_action = lambda seen, action: (check(seen, action), forced.append(action))
    world.rounds(3)
    assert not [a for a in forced if isinstance(a, Serve) and a.force_at_version]
    assert world.generation(2).status.rollout.take_back == []
