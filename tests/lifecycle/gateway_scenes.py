"""A world whose generations are rolled out by a canary by Gateway, up to its first step."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from lifecycle.canary_scenes import STEPS, begin
from lifecycle.declared import SPEC
from lifecycle.invariants import Invariants
from lifecycle.world import World, digest

TARGET = {
    "targetRef": {"name": "ranker"},
    "container": "server",
    "service": "ranker",
    "httpRoute": "shop",
}


def gateway(steps: list[dict[str, Any]] = STEPS) -> dict[str, Any]:
    canary = {"steps": steps, "traffic": {"type": "Gateway"}}
    return {
        "targets": [TARGET],
        "deadline": "10m",
        "strategy": {"type": "Canary", "canary": canary},
    }


def with_live(**rollout: Any) -> World:
    """Generation 1 is live on nine pods behind a route."""
    world = World(spec={**SPEC, "rollout": {**gateway(), **rollout}})
    Invariants(world)
    world.target = replace(world.target, desired=9, template=digest("template"))
    world.create_route()
    world.settle()
    world.months = ["2025-01", "2025-02"]
    world.rounds(8)
    assert world.generation(1).status.outcome == "Live"
    assert world.weights() == (100, 0)
    return world


def started(*, ready: bool = True, **rollout: Any) -> World:
    """The first step of the canary of generation 2 began."""
    world = with_live(**rollout)
    begin(world, ready=ready)
    return world


def rollout_of(world: World) -> Any:
    return world.generation(2).status.rollout


def route_record(world: World) -> Any:
    return rollout_of(world).targets[0].route
