"""How a candidate is trained. The defaults suit incremental updates."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from springtide_api.placement import Gpu
from springtide_api.schema import (
    Decimal,
    Duration,
    Fraction,
    LabelKey,
    Labels,
    LabelValue,
    Model,
    ObjectName,
    cel,
)
from springtide_api.update.method import LEARNING_RATES, Method
from springtide_api.update.model import GradualPruning
from springtide_api.update.retention import Retention
from springtide_api.update.robustness import PseudoLabels, Robustness, Unlabelled

Quantity = Annotated[
    str, Field(max_length=32, pattern=r"^[0-9]+(\.[0-9]+)?(m|k|M|G|T|Ki|Mi|Gi|Ti)?$")
]
"""A Kubernetes quantity, such as "500m" or "8Gi"."""


class Freeze(Model):
    """Weights that are not trained."""

    embeddings: bool = True
    """Freeze the word embeddings. Set false for new scripts or languages. Default true."""
    lower_layers: Annotated[int, Field(ge=0, le=200)] = 0
    """Number of layers to freeze, counted from the input. With LoRA, AdaLoRA and Adapter they
    get no adapters, with PrefixTuning no prefix. Default 0."""


@cel(
    "!(has(self.epochs) && has(self.maxSteps))",
    "set epochs or maxSteps, not both; remove one",
)
@cel(
    "!has(self.learningRate)"
    " || (double(self.learningRate) > 0.0 && double(self.learningRate) <= 1.0)",
    "learningRate must be greater than 0 and at most 1; 2e-5 suits an incremental update, 5e-4"
    " suits LoRA",
    "learningRate",
)
@cel(
    "double(self.maxGradNorm) > 0.0",
    "maxGradNorm must be greater than 0; 1.0 is usual",
    "maxGradNorm",
)
@cel(
    "double(self.dropout) < 1.0",
    "dropout must be less than 1; 1 would drop everything",
    "dropout",
)
class Hyperparameters(Model):
    """Optimizer settings."""

    epochs: Annotated[int | None, Field(ge=1, le=100)] = None
    """Number of passes over the training rows. Default 1, unless maxSteps is set."""
    max_steps: Annotated[int | None, Field(ge=1, le=100_000_000)] = None
    """Number of optimizer steps. Set either maxSteps or epochs. Default: determined by epochs."""
    optimizer: Literal["AdamW", "SGD", "Adafactor"] = "AdamW"
    """Optimizer. Default AdamW."""
    learning_rate: Decimal | None = None
    """Peak learning rate. Default: 2e-5 with method Full, 5e-4 with LoRA and Adapter, 1e-3 with
    AdaLoRA, 2e-2 with PromptTuning and PrefixTuning."""
    schedule: Literal["Linear", "Cosine", "Constant"] = "Linear"
    """Learning rate schedule after the warm-up. Default Linear."""
    warmup: Fraction = "0.1"
    """Fraction of the steps used for warm-up. Default 0.1."""
    batch_size: Annotated[int, Field(ge=1, le=65536)] = 32
    """An optimizer step has batchSize times gradientAccumulation rows; for task Ranking, groups. A
    forward pass has at most batchSize rows; on a GPU it has as many rows of the step as have
    together, with padding, the tokens of batchSize rows of the longest length. How a step is cut
    into passes changes its result by rounding only. Default 32."""
    gradient_accumulation: Annotated[int, Field(ge=1, le=1024)] = 1
    """Batches per optimizer step. Default 1."""
    precision: Literal["Auto", "FP32", "BF16", "FP16"] = "Auto"
    """Precision of the forward pass. Auto: BF16 if the hardware computes it faster than FP32, else
    FP32. FP32: on a GPU matrix products of the training use TF32. FP16 requires a GPU. The
    evaluation is always FP32. Default Auto."""
    deterministic: bool | None = None
    """Train on a GPU with deterministic kernels only, so that the same run gives bit-identical
    weights, also when it is interrupted and resumed. They are slower, and a model without them is
    refused. On a CPU training is always deterministic. Default false."""
    weight_decay: Fraction = "0.01"
    """Weight decay. Default 0.01."""
    dropout: Fraction = "0"
    """Dropout probability during training. Default 0, which suits up to 3 epochs."""
    max_grad_norm: Decimal = "1.0"
    """Maximum gradient norm; larger gradients are clipped. Default 1.0."""
    gradient_checkpointing: bool = False
    """Recompute activations in the backward pass to save memory. Default false."""
    freeze: Freeze = Freeze()
    """Weights that are not trained. Default: the word embeddings."""
    seed: Annotated[int, Field(ge=0, le=2_147_483_647)] = 17
    """Seed of row order, dropout and a new head. The same seed, data, image and hardware give
    bit-identical weights: on a CPU, and with deterministic on a GPU. Default 17."""


@cel(
    "double(self.minDelta) >= 0.0",
    "minDelta must not be negative; 0 counts every gain",
    "minDelta",
)
@cel(
    "double(self.validationFraction) > 0.0 && double(self.validationFraction) <= 0.5",
    "validationFraction must be greater than 0 and at most 0.5; these rows are not trained on",
    "validationFraction",
)
class EarlyStopping(Model):
    """Stop when the validation metric no longer improves, and keep the best weights.

    The validation rows are training rows that are set aside, never holdout rows. Each window sets
    other entities aside. The parent's weights are validated before the first step; if no later
    weights are better, the candidate has the parent's weights.
    """

    metric: (
        Literal[
            "log_loss",
            "auc",
            "accuracy",
            "macro_f1",
            "rmse",
            "mae",
            "ndcg@10",
            "mrr",
            "loss",
            "recall@10",
            "perplexity",
        ]
        | None
    ) = None
    """Validation metric: log_loss, auc, accuracy or macro_f1 for Classification, rmse or mae for
    Regression, ndcg@10, mrr or loss (the training loss) for Ranking, mrr or recall@10 for
    Embedding, among the documents of all training rows (trainTower Both: of the validation rows),
    perplexity for CausalLM and MaskedLM. Default: log_loss for Classification, rmse for Regression,
    ndcg@10 for Ranking, mrr for Embedding, perplexity for CausalLM and MaskedLM."""
    patience: Annotated[int, Field(ge=1, le=100)] = 2
    """Number of validations without improvement before training stops. Default 2."""
    min_delta: Decimal = "0"
    """Minimum change that counts as an improvement. Default 0."""
    every_steps: Annotated[int, Field(ge=1, le=1_000_000)] = 50
    """Optimizer steps between two validations. Default 50."""
    validation_fraction: Fraction = "0.1"
    """Fraction of the training entities that is set aside, at most 0.5. Default 0.1."""


class Checkpoint(Model):
    """Checkpoints of the training state.

    An interrupted training resumes from the newest one, with the same result as without the
    interruption; on a GPU, see hyperparameters.deterministic.
    """

    every_steps: Annotated[int, Field(ge=1, le=1_000_000)] = 200
    """Optimizer steps between two checkpoints. One is also saved on SIGTERM. Default 200."""
    keep: Annotated[int, Field(ge=1, le=10)] = 2
    """Number of checkpoints to keep. Default 2."""


@cel(
    "quantity(self.cpu).isGreaterThan(quantity('0'))",
    "cpu must be greater than 0, such as 500m or 2",
    "cpu",
)
@cel(
    "!quantity(self.memory).isLessThan(quantity('64Mi'))",
    "memory must be at least 64Mi; give the unit, such as 8Gi",
    "memory",
)
class Resources(Model):
    """Resource requests and limits of a pod. For memory, the request equals the limit."""

    cpu: Quantity = "1"
    """CPU cores, such as "2" or "500m". They also determine the number of threads. Default 1."""
    memory: Quantity = "4Gi"
    """Memory, such as 8Gi. Default 4Gi."""


@cel(
    "has(self.key) || self.operator == 'Exists'",
    "a toleration without key needs operator Exists; set key, or Exists to accept every taint",
)
@cel(
    "!has(self.value) || self.operator == 'Equal'",
    "value goes with operator Equal; remove value or set Equal",
)
class Toleration(Model):
    """A node taint that the pod tolerates."""

    key: LabelKey | None = None
    """Key of the taint. Default, with operator Exists: all taints."""
    operator: Literal["Exists", "Equal"] = "Equal"
    """How the value is compared. Default Equal."""
    value: LabelValue | None = None
    """Value of the taint. Default: empty."""
    effect: Literal["NoSchedule", "PreferNoSchedule", "NoExecute"] | None = None
    """Effect of the taint. Default: all effects."""


@cel(
    "!quantity(self.importMemory).isLessThan(quantity('64Mi'))",
    "importMemory must be at least 64Mi; give the unit, such as 8Gi",
    "importMemory",
)
@cel(
    "self.gpusPerNode <= 1 || !has(self.gpu) || !has(self.gpu.resourceName)"
    " || !(self.gpu.resourceName.contains('/mig-') || self.gpu.resourceName.endsWith('.shared'))",
    "gpusPerNode must be 0 or 1 with slices of GPUs and with shared ones, which cannot exchange"
    " gradients; set gpu.resourceName to whole GPUs, or gpusPerNode to 1",
)
class Compute(Model):
    """Resources and placement of the training pods."""

    nodes: Annotated[int, Field(ge=1, le=16)] = 1
    """Pods that train together, each with gpusPerNode and resources. With several, a training is a
    JobSet (jobset.x-k8s.io), whose controller must be installed; a pod that fails ends the attempt
    of all. For pods of the evaluation, see data.window.rowsPerShard. Default 1."""
    gpus_per_node: Annotated[int, Field(ge=0, le=16)] = 0
    """GPUs of each training pod. With several, one process trains on each, as training.parallelism
    says. A pod of the evaluation has at most one. Default 0."""
    gpu: Gpu = Gpu()
    """Which GPUs. Default: nvidia.com/gpu."""
    resources: Resources = Resources()
    """CPU and memory of the training and evaluation pods. Default: 1 core and 4Gi."""
    import_memory: Quantity = "2Gi"
    """Memory of the pod that imports model.initial, such as 16Gi. It loads the model in FP32 (4
    bytes per parameter) and writes it; three times that size is enough, with serving.optimise five
    times. Default 2Gi."""
    node_selector: Labels = {}
    """Labels that the node must have. Default: any node."""
    tolerations: Annotated[list[Toleration], Field(max_length=16)] = []
    """Node taints that the pods tolerate. Default: none."""
    shared_memory: Quantity | None = None
    """Size of /dev/shm, through which GPUs exchange gradients where nothing faster connects them.
    What is used of it counts as memory of the pod. Default 64Mi, with several GPUs 1Gi."""
    priority_class_name: ObjectName | None = None
    """PriorityClass of the pods. Default: the default of the cluster."""
    pending_timeout: Duration | None = None
    """An attempt fails if its pod is pending, or its Job in a queue, longer than this. Default: no
    limit."""


class Parallelism(Model):
    """How a training uses several GPUs, of its pod or of several.

    Steps, rows of a step and learning rates are those of one GPU: each process has a share of the
    rows of every step, of batchSize times gradientAccumulation, and the gradients of all are added
    up. Weights differ by rounding from those of another number of GPUs.
    """

    type: Literal["DDP", "FSDP"] = "DDP"
    """DDP: each GPU has a copy of the model and of the optimizer's state (PyTorch's
    DistributedDataParallel). FSDP: each has a part of them (fully_shard), for a model that is too
    large for DDP; slower. No effect with one GPU. Default DDP."""


@cel(
    "duration(self.activeDeadline) >= duration('1m')",
    "activeDeadline must be at least 1m; a pod needs some seconds to start",
    "activeDeadline",
)
class Limits(Model):
    """Limits on running time and number of attempts."""

    active_deadline: Duration = "24h"
    """Maximum running time of a stage over all its pods; after that the run is Failed. Pending and
    suspended time does not count. Also the maximum duration of a probe or collect Job. Default
    24h."""
    max_attempts: Annotated[int, Field(ge=1, le=10)] = 3
    """Maximum number of attempts of a stage. Disruptions of a pod (eviction, preemption) do not
    count. Default 3."""
    on_out_of_memory: Literal["HalveBatch", "Fail"] = "HalveBatch"
    """HalveBatch: retry with half the tokens in a forward pass, on all GPUs; the rows of a step
    stay the same. Fail: the run is Failed. Default HalveBatch."""


@cel(
    "!has(self.method) || self.method.type == 'Full' || !has(self.hyperparameters)"
    " || !has(self.hyperparameters.freeze) || self.hyperparameters.freeze.embeddings",
    "only method Full trains the word embeddings; remove hyperparameters.freeze.embeddings or set"
    " method.type to Full",
)
@cel(
    "!has(self.method) || !(self.method.type in ['Adapter', 'PromptTuning', 'PrefixTuning'])"
    " || !has(self.retention) || !has(self.retention.interpolation)",
    "methods Adapter, PromptTuning and PrefixTuning exclude retention.interpolation: the parent may"
    " lack the parameters that are trained; remove interpolation, or set method.type to Full or"
    " LoRA",
)
@cel(
    "!has(self.method) || self.method.type != 'PromptTuning' || !has(self.hyperparameters)"
    " || !has(self.hyperparameters.freeze) || self.hyperparameters.freeze.lowerLayers == 0",
    "method PromptTuning excludes hyperparameters.freeze.lowerLayers: it trains no layer, and its"
    " gradients pass through all of them; set lowerLayers to 0",
)
@cel(
    "!has(self.method) || !(self.method.type in ['PromptTuning', 'PrefixTuning'])"
    " || !has(self.retention) || !has(self.retention.distillation)",
    "methods PromptTuning and PrefixTuning exclude retention.distillation: what a candidate"
    " computes before its first step is not what the live model computes; remove distillation, or"
    " set method.type to Full or LoRA",
)
@cel(
    "!has(self.method) || self.method.type != 'AdaLoRA' || !has(self.hyperparameters)"
    " || self.hyperparameters.precision != 'FP16'",
    "method AdaLoRA excludes precision FP16, which skips steps whose gradients are not finite: they"
    " cannot be ranked; set hyperparameters.precision to Auto, BF16 or FP32",
)
@cel(
    "!has(self.method) || self.method.type != 'AdaLoRA' || !has(self.parallelism)"
    " || self.parallelism.type != 'FSDP'",
    "method AdaLoRA excludes parallelism.type FSDP: ranks are compared over whole adapters, and"
    " each GPU has a part of them; set parallelism.type to DDP, or method.type to LoRA",
)
@cel(
    "!has(self.retention) || !has(self.retention.interpolation) || has(self.earlyStopping)",
    "retention.interpolation needs earlyStopping: alphas are compared by its metric on its"
    " validation split; set earlyStopping, or remove interpolation",
)
@cel(
    "!has(self.retention) || !has(self.retention.interpolation) || !has(self.method)"
    " || !has(self.method.lora) || self.method.lora.continuation != 'Continue'",
    "retention.interpolation would change the merged weights, but not the adapter that the next"
    " generation continues; remove interpolation, or set method.lora.continuation to Fresh without"
    " rebaseEvery",
)
@cel(
    "!has(self.method) || !has(self.method.lora) || !has(self.method.lora.quantization)"
    " || !has(self.parallelism) || self.parallelism.type != 'FSDP'",
    "method.lora.quantization excludes parallelism.type FSDP, which cannot divide weights of 4"
    " bits; set parallelism.type to DDP, or remove quantization",
)
@cel(
    "!has(self.method) || !has(self.method.lora) || !has(self.method.lora.quantization)"
    " || !has(self.retention) || !has(self.retention.interpolation)",
    "method.lora.quantization excludes retention.interpolation, which needs the whole weights of"
    " the candidate and of its parent on the GPU; remove one of them",
)
@cel(
    "!has(self.robustness) || !has(self.robustness.averaging)"
    " || !has(self.robustness.averaging.lastK) || !has(self.earlyStopping)",
    "robustness.averaging.lastK excludes earlyStopping: which steps are the last ones is not known"
    " before the run stops; set averaging.ema, or remove earlyStopping",
)
@cel(
    "!has(self.robustness) || !has(self.robustness.adversarial) || !has(self.hyperparameters)"
    " || !has(self.hyperparameters.freeze) || self.hyperparameters.freeze.lowerLayers == 0",
    "robustness.adversarial excludes hyperparameters.freeze.lowerLayers: the outputs of frozen"
    " layers are stored, and from them no embedding is left to disturb; set lowerLayers to 0, or"
    " remove adversarial",
)
@cel(
    "!has(self.robustness) || !has(self.robustness.augmentation) || !has(self.hyperparameters)"
    " || !has(self.hyperparameters.freeze) || self.hyperparameters.freeze.lowerLayers == 0",
    "robustness.augmentation excludes hyperparameters.freeze.lowerLayers: the outputs of frozen"
    " layers are stored once for each row, and an augmented row has others in each epoch; set"
    " lowerLayers to 0, or remove augmentation",
)
@cel(
    "!has(self.retention) || !has(self.retention.ewc) || !has(self.method)"
    " || self.method.type == 'Full'",
    "retention.ewc needs method Full: adapters are new weights, for which no Fisher information was"
    " left; remove ewc, or set method.type to Full",
)
@cel(
    "!has(self.retention) || !has(self.retention.ewc) || !has(self.parallelism)"
    " || self.parallelism.type != 'FSDP'",
    "parallelism.type FSDP excludes retention.ewc, whose Fisher information is computed with the"
    " whole model on one GPU; remove ewc, or set type to DDP",
)
@cel(
    "!has(self.pruning) || !has(self.method) || self.method.type == 'Full'",
    "pruning needs method Full: what adapters add to a weight that is zero would make it another"
    " number; remove pruning, or set method.type to Full",
)
@cel(
    "!has(self.pruning) || !has(self.hyperparameters) || !has(self.hyperparameters.freeze)"
    " || self.hyperparameters.freeze.lowerLayers == 0",
    "pruning excludes hyperparameters.freeze.lowerLayers: a frozen layer is not trained, so it"
    " cannot make up for the weights that it loses; set lowerLayers to 0, or remove pruning",
)
@cel(
    "!has(self.pruning) || !has(self.earlyStopping)",
    "pruning excludes earlyStopping, whose best weights may be those of a step before all are"
    " pruned; remove one of them",
)
@cel(
    "!has(self.pruning) || !has(self.parallelism) || self.parallelism.type != 'FSDP'",
    "pruning excludes parallelism.type FSDP: the smallest weights are those of a whole layer, and"
    " each GPU has a part of it; set parallelism.type to DDP, or remove pruning",
)
@cel(
    "!has(self.unlabelled) || !has(self.parallelism) || self.parallelism.type != 'FSDP'",
    "unlabelled excludes parallelism.type FSDP: rows are labelled with the whole parent on one GPU;"
    " set parallelism.type to DDP, or remove unlabelled",
)
@cel(
    "!has(self.parallelism) || self.parallelism.type != 'FSDP' || !has(self.hyperparameters)"
    " || self.hyperparameters.optimizer != 'Adafactor'",
    "parallelism.type FSDP excludes optimizer Adafactor, whose state is means over whole matrices;"
    " set hyperparameters.optimizer to AdamW or SGD, or type to DDP",
)
@cel(
    "!has(self.parallelism) || self.parallelism.type != 'FSDP' || !has(self.retention)"
    " || !has(self.retention.interpolation)",
    "parallelism.type FSDP excludes retention.interpolation, which needs the whole model and its"
    " parent on each GPU; remove interpolation, or set type to DDP",
)
@cel(
    "!has(self.compute) || !has(self.hyperparameters)"
    " || self.compute.nodes * (self.compute.gpusPerNode > 0 ? self.compute.gpusPerNode : 1)"
    " <= self.hyperparameters.batchSize * self.hyperparameters.gradientAccumulation",
    "compute.gpusPerNode times nodes is larger than hyperparameters.batchSize times"
    " gradientAccumulation, the rows of a step, so that some GPUs would have none; lower"
    " gpusPerNode or nodes, or raise batchSize",
)
class Training(Model):
    """How a candidate is trained from the live weights."""

    image: Annotated[str | None, Field(max_length=512, pattern=r"^[^\s]+$")] = None
    """Trainer image, preferably with a digest. Default: the trainer image of the installation."""
    method: Method = Method()
    """Which weights are trained. Default: all that are not frozen."""
    hyperparameters: Hyperparameters = Hyperparameters()
    """Optimizer settings. The defaults suit incremental updates of an encoder."""
    early_stopping: EarlyStopping | None = None
    """Early stopping. Default: disabled."""
    retention: Retention | None = None
    """How a candidate keeps what its parent has learnt. Default: only by continuing from its
    weights."""
    robustness: Robustness | None = None
    """What makes the training robust, against noise of the rows and chance of the last steps.
    Default: nothing."""
    unlabelled: Unlabelled | None = None
    """What becomes of training rows without a label. Default: the probe refuses them."""
    pruning: GradualPruning | None = None
    """Smallest weights that become zero during the training, in the weights themselves: they are
    what is evaluated, served and trained on. Default: none."""
    checkpoint: Checkpoint = Checkpoint()
    """Checkpoints of the training state. Default: every 200 steps."""
    parallelism: Parallelism = Parallelism()
    """How a training uses several GPUs, of one node or of several. Default: DDP."""
    compute: Compute = Compute()
    """Resources and placement of the training pods. Default: 1 core, 4Gi, no GPU."""
    limits: Limits = Limits()
    """Limits on running time and number of attempts. Default: 24h and 3 attempts."""

    @property
    def learning_rate(self) -> str:
        """The peak learning rate: that of the hyperparameters, else the method's default."""
        return self.hyperparameters.learning_rate or LEARNING_RATES[self.method.type]

    @property
    def pseudo_labels(self) -> PseudoLabels | None:
        """How rows without a label are labelled; None: they are refused."""
        return self.unlabelled.pseudo_labels if self.unlabelled else None

    def resolved(self) -> Training:
        """Return the training with the defaults that depend on its method."""
        chosen = {"learning_rate": self.learning_rate}
        hyperparameters = self.hyperparameters.model_copy(update=chosen)
        return self.model_copy(update={"hyperparameters": hyperparameters})

    def rebased(self, generations: int) -> Training:
        """Return the training of a run whose parent's adapter has so many generations.

        It is a Full update where lora.rebaseEvery is reached, and the same training elsewhere.
        """
        lora = self.method.lora
        if lora is None or lora.rebase_every is None or generations < lora.rebase_every:
            return self
        chosen = {"learning_rate": lora.rebase_learning_rate or LEARNING_RATES["Full"]}
        hyperparameters = self.hyperparameters.model_copy(update=chosen)
        return self.model_copy(update={"method": Method(), "hyperparameters": hyperparameters})

    @property
    def adapter_options(self) -> dict[str, object]:
        """What an adapter is made with: it can be continued only with the same. Empty for Full."""
        lora = self.method.lora
        if lora is None:
            return {}
        return {
            "rank": lora.rank,
            "alpha": lora.alpha,
            "targetModules": sorted(lora.target_modules),
            "rsLora": lora.rs_lora,
            "dora": lora.dora,
            "freeze.lowerLayers": self.hyperparameters.freeze.lower_layers,
        }
