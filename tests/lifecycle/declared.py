"""The spec of the update that the tests of the lifecycle, the operator and its faults declare."""

from typing import Any

SPEC: dict[str, Any] = {
    "model": {"initial": {"uri": "file:///models/minilm"}, "labels": ["0", "1"]},
    "data": {
        "source": {
            "uri": "file:///data/clicks",
            "format": "CSV",
            "columns": {
                "text": "query",
                "label": "label",
                "timestamp": "ts",
                "entity": "customer",
            },
        },
        "reserve": {},
        "volume": {"claimName": "data"},
    },
    "trigger": {"onData": {"pollInterval": "1m"}},
    "gate": {
        "rules": [
            {"name": "floor", "metric": "auc", "min": "0.52"},
            {"name": "not-worse", "metric": "auc", "maxRegression": {"absolute": "0.01"}},
        ]
    },
    "rollout": {
        "targets": [{"targetRef": {"name": "ranker"}, "container": "server"}],
        "deadline": "10m",
    },
    "storage": {"uri": "file:///models", "volume": {"claimName": "models"}},
}

WITHOUT_TARGETS: dict[str, Any] = {
    **SPEC,
    "model": {"initial": {"uri": "file:///models/minilm"}, "task": "MaskedLM"},
    "data": {
        **SPEC["data"],
        "source": {
            **SPEC["data"]["source"],
            "columns": {"text": "query", "timestamp": "ts", "entity": "customer"},
        },
    },
    "gate": {
        "rules": [{**rule, "metric": "masked_accuracy"} for rule in SPEC["gate"]["rules"]],
    },
    "rollout": {"targets": []},
}
"""An update that serves nothing: its live generation is the parent of the next one."""

TWO_TARGETS = {
    "rollout": {
        "targets": [
            {"targetRef": {"name": name}, "container": "server"} for name in ("ranker", "reranker")
        ],
        "deadline": "10m",
    }
}


def with_columns(spec: dict[str, Any], **columns: str) -> dict[str, Any]:
    """The spec with these columns of data.source too."""
    source = spec["data"]["source"]
    known = {**source, "columns": {**source["columns"], **columns}}
    return {**spec, "data": {**spec["data"], "source": known}}


def in_a_bucket(**history: int) -> dict[str, Any]:
    """The spec with model, data and storage in an object store."""
    data = {key: value for key, value in SPEC["data"].items() if key != "volume"}
    return {
        **SPEC,
        "model": {**SPEC["model"], "initial": {"uri": "s3://models/minilm"}},
        "data": {
            **data,
            "source": {**data["source"], "uri": "s3://clicks"},
            "secretName": "object-store",
            "serviceAccountName": "clicks-reader",
        },
        "storage": {"uri": "s3://models/springtide/"},
        "history": history,
    }
