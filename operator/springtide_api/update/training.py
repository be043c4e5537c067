"""How a candidate is trained. The defaults suit incremental updates."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from springtide_api.schema import Decimal, Duration, Fraction, Model, cel, cel_rules
from springtide_api.update.compute import Compute
from springtide_api.update.method import LEARNING_RATES, Method
from springtide_api.update.model import GradualPruning
from springtide_api.update.retention import Retention
from springtide_api.update.robustness import PseudoLabels, Robustness, Unlabelled
from springtide_api.update.training_rules import TRAINING


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
    suspended time does not count. Also the maximum duration of a probe, tokenize or collect
    Job. Default 24h."""
    max_attempts: Annotated[int, Field(ge=1, le=10)] = 3
    """Maximum number of attempts of a stage. Disruptions of a pod (eviction, preemption) do not
    count. Default 3."""
    on_out_of_memory: Literal["HalveBatch", "Fail"] = "HalveBatch"
    """HalveBatch: retry with half the tokens in a forward pass, on all GPUs; the rows of a step
    stay the same. An evaluation is retried with half the rows in a pass. Fail: the run is Failed.
    Default HalveBatch."""


@cel_rules(*TRAINING)
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
