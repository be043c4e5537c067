"""Examples of the rules on task MaskedLM."""

from api.canary_examples import canary
from api.data_examples import COLUMNS
from api.example import ABSENT, Change, Example
from api.gate_examples import FIRST

MASKED: Change = {
    "model.task": "MaskedLM",
    "model.labels": ABSENT,
    f"{COLUMNS}.label": ABSENT,
    "gate.rules": [{"name": "ceiling", "metric": "perplexity", "max": "20"}],
    "rollout.targets": [],
}
"""Makes the small spec one of task MaskedLM."""
TARGET = {"targetRef": {"name": "ranker"}, "container": "server"}
REPLAY = "training.retention.replay"
STOPPING = "training.earlyStopping"
FREEZE = "training.hyperparameters.freeze"

ENCODED = [
    Example("model", "task MaskedLM has no labels", {}, {"model.task": "MaskedLM"}),
]

MASKING = [
    Example(
        "",
        "set data.source.columns.label, but not for task MaskedLM",
        MASKED | {f"{COLUMNS}.textPair": "title"},
        MASKED | {f"{COLUMNS}.label": "clicked"},
    ),
    Example(
        "",
        "set data.source.columns.label, but not for task MaskedLM",
        {},
        {f"{COLUMNS}.label": ABSENT},
    ),
    *(
        Example("rollout", "targets is [], so no pod serves a generation", accepted, refused)
        for accepted, refused in (
            (
                MASKED | {"rollout.rollback": {"freezeAfter": 2, "quarantineWindow": True}},
                MASKED | {"rollout.bake": {"duration": "1h"}},
            ),
            (MASKED | {"mode": "Observe"}, MASKED | {"rollout.pin": {"generation": 1}}),
            (
                MASKED | {"rollout.strategy": {"type": "RollingUpdate"}},
                MASKED | {"rollout.strategy": canary(10)},
            ),
        )
    ),
    Example(
        "",
        "task MaskedLM has no data.source.columns.servedGeneration",
        MASKED,
        MASKED | {f"{COLUMNS}.servedGeneration": "served_by"},
    ),
    Example(
        "",
        "rollout.targets needs at least one Deployment, but is [] for task MaskedLM",
        MASKED,
        MASKED | {"rollout.targets": [TARGET]},
    ),
    Example(
        "",
        "rollout.targets needs at least one Deployment, but is [] for task MaskedLM",
        {},
        {"rollout.targets": []},
    ),
    Example(
        "",
        "task MaskedLM has no serving",
        MASKED | {"training.pruning": {"sparsity": "0.3"}, "model.keepLayers": [0, 2]},
        MASKED | {"serving.optimise.pruning": {"sparsity": "0.3"}},
    ),
    Example(
        "",
        "training.robustness.augmentation is not available for task MaskedLM",
        MASKED | {"training.robustness": {"averaging": {"ema": "0.99"}, "adversarial": {}}},
        MASKED | {"training.robustness.augmentation": {"wordSwap": "0.1"}},
    ),
    Example(
        "",
        "training.parallelism.type FSDP is not available for tasks CausalLM and MaskedLM",
        MASKED | {"training.parallelism": {"type": "DDP"}, f"{FREEZE}.lowerLayers": 2},
        MASKED | {"training.parallelism": {"type": "FSDP"}},
    ),
    Example(
        "",
        "training.unlabelled needs task Classification with one label for each row",
        MASKED | {"training.method": {"type": "LoRA", "lora": {}}},
        MASKED | {"training.unlabelled": {"pseudoLabels": {}}},
    ),
    Example(
        "",
        "method Adapter is for tasks Classification, Ranking and Regression",
        MASKED | {"training.method": {"type": "AdaLoRA", "adaLora": {}}},
        MASKED | {"training.method": {"type": "Adapter", "adapter": {}}},
    ),
    Example(
        "",
        "methods PromptTuning and PrefixTuning are for tasks Classification, Ranking, Regression",
        MASKED | {"training.method": {"type": "Full"}},
        MASKED | {"training.method": {"type": "PromptTuning", "promptTuning": {}}},
    ),
    Example(
        "",
        "methods PromptTuning and PrefixTuning are for tasks Classification, Ranking, Regression",
        MASKED | {"training.method": {"type": "LoRA", "lora": {}}},
        MASKED | {"training.method": {"type": "PrefixTuning", "prefixTuning": {}}},
    ),
    Example(
        "",
        "training.retention.replay of Regression, Embedding, CausalLM and MaskedLM has no",
        MASKED | {REPLAY: {"bufferRows": 100}},
        MASKED | {REPLAY: {"rowsPerClass": 1}},
    ),
    Example(
        "",
        "training.retention.distillation and ewc are not available for tasks Embedding",
        MASKED | {"training.retention": {"interpolation": {}}, STOPPING: {}},
        MASKED | {"training.retention": {"ewc": {"strength": "100"}}},
    ),
    Example(
        "",
        "a rule of Regression, Embedding, CausalLM or MaskedLM has no minPositives",
        MASKED,
        MASKED | {f"{FIRST}.minPositives": 5},
    ),
    Example(
        "",
        "gate.rules[].metric must be one of model.task",
        MASKED | {"gate.rules": [{"name": "right", "metric": "masked_accuracy", "min": "0.1"}]},
        MASKED | {f"{FIRST}.metric": "accuracy"},
    ),
    Example(
        "",
        "gate.rules[].metric must be one of model.task",
        {},
        {f"{FIRST}.metric": "masked_accuracy"},
    ),
    Example(
        "",
        "training.earlyStopping.metric must be one of model.task",
        MASKED | {STOPPING: {"metric": "perplexity"}},
        MASKED | {STOPPING: {"metric": "accuracy"}},
    ),
]
