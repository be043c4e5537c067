"""The score of a trivial baseline on the same rows. An absolute bound must be better than it.

For ranking metrics it is the score of a random order, for others the best constant prediction.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from springtide_trainer.tasks.metrics.ranked_groups import random_order, random_order_precision

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
        return random_order(metric, rows.group, rows.label.astype(np.float64))
    match metric:
        case "auc":
            return 0.5
        case "pr_auc":
            own = counts[1:] if labels == 2 else counts
            return float(
                np.mean([random_order_precision(int(n), len(rows.label)) for n in own if n])
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
