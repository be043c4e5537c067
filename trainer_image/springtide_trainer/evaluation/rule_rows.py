"""The numbers of each rule, as the positional rows of the result for the operator."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from springtide_judging.bounds import absolute, comparison, cumulative
from springtide_trainer.evaluation.comparison import Measured

if TYPE_CHECKING:
    from collections.abc import Sequence

    from springtide_api.contract import ReferenceRow, RuleRow
    from springtide_api.update.gate import Rule
    from springtide_trainer.evaluation.comparison import Scores
    from springtide_trainer.evaluation.confidence_intervals import Estimate
    from springtide_trainer.evaluation.datasets import EvaluationDataset

DIGITS = 5
"""Significant digits of the numbers in a result, so that 16 rules fit a termination message."""


@dataclass(frozen=True)
class DatasetResult:
    """The metrics of one dataset."""

    rows: EvaluationDataset
    scores: list[Scores]
    """The scores of the candidate and, if there is one, of the live model."""
    entities: int
    positives: int
    metrics: dict[str, Measured]
    trivial_baseline: dict[str, float]
    """The score of the trivial baseline, for each metric of a rule."""
    versus_reference: dict[str, Measured]
    """Candidate compared with the reference, for each metric of a rule that needs it."""
    by_label: list[dict[str, Any]] = field(default_factory=list)
    """The candidate's precision and recall of each label."""


def rule_row(rule: Rule, found: Sequence[DatasetResult]) -> RuleRow:
    """Return the numbers of a rule; undefined numbers are null."""
    here = next((each for each in found if each.rows.name == rule.dataset), None)
    measured = here.metrics[rule.metric] if here else Measured()
    return (
        rule.name,
        *_three(measured.candidate),
        *_three(measured.live),
        *_three(measured.delta),
        _number(measured.candidate.error),
        _number(measured.live.error),
        _entities(rule, measured, _compared(rule, here)),
        here.positives if here else 0,
    )


def by_name(rule: Rule, row: RuleRow) -> dict[str, float]:
    """Return the defined numbers of a rule by name, such as gate/floor/candidate."""
    names = [
        f"{of}{bound}"
        for of in ("candidate", "live", "delta")
        for bound in ("", "_lower", "_upper")
    ]
    numbers = zip(names, row[1 : 1 + len(names)], strict=True)
    return {
        f"gate/{rule.name}/{name}": float(value)
        for name, value in numbers
        if isinstance(value, int | float)
    }


def _entities(rule: Rule, measured: Measured, versus_reference: Measured | None) -> int:
    """Return the number of contributing entities; of several numbers the smallest."""
    compared = comparison(rule) and math.isfinite(measured.live.value)
    counts = [measured.delta.entities] if compared else []
    counts += [versus_reference.delta.entities] if versus_reference else []
    if absolute(rule) or not counts:
        counts.append(measured.candidate.entities)
    return min(counts)


def reference_rows(
    rules: Sequence[Rule], found: Sequence[DatasetResult]
) -> list[ReferenceRow | None]:
    """Return the comparison with the reference for each rule; an empty list if no rule needs it."""
    rows = [_versus_reference(rule, found) for rule in rules]
    return rows if any(rows) else []


def _compared(rule: Rule, here: DatasetResult | None) -> Measured | None:
    return here.versus_reference.get(rule.metric) if here and cumulative(rule) else None


def _versus_reference(rule: Rule, found: Sequence[DatasetResult]) -> ReferenceRow | None:
    here = next((each for each in found if each.rows.name == rule.dataset), None)
    compared = _compared(rule, here)
    return (_number(compared.live.value), *_three(compared.delta)) if compared else None


def trivial_baseline_of(rule: Rule, found: Sequence[DatasetResult]) -> float | None:
    """Return the score of the trivial baseline for a rule."""
    here = next((each for each in found if each.rows.name == rule.dataset), None)
    return _number(here.trivial_baseline[rule.metric]) if here else None


def _three(of: Estimate) -> tuple[float | None, float | None, float | None]:
    return _number(of.value), _number(of.low), _number(of.high)


def _number(value: float) -> float | None:
    return float(f"{value:.{DIGITS}g}") if math.isfinite(value) else None
