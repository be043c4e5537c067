"""Examples of the rules on task CausalLM."""

from api.data_examples import COLUMNS
from api.example import ABSENT, Change, Example
from api.gate_examples import FIRST

DIALOGUE: Change = {
    "model.task": "CausalLM",
    "model.labels": ABSENT,
    "gate.rules": [{"name": "ceiling", "metric": "perplexity", "max": "20"}],
}
"""Makes the small spec one of task CausalLM."""
REPLAY = "training.retention.replay"
STOPPING = "training.earlyStopping"
NEW = "model.causalLm.maxNewTokens"

RESPONDING = [
    Example(
        "model",
        "causalLm belongs to task CausalLM",
        DIALOGUE | {"model.causalLm": {}},
        {"model.causalLm": {}},
    ),
    Example(
        "model",
        "task CausalLM has no labels",
        DIALOGUE,
        DIALOGUE | {"model.labels": ["no", "yes"]},
    ),
    Example(
        "model",
        "causalLm.maxNewTokens must be less than maxLength",
        DIALOGUE | {NEW: 63, "model.maxLength": 64},
        DIALOGUE | {NEW: 64, "model.maxLength": 64},
    ),
    Example(
        "model",
        "classification belongs to task Classification",
        DIALOGUE,
        DIALOGUE | {"model.classification": {"classWeights": "Balanced"}},
    ),
]

DIALOGUES = [
    Example(
        "",
        "task CausalLM has no data.source.columns.textPair",
        DIALOGUE | {f"{COLUMNS}.text": ABSENT, f"{COLUMNS}.features": ["history", "question"]},
        DIALOGUE | {f"{COLUMNS}.textPair": "history"},
    ),
    Example(
        "",
        "training.robustness.augmentation is not available for task CausalLM",
        DIALOGUE | {"training.robustness": {"averaging": {"ema": "0.99"}, "adversarial": {}}},
        DIALOGUE | {"training.robustness.augmentation": {"wordSwap": "0.1"}},
    ),
    Example(
        "",
        "training.parallelism.type FSDP is not available for tasks CausalLM and MaskedLM",
        DIALOGUE | {"training.parallelism": {"type": "DDP"}},
        DIALOGUE | {"training.parallelism": {"type": "FSDP"}},
    ),
    Example(
        "",
        "serving.optimise.quantization is not available for task CausalLM",
        DIALOGUE | {"serving.optimise.pruning": {"sparsity": "0.3"}},
        DIALOGUE | {"serving.optimise.quantization": "Int8Dynamic"},
    ),
    Example(
        "",
        "training.retention.replay of Regression, Embedding, CausalLM and MaskedLM has no",
        DIALOGUE | {REPLAY: {"bufferRows": 100}},
        DIALOGUE | {REPLAY: {"rowsPerClass": 1}},
    ),
    Example(
        "",
        "training.retention.distillation and ewc are not available for tasks Embedding",
        DIALOGUE | {"training.retention": {"interpolation": {}}, STOPPING: {}},
        DIALOGUE | {"training.retention": {"distillation": {}}},
    ),
    Example(
        "",
        "a rule of Regression, Embedding, CausalLM or MaskedLM has no minPositives",
        DIALOGUE,
        DIALOGUE | {f"{FIRST}.minPositives": 5},
    ),
    Example(
        "",
        "gate.rules[].metric must be one of model.task",
        DIALOGUE,
        DIALOGUE | {f"{FIRST}.metric": "log_loss"},
    ),
    Example(
        "",
        "training.earlyStopping.metric must be one of model.task",
        DIALOGUE | {STOPPING: {"metric": "perplexity"}},
        DIALOGUE | {STOPPING: {"metric": "log_loss"}},
    ),
    Example(
        "",
        "training.earlyStopping.metric must be one of model.task",
        DIALOGUE | {STOPPING: {}},
        {STOPPING: {"metric": "perplexity"}},
    ),
]
