"""Examples of the rules on trigger and rollout, and of those over the whole spec."""

from api.data_examples import BUCKET, CEILING, COLUMNS, RANKING, REGRESSION
from api.example import ABSENT, Example, longest
from api.gate_examples import FIRST, FLOOR, HOLDOUT, MEMORY

TRIGGER = [
    Example(
        "trigger",
        "timeZone goes with schedule",
        {"trigger": {"schedule": "@daily", "timeZone": "Europe/Berlin"}},
        {"trigger": {"timeZone": "Europe/Berlin"}},
    ),
    Example(
        "trigger.onData",
        "pollInterval must be at least 1m",
        {"trigger.onData.pollInterval": "60s"},
        {"trigger.onData.pollInterval": "59.9s"},
    ),
    longest("trigger.onData.pollInterval"),
    longest("trigger.cooldown"),
]

TARGET = {"targetRef": {"name": "ranker"}, "container": "server"}

ROLLOUT = [
    Example(
        "rollout",
        "targets must name different Deployments",
        {"rollout.targets": [TARGET, {**TARGET, "targetRef": {"name": "ranker-eu"}}]},
        {"rollout.targets": [TARGET, {**TARGET, "container": "other"}]},
    ),
    Example(
        "rollout",
        "deadline must be at least 10s",
        {"rollout.deadline": "10s"},
        {"rollout.deadline": "9s"},
    ),
    Example(
        "rollout.targets[].env",
        "uri and digest must be different variables",
        {"rollout.targets[0].env.uri": "MODEL"},
        {"rollout.targets[0].env.uri": "MODEL_DIGEST"},
    ),
    longest("rollout.deadline"),
]

VALUE = {"query": "up", "max": "1"}
METRIC = {"name": "errors", "value": VALUE}
ANALYSIS = {"prometheus": {"address": "http://prometheus:9090"}, "metrics": [METRIC]}
BAKED = {"rollout.bake": {"duration": "1h"}, "rollout.analysis": ANALYSIS}
AT = "rollout.analysis"
QUERY = f"{AT}.metrics[0].value.query"

BAKE = [
    Example(
        "rollout",
        "analysis needs bake or a canary",
        BAKED,
        {AT: ANALYSIS},
    ),
    Example(
        "rollout.bake",
        "duration must be at least 10s",
        {"rollout.bake": {"duration": "10s"}},
        {"rollout.bake": {"duration": "9s"}},
    ),
    Example(
        AT,
        "metrics must have different names",
        BAKED | {f"{AT}.metrics": [METRIC, {**METRIC, "name": "latency"}]},
        BAKED | {f"{AT}.metrics": [METRIC, METRIC]},
    ),
    Example(
        AT,
        "failureLimit times the number of metrics must be at most 16",
        BAKED | {f"{AT}.failureLimit": 16},
        BAKED | {f"{AT}.metrics": [METRIC, {**METRIC, "name": "b"}], f"{AT}.failureLimit": 9},
    ),
    Example(
        AT,
        "interval must be at least 5s",
        BAKED | {f"{AT}.interval": "5s"},
        BAKED | {f"{AT}.interval": "4.9s"},
    ),
    Example(
        f"{AT}.metrics[].value",
        "value needs min or max, or both",
        BAKED | {f"{AT}.metrics[0].value": {"query": "up", "min": "-1e3"}},
        BAKED | {f"{AT}.metrics[0].value": {"query": "up"}},
    ),
    Example(
        f"{AT}.metrics[].value",
        "min must be at most max",
        BAKED | {f"{AT}.metrics[0].value": {"query": "up", "min": "1e1", "max": "10"}},
        BAKED | {f"{AT}.metrics[0].value": {"query": "up", "min": "0.2", "max": "0.19"}},
    ),
    Example(
        f"{AT}.metrics[].value.query",
        "double braces must name one of {{namespace}}, {{target}}, {{generation}}, {{role}}",
        BAKED | {QUERY: 'sum by (le) (x{a="{{namespace}}",\n b=~"{{target}}-.*"}) or up{}'},
        BAKED | {QUERY: 'x{a="{{service}}"}'},
    ),
    longest("rollout.bake.duration"),
    Example(
        f"{AT}.interval",
        "must be at most 87600h",
        BAKED | {f"{AT}.interval": "87600h"},
        BAKED | {f"{AT}.interval": "87601h"},
    ),
]

