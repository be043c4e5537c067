"""Candidate and live model beside each other on one dataset: metrics, with bounds where asked.

A model's own value counts all its labels. The comparison is over the incumbent's labels: only rows
that carry one of them, and the candidate's probabilities made to sum to 1 over them.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from springtide_trainer.errors import Refused
from springtide_trainer.evaluation.confidence_intervals import (
    Estimate,
    Resampling,
    estimate,
    resample,
    samples_for,
    with_clopper_pearson,
    without_discord,
)
from springtide_trainer.evaluation.contributing_entities import (
    contributing,
    contributing_to_difference,
    discordant,
)
from springtide_trainer.evaluation.metrics import Rows, statistic, value

if TYPE_CHECKING:
    from collections.abc import Sequence

    from springtide_trainer.evaluation.confidence_intervals import Resampled
    from springtide_trainer.evaluation.metrics import Statistic

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
    metrics: Sequence[str],
    rows: Rows,
    *,
    candidate: Scores,
    live: Scores | None,
    by: Resampling | None,
) -> dict[str, Measured]:
    """Measure both models with the same resamples.

    Args:
        metrics: Names as rules write them.
        rows: Labels as indices into the candidate's, entities and groups.
        candidate: The candidate's scores.
        live: The live model's; None for the first generation.
        by: How the bounds are made; None: values alone, without bounds.

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
    metrics: Sequence[str], rows: Rows, one: Array, other: Array | None, by: Resampling | None
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


def _values(metric: str, rows: Rows, one: Array, other: Array | None) -> Measured:
    """Compute a metric of both models without bounds: one pass instead of thousands."""
    own = Estimate(value(metric, rows, one))
    if other is None:
        return Measured(own)
    live = Estimate(value(metric, rows, other))
    return Measured(own, live, Estimate(own.value - live.value))


def _own(metric: str, of: Statistic, values: Resampled, by: Resampling) -> Estimate:
    """Bound a model's own value."""
    found = estimate(values, entities=contributing(of), by=by, biased=metric in BIASED)
    return with_clopper_pearson(found, by) if metric == "accuracy" else found


def _difference(
    metric: str, of: Statistic, values: Resampled, differing: Array, by: Resampling
) -> Estimate:
    """Bound a difference by the entities that are discordant; without any, by their absence."""
    if of.largest is not None and values.value == 0.0 and not differing.any():
        return without_discord(contributing(of), largest=of.largest, by=by)
    count = contributing_to_difference(of, differing)
    return estimate(values, entities=count, by=by, biased=metric in BIASED)
