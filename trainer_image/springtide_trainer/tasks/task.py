"""What a task defines, as one protocol for each part of the trainer that uses it.

A new task is a new file with one class, and a line in `table.py`.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Literal, Protocol

if TYPE_CHECKING:
    from collections import Counter
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    import pyarrow as pa
    import torch
    from torch import Tensor, nn
    from transformers import PreTrainedModel

    from springtide_api.update.task import (
        CausalLMOptions,
        ClassificationOptions,
        EmbeddingOptions,
        RankingOptions,
        RegressionOptions,
    )
    from springtide_trainer.tasks.metrics.statistic import Array, EncodedRows, Statistic


@dataclass(frozen=True)
class Candidates:
    """The documents among which the queries of a pass are to find their own: those of a whole step.

    Attributes:
        vectors: float32 [documents, dimensions].
        log_q: float32 [documents], what is subtracted from the score of each document.
        own: int64 [rows], the document of each row.
        excluded: bool [rows, documents], other documents that are relevant to the query of a row.
    """

    vectors: Tensor
    log_q: Tensor
    own: Tensor
    excluded: Tensor

    def converted(self, convert: Callable[[Tensor], Tensor]) -> Candidates:
        """Return the candidates with every tensor converted."""
        return Candidates(*map(convert, (self.vectors, self.log_q, self.own, self.excluded)))


@dataclass(frozen=True)
class CachedGradient:
    """What is known of a pass before it is computed with gradients.

    Attributes:
        gradient: float32 [rows, outputs], of the loss of the step for the outputs of the pass.
        loss: Its part of the loss of the step, a scalar.
    """

    gradient: Tensor
    loss: Tensor


@dataclass(frozen=True)
class Batch:
    """Rows of one forward pass.

    Attributes:
        inputs: int64 [rows, tokens] of each input of the model.
        labels: [rows, ...], as collated by the task.
        weights: float32 [rows], the factor of each row in the loss of its step.
        groups: Rows of each group, one group after the other; empty if each row is a unit.
        candidates: The documents of the step; None for a task without documents.
        taught: float32 [rows, outputs], the parent's logits; None without distillation.
        cached: The gradient of the outputs of the pass, where it was computed before.
    """

    inputs: dict[str, Tensor]
    labels: Tensor
    weights: Tensor
    groups: tuple[int, ...] = ()
    candidates: Candidates | None = None
    taught: Tensor | None = None
    cached: CachedGradient | None = None

    def to(self, device: torch.device) -> Batch:
        """Return the batch on a device. From pinned memory, the copies do not wait."""
        return self._converted(lambda tensor: tensor.to(device, non_blocking=True))

    def pinned(self) -> Batch:
        """Return the batch in pinned memory. Needs a GPU."""
        return self._converted(lambda tensor: tensor.pin_memory())

    def _converted(self, convert: Callable[[Tensor], Tensor]) -> Batch:
        inputs = {name: convert(value) for name, value in self.inputs.items()}
        return replace(
            self,
            inputs=inputs,
            labels=convert(self.labels),
            weights=convert(self.weights),
            candidates=self.candidates and self.candidates.converted(convert),
            taught=None if self.taught is None else convert(self.taught),
        )


@dataclass(frozen=True)
class Grouping:
    """The units of a step are groups of rows, which are never split.

    Attributes:
        max_rows: Rows of the largest group that is trained on, and of a forward pass.
        compares: The loss compares the rows of a group, so a group of equal labels has none.
    """

    max_rows: int
    compares: bool


@dataclass(frozen=True)
class Classes:
    """The classes of rows, as pairs of a row and a class. A row can be of several, or of none.

    Attributes:
        names: Names of the classes.
        rows: int64 [pairs], indices of rows, ascending.
        codes: int64 [pairs], indices of names.
    """

    names: Sequence[str]
    rows: Array
    codes: Array

    def counts(self, chosen: Array) -> dict[str, int]:
        """Count the chosen rows of each class: bool [rows]."""
        import numpy as np

        found = np.bincount(self.codes[chosen[self.rows]], minlength=len(self.names))
        return dict(zip(self.names, found.tolist(), strict=True))


@dataclass(frozen=True)
class OutputTensor:
    """A tensor in the responses of the server; its first dimension are the rows."""

    name: str
    datatype: Literal["FP32", "BYTES"]
    values: Callable[[Array], Array]
    """From predictions [rows, outputs] to the values [rows, *shape]."""
    shape: tuple[int, ...] = ()
    """Shape of one row."""
    parameters: Mapping[str, str] = field(default_factory=dict)
    """Parameters in the metadata of the model."""


class TaskSpec(Protocol):
    """The choice of a task and its options: `model` of a recipe, or an artifact's preprocessing.

    A task with options adds the name of their block, which both types have.
    """

    @property
    def task(self) -> str:
        """The type of the task, a key of `table.TASKS`."""

    @property
    def labels(self) -> Sequence[str] | None:
        """Names of the labels; None for a task without label names."""

    @property
    def classification(self) -> ClassificationOptions | None:
        """Options of Classification."""

    @property
    def regression(self) -> RegressionOptions | None:
        """Options of Regression."""

    @property
    def ranking(self) -> RankingOptions | None:
        """Options of task Ranking."""

    @property
    def embedding(self) -> EmbeddingOptions | None:
        """Options of Embedding."""

    @property
    def causal_lm(self) -> CausalLMOptions | None:
        """Options of CausalLM."""


class Labels(Protocol):
    """The column of labels: checked when rows are frozen, encoded when they are used."""

    @property
    def label_type(self) -> pa.DataType:
        """Type of the labels in frozen rows. The hash of a row covers the JSON of this value."""

    def check(self, column: pa.ChunkedArray, where: str) -> pa.ChunkedArray:
        """Check labels as read from the source, strings, and convert them to `label_type`.

        Args:
            column: The labels.
            where: Describes the rows, for messages.

        Raises:
            Refused: a label is missing or not one of the task.
        """

    def count(self, column: pa.ChunkedArray) -> Counter[str]:
        """Count the rows of each label."""

    def shortage(self, counts: Counter[str]) -> str | None:
        """Return why training rows with these labels are too few to train on, or None."""

    def positives(self, counts: Counter[str]) -> int:
        """Return how many rows are positive: with too few of these no rule decides."""

    def classes(self, column: pa.ChunkedArray) -> Classes:
        """Return the classes of rows, of each of which replay keeps a number of rows.

        Raises:
            Refused: a label is not one of the task.
        """

    def encode(self, column: pa.ChunkedArray, where: str) -> Array:
        """Encode labels as numbers [rows, ...]; `where` describes the rows.

        Raises:
            Refused: a label is not one of the task.
        """


class Predictions(Protocol):
    """What scores are made from the outputs of a model."""

    @property
    def width(self) -> int:
        """Number of predictions of a row."""

    def predict(self, logits: Tensor) -> Tensor:
        """Return predictions from logits: float32 [rows, outputs]."""


class Learning(Protocol):
    """The model with its head, the loss and the predictions."""

    @property
    def outputs(self) -> list[str]:
        """Names of the outputs of the model, in order."""

    @property
    def width(self) -> int:
        """Number of predictions of a row."""

    @property
    def problem_type(self) -> str | None:
        """The only `problem_type` that the configuration of an imported model may have."""

    def load(self, folder: Path, **config: Any) -> PreTrainedModel:
        """Load the model of a verified artifact in FP32.

        Args:
            folder: Folder of the artifact.
            config: Fields of the model's configuration that override the folder's.
        """

    def adopt(self, model: PreTrainedModel, source: Path) -> Task:
        """Take over an imported model with a trained head, whose outputs are put in order.

        Returns:
            The task with what the head fixes.

        Raises:
            Refused: the model has other outputs.
        """

    def continued(self, parent: TaskSpec, labels: Array) -> Task:
        """Return the task with what a lineage fixes once: from its parent, or from the first rows.

        Args:
            parent: Preprocessing of the parent's artifact.
            labels: Encoded labels of the training rows.

        Raises:
            Refused: the labels do not determine it.
        """

    @property
    def kept(self) -> Mapping[str, Any]:
        """What the artifact keeps of the task, by the names of its preprocessing."""

    def extend(self, model: PreTrainedModel, seed: int) -> None:
        """Add the outputs that the model of an earlier generation lacks.

        Raises:
            Refused: the model has an output that the task does not have.
        """

    @property
    def grouping(self) -> Grouping | None:
        """How rows are grouped to the units of a step; None: each row is a unit."""

    def collate(self, labels: Array) -> Tensor:
        """Return the labels of a batch from its rows of encoded labels."""

    def objective(self, model: nn.Module, batch: Batch) -> Tensor:
        """Return the loss of a batch: a scalar, the weighted sum over its rows."""

    def loss_of(self, logits: Tensor, batch: Batch) -> Tensor:
        """Return the same from the model's outputs for the batch."""

    def predict(self, logits: Tensor) -> Tensor:
        """Return predictions from logits: float32 [rows, outputs]."""


