"""Precision and recall of each label, for the report. Rules use metrics over all labels."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from springtide_trainer.tasks.metrics.statistic import Array


def by_label(
    names: Sequence[str], actual: Array, predicted: Array, known: Array
) -> list[dict[str, Any]]:
    """Return rows, precision and recall of each label; None where undefined.

    Args:
        names: Label names.
        actual: bool [rows, labels]: the row has the label.
        predicted: bool [rows, labels].
        known: bool [rows, labels]: whether the row counts for the label.
    """
    hits = (actual & predicted & known).sum(axis=0)
    has, said = (actual & known).sum(axis=0), (predicted & known).sum(axis=0)
    return [
        {
            "label": name,
            "rows": int(has[at]),
            "precision": _share(hits[at], said[at]),
            "recall": _share(hits[at], has[at]),
        }
        for at, name in enumerate(names)
    ]


def one_hot(labels: Array, count: int) -> Array:
    """Return which label each row has: bool [rows, labels]."""
    return np.asarray(labels[:, None] == np.arange(count)[None, :])


def _share(hits: int, of: int) -> float | None:
    return round(float(hits / of), 6) if of else None
