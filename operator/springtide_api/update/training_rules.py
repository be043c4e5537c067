"""Rules between the settings of a training: which exclude each other, and which need another.

Each is a CEL expression and the message of what it refuses. Rules within one block are at its type.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from springtide_api.schema import Rules

TRAINING: Rules = (
    (
        "!has(self.method) || self.method.type == 'Full' || !has(self.hyperparameters)"
        " || !has(self.hyperparameters.freeze) || self.hyperparameters.freeze.embeddings",
        "only method Full trains the word embeddings; remove hyperparameters.freeze.embeddings or"
        " set method.type to Full",
    ),
    (
        "!has(self.method) || !(self.method.type in ['Adapter', 'PromptTuning', 'PrefixTuning'])"
        " || !has(self.retention) || !has(self.retention.interpolation)",
        "methods Adapter, PromptTuning and PrefixTuning exclude retention.interpolation: the"
        " parent may lack the parameters that are trained; remove interpolation, or set"
        " method.type to Full or LoRA",
    ),
    (
        "!has(self.method) || self.method.type != 'PromptTuning' || !has(self.hyperparameters)"
        " || !has(self.hyperparameters.freeze) || self.hyperparameters.freeze.lowerLayers == 0",
        "method PromptTuning excludes hyperparameters.freeze.lowerLayers: it trains no layer, and"
        " its gradients pass through all of them; set lowerLayers to 0",
    ),
    (
        "!has(self.method) || !(self.method.type in ['PromptTuning', 'PrefixTuning'])"
        " || !has(self.retention) || !has(self.retention.distillation)",
        "methods PromptTuning and PrefixTuning exclude retention.distillation: what a candidate"
        " computes before its first step is not what the live model computes; remove distillation,"
        " or set method.type to Full or LoRA",
    ),
    (
        "!has(self.method) || self.method.type != 'AdaLoRA' || !has(self.hyperparameters)"
        " || self.hyperparameters.precision != 'FP16'",
        "method AdaLoRA excludes precision FP16, which skips steps whose gradients are not finite:"
        " they cannot be ranked; set hyperparameters.precision to Auto, BF16 or FP32",
    ),
    (
        "!has(self.method) || self.method.type != 'AdaLoRA' || !has(self.parallelism)"
        " || self.parallelism.type != 'FSDP'",
        "method AdaLoRA excludes parallelism.type FSDP: ranks are compared over whole adapters, and"
        " each GPU has a part of them; set parallelism.type to DDP, or method.type to LoRA",
    ),
    (
        "!has(self.retention) || !has(self.retention.interpolation) || has(self.earlyStopping)",
        "retention.interpolation needs earlyStopping: alphas are compared by its metric on its"
        " validation split; set earlyStopping, or remove interpolation",
    ),
    (
        "!has(self.retention) || !has(self.retention.interpolation) || !has(self.method)"
        " || !has(self.method.lora) || self.method.lora.continuation != 'Continue'",
        "retention.interpolation would change the merged weights, but not the adapter that the"
        " next generation continues; remove interpolation, or set method.lora.continuation to"
        " Fresh without rebaseEvery",
    ),
    (
        "!has(self.method) || !has(self.method.lora) || !has(self.method.lora.quantization)"
        " || !has(self.parallelism) || self.parallelism.type != 'FSDP'",
        "method.lora.quantization excludes parallelism.type FSDP, which cannot divide weights of 4"
        " bits; set parallelism.type to DDP, or remove quantization",
    ),
    (
        "!has(self.method) || !has(self.method.lora) || !has(self.method.lora.quantization)"
        " || !has(self.retention) || !has(self.retention.interpolation)",
        "method.lora.quantization excludes retention.interpolation, which needs the whole weights"
        " of the candidate and of its parent on the GPU; remove one of them",
    ),
    (
        "!has(self.robustness) || !has(self.robustness.averaging)"
        " || !has(self.robustness.averaging.lastK) || !has(self.earlyStopping)",
        "robustness.averaging.lastK excludes earlyStopping: which steps are the last ones is not"
        " known before the run stops; set averaging.ema, or remove earlyStopping",
    ),
    (
        "!has(self.robustness) || !has(self.robustness.adversarial) || !has(self.hyperparameters)"
        " || !has(self.hyperparameters.freeze) || self.hyperparameters.freeze.lowerLayers == 0",
        "robustness.adversarial excludes hyperparameters.freeze.lowerLayers: the outputs of frozen"
        " layers are stored, and from them no embedding is left to disturb; set lowerLayers to 0,"
        " or remove adversarial",
    ),
    (
        "!has(self.robustness) || !has(self.robustness.augmentation) || !has(self.hyperparameters)"
        " || !has(self.hyperparameters.freeze) || self.hyperparameters.freeze.lowerLayers == 0",
        "robustness.augmentation excludes hyperparameters.freeze.lowerLayers: the outputs of frozen"
        " layers are stored once for each row, and an augmented row has others in each epoch; set"
        " lowerLayers to 0, or remove augmentation",
    ),
    (
        "!has(self.retention) || !has(self.retention.ewc) || !has(self.method)"
        " || self.method.type == 'Full'",
        "retention.ewc needs method Full: adapters are new weights, for which no Fisher"
        " information was left; remove ewc, or set method.type to Full",
    ),
    (
        "!has(self.retention) || !has(self.retention.ewc) || !has(self.parallelism)"
        " || self.parallelism.type != 'FSDP'",
        "parallelism.type FSDP excludes retention.ewc, whose Fisher information is computed with"
        " the whole model on one GPU; remove ewc, or set type to DDP",
    ),
    (
        "!has(self.pruning) || !has(self.method) || self.method.type == 'Full'",
        "pruning needs method Full: what adapters add to a weight that is zero would make it"
        " another number; remove pruning, or set method.type to Full",
    ),
    (
        "!has(self.pruning) || !has(self.hyperparameters) || !has(self.hyperparameters.freeze)"
        " || self.hyperparameters.freeze.lowerLayers == 0",
        "pruning excludes hyperparameters.freeze.lowerLayers: a frozen layer is not trained, so it"
        " cannot make up for the weights that it loses; set lowerLayers to 0, or remove pruning",
    ),
    (
        "!has(self.pruning) || !has(self.earlyStopping)",
        "pruning excludes earlyStopping, whose best weights may be those of a step before all are"
        " pruned; remove one of them",
    ),
    (
        "!has(self.pruning) || !has(self.parallelism) || self.parallelism.type != 'FSDP'",
        "pruning excludes parallelism.type FSDP: the smallest weights are those of a whole layer,"
        " and each GPU has a part of it; set parallelism.type to DDP, or remove pruning",
    ),
    (
        "!has(self.unlabelled) || !has(self.parallelism) || self.parallelism.type != 'FSDP'",
        "unlabelled excludes parallelism.type FSDP: rows are labelled with the whole parent on one"
        " GPU; set parallelism.type to DDP, or remove unlabelled",
    ),
    (
        "!has(self.parallelism) || self.parallelism.type != 'FSDP' || !has(self.hyperparameters)"
        " || self.hyperparameters.optimizer != 'Adafactor'",
        "parallelism.type FSDP excludes optimizer Adafactor, whose state is means over whole"
        " matrices; set hyperparameters.optimizer to AdamW or SGD, or type to DDP",
    ),
    (
        "!has(self.parallelism) || self.parallelism.type != 'FSDP' || !has(self.retention)"
        " || !has(self.retention.interpolation)",
        "parallelism.type FSDP excludes retention.interpolation, which needs the whole model and"
        " its parent on each GPU; remove interpolation, or set type to DDP",
    ),
    (
        "!has(self.compute) || !has(self.hyperparameters)"
        " || self.compute.nodes * (self.compute.gpusPerNode > 0 ? self.compute.gpusPerNode : 1)"
        " <= self.hyperparameters.batchSize * self.hyperparameters.gradientAccumulation",
        "compute.gpusPerNode times nodes is larger than hyperparameters.batchSize times"
        " gradientAccumulation, the rows of a step, so that some GPUs would have none; lower"
        " gpusPerNode or nodes, or raise batchSize",
    ),
)
