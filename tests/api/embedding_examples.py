"""Examples of the rules on task Embedding."""

from api.data_examples import COLUMNS, RANKING
from api.example import ABSENT, Change, Example
from api.gate_examples import FIRST

EMBEDDING: Change = {
    "model.task": "Embedding",
    "model.labels": ABSENT,
    "model.embedding": {},
    f"{COLUMNS}.textPair": "title",
    f"{FIRST}.metric": "recall@10",
}
"""Makes the small spec one of task Embedding."""
BOTH = EMBEDDING | {"model.embedding": {"trainTower": "Both"}}
REPLAY = "training.retention.replay"
STOPPING = "training.earlyStopping"

EMBEDDED = [
    Example(
        "model",
        "task Embedding has no keepLayers",
        {"model.keepLayers": [0]},
        EMBEDDING | {"model.keepLayers": [0]},
    ),
    Example(
        "model",
        "embedding belongs to task Embedding",
        EMBEDDING,
        {"model.embedding": {}},
    ),
    Example(
        "model",
        "task Embedding has no labels",
        EMBEDDING,
        EMBEDDING | {"model.labels": ["no", "yes"]},
    ),
    Example(
        "model.embedding",
        "temperature must be greater than 0 and at most 100",
        EMBEDDING | {"model.embedding.temperature": "100"},
        EMBEDDING | {"model.embedding.temperature": "0"},
    ),
]

RETRIEVAL = [
    Example(
        "",
        "data.window.rowsPerShard is not available for task Embedding",
        {"data.window.rowsPerShard": 1000},
        EMBEDDING | {"data.window.rowsPerShard": 1000},
    ),
    Example(
        "",
        "task Embedding needs data.source.columns.text and textPair",
        EMBEDDING | {"model.embedding": ABSENT},
        EMBEDDING | {f"{COLUMNS}.textPair": ABSENT},
    ),
    Example(
        "",
        "method Adapter is for tasks Classification, Ranking and Regression",
        EMBEDDING | {"training.method": {"type": "LoRA", "lora": {}}},
        EMBEDDING | {"training.method": {"type": "Adapter", "adapter": {}}},
    ),
    Example(
        "",
        "methods PromptTuning and PrefixTuning are for tasks Classification, Ranking, Regression",
        EMBEDDING | {"training.method": {"type": "Full"}},
        EMBEDDING | {"training.method": {"type": "PromptTuning", "promptTuning": {}}},
    ),
    Example(
        "",
        "methods PromptTuning and PrefixTuning are for tasks Classification, Ranking, Regression",
        EMBEDDING | {"training.method": {"type": "LoRA", "lora": {}}},
        EMBEDDING | {"training.method": {"type": "PrefixTuning", "prefixTuning": {}}},
    ),
    Example(
        "",
        "serving.optimise has no form for task Embedding",
        EMBEDDING | {"serving.warmUp.queries": 8},
        EMBEDDING | {"serving.optimise.quantization": "Int8Dynamic"},
    ),
    Example(
        "",
        "model.embedding.trainTower Both is trained on one GPU",
        BOTH | {"training.compute.gpusPerNode": 1},
        BOTH | {"training.compute.gpusPerNode": 2},
    ),
    Example(
        "",
        "training.parallelism.type FSDP is not available for task Embedding",
        EMBEDDING | {"training.parallelism": {"type": "DDP"}},
        EMBEDDING | {"training.parallelism": {"type": "FSDP"}},
    ),
    Example(
        "",
        "training.robustness.adversarial excludes model.embedding.trainTower Both",
        EMBEDDING | {"training.robustness.adversarial": {}},
        BOTH | {"training.robustness.adversarial": {}},
    ),
    Example(
        "",
        "model.embedding.trainTower cannot become Both",
        EMBEDDING | {"model.embedding": {"trainTower": "Query", "logQ": False}},
        BOTH,
        before=EMBEDDING,
    ),
    Example(
        "",
        "model.embedding.trainTower cannot become Both",
        EMBEDDING,
        BOTH,
        before=EMBEDDING | {"model.embedding": ABSENT},
    ),
    Example(
        "",
        "model.embedding.vectors is immutable",
        EMBEDDING | {"model.embedding": {"vectors": {"pooling": "First"}, "temperature": "0.1"}},
        EMBEDDING | {"model.embedding": {"vectors": {"pooling": "Mean"}}},
        before=EMBEDDING | {"model.embedding": {"vectors": {"pooling": "First"}}},
    ),
    Example(
        "",
        "model.embedding.vectors is immutable",
        EMBEDDING | {"model.embedding": {"logQ": False}},
        EMBEDDING | {"model.embedding": {"vectors": {"normalized": False}}},
        before=EMBEDDING,
    ),
    Example(
        "",
        "training.retention.replay of Regression, Embedding, CausalLM and MaskedLM has no",
        EMBEDDING | {REPLAY: {"bufferRows": 100}},
        EMBEDDING | {REPLAY: {"rowsPerClass": 1}},
    ),
    Example(
        "",
        "training.retention.distillation and ewc are not available for tasks Embedding",
        EMBEDDING | {"training.retention": {"interpolation": {}}, STOPPING: {}},
        EMBEDDING | {"training.retention": {"distillation": {}}},
    ),
    Example(
        "",
        "training.retention.distillation and ewc are not available for tasks Embedding",
        EMBEDDING | {"training.retention": {"replay": {}}},
        EMBEDDING | {"training.retention": {"ewc": {"strength": "1"}}},
    ),
    Example(
        "",
        "a rule of Regression, Embedding, CausalLM or MaskedLM has no minPositives",
        EMBEDDING,
        EMBEDDING | {f"{FIRST}.minPositives": 5},
    ),
    *(
        Example(
            "",
            "gate.rules[].metric must be one of model.task",
            EMBEDDING | {f"{FIRST}.metric": metric},
            EMBEDDING | {f"{FIRST}.metric": "ndcg@10", f"{COLUMNS}.group": "search"},
        )
        for metric in ("recall@1", "recall@100", "mrr", "mrr@10")
    ),
    Example(
        "",
        "gate.rules[].metric must be one of model.task",
        RANKING | {f"{FIRST}.metric": "mrr"},
        RANKING | {f"{FIRST}.metric": "recall@10"},
    ),
    *(
        Example(
            "",
            "training.earlyStopping.metric must be one of model.task",
            EMBEDDING | {STOPPING: {"metric": metric}},
            EMBEDDING | {STOPPING: {"metric": "loss"}},
        )
        for metric in ("mrr", "recall@10")
    ),
]
