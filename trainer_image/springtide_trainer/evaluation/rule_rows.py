"""What was measured, as the rows that travel to the operator: one for each rule, by position."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from springtide_api.bounds import absolute, comparison, cumulative
from springtide_trainer.evaluation.comparison import Measured

if TYPE_CHECKING:
    from collections.abc import Sequence

    from springtide_api.contract import ReferenceRow, RuleRow
    from springtide_api.gate_spec import Rule
    from springtide_trainer.evaluation.comparison import Scores
    from springtide_trainer.evaluation.confidence_intervals import Estimate
    from springtide_trainer.evaluation.datasets import JudgedRows

DIGITS = 5
"""Digits that a number keeps on its way to the operator: 16 rules fit a termination message."""


@dataclass(frozen=True)
class Found:
    """What was measured on one dataset."""

    rows: JudgedRows
    scores: list[Scores]
    """The candidate's and, if there is one, the live model's."""
    entities: int
    positives: int
    metrics: dict[str, Measured]
    trivial_baseline: dict[str, float]
    """What a trivial baseline scores, by metric of the rules."""
    versus_reference: dict[str, Measured]
    """Candidate and reference beside each other, by metric of the rules that ask."""


def rule_row(rule: Rule, found: Sequence[Found]) -> RuleRow:
    """Pick a rule's numbers; what does not exist travels as null."""
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


def _entities(rule: Rule, measured: Measured, versus_reference: Measured | None) -> int:
    """Count the entities that the rule's numbers rest on; of several numbers the fewest."""
    compared = comparison(rule) and math.isfinite(measured.live.value)
    counts = [measured.delta.entities] if compared else []
    counts += [versus_reference.delta.entities] if versus_reference else []
    if absolute(rule) or not counts:
        counts.append(measured.candidate.entities)
    return min(counts)


def reference_rows(rules: Sequence[Rule], found: Sequence[Found]) -> list[ReferenceRow | None]:
    """Compare with the reference for the rules that ask; nothing where none does."""
    rows = [_to_reference(rule, found) for rule in rules]
    return rows if any(rows) else []


def _compared(rule: Rule, here: Found | None) -> Measured | None:
    return here.versus_reference.get(rule.metric) if here and cumulative(rule) else None


def _to_reference(rule: Rule, found: Sequence[Found]) -> ReferenceRow | None:
    here = next((each for each in found if each.rows.name == rule.dataset), None)
    compared = _compared(rule, here)
    return (_number(compared.live.value), *_three(compared.delta)) if compared else None


def trivial_baseline_of(rule: Rule, found: Sequence[Found]) -> float | None:
    """Return what a trivial baseline scores for a rule."""
    here = next((each for each in found if each.rows.name == rule.dataset), None)
    return _number(here.trivial_baseline[rule.metric]) if here else None


def _three(of: Estimate) -> tuple[float | None, float | None, float | None]:
    return _number(of.value), _number(of.low), _number(of.high)


def _number(value: float) -> float | None:
    return float(f"{value:.{DIGITS}g}") if math.isfinite(value) else None
