"""What the histories of an update choose from: scores, specs, verbs, refusals."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st

SCORES = st.sampled_from(
    [
        (0.70, 0.60),  # a gain
        (0.55, 0.66),  # a loss
        (0.61, 0.60),  # undecided where the error is large
        (0.50, 0.50),  # shuffled labels
    ]
)
VERBS = st.sampled_from(["run", "retry", "reject", "quarantine", "release", "unfreeze", "promote"])
TRIGGERS: list[dict[str, object]] = [
    {"onData": {"pollInterval": "1m"}},
    {"onData": {"pollInterval": "1m"}, "cooldown": "2h", "maxRunsPerDay": 2},
    {"schedule": "@hourly"},
    {"schedule": "99 * * * *"},  # the schema allows it
]
CODES = st.sampled_from([1, 3, 4, 5, 42, 137])
METHODS = st.sampled_from(
    [
        {"type": "Full"},
        {"type": "LoRA", "lora": {}},
        {"type": "LoRA", "lora": {"continuation": "Continue"}},
        {"type": "LoRA", "lora": {"continuation": "Continue", "rank": 4}},
        {"type": "LoRA", "lora": {"continuation": "Continue", "rebaseEvery": 2}},
        {"type": "AdaLoRA", "adaLora": {}},
        {"type": "Adapter", "adapter": {"width": 8}},
        {"type": "PromptTuning", "promptTuning": {}},
        {"type": "PrefixTuning", "prefixTuning": {"tokens": 4}},
    ]
)
RETENTIONS = st.sampled_from(
    [
        {},
        {"replay": {}},
        {"replay": {"ratio": "0.5"}},
        {"interpolation": {}},
        {"distillation": {}},
        {"ewc": {"strength": "100"}},
        {"ewc": {"strength": "100"}, "replay": {}},
    ]
)
INCONCLUSIVE = st.sampled_from(
    [
        {},
        *({"onInconclusive": {"type": kind}} for kind in ("Hold", "Reject")),
        *(
            {"onInconclusive": {"type": "ExtendHoldout", "extendHoldout": analyses}}
            for analyses in ({"maxInterimAnalyses": 1}, {"maxInterimAnalyses": 2}, {})
        ),
    ]
)
CUMULATIVE = st.sampled_from([None, "0.02", "0.2"])
"""Margins of a rule that compares with evaluation.reference; None: no such rule."""
EVALUATIONS = st.sampled_from([{}, {}, *({"reference": {"generation": n}} for n in (1, 77))])
INT8 = {"quantization": "Int8Dynamic"}
PRUNED = [{"pruning": {"sparsity": share}} for share in ("0.3", "0.5")]
COMPUTES = st.sampled_from(
    [
        {},
        {"gpusPerNode": 1},
        {"gpusPerNode": 1, "gpu": {"resourceName": "nvidia.com/gpu.shared"}},
        {"gpusPerNode": 1, "runtimeClassName": "nvidia"},
        {"gpusPerNode": 1, "nodes": 2},
    ]
)
LIMITS = st.sampled_from([{}, {}, *({"maxGpuSecondsPerDay": most} for most in (1800, 90_000))])
WINDOWS = st.sampled_from([{}, {"rowsPerShard": 1000}])
FORMS = st.sampled_from([{}, *({"optimise": form} for form in (INT8, *PRUNED, INT8 | PRUNED[0]))])


REFUSABLE = [
    *("Deployment ranker", "Deployment reranker", "finalizer", "Deployment ranker-canary"),
    "deletion of Deployment ranker-canary",
]

BAKE: dict[str, Any] = {"bake": {"duration": "20m"}}
VALUE = {"query": 'sum(errors{generation="{{generation}}"})', "max": "0.05"}
ANALYSIS: dict[str, Any] = {
    "prometheus": {"address": "http://prometheus:9090"},
    "metrics": [{"name": "errors", "value": VALUE}],
    "failureLimit": 2,
}
SELECTOR = 'requests{{generation="{{{{generation}}}}",outcome=~"{}"}}'
RATIO = {"bad": SELECTOR.format("error"), "total": SELECTOR.format(".*"), "maxRegression": "0"}
COMPARED = ANALYSIS | {"metrics": [*ANALYSIS["metrics"], {"name": "ratio", "ratio": RATIO}]}
TRAFFIC = {"canary": (2, 100), "live": (18, 900)}
"""Bad and all requests of each side in a minute."""
BAKES: list[dict[str, Any]] = [
    {},
    BAKE,
    {"rollback": {"quarantineWindow": True}},
    {"rollback": {"freezeAfter": 1}},
    {"rollback": {"freezeAfter": 2, "quarantineWindow": True}},
    BAKE | {"rollback": {"automatic": False, "quarantineWindow": True}},
    *(BAKE | {"analysis": ANALYSIS | {"onNoData": word}} for word in ("Wait", "Hold", "Fail")),
    *({"analysis": COMPARED | {"onNoData": word}} for word in ("Wait", "Hold", "Fail")),
    BAKE | {"analysis": COMPARED},
]


CANARY = {"weight": 33, "duration": "5m"}, {"weight": 50, "duration": "10m"}
STRATEGIES: list[dict[str, Any]] = [
    {},
    *(
        {"strategy": {"type": "Canary", "canary": {"steps": list(steps)}}}
        for steps in (CANARY, CANARY[:1], [CANARY[1] | {"minRequests": 1200}])
    ),
]
"""Weights that two pods express."""


def gate(
    before: dict[str, Any],
    inconclusive: dict[str, Any],
    cumulative: str | None,
    margin: str = "0.01",
    least: int | None = None,
) -> dict[str, Any]:
    """A gate with these values, and the approval of the one before."""
    floor, not_worse, *_ = before["rules"]
    floor = {key: each for key, each in floor.items() if key != "minEntities"}
    floor |= {"minEntities": least} if least else {}
    rules = [floor, {**not_worse, "maxRegression": {"absolute": margin}}]
    if cumulative:
        lasting = {"maxCumulativeRegression": {"absolute": cumulative}}
        rules.append({"name": "lasting", "metric": floor["metric"], **lasting})
    approval = {key: each for key, each in before.items() if key == "approval"}
    return {"rules": rules, **inconclusive, **approval}


def training(method: dict[str, Any], retention: dict[str, Any], **others: object) -> dict[str, Any]:
    """A training that the API server accepts: some methods and retentions exclude each other."""
    stays = method["type"] in ("Adapter", "PromptTuning", "PrefixTuning")
    continuing = stays or method.get("lora", {}).get("continuation") == "Continue"
    found = {"method": method, **others}
    excluded = "ewc" in retention and method["type"] != "Full"
    excluded |= "distillation" in retention and stays and method["type"] != "Adapter"
    if retention and not excluded and not (continuing and "interpolation" in retention):
        found |= {"retention": retention, "earlyStopping": {}}
    return found
