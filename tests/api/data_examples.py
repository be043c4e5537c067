"""Examples of the rules on model, data, serving and storage."""

from api.example import ABSENT, Change, Example, hub, inside, longest

COLUMNS = "data.source.columns"
STRATEGY = "data.holdout.strategy"
CEILING = {"name": "ceiling", "metric": "mae", "max": "10"}
REGRESSION: Change = {
    "model.task": "Regression",
    "model.labels": ABSENT,
    "gate.rules": [CEILING],
}

MODEL = [
    Example(
        "model",
        "keepLayers must be unique",
        {"model.keepLayers": [2, 0]},
        {"model.keepLayers": [0, 2, 0]},
    ),
    Example(
        "model",
        "classification belongs to task Classification",
        {"model.classification": {}},
        REGRESSION | {"model.classification": {}},
    ),
    Example(
        "model",
        "no label may contain classification.separator",
        {"model.classification": {"multiLabel": True, "separator": ","}},
        {"model.classification": {"multiLabel": True}, "model.labels": ["no", "a|b"]},
    ),
    Example(
        "model",
        "task Regression has no labels",
        REGRESSION,
        REGRESSION | {"model.labels": ["no", "yes"]},
    ),
    Example(
        "model",
        "regression belongs to task Regression",
        REGRESSION | {"model.regression.loss.type": "MSE"},
        {"model.regression.loss.type": "MSE"},
    ),
    Example(
        "model.regression",
        "set location and spread, or neither",
        REGRESSION | {"model.regression": {"location": "-3", "spread": "12.5"}},
        REGRESSION | {"model.regression": {"spread": "12.5"}},
    ),
    Example(
        "model.regression",
        "spread must be greater than 0",
        REGRESSION | {"model.regression": {"location": "0", "spread": "1e-9"}},
        REGRESSION | {"model.regression": {"location": "0", "spread": "0"}},
    ),
    Example(
        "model.regression.loss",
        "set huber (it may be {}) if and only if",
        REGRESSION | {"model.regression.loss": {"type": "Huber", "huber": {}}},
        REGRESSION | {"model.regression.loss": {"type": "Huber"}},
    ),
    Example(
        "model.classification.loss",
        "set focal (it may be {}) if and only if type is Focal",
        {"model.classification.loss": {"type": "Focal", "focal": {}}},
        {"model.classification.loss": {"type": "CrossEntropy", "focal": {}}},
    ),
    Example(
        "model.classification.loss.focal",
        "gamma must be greater than 0 and at most 10",
        {"model.classification.loss": {"type": "Focal", "focal": {"gamma": "0.5"}}},
        {"model.classification.loss": {"type": "Focal", "focal": {"gamma": "0"}}},
    ),
    Example(
        "model.classification",
        "classWeights needs rows of exactly one label",
        {"model.classification": {"classWeights": "Balanced"}},
        {"model.classification": {"classWeights": "Balanced", "multiLabel": True}},
    ),
    Example(
        "model.regression.loss.huber",
        "delta must be greater than 0",
        REGRESSION | {"model.regression.loss": {"type": "Huber", "huber": {"delta": "0.1"}}},
        REGRESSION | {"model.regression.loss": {"type": "Huber", "huber": {"delta": "0"}}},
    ),
    Example(
        "model",
        "task Classification needs labels",
        {"model.labels": ["no", "yes"]},
        {"model.labels": ABSENT},
    ),
    Example(
        "model",
        "labels must be unique",
        {"model.labels": ["no", "yes", "Yes"]},
        {"model.labels": ["no", "yes", "no"]},
    ),
    inside("model.initial.uri", "file:///models/"),
    hub("model.initial.uri"),
]

GAINS = {"no": "0", "maybe": "1", "yes": "3"}
RANKING = {
    "model.task": "Ranking",
    "model.labels": ABSENT,
    "model.ranking": {"gains": GAINS},
    f"{COLUMNS}.group": "query",
    "gate.rules[0].metric": "ndcg@10",
}
"""Makes the small spec one of task Ranking."""

