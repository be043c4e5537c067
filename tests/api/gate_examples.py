"""Examples of the rules on evaluation and gate."""

from api.example import Example, inside

HOLDOUT = {"name": "holdout", "role": "Holdout"}
MEMORY = {"name": "memory", "role": "Historical"}
FLOOR = {"name": "floor", "metric": "auc", "min": "0.6"}
LASTING = FLOOR | {"maxCumulativeRegression": {"absolute": "0.02"}}
RULES = "gate.rules[]"
FIRST = "gate.rules[0]"

EVALUATION = [
    Example(
        "evaluation",
        "dataset names must be unique",
        {
            "evaluation.datasets": [HOLDOUT, MEMORY],
            "data.reserve": {},
            "data.source.columns.entity": "shopper",
        },
        {"evaluation.datasets": [HOLDOUT, {**MEMORY, "name": "holdout"}]},
    ),
    Example(
        "evaluation",
        "at most one dataset may have role Holdout",
        {"evaluation.datasets": [HOLDOUT]},
        {"evaluation.datasets": [HOLDOUT, {**HOLDOUT, "name": "b"}]},
    ),
    Example(
        "evaluation.datasets[]",
        "set uri if and only if role is Guardrail",
        {
            "evaluation.datasets": [
                HOLDOUT,
                {"name": "musts", "role": "Guardrail", "uri": "file:///models/musts.csv"},
            ]
        },
        {"evaluation.datasets": [HOLDOUT, {"name": "musts", "role": "Guardrail"}]},
    ),
    inside(
        "evaluation.datasets[].uri",
        "file:///models/",
        {"evaluation.datasets": [{"name": "holdout", "role": "Guardrail"}]},
    ),
    Example(
        "evaluation.bootstrap",
        "confidence must be at least 0.5 and less than 1",
        {"evaluation.bootstrap.confidence": "0.5"},
        {"evaluation.bootstrap.confidence": "0.49"},
    ),
]


def _margin(name: str) -> list[Example]:
    at = f"{RULES}.{name}"
    return [
        Example(
            at,
            "set either absolute or relative",
            {f"{FIRST}.{name}": {"absolute": "0.01"}},
            {f"{FIRST}.{name}": {"absolute": "0.01", "relative": "0.01"}},
        ),
        *(
            Example(
                at,
                f"{unit} must not be negative",
                {f"{FIRST}.{name}": {unit: "0"}},
                {f"{FIRST}.{name}": {unit: "-0.001"}},
            )
            for unit in ("absolute", "relative")
        ),
    ]


GATE = [
    Example(
        "gate",
        "rules needs a Required rule with min",
        {"gate.rules": [{"name": "loss", "metric": "log_loss", "max": "0.7"}]},
        {
            "gate.rules": [
                {"name": "better", "metric": "auc", "minImprovement": {"absolute": "0"}},
                {**FLOOR, "severity": "Warn"},
            ]
        },
    ),
    Example(
        "gate",
        "rules needs a Required rule with min",
        {"gate.rules": [FLOOR, {"name": "honest", "metric": "ece", "max": "0.1"}]},
        {"gate.rules": [{"name": "honest", "metric": "ece", "max": "0.1"}]},
    ),
    Example(
        "gate",
        "rule names must be unique",
        {"gate.rules": [FLOOR, {**FLOOR, "name": "floor-2"}]},
        {"gate.rules": [FLOOR, FLOOR]},
    ),
    Example(
        RULES,
        "a rule needs at least one of min, max",
        {"gate.rules": [FLOOR, {"name": "b", "metric": "ece", "max": "0.1"}]},
        {"gate.rules": [{"name": "a", "metric": "auc"}, FLOOR]},
    ),
    Example(
        RULES,
        "a rule needs at least one of min, max",
        {
            "gate.rules": [
                FLOOR,
                {"name": "b", "metric": "auc", "maxCumulativeRegression": {"absolute": "0.02"}},
            ]
        },
        {"gate.rules": [FLOOR, {"name": "b", "metric": "auc", "minPositives": 5}]},
    ),
    Example(
        "gate",
        "at most 4 rules may have maxCumulativeRegression",
        {"gate.rules": [LASTING | {"name": f"r{number}"} for number in range(4)]},
        {"gate.rules": [LASTING | {"name": f"r{number}"} for number in range(5)]},
    ),
    Example(
        RULES,
        "min must not be greater than max",
        {f"{FIRST}.max": "0.60"},
        {f"{FIRST}.max": "0.59"},
    ),
    Example(
        RULES,
        "set minImprovement or maxRegression, not both",
        {f"{FIRST}.maxRegression.absolute": "0.01"},
        {
            f"{FIRST}.maxRegression.absolute": "0.01",
            f"{FIRST}.minImprovement.absolute": "0.01",
        },
    ),
    *(
        Example(
            "gate.maxHoldoutDrop",
            f"{unit} must not be negative",
            {"gate.maxHoldoutDrop": {unit: "0"}},
            {"gate.maxHoldoutDrop": {unit: "-0.01"}},
        )
        for unit in ("absolute", "relative")
    ),
    *_margin("minImprovement"),
    *_margin("maxRegression"),
    *_margin("maxCumulativeRegression"),
    Example(
        "gate.onInconclusive",
        "set extendHoldout (it may be {}) if and only if",
        {"gate.onInconclusive": {"type": "ExtendHoldout", "extendHoldout": {}}},
        {"gate.onInconclusive": {"type": "Hold", "extendHoldout": {}}},
    ),
]