SEVERAL = {"model.classification": {"multiLabel": True}}
SCALE = {"location": "10", "spread": "2"}

HISTORY = {
    "evaluation.datasets": [HOLDOUT, MEMORY],
    "data.reserve": {},
    f"{COLUMNS}.entity": "shopper",
}

REPLAY = "training.retention.replay"
SLICES = {f"{COLUMNS}.slice": "country"}

TRACKING = [
    Example(
        "tracking",
        "reportTo must be unique",
        {"tracking": {"reportTo": ["TensorBoard", "MLflow"], "secretName": "trackers"}},
        {"tracking": {"reportTo": ["MLflow", "MLflow"]}},
    ),
]

WHOLE = [
    Example(
        "",
        "training.unlabelled needs task Classification with one label for each row",
        {
            "training.unlabelled": {"pseudoLabels": {}},
            "model.classification": {"classWeights": "Balanced"},
        },
        {"training.unlabelled": {"pseudoLabels": {}}, "model.classification": {"multiLabel": True}},
    ),
    Example(
        "",
        "rollout.pin needs mode Enforce",
        {"rollout.pin": {"generation": 2}, "mode": "Enforce"},
        {"rollout.pin": {"generation": 2}, "mode": "Observe"},
    ),
    Example(
        "",
        "training.retention.replay.bufferRows must be at least rowsPerClass",
        {REPLAY: {"rowsPerClass": 15, "bufferRows": 30}},
        {REPLAY: {"rowsPerClass": 15, "bufferRows": 29}},
    ),
    Example(
        "",
        "training.retention.replay.bufferRows must be at least rowsPerClass",
        RANKING | {REPLAY: {"bufferRows": 30}},
        RANKING | {REPLAY: {"bufferRows": 29}},
    ),
    Example(
        "",
        "training.retention.replay of Regression, Embedding, CausalLM and MaskedLM has no",
        REGRESSION | {REPLAY: {"bufferRows": 1}},
        REGRESSION | {REPLAY: {"rowsPerClass": 1}},
    ),
    Example(
        "",
        "training.retention.replay of Regression, Embedding, CausalLM and MaskedLM has no",
        REGRESSION | {REPLAY: {"ratio": "0.01"}},
        REGRESSION | {REPLAY: {"ratio": "0"}},
    ),
    Example(
        "",
        "training.retention.distillation of Regression has no temperature",
        REGRESSION | {"training.retention": {"distillation": {"weight": "3"}}},
        REGRESSION | {"training.retention": {"distillation": {"temperature": "3"}}},
    ),
    Example(
        "",
        "training.retention.replay of Regression, Embedding, CausalLM and MaskedLM has no",
        REGRESSION | SLICES | {REPLAY: {"ratio": "0", "rowsPerSlice": 1}},
        REGRESSION | SLICES | {REPLAY: {"ratio": "0", "rowsPerSlice": 0}},
    ),
    Example(
        "",
        "training.retention.replay.rowsPerSlice needs data.source.columns.slice",
        SLICES | {REPLAY: {"rowsPerSlice": 1}},
        {REPLAY: {"rowsPerSlice": 1}},
    ),
    Example(
        "",
        "model.initial is immutable",
        {"model.maxLength": 64},
        {"model.initial.uri": "file:///models/other"},
        before={},
    ),
    Example(
        "",
        "model.labels is append-only",
        {"model.labels": ["no", "yes", "maybe"]},
        {"model.labels": ["no", "maybe", "yes"]},
        before={},
    ),
    Example(
        "",
        "model.task is immutable",
        {"model.maxLength": 64},
        REGRESSION,
        before={},
    ),
    Example(
        "",
        "model.classification.multiLabel is immutable",
        {"model.classification": {"multiLabel": False}},
        {"model.classification": {"multiLabel": True}},
        before={},
    ),
    Example(
        "",
        "metrics with classification.multiLabel are",
        SEVERAL | {"gate.rules": [{**FLOOR, "metric": "micro_f1"}]},
        SEVERAL | {"gate.rules": [{**FLOOR, "metric": "accuracy"}]},
    ),
    Example(
        "",
        "metrics with classification.multiLabel are",
        SEVERAL | {"training.earlyStopping.metric": "macro_f1"},
        SEVERAL | {"training.earlyStopping.metric": "accuracy"},
    ),
    Example(
        "",
        "metrics with classification.multiLabel are",
        {"model.classification": {"multiLabel": False}},
        {"gate.rules": [{**FLOOR, "metric": "micro_f1"}]},
    ),
    Example(
        "",
        "model.regression.location and spread are immutable",
        REGRESSION | {"model.regression": SCALE | {"loss": {"type": "Huber", "huber": {}}}},
        REGRESSION | {"model.regression": SCALE | {"spread": "3"}},
        before=REGRESSION | {"model.regression": SCALE},
    ),
    Example(
        "",
        "gate.rules[].metric must be one of model.task",
        REGRESSION,
        REGRESSION | {"gate.rules": [CEILING, FLOOR]},
    ),
    Example(
        "",
        "gate.rules[].metric must be one of model.task",
        {"gate.rules": [FLOOR]},
        {"gate.rules": [FLOOR, CEILING]},
    ),
    Example(
        "",
        "a rule of Regression, Embedding, CausalLM or MaskedLM has no minPositives",
        REGRESSION,
        REGRESSION | {f"{FIRST}.minPositives": 5},
    ),
    Example(
        "",
        "training.earlyStopping.metric must be one of model.task",
        REGRESSION | {"training.earlyStopping.metric": "mae"},
        REGRESSION | {"training.earlyStopping.metric": "auc"},
    ),
    Example(
        "",
        "training.earlyStopping.metric must be one of model.task",
        {"training.earlyStopping.metric": "auc"},
        {"training.earlyStopping.metric": "rmse"},
    ),
    Example(
        "",
        "model.task is immutable",
        RANKING | {"model.maxLength": 64},
        {"model.maxLength": 64},
        before=RANKING,
    ),
    Example(
        "",
        "model.ranking.gains must keep its labels",
        {**RANKING, "model.ranking.gains": {"no": "0", "maybe": "2", "yes": "3", "best": "4"}},
        {**RANKING, "model.ranking.gains": {"no": "0", "yes": "3"}},
        before=RANKING,
    ),
    Example(
        "",
        "task Ranking needs data.source.columns.group",
        RANKING,
        {**RANKING, f"{COLUMNS}.group": ABSENT},
    ),
    Example(
        "",
        "data.reserve needs data.source.columns.entity",
        {"data.reserve": {}, f"{COLUMNS}.entity": "shopper"},
        {"data.reserve": {}},
    ),
    Example(
        "",
        "data.reserve needs data.source.columns.entity",
        {**RANKING, "data.reserve": {}},
        {"data.reserve": {}, f"{COLUMNS}.group": "query"},
    ),
    *(
        Example(
            "",
            "gate.rules[].metric must be one of model.task",
            {**RANKING, f"{FIRST}.metric": metric},
            {**RANKING, f"{FIRST}.metric": "auc"},
        )
        for metric in ("ndcg@5", "mrr", "mrr@10", "map")
    ),
    Example(
        "",
        "gate.rules[].metric must be one of model.task",
        {**RANKING, f"{FIRST}.metric": "map"},
        {f"{FIRST}.metric": "mrr@10", f"{COLUMNS}.group": "query"},
    ),
    *(
        Example(
            "",
            "training.earlyStopping.metric must be one of model.task",
            {**RANKING, "training.earlyStopping": {"metric": metric}},
            {**RANKING, "training.earlyStopping": {"metric": "rmse"}},
        )
        for metric in ("ndcg@10", "mrr", "loss")
    ),
    Example(
        "",
        "training.earlyStopping.metric must be one of model.task",
        {"training.earlyStopping": {"metric": "auc"}},
        {"training.earlyStopping": {"metric": "loss"}},
    ),
    Example(
        "",
        "storage.uri is immutable",
        {"storage.volume.claimName": "models-copied"},
        {"storage.uri": "file:///new", "data.source.uri": "file:///new/clicks"},
        before={},
    ),
    Example(
        "",
        "gate.rules[].dataset must name one of evaluation.datasets",
        {f"{FIRST}.dataset": "fresh", "evaluation.datasets": [{**HOLDOUT, "name": "fresh"}]},
        {f"{FIRST}.dataset": "fresh"},
    ),
    Example(
        "",
        "model.keepLayers is immutable",
        {"model.keepLayers": [0, 2], "model.maxLength": 64},
        {"model.keepLayers": [0, 1]},
        before={"model.keepLayers": [0, 2]},
    ),
    Example(
        "",
        "model.keepLayers is immutable",
        {},
        {"model.keepLayers": [0]},
        before={},
    ),
    Example(
        "",
        "training.hyperparameters.freeze.lowerLayers must be at most the number of",
        {"model.keepLayers": [0, 2], "training.hyperparameters.freeze.lowerLayers": 2},
        {"model.keepLayers": [0, 2], "training.hyperparameters.freeze.lowerLayers": 3},
    ),
    Example(
        "",
        "a rule on ndcg needs data.source.columns.group",
        {f"{FIRST}.metric": "ndcg@10", f"{COLUMNS}.group": "impression"},
        {f"{FIRST}.metric": "ndcg@10"},
    ),
    Example(
        "",
        "a dataset with role Historical needs data.reserve",
        HISTORY,
        {"evaluation.datasets": [HOLDOUT, MEMORY]},
    ),
    Example(
        "",
        "gate.rules needs a Required rule with min (log_loss and errors: max) on a dataset",
        HISTORY | {"gate.rules": [FLOOR, {**FLOOR, "name": "kept", "dataset": "memory"}]},
        HISTORY
        | {
            "gate.rules": [
                {**FLOOR, "dataset": "memory"},
                {"name": "same", "metric": "auc", "maxRegression": {"absolute": "0.01"}},
            ]
        },
    ),
    Example(
        "",
        "data.source.uri must lie below storage.uri",
        {"data.source.uri": "file:///models/clicks", "storage.uri": "file:///models/"},
        {"data.source.uri": "file:///models2/clicks"},
    ),
    Example(
        "",
        "data.source.uri must lie below storage.uri",
        {"data.source.uri": "s3://clicks/2026", "data.secretName": "object-store"},
        BUCKET | {"data.source.uri": "file:///models/springtide/clicks"},
    ),
    Example(
        "",
        "model.initial.uri begins with file://, but neither",
        BUCKET,
        BUCKET | {"model.initial.uri": "file:///models/minilm"},
    ),
    Example(
        "",
        "data.volume.mountPath and storage.uri must be different",
        {"data.volume": {"claimName": "clicks", "mountPath": "/models/data"}}
        | {"data.source.uri": "file:///models/data/clicks"},
        {"data.volume": {"claimName": "clicks", "mountPath": "/models"}},
    ),
    Example(
        "",
        "data.volume.mountPath and storage.uri must be different",
        {"storage.uri": "file:///models/"},
        {"data.volume": {"claimName": "clicks", "mountPath": "/models"}}
        | {"data.source.uri": "file:///models/clicks", "storage.uri": "file:///models/"},
    ),
]