MODEL += [
    Example(
        "model",
        "set ranking if and only if task is Ranking",
        RANKING,
        {"model.ranking": {"gains": GAINS}},
    ),
    Example(
        "model",
        "set ranking if and only if task is Ranking",
        RANKING,
        {**RANKING, "model.ranking": ABSENT},
    ),
    Example(
        "model",
        "task Ranking has ranking.gains in place of labels",
        RANKING,
        {**RANKING, "model.labels": ["no", "yes"]},
    ),
    Example(
        "model.ranking",
        "gains must not be negative",
        {**RANKING, "model.ranking.gains": {"no": "0.0", "yes": "1e-3"}},
        {**RANKING, "model.ranking.gains": {"no": "0", "yes": "1", "spam": "-1"}},
    ),
    Example(
        "model.ranking",
        "gains needs a label with gain 0",
        {**RANKING, "model.ranking.gains": {"no": "0.0", "yes": "0.5"}},
        {**RANKING, "model.ranking.gains": {"no": "1", "yes": "2"}},
    ),
    Example(
        "model.ranking",
        "gains needs a label with gain 0",
        RANKING,
        {**RANKING, "model.ranking.gains": {"no": "0", "yes": "0"}},
    ),
]

DATA = [
    Example(
        "data",
        "source.uri must begin with file:// and volume.mountPath",
        {"data.volume.claimName": "clicks", "data.source.uri": "file:///data/clicks"},
        {"data.volume.claimName": "clicks", "data.source.uri": "file:///database/clicks"},
    ),
    Example(
        "data.source.partition",
        "successMarker needs path",
        {"data.source.partition": {"successMarker": True, "path": "dt=%Y-%m-%d"}},
        {"data.source.partition": {"successMarker": True}},
    ),
    inside("data.source.uri", "file:///models/"),
    inside("data.source.partition.path", ""),
    Example(
        COLUMNS,
        "columns needs either text or features",
        {f"{COLUMNS}.text": ABSENT, f"{COLUMNS}.features": ["title", "price"]},
        {f"{COLUMNS}.features": ["title", "price"]},
    ),
    Example(
        COLUMNS,
        "template needs features",
        {
            f"{COLUMNS}.text": ABSENT,
            f"{COLUMNS}.features": ["title"],
            f"{COLUMNS}.template": "{title}",
        },
        {f"{COLUMNS}.template": "{title}"},
    ),
    Example(
        COLUMNS,
        "textPair needs text",
        {f"{COLUMNS}.textPair": "item"},
        {
            f"{COLUMNS}.text": ABSENT,
            f"{COLUMNS}.features": ["title"],
            f"{COLUMNS}.textPair": "item",
        },
    ),
    Example(
        COLUMNS,
        "features must name different columns",
        {f"{COLUMNS}.text": ABSENT, f"{COLUMNS}.features": ["title", "price"]},
        {f"{COLUMNS}.text": ABSENT, f"{COLUMNS}.features": ["title", "title"]},
    ),
    Example(
        COLUMNS,
        "label must not be text, textPair or one of features",
        {f"{COLUMNS}.text": ABSENT, f"{COLUMNS}.features": ["title", "price"]},
        {f"{COLUMNS}.text": ABSENT, f"{COLUMNS}.features": ["title", "clicked"]},
    ),
    *(
        Example(
            COLUMNS,
            "servedGeneration must not be label, timestamp, text, textPair or one of features",
            other | {f"{COLUMNS}.servedGeneration": "served_by"},
            other | {f"{COLUMNS}.servedGeneration": wrong},
        )
        for other, wrong in (
            ({}, "clicked"),
            ({f"{COLUMNS}.text": ABSENT, f"{COLUMNS}.features": ["title", "price"]}, "price"),
        )
    ),
    Example(
        "data.window",
        "minRows must not be greater than maxRows",
        {"data.window": {"minRows": 500, "maxRows": 500}},
        {"data.window": {"minRows": 501, "maxRows": 500}},
    ),
    longest("data.window.watermarkDelay"),
    longest("data.window.labelDelay"),
    longest("data.window.maxWait"),
    longest("data.window.maxGap"),
    Example(
        STRATEGY,
        "set latestPartitions (it may be {}) if and only if",
        {STRATEGY: {"type": "LatestPartitions", "latestPartitions": {}}},
        {STRATEGY: {"type": "LatestPartitions"}},
    ),
    Example(
        STRATEGY,
        "set tail (it may be {}) if and only if",
        {STRATEGY: {"type": "Tail", "tail": {}}},
        {STRATEGY: {"type": "LatestPartitions", "latestPartitions": {}, "tail": {}}},
    ),
    Example(
        f"{STRATEGY}.tail",
        "fraction must be greater than 0 and less than 1",
        {STRATEGY: {"type": "Tail", "tail": {"fraction": "0.999"}}},
        {STRATEGY: {"type": "Tail", "tail": {"fraction": "1.0"}}},
    ),
    Example(
        "data.reserve",
        "fraction must be greater than 0 and at most 0.5",
        {"data.reserve.fraction": "0.5", f"{COLUMNS}.entity": "shopper"},
        {"data.reserve.fraction": "0", f"{COLUMNS}.entity": "shopper"},
    ),
    Example(
        "data.volume",
        "mountPath must not lie in /springtide",
        {
            "data.volume": {"claimName": "clicks", "mountPath": "/tmpfiles"},
            "data.source.uri": "file:///tmpfiles/clicks",
        },
        {
            "data.volume": {"claimName": "clicks", "mountPath": "/tmp/clicks"},
            "data.source.uri": "file:///tmp/clicks/x",
        },
    ),
    Example(
        "data.volume.mountPath",
        "must not contain '..'",
        {
            "data.volume": {"claimName": "clicks", "mountPath": "/da..ta"},
            "data.source.uri": "file:///da..ta/clicks",
        },
        {
            "data.volume": {"claimName": "clicks", "mountPath": "/data/.."},
            "data.source.uri": "file:///data/../clicks",
        },
    ),
]