class Evaluation(Protocol):
    """Metrics of predictions. Direction and range of each are in `springtide_judging.bounds`."""

    @property
    def metrics(self) -> Sequence[str]:
        """Metrics of every report, in order."""

    @property
    def group_metrics(self) -> Sequence[str]:
        """Further metrics of the reports of rows with groups."""

    def statistic(
        self, metric: str, rows: EncodedRows, predictions: Array, *, once: bool = False
    ) -> Statistic:
        """Prepare a metric as a function of entity weights; `once`: it is called once."""

    def trivial_baseline(self, metric: str, rows: EncodedRows) -> float:
        """Return the best score of predictions that ignore the inputs; NaN if there is none."""

    def check_validation(self, metric: str, labels: Array) -> None:
        """Check that early stopping can use a metric on these encoded labels.

        Raises:
            Refused: the metric is undefined for them.
        """

    def by_label(self, rows: EncodedRows, predictions: Array) -> list[dict[str, Any]]:
        """Return label, rows, precision and recall of each label; an empty list without labels."""

    def over_incumbent(
        self, rows: EncodedRows, predictions: Array, incumbent: Sequence[str]
    ) -> tuple[Array, EncodedRows, Array]:
        """Restrict rows and predictions to what a model with fewer outputs can be compared on.

        Args:
            rows: Labels as encoded by this task.
            predictions: float [rows, outputs].
            incumbent: Outputs of the other model.

        Returns:
            bool [rows], the rows that are compared; these rows, with labels as encoded by the
            incumbent's task; and the predictions for its outputs.

        Raises:
            Refused: the task lacks an output of the incumbent.
        """


class Serving(Protocol):
    """The responses of the server."""

    @property
    def tensors(self) -> Sequence[OutputTensor]:
        """The tensors of a response, in their default order."""


class Task(Labels, Learning, Evaluation, Serving, Protocol):
    """What is learnt, and how it is evaluated and served."""
