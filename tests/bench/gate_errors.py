"""How often the gate passes a candidate that is no better than live, by simulation.

    python tests/bench/gate_errors.py [runs] [metric ...]

Two models of equal worth score rows of entities; rows of one entity depend on each other. The rule
asks for superiority at one-sided 95 %, so at most 5 % may pass. `percentile` is the plain
percentile bootstrap, `expanded` the bounds that the trainer reports, and `gate` the verdict on
them, which asks for at least ten contributing entities whatever a rule says.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from math import sqrt

import numpy as np

from springtide_api.update.gate import Margin, Rule
from springtide_judging.bounds import Interval, Numbers, better
from springtide_judging.rules import judge_rule
from springtide_trainer.evaluation.comparison import Scores, measure
from springtide_trainer.evaluation.confidence_intervals import (
    MIN_TAIL_SAMPLES,
    Resampling,
    expanded_tail,
    resample,
)
from springtide_trainer.tasks.classification import Classification
from springtide_trainer.tasks.metrics.classification import statistic
from springtide_trainer.tasks.metrics.statistic import EncodedRows

SIZES = (2, 3, 5, 10, 30, 100, 1000)
METRICS = ("log_loss", "accuracy", "auc", "ndcg@10")
ROWS = 4
"""Rows of an entity."""
MOST_SAMPLES = 20_000


@dataclass(frozen=True)
class Passed:
    """How many of the runs passed, by the kind of bound."""

    runs: int
    percentile: int
    expanded_tail: int
    gate: int

    def shares(self) -> tuple[float, float, float]:
        """Return percentages."""
        return tuple(100 * x / self.runs for x in (self.percentile, self.expanded_tail, self.gate))


def simulate(
    metric: str, entities: int, *, runs: int, seed: int = 0, differing: int | None = None
) -> Passed:
    """Compare two equal models repeatedly.

    Args:
        metric: What is compared.
        entities: Entities of each simulated holdout.
        runs: Holdouts.
        seed: Of everything.
        differing: Entities that the models do not answer alike; None: all.
    """
    random = np.random.default_rng([seed, entities])
    rule = Rule(name="r", metric=metric, min_improvement=Margin(absolute="0"), min_entities=10)
    counted = np.zeros(3, dtype=int)
    for run in range(runs):
        rows, one, other = _holdout(random, entities, differing)
        by = Resampling(samples=_samples(differing or entities), seed=run)
        found = measure([metric], rows, candidate=one, live=other, by=by)[metric]
        numbers = Numbers(
            "r",
            *(Interval(x.value, x.low, x.high) for x in (found.candidate, found.live, found.delta)),
            entities=found.delta.entities,
        )
        judged = judge_rule(rule, numbers, baseline=True)
        assert judged is not None
        counted += [
            _plain(metric, rows, one, other, by) > 0,
            better(metric, numbers.delta).low > 0,
            judged.result.verdict == "Pass",
        ]
    return Passed(runs, *map(int, counted))


def _samples(entities: int) -> int:
    """Draw enough for the expanded percentile where the default would not do."""
    tail = expanded_tail(0.05, entities)
    return int(min(max(2000, np.ceil(MIN_TAIL_SAMPLES / max(tail, 1e-9))), MOST_SAMPLES))


def _holdout(
    random: np.random.Generator, entities: int, differing: int | None
) -> tuple[EncodedRows, Scores, Scores]:
    entity = np.repeat(np.arange(entities), ROWS)
    taste = random.normal(size=entities)[entity] + random.normal(size=len(entity))
    label = (random.random(len(entity)) < 1 / (1 + np.exp(-taste))).astype(int)
    # Lists, labels and both kinds of label are there in any holdout that can be judged at all.
    label[:2] = 0, 1
    noise = [
        random.normal(size=entities)[entity] + random.normal(size=len(entity)) for _ in range(2)
    ]
    if differing is not None:
        noise[1] = np.where(entity < differing, noise[1], noise[0])
    chances = [1 / (1 + np.exp(-(taste + each) / sqrt(3))) for each in noise]
    task = Classification(["no", "yes"])
    models = [Scores(task, np.stack([1 - p, p], axis=1)) for p in chances]
    return EncodedRows(label, entity, entity), models[0], models[1]


def _plain(metric: str, rows: EncodedRows, one: Scores, other: Scores, by: Resampling) -> float:
    """Return the lower bound of the gain by the plain percentile."""
    found = resample(
        {
            name: statistic(metric, rows, model.predictions)
            for name, model in (("one", one), ("other", other))
        },
        entities=rows.entities,
        rows=len(rows.label),
        by=Resampling(2000, seed=by.seed),
    )
    delta = found["one"].values - found["other"].values
    gain = -delta if metric == "log_loss" else delta
    return float(np.quantile(np.where(np.isnan(gain), -np.inf, gain), 0.05, method="lower"))


def main(runs: int, metrics: list[str]) -> None:
    """Print the table."""
    print(f"{runs} runs; a share of 5 % has a standard error of {sqrt(0.0475 / runs):.1%}")
    print(f"{'metric':>10} {'entities':>14} {'percentile':>11} {'expanded':>9} {'gate':>7}")
    for metric in metrics:
        for entities in SIZES:
            _line(metric, str(entities), simulate(metric, entities, runs=runs))
        few = simulate(metric, 1000, runs=runs, differing=5)
        _line(metric, "5 of 1000", few)


def _line(metric: str, entities: str, passed: Passed) -> None:
    plain, wide, gate = passed.shares()
    print(f"{metric:>10} {entities:>14} {plain:>10.1f}% {wide:>8.1f}% {gate:>6.1f}%", flush=True)


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 1000, sys.argv[2:] or list(METRICS))
