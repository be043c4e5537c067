"""What a trivial baseline scores on the same rows: a floor below it proves nothing.

Lists and scores are in the order of chance; a label or a probability is the best constant one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from springtide_trainer.evaluation.ranking_metrics import ideal_gains, ratio

if TYPE_CHECKING:
    from springtide_trainer.evaluation.metrics import Rows

    Array = np.ndarray[Any, np.dtype[Any]]


def trivial_baseline(metric: str, rows: Rows, labels: int) -> float:
    """Return the score of an answer that knows how frequent the labels are and nothing else.

    Args:
        metric: As rules write it.
        rows: Labels, entities and groups.
        labels: Number of labels of the model.

    Returns:
        The score; NaN where there is none, as for calibration: a constant is calibrated.
    """
    if not len(rows.label):
        return float("nan")
    counts = np.bincount(rows.label, minlength=labels)
    shares = counts[counts > 0] / len(rows.label)
    if metric.startswith("ndcg@"):
        return _chance_order(rows, int(metric[5:]))
    match metric:
        case "auc":
            return 0.5
        case "pr_auc":
            own = counts[1:] if labels == 2 else counts
            return float(np.mean([_chance_precision(int(n), len(rows.label)) for n in own if n]))
        case "log_loss":
            return float(-(shares * np.log(shares)).sum())
        case "accuracy":
            return float(shares.max())
        case "macro_f1":
            # The majority's label for all rows, or each label by chance as often as it occurs.
            majority = 2 * shares.max() / (1 + shares.max()) / len(shares)
            return float(max(majority, 1 / len(shares)))
    return float("nan")


def _chance_precision(positives: int, rows: int) -> float:
    """Return the expected average precision of a random order (Bestgen 2015)."""
    if rows < 2:
        return 1.0
    harmonic = float((1 / np.arange(1, rows + 1)).sum())
    others = (positives - 1) / (rows - 1)
    return (harmonic + others * (rows - harmonic)) / rows


def _chance_order(rows: Rows, k: int) -> float:
    """Return the expected NDCG of a random order: every place has the mean gain of its list."""
    if rows.group is None:
        return float("nan")
    gain = rows.label.astype(np.float64)
    length = np.bincount(rows.group)
    mean = ratio(np.bincount(rows.group, weights=gain), length.astype(np.float64))
    worth = np.append(0.0, np.cumsum(1 / np.log2(np.arange(2, k + 2))))
    expected = ratio(mean * worth[np.minimum(length, k)], ideal_gains(rows.group, gain, k))
    known = expected[~np.isnan(expected)]
    return float(known.mean()) if len(known) else float("nan")
