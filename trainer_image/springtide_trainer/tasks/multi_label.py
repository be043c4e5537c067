"""Multi-label classification: each row has any number of the labels, each with its own probability.

A row is frozen with one character for each label that was known then: 1 if the row has it, else 0.
Labels are append-only, so a label that was appended later is unknown in older rows: it counts
neither in the loss nor in a metric.
"""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import pyarrow as pa

from springtide_api.update.task import ClassificationOptions
from springtide_trainer.errors import Refused
from springtide_trainer.tasks import classification_losses
from springtide_trainer.tasks.classification import Classification
from springtide_trainer.tasks.metrics.statistic import EncodedRows
from springtide_trainer.tasks.task import Classes, OutputTensor

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from torch import Tensor

    from springtide_trainer.tasks.metrics.statistic import Array, Statistic
    from springtide_trainer.tasks.task import Batch, TaskSpec

_COLUMN = "data.source.columns.label"
_SHOWN = 32
"""Characters of a user's value that a message shows."""
UNKNOWN = -1
THRESHOLD = 0.5
"""A label is predicted if its probability is at least this."""


@dataclass(frozen=True)
class MultiLabel(Classification):
    """The task of predicting which of `outputs` a row has."""

    separator: str = "|"
    problem_type = "multi_label_classification"
    metrics: ClassVar[tuple[str, ...]] = ("auc", "pr_auc", "log_loss", "macro_f1", "micro_f1")
    group_metrics: ClassVar[tuple[str, ...]] = ()

    @staticmethod
    def of(spec: TaskSpec) -> MultiLabel:
        """Return the task of a spec."""
        options = spec.classification or ClassificationOptions()
        single = Classification.of(spec)
        return MultiLabel(single.outputs, options.separator, gamma=single.gamma)

    def check(self, column: pa.ChunkedArray, where: str) -> pa.ChunkedArray:
        """Read the labels of each row; return which of the outputs it has.

        A value is a JSON array of labels, or labels joined by the separator. Empty is none.
        """
        if column.null_count:
            raise Refused(
                "MissingLabel",
                f"{column.null_count:,} of {len(column):,} {where} have no label (null); write an "
                "empty text for a row with none of the labels",
                _COLUMN,
            )
        known = {name: number for number, name in enumerate(self.outputs)}
        coded = column.combine_chunks().dictionary_encode()
        values = [self._split(value) for value in coded.dictionary.to_pylist()]
        wrong = [number for number, names in enumerate(values) if not known.keys() >= set(names)]
        if wrong:
            raise self._unknown(coded, values, wrong, where)
        written = ["".join("1" if name in has else "0" for name in known) for has in values]
        return pa.chunked_array([pa.array(written, pa.string()).take(coded.indices)])

    def count(self, column: pa.ChunkedArray) -> Counter[str]:
        """Count the rows that have each label, and those that have none."""
        counts: Counter[str] = Counter()
        for one in column.value_counts().to_pylist():
            has = self._names(one["values"])
            counts.update(dict.fromkeys(has or ["(none)"], one["counts"]))
        return counts

    def shortage(self, counts: Counter[str]) -> str | None:
        """One label is needed that a row has."""
        if counts.keys() - {"(none)"}:
            return None
        return (
            f"all {counts.total():,} training rows have none of the labels ({_COLUMN}); the next "
            "probe adds newer rows, or fix the column"
        )

    def positives(self, counts: Counter[str]) -> int:
        """Count the rows of the rarest label."""
        return min(counts[label] for label in self.outputs)

    def classes(self, column: pa.ChunkedArray) -> Classes:
        """Return the labels that each row has."""
        rows, codes, first = [np.empty(0, np.int64)], [np.empty(0, np.int64)], 0
        for chunk in column.chunks:
            found = np.nonzero(self.encode(pa.chunked_array([chunk]), "rows") == 1)
            rows.append(found[0] + first)
            codes.append(found[1])
            first += len(chunk)
        return Classes(self.outputs, np.concatenate(rows), np.concatenate(codes))

    def encode(self, column: pa.ChunkedArray, where: str) -> Array:
        """Return which outputs each row has: int8 [rows, outputs], -1 where it is not known."""
        coded = column.combine_chunks().dictionary_encode()
        values = coded.dictionary.to_pylist()
        if any(len(value) > len(self.outputs) or set(value) - {"0", "1"} for value in values):
            raise Refused(
                "LabelMismatch",
                f"some of {len(column):,} {where} were frozen with other labels than the model's "
                f"{len(self.outputs)}; labels may only be appended",
                "spec.model.labels",
            )
        table = np.full((len(values), len(self.outputs)), UNKNOWN, dtype=np.int8)
        for row, value in enumerate(values):
            table[row, : len(value)] = np.frombuffer(value.encode(), dtype=np.uint8) - ord("0")
        return table[np.asarray(coded.indices)] if len(column) else table[:0]

    def adopt(self, model: Any, source: Any) -> MultiLabel:
        """Order the outputs as in the spec; the labels must be the same, or its first ones."""
        adopted = super().adopt(model, source)
        return replace(self, outputs=adopted.outputs)

    def continued(self, parent: TaskSpec, labels: Array) -> MultiLabel:
        """Nothing is fixed by a parent or by rows."""
        return self

    def loss_of(self, logits: Tensor, batch: Batch) -> Tensor:
        """Binary loss, averaged over all outputs, each row multiplied by its weight.

        Unknown labels have no loss. The divisor is the number of outputs in every row, not of the
        known ones, so that a row does not count more for a label because others are unknown.
        """
        from torch.nn import functional

        logits = logits.float()
        known = (batch.labels >= 0).float()
        truth = batch.labels.clamp(min=0).float()
        losses = functional.binary_cross_entropy_with_logits(logits, truth, reduction="none")
        losses = classification_losses.focal(losses, self.gamma)
        return ((losses * known).mean(dim=1) * batch.weights).sum()

    def predict(self, logits: Tensor) -> Tensor:
        """Return the probability of each label; they are independent."""
        return logits.float().sigmoid()

    def statistic(
        self, metric: str, rows: EncodedRows, predictions: Array, *, once: bool = False
    ) -> Statistic:
        """Prepare a metric over the labels."""
        from springtide_trainer.tasks.metrics import multi_label

        return multi_label.statistic(metric, rows, predictions, once=once)

    def trivial_baseline(self, metric: str, rows: EncodedRows) -> float:
        """Return the score of a random order, or of the best constant prediction."""
        from springtide_trainer.tasks.metrics import multi_label

        return multi_label.trivial_baseline(metric, rows)

    def check_validation(self, metric: str, labels: Array) -> None:
        """AUC needs a label that some rows have and others do not."""
        both = (labels == 1).any(axis=0) & (labels == 0).any(axis=0)
        if metric == "auc" and not both.any():
            raise Refused(
                "OneClass",
                f"no label occurs in some and not in all of the {len(labels)} validation rows, and "
                "AUC needs one; choose log_loss or raise validationFraction",
                "spec.training.earlyStopping.metric",
            )

    def by_label(self, rows: EncodedRows, predictions: Array) -> list[dict[str, Any]]:
        """Return precision and recall of each label at the threshold."""
        from springtide_trainer.tasks.metrics.by_label import by_label

        predicted = predictions >= THRESHOLD
        return by_label(self.outputs, rows.label == 1, predicted, rows.label >= 0)

    def over_incumbent(
        self, rows: EncodedRows, predictions: Array, incumbent: Sequence[str]
    ) -> tuple[Array, EncodedRows, Array]:
        """Keep all rows, with the labels of the incumbent: probabilities are independent."""
        self._refuse_removed(incumbent)
        columns = [self.outputs.index(label) for label in incumbent]
        kept = np.ones(len(rows.label), dtype=bool)
        subset = EncodedRows(rows.label[:, columns], rows.entity, rows.group)
        return kept, subset, predictions[:, columns]

    @property
    def tensors(self) -> list[OutputTensor]:
        """The probability of each label, and a JSON array of the labels of at least 0.5."""
        probabilities, _ = super().tensors
        return [probabilities, OutputTensor("labels", "BYTES", self._predicted)]

    def _predicted(self, probabilities: Array) -> Array:
        names = np.array(self.outputs)
        found = [
            json.dumps(list(names[row]), ensure_ascii=False) for row in probabilities >= THRESHOLD
        ]
        return np.array(found, dtype=object)

    def _split(self, value: str) -> list[str]:
        """Return the labels in a value of the source."""
        if value.startswith("["):
            try:
                found = json.loads(value)
            except (ValueError, RecursionError):
                found = None
            if isinstance(found, list) and all(isinstance(name, str) for name in found):
                return found
        return [name.strip() for name in value.split(self.separator)] if value.strip() else []

    def _names(self, value: str) -> list[str]:
        return [name for name, has in zip(self.outputs, value, strict=False) if has == "1"]

    def _unknown(
        self, coded: Any, values: list[list[str]], wrong: Iterable[int], where: str
    ) -> Refused:
        rows = np.bincount(np.asarray(coded.indices), minlength=len(values))
        counts: Counter[str] = Counter()
        for number in wrong:
            odd = {name for name in values[number] if name not in self.outputs}
            counts.update(dict.fromkeys(odd, int(rows[number])))
        shown = ", ".join(f"{name[:_SHOWN]!r} ({count:,})" for name, count in counts.most_common(3))
        total = int(rows[list(wrong)].sum())
        return Refused(
            "UnknownLabel",
            f"{total:,} of {len(coded):,} {where} have a label that is not one of the "
            f"{len(self.outputs)} model.labels: {shown}; fix them, append the label to "
            f"model.labels, or join labels by {self.separator!r}",
            _COLUMN,
        )
