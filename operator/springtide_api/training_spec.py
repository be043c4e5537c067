"""How a candidate is trained; the defaults are right for an incremental update."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

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

Quantity = Annotated[
    str, Field(max_length=32, pattern=r"^[0-9]+(\.[0-9]+)?(m|k|M|G|T|Ki|Mi|Gi|Ti)?$")
]
"""An amount as Kubernetes writes it, such as "500m" or "8Gi"."""


class Method(Model):
    """Which weights move."""

    type: Literal["Full"] = "Full"
    """Full: all weights that are not frozen. Default Full."""


class Freeze(Model):
    """Weights that stay as they are."""

    embeddings: bool = True
    """Keep the word embeddings. Set false for new scripts and languages. Default true."""
    lower_layers: Annotated[int, Field(ge=0, le=200)] = 0
    """Keep so many layers, counted from the input. Default 0."""


@cel(
    "!(has(self.epochs) && has(self.maxSteps))",
    "set epochs or maxSteps, not both; remove one",
)
@cel(
    "double(self.learningRate) > 0.0 && double(self.learningRate) <= 1.0",
    "learningRate must be greater than 0 and at most 1; 2e-5 suits an incremental update",
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
    """How the optimiser walks."""

    epochs: Annotated[int | None, Field(ge=1, le=100)] = None
    """Times that every row is seen. Default 1, unless maxSteps is set."""
    max_steps: Annotated[int | None, Field(ge=1, le=100_000_000)] = None
    """Optimiser steps. Either this or epochs. Default: as many as epochs needs."""
    optimizer: Literal["AdamW", "SGD", "Adafactor"] = "AdamW"
    """Optimiser. Default AdamW."""
    learning_rate: Decimal = "2e-5"
    """Highest learning rate. Default 2e-5."""
    schedule: Literal["Linear", "Cosine", "Constant"] = "Linear"
    """How the learning rate falls after the warm-up. Default Linear."""
    warmup: Fraction = "0.1"
    """Share of the steps in which the learning rate rises. Default 0.1."""
    batch_size: Annotated[int, Field(ge=1, le=65536)] = 32
    """Rows of one forward pass. Default 32."""
    gradient_accumulation: Annotated[int, Field(ge=1, le=1024)] = 1
    """Batches of one optimiser step. Default 1."""
    precision: Literal["Auto", "FP32", "BF16", "FP16"] = "Auto"
    """Number format of the forward pass. Auto: BF16 where the hardware computes it, else FP32.
    FP16 needs a GPU. Scoring is always FP32. Default Auto."""
    weight_decay: Fraction = "0.01"
    """Weight decay. Default 0.01."""
    dropout: Fraction = "0"
    """Dropout during training. Default 0: right for up to 3 epochs."""
    max_grad_norm: Decimal = "1.0"
    """Gradients are clipped to this norm. Default 1.0."""
    gradient_checkpointing: bool = False
    """Compute activations again to save memory. Default false."""
    freeze: Freeze = Freeze()
    """Weights that stay as they are. Default: the word embeddings."""
    seed: Annotated[int, Field(ge=0, le=2_147_483_647)] = 17
    """Seed of order, dropout and a new head. Same seed, data, image and hardware: same weights, bit
    by bit, on a CPU and on one GPU; a model that has no such kernels on a GPU is refused there.
    Default 17."""


@cel(
    "double(self.minDelta) >= 0.0",
    "minDelta must not be negative; 0 counts every gain",
    "minDelta",
)
@cel(
    "double(self.validationFraction) > 0.0 && double(self.validationFraction) <= 0.5",
    "validationFraction must be greater than 0 and at most 0.5; these rows do not train",
    "validationFraction",
)
class EarlyStopping(Model):
    """Stop when the validation part no longer gets better; the best weights win.

    The validation part is rows of the window that are set aside, never those that the gate judges.
    Each window sets other entities aside. The first look is at the parent's weights, before the
    first step; where nothing beats them, the candidate has the parent's weights.
    """

    metric: Literal["log_loss", "auc", "accuracy", "macro_f1"] = "log_loss"
    """What must get better. Default log_loss."""
    patience: Annotated[int, Field(ge=1, le=100)] = 2
    """Looks without a gain before it stops. Default 2."""
    min_delta: Decimal = "0"
    """The least change that counts as a gain. Default 0."""
    every_steps: Annotated[int, Field(ge=1, le=1_000_000)] = 50
    """Optimiser steps between two looks. Default 50."""
    validation_fraction: Fraction = "0.1"
    """Share of the training entities that is set aside, at most 0.5. Default 0.1."""


class Checkpoint(Model):
    """Save the state of training, to go on after an interruption as if there had been none."""

    every_steps: Annotated[int, Field(ge=1, le=1_000_000)] = 200
    """Optimiser steps between two checkpoints. One is also saved on SIGTERM. Default 200."""
    keep: Annotated[int, Field(ge=1, le=10)] = 2
    """Checkpoints kept. Default 2."""


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
    """What a pod asks for and may use at most; the request equals the limit for memory."""

    cpu: Quantity = "1"
    """Processor cores, such as "2" or "500m". Threads follow. Default 1."""
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
    """A taint of a node that the pod accepts."""

    key: LabelKey | None = None
    """Key of the taint. Default, with operator Exists: every taint."""
    operator: Literal["Exists", "Equal"] = "Equal"
    """How the value is compared. Default Equal."""
    value: LabelValue | None = None
    """Value of the taint. Default: the empty one."""
    effect: Literal["NoSchedule", "PreferNoSchedule", "NoExecute"] | None = None
    """Effect of the taint. Default: every effect."""


@cel(
    "self.gpusPerNode <= 1",
    "gpusPerNode must be 0 or 1: a run uses one GPU; for a larger batch set 1 and raise"
    " training.hyperparameters.gradientAccumulation",
)
@cel(
    "!quantity(self.importMemory).isLessThan(quantity('64Mi'))",
    "importMemory must be at least 64Mi; give the unit, such as 8Gi",
    "importMemory",
)
class Compute(Model):
    """Where and with what training runs."""

    gpus_per_node: Annotated[int, Field(ge=0, le=16)] = 0
    """GPUs (nvidia.com/gpu) of the training pod: 0 or 1. Evaluation uses one if this is not 0.
    Default 0."""
    resources: Resources = Resources()
    """Processor and memory of the training and evaluation pods. Default: 1 core and 4Gi."""
    import_memory: Quantity = "2Gi"
    """Memory of the pod that imports model.initial, such as 16Gi: it loads the model once in FP32,
    4 bytes a parameter, and writes it; three times that size suffices. Default 2Gi."""
    node_selector: Labels = {}
    """Labels that the node must have. Default: any node."""
    tolerations: Annotated[list[Toleration], Field(max_length=16)] = []
    """Taints that the pod accepts. Default: none."""
    shared_memory: Quantity = "64Mi"
    """Size of /dev/shm. Default 64Mi."""
    priority_class_name: ObjectName | None = None
    """PriorityClass of the pods. Default: the cluster's own."""
    pending_timeout: Duration | None = None
    """Give up on an attempt whose pod found no place for so long. Default: wait for ever."""


