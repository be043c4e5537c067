"""The metrics of early stopping on the validation split."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import numpy as np
from sklearn.metrics import accuracy_score, f1_score, log_loss, roc_auc_score

from springtide_trainer.errors import Refused

if TYPE_CHECKING:
    from numpy.typing import NDArray

Metric = Literal["log_loss", "auc", "accuracy", "macro_f1"]


def check(metric: Metric, labels: NDArray[np.int64]) -> None:
    """Check that a metric is defined for these labels.

    Raises:
        Refused: AUC of one class.
    """
    if metric == "auc" and len(np.unique(labels)) < 2:
        raise Refused(
            "OneClass",
            f"the {len(labels)} validation rows have 1 label and AUC needs 2; choose log_loss "
            "or raise validationFraction",
            "spec.training.earlyStopping.metric",
        )


def value(metric: Metric, labels: NDArray[np.int64], probabilities: NDArray[np.float32]) -> float:
    """Compute a metric.

    Args:
        metric: Its name.
        labels: int64 [rows].
        probabilities: float32 [rows, classes].

    Returns:
        The metric. AUC of many classes is the one-vs-rest mean over the classes that occur.
    """
    classes = probabilities.shape[1]
    exact = probabilities.astype(np.float64)
    exact /= exact.sum(axis=1, keepdims=True)
    match metric:
        case "log_loss":
            return float(log_loss(labels, exact, labels=list(range(classes))))
        case "auc":
            positives = [1] if classes == 2 else [int(label) for label in np.unique(labels)]
            each = [roc_auc_score(labels == label, exact[:, label]) for label in positives]
            return float(np.mean(each))
        case "accuracy":
            return float(accuracy_score(labels, exact.argmax(axis=1)))
        case "macro_f1":
            return float(f1_score(labels, exact.argmax(axis=1), average="macro"))
