"""Regression: each row has a number; the prediction is a number in the same unit.

The model learns labels that are shifted by a location and divided by a spread. Both are fixed once
for a lineage, because the head of a model that continues from the live weights is in their unit.

PyTorch and transformers are imported where they are used, because probes need none of them.
"""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from springtide_api.contract import ExitCode
from springtide_api.update.task import RegressionOptions
from springtide_trainer.errors import Refused
from springtide_trainer.tasks.task import Classes, OutputTensor

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from torch import Tensor, nn
    from transformers import PreTrainedModel

    from springtide_trainer.tasks.metrics.statistic import Array, EncodedRows, Statistic
    from springtide_trainer.tasks.task import Batch, TaskSpec

_FIELD = "spec.model.regression"
_COLUMN = "data.source.columns.label"
_NUMBER = r"^-?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][-+]?[0-9]+)?$"
_SHOWN = 32
"""Characters of a user's value that a message shows."""
LARGEST = 1e30
"""Largest absolute label, well within the range of FP32."""
SMALLEST = 1e-30
"""A smaller spread is none, and a location closer to 0 is 0."""


@dataclass(frozen=True)
class Regression:
    """The task of predicting a number."""

    options: RegressionOptions
    problem_type = "regression"
    label_type = pa.float64()
    metrics = ("rmse", "mae", "mape", "wape", "r2")
    group_metrics = ()
    grouping = None

    @staticmethod
    def of(spec: TaskSpec) -> Regression:
        """Return the task of a spec."""
        return Regression(spec.regression or RegressionOptions())

    @property
    def outputs(self) -> list[str]:
        """One output."""
        return ["value"]

    @property
    def width(self) -> int:
        """One."""
        return 1

    @property
    def location(self) -> float:
        """What is subtracted from a label before it is learnt."""
        return float(self.options.location or 0.0)

    @property
    def spread(self) -> float:
        """What the difference is divided by."""
        return float(self.options.spread or 1.0)

    def check(self, column: pa.ChunkedArray, where: str) -> pa.ChunkedArray:
        """Check that each label is a finite number, and convert the labels. -0 becomes 0."""
        missing = pc.sum(pc.or_kleene(pc.is_null(column), pc.equal(column, ""))).as_py()
        if missing:
            raise Refused(
                "MissingLabel",
                f"{missing:,} of {len(column):,} {where} have no label (null, NaN or empty); fix "
                "or remove them",
                _COLUMN,
            )
        written = pc.match_substring_regex(column, _NUMBER)
        numbers = pc.if_else(written, column, "inf").cast(pa.float64())
        usable = pc.less_equal(pc.abs(numbers), LARGEST)
        if pc.all(usable).as_py() is False:
            raise _not_numbers(column.filter(pc.invert(usable)), len(column), where)
        return pc.add(numbers, 0.0)

    def count(self, column: pa.ChunkedArray) -> Counter[str]:
        """Count the rows with the lowest label, with the highest, and with one between them."""
        if not len(column):
            return Counter()
        found = pc.min_max(column).as_py()
        lowest, highest = found["min"], found["max"]
        low, high = (int(pc.sum(pc.equal(column, x)).as_py()) for x in (lowest, highest))
        first, last = (repr(float(x)).removesuffix(".0") for x in (lowest, highest))
        if lowest == highest:
            return Counter({first: low})
        counts = {first: low, f"{first} to {last}": len(column) - low - high, last: high}
        return Counter({name: count for name, count in counts.items() if count})

    def shortage(self, counts: Counter[str]) -> str | None:
        """Two different labels are needed: rows of one label have no spread."""
        if len(counts) >= 2:
            return None
        label, count = counts.most_common(1)[0]
        return (
            f"all {count:,} training rows have label {label}, at least 2 different labels are "
            f"needed ({_COLUMN}); the next probe adds newer rows, or fix the column"
        )

    def positives(self, counts: Counter[str]) -> int:
        """Count all rows: no label is the positive one."""
        return counts.total()

    def classes(self, column: pa.ChunkedArray) -> Classes:
        """A number is of no class."""
        return Classes([], np.empty(0, np.int64), np.empty(0, np.int64))

    def encode(self, column: pa.ChunkedArray, where: str) -> Array:
        """Return the labels: float64 [rows]."""
        if not pa.types.is_floating(column.type):
            raise Refused(
                "LabelMismatch",
                f"the {len(column):,} {where} have labels of type {column.type}, and Regression "
                "needs numbers; request retry to freeze them again",
                "spec.model.task",
            )
        return np.asarray(column.to_numpy(), dtype=np.float64)

    def load(self, folder: Path, **config: Any) -> PreTrainedModel:
        """Load a model with one output."""
        from springtide_trainer.tasks import sequence_head

        model: PreTrainedModel = sequence_head.load(folder, **config)
        return model

    def adopt(self, model: PreTrainedModel, source: Path) -> Regression:
        """Take a trained head as it is, or rescale it so that its predictions stay the same."""
        from springtide_trainer.tasks import sequence_head

        sequence_head.name_labels(model, self.outputs)
        if self.options.spread is None:
            return self._scaled(0.0, 1.0)
        sequence_head.rescale(model, location=self.location, spread=self.spread)
        return self

    def continued(self, parent: TaskSpec, labels: Array) -> Regression:
        """Take location and spread from the parent; the first generation computes them."""
        known = parent.regression or RegressionOptions()
        if known.location is not None and known.spread is not None:
            return self._scaled(float(known.location), float(known.spread))
        if self.options.spread is not None:
            return self
        mean = math.fsum(labels) / len(labels)
        spread = math.sqrt(math.fsum((labels - mean) ** 2) / len(labels))
        if not spread > max(1e-9 * abs(mean), SMALLEST):
            raise Refused(
                "NotEnoughData",
                f"the labels of all {len(labels):,} training rows are {mean:g}; at least 2 "
                f"different labels are needed; add newer rows, or fix {_COLUMN}",
                _COLUMN,
                ExitCode.TOO_LITTLE_DATA,
            )
        return self._scaled(mean, spread)

    @property
    def kept(self) -> dict[str, RegressionOptions]:
        """The options, with location and spread."""
        return {"regression": self.options}

    def extend(self, model: PreTrainedModel, seed: int) -> None:
        """Check that the parent has one output."""
        if model.config.num_labels != 1:
            message = f"the parent has {model.config.num_labels} outputs, Regression has 1; "
            raise Refused("LabelMismatch", message + "create another update", "spec.model.task")

    def collate(self, labels: Array) -> Tensor:
        """Return the scaled labels: float32 [rows]."""
        import torch

        return torch.from_numpy(((labels - self.location) / self.spread).astype(np.float32))

    def objective(self, model: nn.Module, batch: Batch) -> Tensor:
        """The loss of a batch."""
        return self.loss_of(model(**batch.inputs).logits, batch)

    def loss_of(self, logits: Tensor, batch: Batch) -> Tensor:
        """Squared or Huber loss of the scaled labels, each row multiplied by its weight."""
        from torch.nn import functional

        found = logits.float().squeeze(-1)
        if (huber := self.options.loss.huber) is not None:
            delta = float(huber.delta)
            losses = functional.huber_loss(found, batch.labels, reduction="none", delta=delta)
        else:
            losses = functional.mse_loss(found, batch.labels, reduction="none")
        return (losses * batch.weights).sum()

    def predict(self, logits: Tensor) -> Tensor:
        """Return the predictions in the unit of the labels: float32 [rows, 1]."""
        return (logits.double() * self.spread + self.location).float()

    def statistic(
        self, metric: str, rows: EncodedRows, predictions: Array, *, once: bool = False
    ) -> Statistic:
        """Prepare an error of the predictions."""
        from springtide_trainer.tasks.metrics import regression

        return regression.statistic(metric, rows, predictions)

    def trivial_baseline(self, metric: str, rows: EncodedRows) -> float:
        """Return the error of the best constant prediction."""
        from springtide_trainer.tasks.metrics import regression

        return regression.trivial_baseline(metric, rows)

    def check_validation(self, metric: str, labels: Array) -> None:
        """Every metric of early stopping has a value for any rows."""

    def by_label(self, rows: EncodedRows, predictions: Array) -> list[dict[str, Any]]:
        """There are no labels to predict one of."""
        return []

    def over_incumbent(
        self, rows: EncodedRows, predictions: Array, incumbent: Sequence[str]
    ) -> tuple[Array, EncodedRows, Array]:
        """Keep all rows: every model has the one output."""
        return np.ones(len(rows.label), dtype=bool), rows, predictions

    @property
    def tensors(self) -> list[OutputTensor]:
        """The predicted number of each row."""
        return [OutputTensor("value", "FP32", lambda predictions: predictions[:, 0])]

    def _scaled(self, location: float, spread: float) -> Regression:
        near_zero = abs(location) < SMALLEST
        scale = {"location": "0" if near_zero else f"{location:.9g}", "spread": f"{spread:.9g}"}
        return replace(self, options=self.options.model_copy(update=scale))


def _not_numbers(unusable: pa.ChunkedArray, rows: int, where: str) -> Refused:
    counts = sorted(unusable.value_counts().to_pylist(), key=lambda one: -one["counts"])
    shown = ", ".join(f"{one['values'][:_SHOWN]!r} ({one['counts']:,})" for one in counts[:3])
    return Refused(
        "InvalidLabel",
        f"{len(unusable):,} of {rows:,} {where} have a label that is not a number from -{LARGEST:g}"
        f" to {LARGEST:g}: {shown}; write it like 12.5, or fix the rows",
        _COLUMN,
    )
