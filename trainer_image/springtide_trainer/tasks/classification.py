"""Classification: each row has one of several labels; predictions are their probabilities.

PyTorch, transformers and SciPy are imported where they are used, because probes need none of them.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import pyarrow as pa

from springtide_trainer.errors import Refused
from springtide_trainer.tasks import classification_losses, label_names
from springtide_trainer.tasks.metrics.statistic import EncodedRows
from springtide_trainer.tasks.task import Classes, OutputTensor

if TYPE_CHECKING:
    from collections import Counter
    from collections.abc import Sequence
    from pathlib import Path

    from torch import Tensor, nn
    from transformers import PreTrainedModel

    from springtide_trainer.tasks.metrics.statistic import Array, Statistic
    from springtide_trainer.tasks.task import Batch, TaskSpec

_LABELS = "model.labels"
_FIELD = f"spec.{_LABELS}"


@dataclass(frozen=True)
class Classification:
    """The task of predicting one of `outputs`; with two, the second is the positive label.

    Attributes:
        outputs: The labels.
        gamma: Of the focal loss; 0 is the cross entropy.
    """

    outputs: list[str]
    gamma: float = field(default=0.0, kw_only=True)
    problem_type = "single_label_classification"
    label_type = pa.string()
    metrics: ClassVar[tuple[str, ...]] = (
        "auc",
        "pr_auc",
        "log_loss",
        "accuracy",
        "macro_f1",
        "ece",
    )
    group_metrics: ClassVar[tuple[str, ...]] = ("ndcg@10",)
    grouping = None

    @property
    def width(self) -> int:
        """One for each label."""
        return len(self.outputs)

    @staticmethod
    def of(spec: TaskSpec) -> Classification:
        """Return the task of a spec."""
        if not spec.labels:
            message = "task Classification needs at least 2 label names; set model.labels"
            raise Refused("MissingLabels", message, _FIELD)
        gamma = classification_losses.gamma_of(spec.classification)
        return Classification(list(spec.labels), gamma=gamma)

    def check(self, column: pa.ChunkedArray, where: str) -> pa.ChunkedArray:
        """Check that each label is one of the outputs."""
        return label_names.check_names(column, self.outputs, where, field=_LABELS)

    def count(self, column: pa.ChunkedArray) -> Counter[str]:
        """Count the rows of each label, in order of occurrence."""
        return label_names.count_names(column)

    def shortage(self, counts: Counter[str]) -> str | None:
        """Two labels are needed: rows of one label teach a model to ignore its inputs."""
        if len(counts) >= 2:
            return None
        label, count = counts.most_common(1)[0]
        return (
            f"all {count:,} training rows have label {label!r}, at least 2 labels are needed "
            f"({label_names.COLUMN}); the next probe adds newer rows, or fix the column"
        )

    def positives(self, counts: Counter[str]) -> int:
        """Count the rows of the positive label or, with more than two labels, of the rarest."""
        if len(self.outputs) == 2:
            return counts[self.outputs[1]]
        return min(counts[label] for label in self.outputs)

    def classes(self, column: pa.ChunkedArray) -> Classes:
        """Return the label of each row."""
        return Classes(self.outputs, np.arange(len(column)), self.encode(column, "rows"))

    def encode(self, column: pa.ChunkedArray, where: str) -> Array:
        """Return the index of each label in the outputs: int64 [rows]."""
        return label_names.index_names(column, self.outputs, where, field=_LABELS)

    def load(self, folder: Path, **config: Any) -> PreTrainedModel:
        """Load a sequence classifier."""
        from springtide_trainer.tasks import sequence_head

        model: PreTrainedModel = sequence_head.load(folder, **config)
        return model

    def adopt(self, model: PreTrainedModel, source: Path) -> Classification:
        """Order the outputs as in the spec; the labels must be the same, or its first ones.

        Labels that the head lacks are appended by the first training.
        """
        from springtide_trainer.tasks import sequence_head

        names = sequence_head.names(model)
        outputs = self.outputs[: len(names)]
        if sorted(names) != sorted(outputs):
            raise Refused(
                "LabelMismatch",
                f"the head of {source} has labels {names}, but spec.model.labels is "
                f"{self.outputs}; change spec.model.labels, or id2label in config.json",
                _FIELD,
            )
        sequence_head.reorder(model, outputs)
        return replace(self, outputs=outputs)

    def continued(self, parent: TaskSpec, labels: Array) -> Classification:
        """Nothing is fixed by a parent or by rows."""
        return self

    @property
    def kept(self) -> dict[str, Any]:
        """The labels, of which an imported head can have fewer than the recipe."""
        return {"labels": self.outputs}

    def extend(self, model: PreTrainedModel, seed: int) -> None:
        """Add outputs for appended labels."""
        from springtide_trainer.tasks import sequence_head

        known = sequence_head.names(model)
        if self.outputs[: len(known)] != known:
            message = f"the parent has labels {known}, the recipe {self.outputs}; labels may only "
            raise Refused("LabelMismatch", message + "be appended", _FIELD)
        sequence_head.grow(model, self.outputs, seed)

    def collate(self, labels: Array) -> Tensor:
        """Return the index of each label: int64 [rows]."""
        import torch

        return torch.from_numpy(labels)

    def objective(self, model: nn.Module, batch: Batch) -> Tensor:
        """The loss of a batch."""
        return self.loss_of(model(**batch.inputs).logits, batch)

    def loss_of(self, logits: Tensor, batch: Batch) -> Tensor:
        """The loss of the labels, each row multiplied by its weight."""
        from torch.nn import functional

        losses = functional.cross_entropy(logits.float(), batch.labels, reduction="none")
        return (classification_losses.focal(losses, self.gamma) * batch.weights).sum()

    def predict(self, logits: Tensor) -> Tensor:
        """Return the probability of each label; they sum to 1."""
        return logits.float().softmax(dim=-1)

    def statistic(
        self, metric: str, rows: EncodedRows, predictions: Array, *, once: bool = False
    ) -> Statistic:
        """Prepare a metric of probabilities, or NDCG by the expected index of the label."""
        from springtide_trainer.tasks.metrics import classification

        return classification.statistic(metric, rows, predictions, once=once)

    def trivial_baseline(self, metric: str, rows: EncodedRows) -> float:
        """Return the score of a random order, or of the frequencies of the labels."""
        from springtide_trainer.tasks.metrics.trivial_baseline import trivial_baseline

        return trivial_baseline(metric, rows, len(self.outputs))

    def check_validation(self, metric: str, labels: Array) -> None:
        """AUC needs rows of two labels."""
        if metric == "auc" and len(np.unique(labels)) < 2:
            raise Refused(
                "OneClass",
                f"the {len(labels)} validation rows have 1 label and AUC needs 2; choose log_loss "
                "or raise validationFraction",
                "spec.training.earlyStopping.metric",
            )

    def over_incumbent(
        self, rows: EncodedRows, predictions: Array, incumbent: Sequence[str]
    ) -> tuple[Array, EncodedRows, Array]:
        """Keep the rows with a label of the incumbent; renormalize over its labels."""
        self._refuse_removed(incumbent)
        columns = [self.outputs.index(label) for label in incumbent]
        index = np.full(len(self.outputs), -1)
        index[columns] = np.arange(len(columns))
        kept = index[rows.label] >= 0
        shares = predictions[kept][:, columns].astype(np.float64)
        total = shares.sum(axis=1, keepdims=True)
        renormalized = np.full_like(shares, 1 / len(columns))
        np.divide(shares, total, out=renormalized, where=total > 0)
        subset = rows.only(kept)
        relabelled = EncodedRows(index[subset.label], subset.entity, subset.group)
        return kept, relabelled, renormalized

    def _refuse_removed(self, incumbent: Sequence[str]) -> None:
        if missing := [label for label in incumbent if label not in self.outputs]:
            raise Refused(
                "LabelRemoved",
                f"the candidate lacks labels of the live model: {missing[:5]}; model.labels is "
                "append-only",
                _LABELS,
            )

    def by_label(self, rows: EncodedRows, predictions: Array) -> list[dict[str, Any]]:
        """Return precision and recall of each label; the predicted label is the most probable."""
        from springtide_trainer.tasks.metrics.by_label import by_label, one_hot

        count = len(self.outputs)
        actual, predicted = (
            one_hot(each, count) for each in (rows.label, predictions.argmax(axis=1))
        )
        return by_label(self.outputs, actual, predicted, np.ones_like(actual))

    @property
    def tensors(self) -> list[OutputTensor]:
        """The probability of each label, and the most probable label."""
        return [
            OutputTensor(
                "probabilities",
                "FP32",
                lambda probabilities: probabilities,
                (len(self.outputs),),
                # Parameters of the protocol are scalars, so the labels are a JSON string.
                {"labels": json.dumps(self.outputs, ensure_ascii=False)},
            ),
            OutputTensor(
                "label",
                "BYTES",
                lambda scores: np.array(self.outputs, dtype=object)[scores.argmax(axis=1)],
            ),
        ]
