"""Metrics of retrieval: at which rank the document of a row is found among all documents.

The average over rows of "found among the first k" is the recall at k of each query, the share of
its relevant documents among the first k, averaged with the number of its rows as weight.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from springtide_trainer.tasks.metrics.statistic import UNDEFINED, mean

if TYPE_CHECKING:
    from springtide_trainer.tasks.metrics.statistic import Array, EncodedRows, Statistic

BLOCK = 1 << 24
"""Inner products that are computed at a time."""
ALL = 1 << 30
"""Rank up to which documents count for a metric without @k."""


def newest_rows(identity: Array, by_age: Array | None = None) -> tuple[Array, Array]:
    """Return the newest row of each document: int64 [documents], and the document of each row.

    Args:
        identity: int64 [rows], the hash of the document of each row.
        by_age: int64 [rows], the rows from the oldest to the newest. None: as they are.
    """
    order = np.arange(len(identity)) if by_age is None else by_age
    latest = order[::-1]
    _, first, of_latest = np.unique(identity[latest], return_index=True, return_inverse=True)
    of_row = np.empty(len(identity), np.int64)
    of_row[latest] = of_latest
    return latest[first], of_row


def ranks(queries: Array, documents: Array, own: Array) -> Array:
    """Return the rank of the document of each query by its inner product, from 1.

    Documents with the same inner product as its own come before it, so that a model that gives all
    texts one vector finds nothing.

    Args:
        queries: float32 [rows, dimensions].
        documents: float32 [documents, dimensions].
        own: int64 [rows], the document of each query.

    Returns:
        float32 [rows, 1]; NaN for a query whose products are not all finite.
    """
    made = np.empty((len(queries), 1), np.float32)
    size = max(1, BLOCK // max(1, len(documents)))
    for start in range(0, len(queries), size):
        scores = queries[start : start + size] @ documents.T
        of_own = scores[np.arange(len(scores)), own[start : start + size]]
        rank = (scores >= of_own[:, None]).sum(axis=1).astype(np.float32)
        made[start : start + size, 0] = np.where(np.isfinite(scores).all(axis=1), rank, np.nan)
    return made


def statistic(metric: str, rows: EncodedRows, rank: Array) -> Statistic:
    """Prepare the average of a metric over rows.

    Args:
        metric: recall@<k>, mrr or mrr@<k>. MRR is the mean of 1 / rank, 0 after rank k.
        rows: Entities; their labels are not used.
        rank: float [rows], from 1.
    """
    if not len(rank) or not np.isfinite(rank).all():
        return UNDEFINED
    worth = _worth(metric, rank.astype(np.float64))
    return replace(mean(rows, worth, within_one=True), proportion=metric.startswith("recall"))


def by_frequency(metric: str, document: Array) -> float:
    """Return a metric of the best order that is the same for all queries; NaN without rows.

    Args:
        metric: As for `statistic`.
        document: int64 [rows], the document of each row.
    """
    if not len(document):
        return float("nan")
    counts = np.sort(np.unique(document, return_counts=True)[1])[::-1]
    worth = _worth(metric, np.arange(1, len(counts) + 1, dtype=np.float64))
    return float((counts * worth).sum() / counts.sum())


def _worth(metric: str, rank: Array) -> Array:
    name, _, depth = metric.partition("@")
    found = rank <= (int(depth) if depth else ALL)
    return np.where(found, 1.0 if name == "recall" else 1 / rank, 0.0)
