"""Examples of the rules on the traffic of a canary."""

from api.canary_examples import canary
from api.example import Example
from api.update_examples import TARGET

ROUTED = {**TARGET, "service": "ranker", "httpRoute": "shop"}


def gateway(*targets: dict) -> dict:
    """A canary by Gateway with these targets."""
    strategy = canary(10)
    strategy["canary"]["traffic"] = {"type": "Gateway"}
    return {"rollout.targets": list(targets), "rollout.strategy": strategy}


OTHER = {**TARGET, "targetRef": {"name": "ranker-eu"}}

GATEWAYS = [
    Example(
        "rollout",
        "traffic type Gateway needs service and httpRoute of each target",
        gateway(ROUTED, {**ROUTED, "targetRef": {"name": "ranker-eu"}}),
        gateway(ROUTED, OTHER),
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
]
