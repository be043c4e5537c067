"""Compares candidate and live model on one dataset: metrics, optionally with confidence bounds.

The metric of one model uses all its outputs. The comparison uses the live model's outputs: the task
says which rows count and what the candidate's predictions for these outputs are. Language models
are compared on the rows of which they predict the same tokens: a response that is cut later has
tokens that are easier to predict, whichever model predicts them.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from springtide_trainer.evaluation.confidence_intervals import (
    Estimate,
    Resampling,
    bound_at_an_end,
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
from springtide_trainer.tasks.metrics.statistic import whole

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np

    from springtide_trainer.evaluation.confidence_intervals import Resampled
    from springtide_trainer.evaluation.predicted_tokens import PredictedTokens
    from springtide_trainer.tasks.metrics.statistic import EncodedRows, Statistic
    from springtide_trainer.tasks.task import Task

    Array = np.ndarray[Any, np.dtype[Any]]

NOTHING = Estimate()


@dataclass(frozen=True)
class Scores:
    """The predictions of one model."""

    task: Task
    predictions: Array
    """float [rows, outputs]."""
    labels: Array | None = None
    """[rows, ...], labels that the tokens of the rows give, in place of those that the task
    encodes."""
    predicted: PredictedTokens | None = None
    """The tokens that a language model predicts; None for another model."""


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
        rows: Labels (as encoded by the candidate's task), entities and groups.
        candidate: The candidate's scores.
        live: The live model's scores; None for the first generation.
        by: Bootstrap settings; None: values without bounds.

    Raises:
        Refused: the candidate lacks an output of the live model.
    """
    task = candidate.task
    if live is None:
        return _measure(task, metrics, rows, (candidate.predictions,), by)
    comparable = _comparable(rows, candidate, live)
    if comparable is None:
        return _measure(task, metrics, rows, (candidate.predictions, live.predictions), by)
    own = _measure(task, metrics, rows, (candidate.predictions,), by)
    kept, subset, reduced = comparable
    compared = _measure(live.task, metrics, subset, (reduced, live.predictions[kept]), by)
    return {
        name: Measured(own[name].candidate, compared[name].live, compared[name].delta)
        for name in metrics
    }


def _comparable(
    rows: EncodedRows, candidate: Scores, live: Scores
) -> tuple[Array, EncodedRows, Array] | None:
    """Return what two models can be compared on, as `over_incumbent` does; None: on all rows.

    Raises:
        Refused: the candidate lacks an output of the live model.
    """
    if candidate.task.outputs != live.task.outputs:
        return candidate.task.over_incumbent(rows, candidate.predictions, live.task.outputs)
    if candidate.predicted is None or live.predicted is None:
        return None
    same = candidate.predicted.same_rows(live.predicted)
    return None if same.all() else (same, rows.only(same), candidate.predictions[same])


def _measure(
    task: Task,
    metrics: Sequence[str],
    rows: EncodedRows,
    models: Sequence[Array],
    by: Resampling | None,
) -> dict[str, Measured]:
    """Compute metrics of the candidate and, if its predictions are given, of the live model."""
    if not rows.entities or not metrics:
        return {name: Measured() for name in metrics}
    if by is None:
        return {name: _values(task, name, rows, models) for name in metrics}
    named = dict(zip(("candidate", "live"), models, strict=False))
    statistics = {
        name: {model: task.statistic(name, rows, scores) for model, scores in named.items()}
        for name in metrics
    }
    differing = {
        name: discordant(of["candidate"], of["live"], rows.entities)
        for name, of in statistics.items()
        if "live" in named
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
        values = {model: drawn[f"{model} {name}"] for model in named}
        parts = {model: _own(of, values[model], by) for model, of in each.items()}
        if "live" in named:
            delta = values["candidate"].minus(values["live"])
            parts["delta"] = _difference(each["candidate"], delta, differing[name], by)
        made[name] = Measured(**parts)
    return made


def _values(task: Task, metric: str, rows: EncodedRows, models: Sequence[Array]) -> Measured:
    """Compute a metric of each model without bounds, in one pass."""
    found = [whole(task.statistic(metric, rows, scores, once=True), rows) for scores in models]
    own = Estimate(found[0])
    if len(found) == 1:
        return Measured(own)
    return Measured(own, Estimate(found[1]), Estimate(found[0] - found[1]))


def _own(of: Statistic, values: Resampled, by: Resampling) -> Estimate:
    """Return the value of one model with its bounds."""
    found = estimate(values, entities=contributing(of), by=by, biased=of.biased)
    if of.proportion:
        return with_clopper_pearson(found, by)
    if of.max_share is not None and math.isnan(found.low):
        return bound_at_an_end(found, max_share=of.max_share, by=by)
    return found


def _difference(of: Statistic, values: Resampled, differing: Array, by: Resampling) -> Estimate:
    """Return a difference with its bounds, also if no entity is discordant."""
    if of.max_share is not None and values.value == 0.0 and not differing.any():
        return bound_without_discordance(contributing(of), max_share=of.max_share, by=by)
    count = contributing_to_difference(of, differing)
    return estimate(values, entities=count, by=by, biased=of.biased)
