"""A world whose live generation bakes, with pods of the previous one beside it."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

from lifecycle.canary_scenes import begin
from lifecycle.gateway_scenes import rollout_of, with_live

from springtide_operator.lifecycle.routes.actions import SetRouteWeights
from springtide_operator.lifecycle.state.plan import ApplyCanary, DeleteCanary, Serve

if TYPE_CHECKING:
    from lifecycle.world import World

WARM: dict[str, Any] = {"bake": {"duration": "1h"}, "rollback": {"keepWarm": True}}
QUOTA = "quota exceeded: pods: 18"


def promoted(world: World) -> World:
    """Roll generation 2 out by all steps, until it is promoted; return the world."""
    world.now += timedelta(hours=1)
    world.settle()
    begin(world)
    for _ in range(60):
        if rollout_of(world).promoted_at:
            break
        world.now += timedelta(minutes=1)
        world.finish_rollouts()
        world.settle()
    assert world.generation(2).status.outcome == "Live"
    return world


def baking(**rollout: Any) -> World:
    """Generation 2 was promoted a moment ago and bakes; the canary is not applied again yet."""
    return promoted(with_live(**{**WARM, **rollout}))


def warm(**rollout: Any) -> World:
    """Generation 2 bakes, and nine pods of generation 1 are warm."""
    world = baking(**rollout)
    world.finish_canaries()
    world.settle()
    return world


def notes(world: World) -> list[tuple[str, Any]]:
    """Note writes that concern the requests, in order."""
    noted: list[tuple[str, Any]] = []

    def note(_: object, action: object) -> None:
        if isinstance(action, SetRouteWeights):
            noted.append(("weights", tuple(each.after for each in action.changes)))
        elif isinstance(action, Serve) and action.serving:
            noted.append(("target", action.serving.number))
        elif isinstance(action, DeleteCanary):
            noted.append(("deleted", world.weights()))
        elif isinstance(action, ApplyCanary):
            noted.append(("canary", (action.serving.number, action.replicas)))

    before = world.on_action

    def both(seen: Any, action: Any) -> None:
        before(seen, action)
        note(seen, action)

    world.on_action = both
    return noted


def ask_for_a_rollback(world: World, *, ready: bool = False) -> None:
    world.pods_ready = ready
    world.ask("rollback.g2@bad")
    world.settle()