@cel(
    "duration(self.activeDeadline) >= duration('1m')",
    "activeDeadline must be at least 1m; a pod needs some seconds to start",
    "activeDeadline",
)
class Limits(Model):
    """When an attempt is given up, and how often it is tried."""

    active_deadline: Duration = "24h"
    """Running time of one stage over all its pods, at most: then the run ends as Failed. Waiting
    and suspended time count nothing. A probe or collect Job as a whole takes no longer. Default
    24h."""
    max_attempts: Annotated[int, Field(ge=1, le=10)] = 3
    """Attempts of one stage. A disrupted pod (eviction, preemption) does not count. Default 3."""
    on_out_of_memory: Literal["HalveBatch", "Fail"] = "HalveBatch"
    """HalveBatch: try again with half the rows a batch and twice the accumulation. Default
    HalveBatch."""


class Training(Model):
    """How a candidate is trained from the live weights."""

    image: Annotated[str | None, Field(max_length=512, pattern=r"^[^\s]+$")] = None
    """Image of the trainer, best by digest. Default: the one of the chart."""
    method: Method = Method()
    """Which weights move. Default: all that are not frozen."""
    hyperparameters: Hyperparameters = Hyperparameters()
    """How the optimiser walks. Default: right for an incremental update of an encoder."""
    early_stopping: EarlyStopping | None = None
    """Stop before the end. Default: no."""
    checkpoint: Checkpoint = Checkpoint()
    """Save the state of training. Default: every 200 steps."""
    compute: Compute = Compute()
    """Where and with what training runs. Default: one core, 4Gi, no GPU."""
    limits: Limits = Limits()
    """When an attempt is given up. Default: after 24h, and 3 attempts in all."""
