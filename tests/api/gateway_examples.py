"""Examples of the rules on the traffic of a canary."""

from api.canary_examples import canary
from api.example import ABSENT, Example
from api.ratio_examples import COMPARED
from api.update_examples import ANALYSIS, METRIC, TARGET

ROUTED = {**TARGET, "service": "ranker", "httpRoute": "shop"}


def gateway(*targets: dict) -> dict:
    """A canary by Gateway with these targets."""
    strategy = canary(10)
    strategy["canary"]["traffic"] = {"type": "Gateway"}
    return {"rollout.targets": list(targets), "rollout.strategy": strategy}


BAKE = {"rollout.bake": {"duration": "1h"}}
WARM = BAKE | {"rollout.rollback": {"keepWarm": True}}
HELD_BACK = {"rollout.bake": {"duration": "1h", "holdback": 10}} | COMPARED

OTHER = {**TARGET, "targetRef": {"name": "ranker-eu"}}
ROUTED_TOO = {**OTHER, "service": "ranker-eu", "httpRoute": "shop"}

GATEWAYS = [
    Example(
        "rollout",
        "traffic type Gateway needs service and httpRoute of each target",
        gateway(ROUTED, ROUTED_TOO),
        gateway(ROUTED, OTHER),
    ),
    Example(
        "rollout",
        "targets must have different services",
        gateway(ROUTED, ROUTED_TOO),
        gateway(ROUTED, {**ROUTED_TOO, "service": "ranker"}),
    ),
    Example(
        "rollout",
        "traffic type Gateway needs service and httpRoute of each target",
        gateway(ROUTED),
        gateway({**TARGET, "service": "ranker"}),
    ),
    Example(
        "rollout",
        "service and httpRoute of a target go with strategy.canary.traffic.type Gateway",
        {"rollout.targets": [TARGET]},
        {"rollout.targets": [ROUTED]},
    ),
    Example(
        "rollout",
        "service and httpRoute of a target go with strategy.canary.traffic.type Gateway",
        {"rollout.targets": [TARGET], "rollout.strategy": canary(10)},
        {"rollout.targets": [{**TARGET, "httpRoute": "shop"}], "rollout.strategy": canary(10)},
    ),
    Example(
        "rollout",
        "rollback.keepWarm needs strategy.canary.traffic.type Gateway",
        gateway(ROUTED) | WARM,
        {"rollout.strategy": canary(10)} | WARM,
    ),
    Example(
        "rollout",
        "rollback.keepWarm needs strategy.canary.traffic.type Gateway",
        BAKE | {"rollout.rollback": {"keepWarm": False}},
        WARM,
    ),
    Example(
        "rollout",
        "rollback.keepWarm needs bake",
        gateway(ROUTED) | WARM,
        gateway(ROUTED) | {"rollout.rollback": {"keepWarm": True}},
    ),
    Example(
        "rollout",
        "bake.holdback needs strategy.canary.traffic.type Gateway",
        gateway(ROUTED) | HELD_BACK,
        {"rollout.strategy": canary(10)} | HELD_BACK,
    ),
    Example(
        "rollout",
        "bake.holdback needs a ratio metric in analysis",
        gateway(ROUTED) | HELD_BACK | {"rollout.rollback": {"keepWarm": True}},
        gateway(ROUTED) | HELD_BACK | {"rollout.analysis": {**ANALYSIS, "metrics": [METRIC]}},
    ),
    Example(
        "rollout",
        "bake.holdback needs a ratio metric in analysis",
        gateway(ROUTED) | BAKE,
        gateway(ROUTED) | HELD_BACK | {"rollout.analysis": ABSENT},
    ),
]
