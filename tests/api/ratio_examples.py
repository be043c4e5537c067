"""Examples of the rules on ratio metrics, which compare a canary with the live generation."""

from api.canary_examples import CANARY, STEPS
from api.example import ABSENT, Example
from api.update_examples import ANALYSIS, METRIC, VALUE

AT = "rollout.analysis"
SELECTOR = 'requests{{code=~"{}",generation="{{{{generation}}}}"}}'
RATIO = {"bad": SELECTOR.format("5.."), "total": SELECTOR.format(".*"), "maxRegression": "0.005"}
COMPARED = {
    AT: {**ANALYSIS, "metrics": [{"name": "errors", "ratio": RATIO}]},
}
BAD, TOTAL = f"{AT}.metrics[0].ratio.bad", f"{AT}.metrics[0].ratio.total"

RATIOS = [
    Example(
        f"{AT}.metrics[]",
        "a metric is value or ratio",
        CANARY | COMPARED,
        CANARY | {AT: {**ANALYSIS, "metrics": [{"name": "a", "value": VALUE, "ratio": RATIO}]}},
    ),
    Example(
        f"{AT}.metrics[]",
        "a metric is value or ratio",
        CANARY | {AT: ANALYSIS},
        CANARY | {AT: {**ANALYSIS, "metrics": [{"name": "errors"}]}},
    ),
    Example(
        "rollout",
        "a ratio metric needs strategy.type Canary",
        CANARY | {"rollout.bake": {"duration": "1h"}} | COMPARED,
        {"rollout.bake": {"duration": "1h"}} | COMPARED,
    ),
    Example(
        "rollout",
        "minRequests of a step needs a ratio metric",
        CANARY | COMPARED | {f"{STEPS}[0].minRequests": 1000},
        CANARY | {AT: {**ANALYSIS, "metrics": [METRIC]}, f"{STEPS}[0].minRequests": 1000},
    ),
    Example(
        "rollout",
        "minRequests of a step needs a ratio metric",
        CANARY | {AT: ABSENT},
        CANARY | {f"{STEPS}[0].minRequests": 1},
    ),
    *(
        Example(
            f"{AT}.metrics[].ratio.{field}",
            "double braces must name one of",
            CANARY | COMPARED | {path: 'x{role="{{role}}",pod=~"({{target}})-.*"}'},
            CANARY | COMPARED | {path: 'x{role="{{role}}",pod="{{service}}"}'},
        )
        for field, path in (("bad", BAD), ("total", TOTAL))
    ),
    *(
        Example(
            f"{AT}.metrics[].ratio.{field}",
            "a selector must contain {{generation}} or {{role}}",
            CANARY | COMPARED | {path: '{role="{{role}}"}'},
            CANARY | COMPARED | {path: "x"},
        )
        for field, path in (("bad", BAD), ("total", TOTAL))
    ),
]
