"""Embedding: a bi-encoder gives a query and a document a vector each, by which documents are found.

A row is a query and a document that is relevant to it; its label is the id of the document. Each
document of the rows of a step is a negative for the other queries of the step. The model of
documents does not change, or one model of both is trained (`training.engine.cached_gradients`).

PyTorch and transformers are imported where they are used, because probes need neither.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace
from hashlib import blake2b
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from springtide_api.update.task import EmbeddingOptions
from springtide_trainer.errors import Refused
from springtide_trainer.tasks.metrics import retrieval
from springtide_trainer.tasks.task import Classes, OutputTensor

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from torch import Tensor, nn
    from transformers import PreTrainedModel

    from springtide_trainer.tasks.metrics.statistic import Array, EncodedRows, Statistic
    from springtide_trainer.tasks.task import Batch, TaskSpec

VECTOR = "vector"
COLUMN = "data.source.columns.label"
OTHERS = "other documents"
_DIMENSIONS = "spec.model.embedding.vectors.dimensions"


@dataclass(frozen=True)
class Embedding:
    """The task of finding the document of a query by the inner product of their vectors."""

    options: EmbeddingOptions
    problem_type = None
    label_type = pa.string()
    metrics = ("recall@1", "recall@10", "recall@100", "mrr")
    group_metrics = ()
    grouping = None

    @staticmethod
    def of(spec: TaskSpec) -> Embedding:
        """Return the task of a spec."""
        return Embedding(spec.embedding or EmbeddingOptions())

    @property
    def outputs(self) -> list[str]:
        """One vector."""
        return [VECTOR]

    @property
    def width(self) -> int:
        """The length of a vector; known once a model was imported."""
        assert self.options.vectors.dimensions is not None
        return self.options.vectors.dimensions

    @property
    def trains_documents(self) -> bool:
        """Whether one model for queries and documents is trained."""
        return self.options.train_tower == "Both"

    def check(self, column: pa.ChunkedArray, where: str) -> pa.ChunkedArray:
        """Check that each row names its document."""
        missing = pc.sum(pc.or_kleene(pc.is_null(column), pc.equal(column, ""))).as_py()
        if missing:
            raise Refused(
                "MissingLabel",
                f"{missing:,} of {len(column):,} {where} have no document (null or empty); fix or "
                "remove them",
                COLUMN,
            )
        return column

    def count(self, column: pa.ChunkedArray) -> Counter[str]:
        """Count the rows of the first document, and those of all others."""
        if not len(column):
            return Counter()
        first = str(column[0].as_py())
        own = int(pc.sum(pc.equal(column, first)).as_py())
        counts = {first: own, OTHERS: len(column) - own}
        return Counter({name: count for name, count in counts.items() if count})

    def shortage(self, counts: Counter[str]) -> str | None:
        """Two documents are needed: one alone has no negatives."""
        if len(counts) >= 2:
            return None
        name, count = counts.most_common(1)[0]
        return (
            f"all {count:,} training rows have document {name[:32]!r}, at least 2 documents are "
            f"needed ({COLUMN}); the next probe adds newer rows, or fix the column"
        )

    def positives(self, counts: Counter[str]) -> int:
        """Count all rows: each is a query and a relevant document."""
        return counts.total()

    def classes(self, column: pa.ChunkedArray) -> Classes:
        """A document is no class."""
        return Classes([], np.empty(0, np.int64), np.empty(0, np.int64))

    def encode(self, column: pa.ChunkedArray, where: str) -> Array:
        """Return a hash of the document of each row: int64 [rows], the same in all parts of rows.

        Two of a million documents have the same hash with a chance of 3e-8.
        """
        return identities(column)

    def load(self, folder: Path, **config: Any) -> PreTrainedModel:
        """Load the model of queries."""
        from springtide_trainer.tasks import towers

        model: PreTrainedModel = towers.load(folder, self.options.vectors.pooling, **config)
        return model

    def load_documents(self, folder: Path) -> PreTrainedModel:
        """Load the model of documents."""
        from springtide_trainer.tasks import towers

        pooling = self.options.vectors.pooling
        model: PreTrainedModel = towers.load(folder, pooling, documents=True)
        return model

    def adopt(self, model: PreTrainedModel, source: Path) -> Embedding:
        """Take over an encoder; the length of its vectors is fixed from now on."""
        found, wanted = int(model.config.hidden_size), self.options.vectors.dimensions
        if wanted not in {None, found}:
            raise Refused(
                "DimensionMismatch",
                f"{source} makes vectors of {found:,} numbers, and dimensions is {wanted:,}; "
                "change dimensions, or use another model",
                _DIMENSIONS,
            )
        return self._of_length(found)

    def continued(self, parent: TaskSpec, labels: Array) -> Embedding:
        """Take the length of vectors from the parent."""
        known = parent.embedding.vectors.dimensions if parent.embedding else None
        return self if known is None else self._of_length(known)

    @property
    def kept(self) -> dict[str, EmbeddingOptions]:
        """The options, with the length of vectors."""
        return {"embedding": self.options}

    def extend(self, model: PreTrainedModel, seed: int) -> None:
        """Nothing: a vector has the length of the model's outputs."""

    def collate(self, labels: Array) -> Tensor:
        """Return the documents of a batch: int64 [rows]. The loss reads `Batch.candidates`."""
        import torch

        return torch.from_numpy(labels)

    def objective(self, model: nn.Module, batch: Batch) -> Tensor:
        """The loss of a batch."""
        return self.loss_of(model(**batch.inputs).logits, batch)

    def loss_of(self, logits: Tensor, batch: Batch) -> Tensor:
        """The loss of each row among the documents of its step, multiplied by its weight."""
        from springtide_trainer.tasks import towers

        assert batch.candidates is not None
        queries = self.predict(logits)
        losses = towers.in_batch(queries, batch.candidates, scale=self.options.scale)
        return (losses * batch.weights).sum()

    def predict(self, logits: Tensor) -> Tensor:
        """Return vectors: float32 [rows, dimensions]."""
        from torch.nn import functional

        vectors = logits.float()
        return functional.normalize(vectors, dim=1) if self.options.vectors.normalized else vectors

    def statistic(
        self, metric: str, rows: EncodedRows, predictions: Array, *, once: bool = False
    ) -> Statistic:
        """Prepare a metric of the ranks that the documents of the rows have: float [rows, 1]."""
        return retrieval.statistic(metric, rows, predictions[:, 0])

    def trivial_baseline(self, metric: str, rows: EncodedRows) -> float:
        """Return the score of one order for all queries: the most frequent documents first."""
        return retrieval.by_frequency(metric, rows.label)

    def check_validation(self, metric: str, labels: Array) -> None:
        """Every metric of early stopping has a value for any rows."""

    def by_label(self, rows: EncodedRows, predictions: Array) -> list[dict[str, Any]]:
        """No label is predicted."""
        return []

    def over_incumbent(
        self, rows: EncodedRows, predictions: Array, incumbent: Sequence[str]
    ) -> tuple[Array, EncodedRows, Array]:
        """Keep all rows: every model has the one output."""
        return np.ones(len(rows.label), dtype=bool), rows, predictions

    @property
    def tensors(self) -> list[OutputTensor]:
        """The vector of each row."""
        normalized = "true" if self.options.vectors.normalized else "false"
        named = {"normalized": normalized}
        return [OutputTensor(VECTOR, "FP32", lambda vectors: vectors, (self.width,), named)]

    def _of_length(self, dimensions: int) -> Embedding:
        vectors = self.options.vectors.model_copy(update={"dimensions": dimensions})
        return replace(self, options=self.options.model_copy(update={"vectors": vectors}))


def identities(column: pa.ChunkedArray) -> Array:
    """Hash each text of a column: int64 [rows]. Equal texts have equal hashes, everywhere."""
    encoded = column.combine_chunks().dictionary_encode()
    texts = encoded.dictionary.to_pylist()
    hashes = np.fromiter(map(_hash, texts), np.int64, len(texts))
    found: Array = hashes[encoded.indices.to_numpy(zero_copy_only=False).astype(np.int64)]
    return found


def _hash(text: str) -> int:
    return int.from_bytes(blake2b(text.encode(), digest_size=8).digest(), "little", signed=True)
