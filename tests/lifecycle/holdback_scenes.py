"""A world whose live generation bakes while the previous one keeps 10 % of the requests."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

from lifecycle.canary_scenes import later
from lifecycle.gateway_scenes import gateway, rollout_of, with_live
from lifecycle.test_canary_analysis import PROMETHEUS, RATIO
from lifecycle.warm_scenes import promoted

if TYPE_CHECKING:
    from lifecycle.world import World

ANALYSIS: dict[str, Any] = {"prometheus": PROMETHEUS, "metrics": [RATIO]}
HELD: dict[str, Any] = {"bake": {"duration": "1h", "holdback": 10}, "analysis": ANALYSIS}
WARM: dict[str, Any] = {"rollback": {"keepWarm": True}}
GOOD = {"canary": (2, 100), "live": (18, 900), "previous": (2, 100)}
"""Bad and all requests of each side in a minute."""
DRAIN = timedelta(seconds=15)


def baking(**rollout: Any) -> World:
    """Generation 2 was promoted a moment ago; pods of generation 1 only start."""
    world = with_live(**{**HELD, **rollout})
    world.per_minute, world.measured = dict(GOOD), {"latency": 0.1}
    return promoted(world)


def held_back(**rollout: Any) -> World:
    """Generation 2 bakes, and generation 1 has 10 % of the requests."""
    world = baking(**rollout)
    world.finish_canaries()
    world.settle()
    assert world.weights() == (90, 10)
    return world


def edit(world: World, **rollout: Any) -> None:
    world.edit(rollout={**gateway(), **HELD, **rollout})
    world.settle()


def fail_live(world: World) -> None:
    """From the next minute on the promoted generation fails more often."""
    later(world, 2)
    world.per_minute["live"] = (360, 900)


def verdicts(world: World) -> list[str]:
    return [sample.verdict for sample in rollout_of(world).analysis]


def in_bake(world: World) -> Any:
    return next(each for each in rollout_of(world).comparisons if each.phase == "Bake")
