"""The spec of the update that the tests of the lifecycle, the operator and its faults declare."""

SPEC = {
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

TWO_TARGETS = {
    "rollout": {
        "targets": [
            {"targetRef": {"name": name}, "container": "server"} for name in ("ranker", "reranker")
        ],
        "deadline": "10m",
    }
}
