"""Examples of the rules on the steps of a canary."""

from api.example import Example

STEP = {"weight": 10, "duration": "10m"}


def canary(*weights: int) -> dict:
    """A strategy with steps of these weights."""
    return {"type": "Canary", "canary": {"steps": [{**STEP, "weight": w} for w in weights]}}


CANARY = {"rollout.strategy": canary(10)}
STEPS = "rollout.strategy.canary.steps"

CANARIES = [
    Example(
        "rollout.strategy",
        "canary goes with type Canary",
        CANARY,
        {"rollout.strategy": {"type": "RollingUpdate", "canary": {"steps": [STEP]}}},
    ),
    Example(
        "rollout.strategy",
        "canary goes with type Canary",
        {"rollout.strategy": {"type": "RollingUpdate"}},
        {"rollout.strategy": {"type": "Canary"}},
    ),
    Example(
        "rollout.strategy.canary",
        "weights of steps must ascend",
        CANARY | {STEPS: [STEP, {**STEP, "weight": 50}]},
        CANARY | {STEPS: [STEP, STEP]},
    ),
    Example(
        "rollout.strategy.canary",
        "weights of steps must ascend",
        CANARY | {f"{STEPS}[0].weight": 99},
        CANARY | {STEPS: [{**STEP, "weight": 50}, STEP]},
    ),
    Example(
        f"{STEPS}[]",
        "duration must be at least 10s",
        CANARY | {f"{STEPS}[0].duration": "10s"},
        CANARY | {f"{STEPS}[0].duration": "9s"},
    ),
    Example(
        f"{STEPS}[].duration",
        "must be at most 87600h",
        CANARY | {f"{STEPS}[0].duration": "87600h"},
        CANARY | {f"{STEPS}[0].duration": "87601h"},
    ),
]