BUCKET: Change = {
    "storage": {"uri": "s3://models/springtide"},
    "data.source.uri": "s3://clicks/2026",
    "data.secretName": "object-store",
    "model.initial.uri": "gs://models/minilm",
}

STORAGE = [
    Example(
        "storage",
        "set volume if and only if uri begins with file://",
        BUCKET,
        BUCKET | {"storage": {"uri": "s3://models/x", "volume": {"claimName": "models"}}},
    ),
    Example(
        "storage",
        "set volume if and only if uri begins with file://",
        BUCKET | {"storage": {"uri": "az://models"}},
        {"storage": {"uri": "file:///models"}},
    ),
    Example(
        "storage",
        "uri must name a folder, not in /springtide",
        {"storage.uri": "file:///models/tmp", "data.source.uri": "file:///models/tmp/clicks"},
        {"storage.uri": "file:///tmp", "data.source.uri": "file:///tmp/clicks"},
    ),
    Example(
        "storage.uri",
        "must not contain '..'",
        {"storage.uri": "file:///mod..els", "data.source.uri": "file:///mod..els/clicks"},
        {"storage.uri": "file:///models/..", "data.source.uri": "file:///models/../clicks"},
    ),
]

OPTIMISE = "serving.optimise"

SERVING = [
    Example(
        OPTIMISE,
        "set quantization, pruning or both, or leave optimise out",
        {OPTIMISE: {"pruning": {"sparsity": "0.5"}}},
        {OPTIMISE: {}},
    ),
    *(
        Example(
            f"{OPTIMISE}.pruning",
            "sparsity must be at least 0.01 and at most 0.95",
            {OPTIMISE: {"pruning": {"sparsity": within}}},
            {OPTIMISE: {"pruning": {"sparsity": outside}}},
        )
        for within, outside in (("0.01", "0.009"), ("0.95", "0.951"))
    ),
]
