"""Candidate and live model beside each other on one dataset: every metric, with bounds.

A model's own value counts all its labels. The comparison is over the incumbent's labels: only rows
that carry one of them, and the candidate's probabilities made to sum to 1 over them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from springtide_trainer.errors import Refused
from springtide_trainer.intervals import Estimate, Resampling, estimate, resample
from springtide_trainer.metrics import Rows, statistic

if TYPE_CHECKING:
    from collections.abc import Sequence

    Array = np.ndarray[Any, np.dtype[Any]]

BIASED = frozenset({"ece"})
"""Metrics that noise moves to one side."""
NOTHING = Estimate()


@dataclass(frozen=True)
class Scores:
    """What one model said of the rows."""

    labels: Sequence[str]
    probabilities: Array
    """float [rows, labels]."""


@dataclass(frozen=True)
class Measured:
    """One metric of both models; `delta` is candidate minus live, in the metric's own sign."""

    candidate: Estimate = NOTHING
    live: Estimate = NOTHING
    delta: Estimate = NOTHING


def measure(
    metrics: Sequence[str], rows: Rows, *, candidate: Scores, live: Scores | None, by: Resampling
) -> dict[str, Measured]:
    """Measure both models with the same resamples.

    Args:
        metrics: Names as rules write them.
        rows: Labels as indices into the candidate's, entities and groups.
        candidate: The candidate's scores.
        live: The live model's; None for the first generation.
        by: How the bounds are made.

    Raises:
        Refused: the candidate lacks a label of the live model.
    """
    if live is None:
        return _measure(metrics, rows, candidate.probabilities, None, by)
    if list(candidate.labels) == list(live.labels):
        return _measure(metrics, rows, candidate.probabilities, live.probabilities, by)
    own = _measure(metrics, rows, candidate.probabilities, None, by)
    compared = _measure(metrics, *over_incumbent(rows, candidate, live), by)
    return {
        name: Measured(own[name].candidate, compared[name].live, compared[name].delta)
        for name in metrics
    }


def over_incumbent(rows: Rows, candidate: Scores, live: Scores) -> tuple[Rows, Array, Array]:
    """Keep the rows with a label of the live model, and share the candidate's scores among those.

    Returns:
        Rows with labels as indices into the live model's, and both models' probabilities.
    """
    if missing := [label for label in live.labels if label not in candidate.labels]:
        raise Refused(
            "LabelRemoved",
            f"the candidate lacks labels of the live model: {missing[:5]}; model.labels is "
            "append-only",
            "model.labels",
        )
    places = [list(candidate.labels).index(label) for label in live.labels]
    index = np.full(len(candidate.labels), -1)
    index[places] = np.arange(len(places))
    kept = index[rows.label] >= 0
    shares = candidate.probabilities[kept][:, places].astype(np.float64)
    total = shares.sum(axis=1, keepdims=True)
    even = np.full_like(shares, 1 / len(places))
    np.divide(shares, total, out=even, where=total > 0)
    fewer = rows.only(kept)
    known = Rows(index[fewer.label], fewer.entity, fewer.group)
    return known, even, live.probabilities[kept]


def _measure(
    metrics: Sequence[str], rows: Rows, one: Array, other: Array | None, by: Resampling
) -> dict[str, Measured]:
    if not rows.entities:
        return {name: Measured() for name in metrics}
    size, models = rows.entities, {"candidate": one} | ({} if other is None else {"live": other})
    found = resample(
        {
            f"{model} {name}": statistic(name, rows, scores)
            for model, scores in models.items()
            for name in metrics
        },
        entities=size,
        rows=len(rows.label),
        by=by,
    )
    made = {}
    for name in metrics:
        parts = {model: found[f"{model} {name}"] for model in models}
        if other is not None:
            parts["delta"] = parts["candidate"].minus(parts["live"])
        biased = name in BIASED
        made[name] = Measured(
            **{
                part: estimate(values, entities=size, by=by, biased=biased)
                for part, values in parts.items()
            }
        )
    return made
