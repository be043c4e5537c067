"""Examples of the rules on training."""

from api.example import ABSENT, Example, longest

HYPER = "training.hyperparameters"
EARLY = "training.earlyStopping"

METHOD = "training.method"
RETENTION = "training.retention"
ROBUSTNESS = "training.robustness"
PRUNING = "training.pruning"
UNLABELLED = "training.unlabelled"
SHARDED = "training.parallelism.type"
FRESH = {"type": "LoRA", "lora": {"continuation": "Fresh"}}
CONTINUING = {"type": "LoRA", "lora": {"continuation": "Continue"}}
QUANTIZED = {"type": "LoRA", "lora": {"quantization": "NF4"}}
ADALORA = {"type": "AdaLoRA", "adaLora": {}}
ADAPTER = {"type": "Adapter", "adapter": {}}
PROMPT = {"type": "PromptTuning", "promptTuning": {}}
PREFIX = {"type": "PrefixTuning", "prefixTuning": {}}
REBASED = {"continuation": "Continue", "rebaseEvery": 4, "rebaseLearningRate": "1e-5"}

TRAINING = [
    Example(
        METHOD,
        "set lora if and only if type is LoRA",
        {METHOD: {"type": "LoRA", "lora": {}}},
        {METHOD: {"type": "LoRA"}},
    ),
    Example(
        f"{METHOD}.lora",
        "dropout must be less than 1",
        {METHOD: {"type": "LoRA", "lora": {"dropout": "0.9"}}},
        {METHOD: {"type": "LoRA", "lora": {"dropout": "1"}}},
    ),
    Example(
        f"{METHOD}.lora",
        "rebaseEvery counts the generations of one adapter",
        {METHOD: {"type": "LoRA", "lora": {"continuation": "Continue", "rebaseEvery": 2}}},
        {METHOD: {"type": "LoRA", "lora": {"rebaseEvery": 2}}},
    ),
    Example(
        f"{METHOD}.lora",
        "rebaseLearningRate is that of the Full update",
        {METHOD: {"type": "LoRA", "lora": REBASED}},
        {METHOD: {"type": "LoRA", "lora": REBASED}, f"{METHOD}.lora.rebaseEvery": ABSENT},
    ),
    Example(
        f"{METHOD}.lora",
        "rebaseLearningRate must be greater than 0 and at most 1",
        {METHOD: {"type": "LoRA", "lora": {**REBASED, "rebaseLearningRate": "1"}}},
        {METHOD: {"type": "LoRA", "lora": {**REBASED, "rebaseLearningRate": "0.0"}}},
    ),
    Example(
        f"{METHOD}.lora",
        "quantization excludes dora",
        {METHOD: {"type": "LoRA", "lora": {"quantization": "NF4"}}},
        {METHOD: {"type": "LoRA", "lora": {"quantization": "NF4", "dora": True}}},
    ),
    Example(
        "training",
        "method.lora.quantization excludes parallelism.type FSDP",
        {METHOD: QUANTIZED, SHARDED: "DDP"},
        {METHOD: QUANTIZED, SHARDED: "FSDP"},
    ),
    Example(
        "training",
        "method.lora.quantization excludes retention.interpolation",
        {METHOD: FRESH, RETENTION: {"interpolation": {"alphas": ["0.5"]}}, EARLY: {}},
        {METHOD: QUANTIZED, RETENTION: {"interpolation": {"alphas": ["0.5"]}}, EARLY: {}},
    ),
    Example(
        "training",
        "retention.interpolation would change the merged weights",
        {METHOD: FRESH, RETENTION: {"interpolation": {"alphas": ["0.5"]}}, EARLY: {}},
        {METHOD: CONTINUING, RETENTION: {"interpolation": {"alphas": ["0.5"]}}, EARLY: {}},
    ),
    Example(
        METHOD,
        "set adaLora if and only if type is AdaLoRA",
        {METHOD: ADALORA},
        {METHOD: {"type": "LoRA", "lora": {}, "adaLora": {}}},
    ),
    Example(
        f"{METHOD}.adaLora",
        "dropout must be less than 1",
        {METHOD: {"type": "AdaLoRA", "adaLora": {"dropout": "0.9"}}},
        {METHOD: {"type": "AdaLoRA", "adaLora": {"dropout": "1.0"}}},
    ),
    Example(
        f"{METHOD}.adaLora",
        "initialRank must be larger than rank",
        {METHOD: {"type": "AdaLoRA", "adaLora": {"rank": 11}}},
        {METHOD: {"type": "AdaLoRA", "adaLora": {"rank": 12}}},
    ),
    Example(
        f"{METHOD}.adaLora",
        "allocateFrom must be less than allocateUntil",
        {METHOD: {"type": "AdaLoRA", "adaLora": {"allocateFrom": "0", "allocateUntil": "1"}}},
        {METHOD: {"type": "AdaLoRA", "adaLora": {"allocateFrom": "0.7"}}},
    ),
    Example(
        METHOD,
        "set adapter if and only if type is Adapter",
        {METHOD: {"type": "Adapter", "adapter": {"width": 8, "targetModules": ["output.dense"]}}},
        {METHOD: {"type": "Adapter"}},
    ),
    Example(
        METHOD,
        "set promptTuning if and only if type is PromptTuning",
        {METHOD: {"type": "PromptTuning", "promptTuning": {"tokens": 256}}},
        {METHOD: {"type": "PromptTuning"}},
    ),
    Example(
        METHOD,
        "set prefixTuning if and only if type is PrefixTuning",
        {METHOD: {"type": "PrefixTuning", "prefixTuning": {"tokens": 1}}},
        {METHOD: PROMPT | {"prefixTuning": {}}},
    ),
    *(
        Example(
            "training",
            "methods Adapter, PromptTuning and PrefixTuning exclude retention.interpolation",
            {METHOD: method, RETENTION: {"replay": {}}},
            {METHOD: method, RETENTION: {"interpolation": {"alphas": ["0.5"]}}, EARLY: {}},
        )
        for method in (ADAPTER, PROMPT, PREFIX)
    ),
    *(
        Example(
            "training",
            "methods PromptTuning and PrefixTuning exclude retention.distillation",
            {METHOD: ADAPTER, RETENTION: {"distillation": {}}},
            {METHOD: method, RETENTION: {"distillation": {}}},
        )
        for method in (PROMPT, PREFIX)
    ),
    Example(
        "training",
        "method PromptTuning excludes hyperparameters.freeze.lowerLayers",
        {METHOD: PREFIX, f"{HYPER}.freeze": {"lowerLayers": 1}},
        {METHOD: PROMPT, f"{HYPER}.freeze": {"lowerLayers": 1}},
    ),
    *(
        Example(
            "training",
            f"{what} needs method Full",
            {METHOD: method},
            {METHOD: method, **changes},
        )
        for method in (PROMPT, PREFIX)
        for what, changes in {
            "pruning": {PRUNING: {"sparsity": "0.5"}},
            "retention.ewc": {RETENTION: {"ewc": {"strength": "100"}}},
        }.items()
    ),
    Example(
        "training",
        "method AdaLoRA excludes precision FP16",
        {METHOD: ADALORA, f"{HYPER}.precision": "BF16"},
        {METHOD: ADALORA, f"{HYPER}.precision": "FP16"},
    ),
    Example(
        "training",
        "method AdaLoRA excludes parallelism.type FSDP",
        {METHOD: ADALORA, SHARDED: "DDP"},
        {METHOD: ADALORA, SHARDED: "FSDP"},
    ),
    Example(
        "training",
        "only method Full trains the word embeddings",
        {METHOD: {"type": "LoRA", "lora": {}}, f"{HYPER}.freeze": {"lowerLayers": 1}},
        {METHOD: {"type": "LoRA", "lora": {}}, f"{HYPER}.freeze": {"embeddings": False}},
    ),
    Example(
        HYPER,
        "set epochs or maxSteps, not both",
        {f"{HYPER}.maxSteps": 400},
        {f"{HYPER}.maxSteps": 400, f"{HYPER}.epochs": 1},
    ),
    Example(
        HYPER,
        "learningRate must be greater than 0 and at most 1",
        {f"{HYPER}.learningRate": "1e-9"},
        {f"{HYPER}.learningRate": "0.0"},
    ),
    Example(
        HYPER,
        "maxGradNorm must be greater than 0",
        {f"{HYPER}.maxGradNorm": "0.1"},
        {f"{HYPER}.maxGradNorm": "-1"},
    ),
    Example(
        HYPER,
        "dropout must be less than 1",
        {f"{HYPER}.dropout": "0.9"},
        {f"{HYPER}.dropout": "1"},
    ),
    Example(
        EARLY,
        "minDelta must not be negative",
        {f"{EARLY}.minDelta": "0"},
        {f"{EARLY}.minDelta": "-1e-3"},
    ),
    Example(
        EARLY,
        "validationFraction must be greater than 0 and at most 0.5",
        {f"{EARLY}.validationFraction": "0.5"},
        {f"{EARLY}.validationFraction": "0.51"},
    ),
    Example(
        RETENTION,
        "retention needs replay, interpolation, distillation or ewc",
        {RETENTION: {"distillation": {}}},
        {RETENTION: {}},
    ),
    Example(
        f"{RETENTION}.ewc",
        "strength must be greater than 0",
        {METHOD: {"type": "Full"}, RETENTION: {"ewc": {"strength": "0.1"}}},
        {METHOD: {"type": "Full"}, RETENTION: {"ewc": {"strength": "0.0"}}},
    ),
    Example(
        "training",
        "retention.ewc needs method Full",
        {METHOD: {"type": "Full"}, RETENTION: {"ewc": {"strength": "100"}}},
        {METHOD: FRESH, RETENTION: {"ewc": {"strength": "100"}}},
    ),
    Example(
        "training",
        "parallelism.type FSDP excludes retention.ewc",
        {SHARDED: "FSDP", RETENTION: {"distillation": {}}},
        {SHARDED: "FSDP", RETENTION: {"ewc": {"strength": "100"}}},
    ),
    Example(
        f"{RETENTION}.distillation",
        "weight must be greater than 0",
        {RETENTION: {"distillation": {"weight": "0.001"}}},
        {RETENTION: {"distillation": {"weight": "0"}}},
    ),
    Example(
        f"{RETENTION}.distillation",
        "temperature must be at least 1",
        {RETENTION: {"distillation": {"temperature": "1"}}},
        {RETENTION: {"distillation": {"temperature": "0.9"}}},
    ),
    Example(
        f"{RETENTION}.interpolation",
        "alphas must be greater than 0",
        {RETENTION: {"interpolation": {"alphas": ["1", "0.001"]}}, EARLY: {}},
        {RETENTION: {"interpolation": {"alphas": ["1", "0.0"]}}, EARLY: {}},
    ),
    Example(
        "training",
        "retention.interpolation needs earlyStopping",
        {RETENTION: {"interpolation": {}}, EARLY: {}},
        {RETENTION: {"interpolation": {}}, EARLY: ABSENT},
    ),
    Example(
        ROBUSTNESS,
        "robustness needs adversarial, augmentation or averaging",
        {ROBUSTNESS: {"averaging": {"ema": "0.999"}}},
        {ROBUSTNESS: {}},
    ),
    Example(
        f"{ROBUSTNESS}.averaging",
        "averaging needs either ema or lastK",
        {ROBUSTNESS: {"averaging": {"lastK": 2}}},
        {ROBUSTNESS: {"averaging": {"lastK": 2, "ema": "0.9"}}},
    ),
    Example(
        f"{ROBUSTNESS}.averaging",
        "ema must be greater than 0 and less than 1",
        {ROBUSTNESS: {"averaging": {"ema": "0.0001"}}},
        {ROBUSTNESS: {"averaging": {"ema": "1.0"}}},
    ),
    Example(
        f"{ROBUSTNESS}.adversarial",
        "epsilon must be greater than 0",
        {ROBUSTNESS: {"adversarial": {"epsilon": "1e-9"}}},
        {ROBUSTNESS: {"adversarial": {"epsilon": "0"}}},
    ),
    Example(
        f"{ROBUSTNESS}.augmentation",
        "augmentation needs tokenDropout or wordSwap",
        {ROBUSTNESS: {"augmentation": {"wordSwap": "0.001"}}},
        {ROBUSTNESS: {"augmentation": {"wordSwap": "0.0"}}},
    ),
    Example(
        f"{ROBUSTNESS}.augmentation",
        "tokenDropout and wordSwap must be at most 0.5",
        {ROBUSTNESS: {"augmentation": {"wordSwap": "0.5", "tokenDropout": "0.5"}}},
        {ROBUSTNESS: {"augmentation": {"wordSwap": "0.5", "tokenDropout": "0.51"}}},
    ),
    Example(
        "training",
        "robustness.adversarial excludes hyperparameters.freeze.lowerLayers",
        {ROBUSTNESS: {"adversarial": {}}, f"{HYPER}.freeze": {"embeddings": True}},
        {ROBUSTNESS: {"adversarial": {}}, f"{HYPER}.freeze": {"lowerLayers": 1}},
    ),
    Example(
        "training",
        "robustness.augmentation excludes hyperparameters.freeze.lowerLayers",
        {ROBUSTNESS: {"augmentation": {"wordSwap": "0.1"}}, f"{HYPER}.freeze": {}},
        {
            ROBUSTNESS: {"augmentation": {"wordSwap": "0.1"}},
            f"{HYPER}.freeze": {"lowerLayers": 1},
        },
    ),
    Example(
        "training",
        "robustness.averaging.lastK excludes earlyStopping",
        {ROBUSTNESS: {"averaging": {"ema": "0.9"}}, EARLY: {}},
        {ROBUSTNESS: {"averaging": {"lastK": 9}}, EARLY: {}},
    ),
    Example(
        UNLABELLED,
        "unlabelled needs pseudoLabels",
        {UNLABELLED: {"pseudoLabels": {}}},
        {UNLABELLED: {}},
    ),
    Example(
        f"{UNLABELLED}.pseudoLabels",
        "threshold must be greater than 0",
        {UNLABELLED: {"pseudoLabels": {"threshold": "0.001"}}},
        {UNLABELLED: {"pseudoLabels": {"threshold": "0.0"}}},
    ),
    Example(
        f"{UNLABELLED}.pseudoLabels",
        "weight must be greater than 0",
        {UNLABELLED: {"pseudoLabels": {"weight": "0.001"}}},
        {UNLABELLED: {"pseudoLabels": {"weight": "0"}}},
    ),
    Example(
        "training",
        "unlabelled excludes parallelism.type FSDP",
        {UNLABELLED: {"pseudoLabels": {}}, SHARDED: "DDP"},
        {UNLABELLED: {"pseudoLabels": {}}, SHARDED: "FSDP"},
    ),
    Example(
        PRUNING,
        "sparsity must be at least 0.01 and at most 0.95",
        {PRUNING: {"sparsity": "0.95"}},
        {PRUNING: {"sparsity": "0.951"}},
    ),
    Example(
        PRUNING,
        "pruneFrom must be less than pruneUntil",
        {PRUNING: {"sparsity": "0.5", "pruneFrom": "0", "pruneUntil": "1"}},
        {PRUNING: {"sparsity": "0.5", "pruneFrom": "0.7"}},
    ),
    Example(
        "training",
        "pruning needs method Full",
        {PRUNING: {"sparsity": "0.5"}, METHOD: {"type": "Full"}},
        {PRUNING: {"sparsity": "0.5"}, METHOD: FRESH},
    ),
    Example(
        "training",
        "pruning excludes hyperparameters.freeze.lowerLayers",
        {PRUNING: {"sparsity": "0.5"}, f"{HYPER}.freeze": {"embeddings": True}},
        {PRUNING: {"sparsity": "0.5"}, f"{HYPER}.freeze": {"lowerLayers": 1}},
    ),
    Example(
        "training",
        "pruning excludes earlyStopping",
        {PRUNING: {"sparsity": "0.5"}, EARLY: ABSENT},
        {PRUNING: {"sparsity": "0.5"}, EARLY: {}},
    ),
    Example(
        "training",
        "pruning excludes parallelism.type FSDP",
        {PRUNING: {"sparsity": "0.5"}, SHARDED: "DDP"},
        {PRUNING: {"sparsity": "0.5"}, SHARDED: "FSDP"},
    ),
    Example(
        f"{RETENTION}.replay",
        "replay needs ratio, rowsPerClass or rowsPerSlice above 0",
        {f"{RETENTION}.replay": {"ratio": "0", "rowsPerClass": 1}},
        {f"{RETENTION}.replay": {"ratio": "0.0", "rowsPerClass": 0}},
    ),
    Example(
        f"{RETENTION}.replay",
        "halfLife must be at least 1h",
        {f"{RETENTION}.replay": {"halfLife": "1h"}},
        {f"{RETENTION}.replay": {"halfLife": "59m"}},
    ),
    Example(
        "training.compute.resources",
        "cpu must be greater than 0",
        {"training.compute.resources.cpu": "1m"},
        {"training.compute.resources.cpu": "0"},
    ),
    Example(
        "training.compute.resources",
        "memory must be at least 64Mi",
        {"training.compute.resources.memory": "64Mi"},
        {"training.compute.resources.memory": "8"},
    ),
    Example(
        "training",
        "compute.gpusPerNode times nodes is larger than hyperparameters.batchSize times",
        {
            "training.compute.gpusPerNode": 16,
            f"{HYPER}.batchSize": 4,
            f"{HYPER}.gradientAccumulation": 4,
        },
        {
            "training.compute.gpusPerNode": 4,
            "training.compute.nodes": 2,
            f"{HYPER}.batchSize": 7,
            f"{HYPER}.gradientAccumulation": 1,
        },
    ),
    Example(
        "training",
        "parallelism.type FSDP excludes optimizer Adafactor",
        {SHARDED: "FSDP", f"{HYPER}.optimizer": "SGD"},
        {SHARDED: "FSDP", f"{HYPER}.optimizer": "Adafactor"},
    ),
    Example(
        "training",
        "parallelism.type FSDP excludes retention.interpolation",
        {SHARDED: "DDP", RETENTION: {"interpolation": {}}, EARLY: {}},
        {SHARDED: "FSDP", RETENTION: {"interpolation": {}}, EARLY: {}},
    ),
    Example(
        "training.compute",
        "gpusPerNode must be 0 or 1 with slices of GPUs and with shared ones",
        {"training.compute": {"gpusPerNode": 2, "gpu": {"resourceName": "amd.com/gpu"}}},
        {
            "training.compute": {
                "gpusPerNode": 2,
                "gpu": {"resourceName": "nvidia.com/mig-3g.40gb"},
            }
        },
    ),
    Example(
        "training.compute.gpu",
        "resourceName must be the extended resource of a device plugin",
        {"training.compute.gpu.resourceName": "nvidia.com/mig-1g.10gb"},
        {"training.compute.gpu.resourceName": "node.kubernetes.io/gpu"},
    ),
    Example(
        "training.compute",
        "importMemory must be at least 64Mi",
        {"training.compute.importMemory": "64Mi"},
        {"training.compute.importMemory": "63Mi"},
    ),
    Example(
        "training.compute",
        "sharedMemory must be at least 1Mi",
        {"training.compute.sharedMemory": "1Mi"},
        {"training.compute.sharedMemory": "64"},
    ),
    Example(
        "training.compute.nodeSelector",
        "keys must be valid label keys",
        {"training.compute.nodeSelector": {"example.com/gpu.Type_2": "l4"}},
        {"training.compute.nodeSelector": {"example.com/gpu type": "l4"}},
    ),
    Example(
        "training.compute.tolerations[]",
        "a toleration without key needs operator Exists",
        {"training.compute.tolerations": [{"operator": "Exists"}]},
        {"training.compute.tolerations": [{"effect": "NoSchedule"}]},
    ),
    Example(
        "training.compute.tolerations[]",
        "value goes with operator Equal",
        {"training.compute.tolerations": [{"key": "gpu", "value": "l4"}]},
        {"training.compute.tolerations": [{"key": "gpu", "operator": "Exists", "value": "l4"}]},
    ),
    longest("training.retention.replay.halfLife"),
    longest("training.compute.pendingTimeout"),
    Example(
        "training.limits",
        "activeDeadline must be at least 1m",
        {"training.limits.activeDeadline": "1m"},
        {"training.limits.activeDeadline": "0s"},
    ),
    longest("training.limits.activeDeadline"),
]

