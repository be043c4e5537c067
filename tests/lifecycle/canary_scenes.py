"""A world whose generations are rolled out by a canary by Replicas, up to its first step."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

from lifecycle.declared import SPEC, TWO_TARGETS
from lifecycle.invariants import Invariants
from lifecycle.world import World, digest

STEPS = [{"weight": 10, "duration": "10m"}, {"weight": 50, "duration": "20m"}]


def strategy(*steps: dict[str, Any]) -> dict[str, Any]:
    """A rollout's strategy with these steps."""
    return {"strategy": {"type": "Canary", "canary": {"steps": [*steps]}}}


def set_strategy(world: World, *steps: dict[str, Any], **rollout: object) -> None:
    """Change the steps; without any, the strategy is RollingUpdate."""
    kept = {k: v for k, v in world.spec["rollout"].items() if k != "strategy"}
    world.edit(rollout={**kept, **(strategy(*steps) if steps else {}), **rollout})


def with_live(*, two: bool = False, steps: list[dict[str, Any]] = STEPS) -> World:
    """Generation 1 is live on nine pods, and generation 2 is accepted next."""
    world = World(spec={**SPEC, **TWO_TARGETS} if two else dict(SPEC))
    Invariants(world)
    for name, target in world.targets.items():
        world.targets[name] = replace(target, desired=9, template=digest(f"template of {name}"))
    set_strategy(world, *steps)
    world.settle()
    world.months = ["2025-01", "2025-02"]
    world.rounds(8)
    assert world.generation(1).status.outcome == "Live"
    return world


def started(*, ready: bool = True, **settings: Any) -> World:
    """The first step of the canary of generation 2 has its Deployment, and its pods if ready."""
    world = with_live(**settings)
    begin(world, ready=ready)
    return world


def begin(world: World, *, ready: bool = True) -> None:
    """Let the canary of the next generation begin."""
    world.canary_pods_ready = ready
    world.months.append("2025-03")
    for _ in range(20):
        if world.canaries:
            break
        world.now += timedelta(minutes=1)
        world.complete_jobs()
        world.settle()
    if ready:
        world.finish_rollouts()
        world.settle()


def later(world: World, minutes: float) -> None:
    """Let time pass, a minute at a time; pods get available meanwhile."""
    for _ in range(int(minutes)):
        world.now += timedelta(minutes=1)
        world.finish_rollouts()
        world.settle()


def summary(world: World) -> str:
    return world.update.status.progress.summary
