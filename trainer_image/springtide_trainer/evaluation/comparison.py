"""Compares candidate and live model on one dataset: metrics, optionally with confidence bounds.

The metric of one model uses all its labels. The comparison uses the live model's labels: only rows
with one of these, and the candidate's probabilities renormalized over these.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from springtide_trainer.errors import Refused
from springtide_trainer.evaluation.confidence_intervals import (
    Estimate,
    Resampling,
    bound_without_discordance,
    estimate,
    resample,
    samples_for,
    with_clopper_pearson,
)
from springtide_trainer.evaluation.contributing_entities import (
    contributing,
    contributing_to_difference,
    discordant,
)
from springtide_trainer.evaluation.metrics import EncodedRows, statistic, value

if TYPE_CHECKING:
    from collections.abc import Sequence

    from springtide_trainer.evaluation.confidence_intervals import Resampled
    from springtide_trainer.evaluation.metrics import Statistic

    Array = np.ndarray[Any, np.dtype[Any]]

BIASED = frozenset({"ece"})
"""Metrics with a one-sided bias from noise."""
NOTHING = Estimate()


@dataclass(frozen=True)
class Scores:
    """The predictions of one model."""

    labels: Sequence[str]
    probabilities: Array
    """float [rows, labels]."""


@dataclass(frozen=True)
class Measured:
    """One metric of both models. `delta` is candidate minus live, with the sign of the metric."""

    candidate: Estimate = NOTHING
    live: Estimate = NOTHING
    delta: Estimate = NOTHING


def measure(
    metrics: Sequence[str],
    rows: EncodedRows,
    *,
    candidate: Scores,
    live: Scores | None,
    by: Resampling | None,
) -> dict[str, Measured]:
    """Compute metrics of both models on the same resamples.

    Args:
        metrics: Names as in rules.
        rows: Labels (as indices into the candidate's), entities and groups.
        candidate: The candidate's scores.
        live: The live model's scores; None for the first generation.
        by: Bootstrap settings; None: values without bounds.

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


def over_incumbent(
    rows: EncodedRows, candidate: Scores, live: Scores
) -> tuple[EncodedRows, Array, Array]:
    """Keep the rows with a label of the live model, and renormalize the candidate's scores.

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
    columns = [list(candidate.labels).index(label) for label in live.labels]
    index = np.full(len(candidate.labels), -1)
    index[columns] = np.arange(len(columns))
    kept = index[rows.label] >= 0
    shares = candidate.probabilities[kept][:, columns].astype(np.float64)
    total = shares.sum(axis=1, keepdims=True)
    renormalized = np.full_like(shares, 1 / len(columns))
    np.divide(shares, total, out=renormalized, where=total > 0)
    subset = rows.only(kept)
    relabelled = EncodedRows(index[subset.label], subset.entity, subset.group)
    return relabelled, renormalized, live.probabilities[kept]


def _measure(
    metrics: Sequence[str],
    rows: EncodedRows,
    one: Array,
    other: Array | None,
    by: Resampling | None,
) -> dict[str, Measured]:
    if not rows.entities or not metrics:
        return {name: Measured() for name in metrics}
    if by is None:
        return {name: _values(name, rows, one, other) for name in metrics}
    models = {"candidate": one} | ({} if other is None else {"live": other})
    statistics = {
        name: {model: statistic(name, rows, scores) for model, scores in models.items()}
        for name in metrics
    }
    differing = {
        name: discordant(of["candidate"], of["live"], rows.entities)
        for name, of in statistics.items()
        if other is not None
    }
    counts = [contributing(of) for each in statistics.values() for of in each.values()]
    counts += [
        contributing_to_difference(statistics[name]["candidate"], who)
        for name, who in differing.items()
    ]
    drawn = resample(
        {f"{model} {name}": of for name, each in statistics.items() for model, of in each.items()},
        entities=rows.entities,
        rows=len(rows.label),
        by=replace(by, samples=max(samples_for(count, by) for count in counts)),
    )
    made = {}
    for name, each in statistics.items():
        values = {model: drawn[f"{model} {name}"] for model in models}
        parts = {model: _own(name, of, values[model], by) for model, of in each.items()}
        if other is not None:
            delta = values["candidate"].minus(values["live"])
            parts["delta"] = _difference(name, each["candidate"], delta, differing[name], by)
        made[name] = Measured(**parts)
    return made


def _values(metric: str, rows: EncodedRows, one: Array, other: Array | None) -> Measured:
    """Compute a metric of both models without bounds, in one pass."""
    own = Estimate(value(metric, rows, one))
    if other is None:
        return Measured(own)
    live = Estimate(value(metric, rows, other))
    return Measured(own, live, Estimate(own.value - live.value))


def _own(metric: str, of: Statistic, values: Resampled, by: Resampling) -> Estimate:
    """Return the value of one model with its bounds."""
    found = estimate(values, entities=contributing(of), by=by, biased=metric in BIASED)
    return with_clopper_pearson(found, by) if metric == "accuracy" else found


def _difference(
    metric: str, of: Statistic, values: Resampled, differing: Array, by: Resampling
) -> Estimate:
    """Return a difference with its bounds, also if no entity is discordant."""
    if of.max_share is not None and values.value == 0.0 and not differing.any():
        return bound_without_discordance(contributing(of), max_share=of.max_share, by=by)
    count = contributing_to_difference(of, differing)
    return estimate(values, entities=count, by=by, biased=metric in BIASED)