COMPUTE = "training.compute"
NODES = f"{COMPUTE}.affinity.nodeAffinity"
REQUIRED = f"{NODES}.requiredDuringSchedulingIgnoredDuringExecution"
PREFERRED = f"{NODES}.preferredDuringSchedulingIgnoredDuringExecution"


def _requirement(operator: str, *values: str) -> dict:
    found = {"key": "nvidia.com/gpu.product", "operator": operator}
    return {"matchExpressions": [{**found, "values": list(values)} if values else found]}


PLACEMENT = [
    Example(
        "",
        "training.parallelism.type FSDP on several nodes needs storage.volume",
        {SHARDED: "FSDP", "training.compute.nodes": 2},
        {
            SHARDED: "FSDP",
            "training.compute.nodes": 2,
            "storage": {"uri": "s3://models/springtide"},
        },
    ),
    Example(
        NODES,
        "nodeAffinity needs required or preferred nodes",
        {REQUIRED: {"nodeSelectorTerms": [_requirement("In", "NVIDIA-L4")]}},
        {NODES: {}},
    ),
    Example(
        f"{REQUIRED}.nodeSelectorTerms[].matchExpressions[]",
        "set values if and only if operator is In or NotIn",
        {REQUIRED: {"nodeSelectorTerms": [_requirement("Exists")]}},
        {REQUIRED: {"nodeSelectorTerms": [_requirement("Exists", "NVIDIA-L4")]}},
    ),
    Example(
        f"{PREFERRED}[].preference.matchExpressions[]",
        "set values if and only if operator is In or NotIn",
        {PREFERRED: [{"weight": 100, "preference": _requirement("NotIn", "NVIDIA-T4")}]},
        {PREFERRED: [{"weight": 100, "preference": _requirement("In")}]},
    ),
    Example(
        f"{COMPUTE}.topologySpreadConstraints[].labelSelector.matchLabels",
        "keys must be valid label keys",
        {
            f"{COMPUTE}.topologySpreadConstraints": [
                {"topologyKey": "zone", "labelSelector": {"matchLabels": {"x.io/team": "a"}}}
            ]
        },
        {
            f"{COMPUTE}.topologySpreadConstraints": [
                {"topologyKey": "zone", "labelSelector": {"matchLabels": {"my team": "a"}}}
            ]
        },
    ),
    Example(
        f"{COMPUTE}.podLabels",
        "keys must be valid label keys",
        {f"{COMPUTE}.podLabels": {"example.com/cost-centre": "c7"}},
        {f"{COMPUTE}.podLabels": {"cost centre": "c7"}},
    ),
    Example(
        COMPUTE,
        "podLabels must not begin with springtide.dev/",
        {f"{COMPUTE}.podLabels": {"springtide.example/x": "y"}},
        {f"{COMPUTE}.podLabels": {"kueue.x-k8s.io/queue-name": "gpus"}},
    ),
]
"""Of the update alone: where pods run is no part of a recipe."""
