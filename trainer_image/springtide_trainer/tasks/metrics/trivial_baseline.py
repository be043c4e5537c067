"""The score of a trivial baseline on the same rows. An absolute bound must be better than it.

For ranking metrics it is the score of a random order, for others the best constant prediction.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from springtide_trainer.tasks.metrics.ranking import ideal_gains
from springtide_trainer.tasks.metrics.statistic import ratio

if TYPE_CHECKING:
    from springtide_trainer.tasks.metrics.statistic import EncodedRows


def trivial_baseline(metric: str, rows: EncodedRows, labels: int) -> float:
    """Return the best score of predictions that only use the frequencies of the labels.

    Args:
        metric: Name as in rules.
        rows: Labels, entities and groups.
        labels: Number of labels of the model.

    Returns:
        The score; NaN if there is none, such as for calibration: a constant can be calibrated.
    """
    if not len(rows.label):
        return float("nan")
    counts = np.bincount(rows.label, minlength=labels)
    shares = counts[counts > 0] / len(rows.label)
    if metric.startswith("ndcg@"):
        return _random_order_ndcg(rows, int(metric[5:]))
    match metric:
        case "auc":
            return 0.5
        case "pr_auc":
            own = counts[1:] if labels == 2 else counts
            return float(
                np.mean([_random_order_precision(int(n), len(rows.label)) for n in own if n])
            )
        case "log_loss":
            return float(-(shares * np.log(shares)).sum())
        case "accuracy":
            return float(shares.max())
        case "macro_f1":
            # The majority label for all rows, or random labels with the observed frequencies.
            majority = 2 * shares.max() / (1 + shares.max()) / len(shares)
            return float(max(majority, 1 / len(shares)))
    return float("nan")


def _random_order_precision(positives: int, rows: int) -> float:
    """Return the expected average precision of a random order (Bestgen 2015)."""
    if rows < 2:
        return 1.0
    harmonic = float((1 / np.arange(1, rows + 1)).sum())
    others = (positives - 1) / (rows - 1)
    return (harmonic + others * (rows - harmonic)) / rows


def _random_order_ndcg(rows: EncodedRows, k: int) -> float:
    """Return the expected NDCG of a random order: every position has the mean gain of its group."""
    if rows.group is None:
        return float("nan")
    gain = rows.label.astype(np.float64)
    length = np.bincount(rows.group)
    mean = ratio(np.bincount(rows.group, weights=gain), length.astype(np.float64))
    worth = np.append(0.0, np.cumsum(1 / np.log2(np.arange(2, k + 2))))
    expected = ratio(mean * worth[np.minimum(length, k)], ideal_gains(rows.group, gain, k))
    known = expected[~np.isnan(expected)]
    return float(known.mean()) if len(known) else float("nan")
