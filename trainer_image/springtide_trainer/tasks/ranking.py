"""Ranking: a cross-encoder gives each row of a group one score, by which the group is ordered.

A group is the list of one query; a unit of a step is a whole group. PyTorch and transformers are
imported where they are used, because probes need neither.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from springtide_trainer.errors import Refused
from springtide_trainer.tasks import label_names
from springtide_trainer.tasks.metrics import ranked_groups
from springtide_trainer.tasks.metrics.statistic import UNDEFINED
from springtide_trainer.tasks.task import Classes, Grouping, OutputTensor

if TYPE_CHECKING:
    from collections import Counter
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from torch import Tensor, nn
    from transformers import PreTrainedModel

    from springtide_trainer.tasks.metrics.statistic import Array, EncodedRows, Statistic
    from springtide_trainer.tasks.task import Batch, TaskSpec

GAINS = "model.ranking.gains"
SCORE = "score"
LOSS = "loss"
"""The validation metric that is the training loss."""
CHUNK = 256
"""Most groups whose validation loss is computed at a time."""
PAIRS = 1 << 22
"""Most pairs of rows of these groups, each counted as large as the largest of them."""


@dataclass(frozen=True)
class Ranking:
    """The task of ordering the rows of a group by their relevance.

    Attributes:
        gains: The relevance of each label, 0 for irrelevant ones.
        loss: A key of `ranking_losses.LOSSES`.
        max_group_rows: Rows of the largest group that is trained on.
    """

    gains: dict[str, float]
    loss: str
    max_group_rows: int
    problem_type = "regression"
    label_type = pa.string()
    metrics = ("ndcg@10", "mrr", "map")
    group_metrics = ()

    @property
    def outputs(self) -> list[str]:
        """The only output of the model."""
        return [SCORE]

    @property
    def width(self) -> int:
        """One."""
        return 1

    @property
    def grouping(self) -> Grouping:
        """A unit is a group; without two gains it has no order for a loss that compares rows."""
        return Grouping(self.max_group_rows, compares=self.loss != "Pointwise")

    @staticmethod
    def of(spec: TaskSpec) -> Ranking:
        """Return the task of a spec."""
        if spec.ranking is None:
            raise Refused(
                "MissingGains",
                f"task Ranking needs the gain of each label; set {GAINS}",
                f"spec.{GAINS}",
            )
        gains = {label: float(gain) for label, gain in spec.ranking.gains.items()}
        return Ranking(gains, spec.ranking.loss, spec.ranking.max_group_rows)

    def check(self, column: pa.ChunkedArray, where: str) -> pa.ChunkedArray:
        """Check that each label has a gain."""
        return label_names.check_names(column, list(self.gains), where, field=GAINS)

    def count(self, column: pa.ChunkedArray) -> Counter[str]:
        """Count the rows of each label."""
        return label_names.count_names(column)

    def shortage(self, counts: Counter[str]) -> str | None:
        """Two gains are needed: rows of one gain have no order to learn."""
        present = {self.gains[label] for label in counts}
        if len(present) >= 2:
            return None
        return (
            f"all {counts.total():,} training rows have gain {present.pop():g}, at least 2 gains "
            f"are needed ({label_names.COLUMN}, {GAINS}); the next probe adds newer rows, or fix "
            "the column"
        )

    def positives(self, counts: Counter[str]) -> int:
        """Count the relevant rows: those with a gain greater than 0."""
        return sum(count for label, count in counts.items() if self.gains[label] > 0)

    def classes(self, column: pa.ChunkedArray) -> Classes:
        """Return the label of each row."""
        names = list(self.gains)
        index = label_names.index_names(column, names, "rows", field=GAINS)
        return Classes(names, np.arange(len(column)), index)

    def encode(self, column: pa.ChunkedArray, where: str) -> Array:
        """Return the gain of each row: float64 [rows]."""
        index = label_names.index_names(column, list(self.gains), where, field=GAINS)
        return np.array(list(self.gains.values()))[index]

    def load(self, folder: Path, **config: Any) -> PreTrainedModel:
        """Load a model with one output."""
        from springtide_trainer.tasks import sequence_head

        model: PreTrainedModel = sequence_head.load(folder, **config)
        return model

    def adopt(self, model: PreTrainedModel, source: Path) -> Ranking:
        """Name the only output."""
        from springtide_trainer.tasks import sequence_head

        sequence_head.name_labels(model, self.outputs)
        return self

    def continued(self, parent: TaskSpec, labels: Array) -> Ranking:
        """Return the task: nothing is fixed by the lineage."""
        return self

    @property
    def kept(self) -> dict[str, Any]:
        """Nothing but the options of the recipe."""
        return {}

    def extend(self, model: PreTrainedModel, seed: int) -> None:
        """Check that the parent has one output; none is ever added."""
        from springtide_trainer.tasks import sequence_head

        if (found := sequence_head.names(model)) != list(self.outputs):
            raise Refused(
                "LabelMismatch",
                f"the parent has outputs {found[:5]}, task Ranking has {list(self.outputs)}; "
                "create a new IncrementalUpdate for another task",
                "spec.model.task",
            )

    def collate(self, labels: Array) -> Tensor:
        """Return the gain of each row, scaled to at most 1: float32 [rows]."""
        import torch

        return torch.from_numpy((labels / self._highest).astype(np.float32))

    def objective(self, model: nn.Module, batch: Batch) -> Tensor:
        """The loss of a batch."""
        return self.loss_of(model(**batch.inputs).logits, batch)

    def loss_of(self, logits: Tensor, batch: Batch) -> Tensor:
        """The loss of each group, multiplied by the sum of the factors of its rows."""
        from springtide_trainer.tasks import ranking_losses

        scores = logits.float().squeeze(-1)
        losses = ranking_losses.LOSSES[self.loss](scores, batch.labels, batch.groups)
        return (losses * ranking_losses.sums(batch.weights, batch.groups)).sum()

    def predict(self, logits: Tensor) -> Tensor:
        """Return the scores as they are: float32 [rows, 1]. Only their order has a meaning."""
        return logits.float()

    def statistic(
        self, metric: str, rows: EncodedRows, predictions: Array, *, once: bool = False
    ) -> Statistic:
        """Prepare a metric of ranked groups, or the training loss as the average over groups."""
        scores = np.asarray(predictions, dtype=np.float64)[:, 0]
        if metric == LOSS:
            return self._loss_of_groups(rows, scores)
        return ranked_groups.statistic(metric, rows, rows.label, scores)

    def trivial_baseline(self, metric: str, rows: EncodedRows) -> float:
        """Return the expected score of a random order."""
        return ranked_groups.random_order(metric, rows.group, rows.label)

    def check_validation(self, metric: str, labels: Array) -> None:
        """No metric is defined without a relevant row."""
        if not (labels > 0).any():
            raise Refused(
                "OneClass",
                f"the {len(labels):,} validation rows have gain 0, and {metric} needs relevant "
                "rows; raise validationFraction, or remove earlyStopping",
                "spec.training.earlyStopping",
            )

    def by_label(self, rows: EncodedRows, predictions: Array) -> list[dict[str, Any]]:
        """No label is predicted."""
        return []

    def over_incumbent(
        self, rows: EncodedRows, predictions: Array, incumbent: Sequence[str]
    ) -> tuple[Array, EncodedRows, Array]:
        """Compare on all rows: every model of this task has the same output."""
        return np.ones(len(rows.label), dtype=bool), rows, predictions

    @property
    def tensors(self) -> list[OutputTensor]:
        """The score of each row."""
        return [OutputTensor(SCORE, "FP32", lambda scores: scores[:, 0])]

    @property
    def _highest(self) -> float:
        return max(self.gains.values())

    def _loss_of_groups(self, rows: EncodedRows, scores: Array) -> Statistic:
        """Average the training loss over the groups that it is trained on."""
        import torch

        from springtide_trainer.tasks import ranking_losses

        assert rows.group is not None
        if not np.isfinite(scores).all():
            return UNDEFINED
        order = np.argsort(rows.group, kind="stable")
        sizes = np.bincount(rows.group)
        score, gain = torch.from_numpy(scores[order]), torch.from_numpy(rows.label[order])
        ends = np.append(0, np.cumsum(sizes))
        losses = [
            ranking_losses.LOSSES[self.loss](
                score[ends[first] : ends[last]],
                gain[ends[first] : ends[last]] / self._highest,
                sizes[first:last].tolist(),
            )
            for first, last in _chunks(sizes)
        ]
        found = torch.cat(losses).numpy()
        if self.grouping.compares:
            least = np.minimum.reduceat(rows.label[order], ends[:-1])
            most = np.maximum.reduceat(rows.label[order], ends[:-1])
            found = np.where(least < most, found, np.nan)
        return ranked_groups.over_groups(rows, found, within_one=False)


def _chunks(sizes: Array) -> Iterator[tuple[int, int]]:
    """Cut consecutive groups into chunks of bounded memory: the first group and the end of each."""
    first = largest = 0
    for number, size in enumerate(sizes.tolist()):
        count, largest = number - first, max(largest, size)
        if count and (count == CHUNK or (count + 1) * largest**2 > PAIRS):
            yield first, number
            first, largest = number, size
    yield first, len(sizes)
