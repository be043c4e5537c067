"""Decides one rule by confidence bounds: Pass, Reject or Inconclusive.

No I/O. The operator's gate and the trainer's report use the same code.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil, inf, isfinite, isnan
from typing import TYPE_CHECKING

from springtide_api.generation.status import RuleResult
from springtide_judging.bounds import (
    Bound,
    Finding,
    Interval,
    Numbers,
    absolute,
    absolute_bounds,
    better,
    comparison,
    comparison_bounds,
    counted,
    cumulative,
    decimal,
    more_entities,
    proves_nothing,
    readable,
    three_valued,
    value_range,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from springtide_api.update.gate import Rule

TEXT_LIMIT = 1024

Flaw = tuple[str, str, int | None]
"""Why a rule cannot be decided: reason, details, and the number of missing entities if known."""


@dataclass(frozen=True)
class Judged:
    """The result of one rule and its machine-readable reason."""

    result: RuleResult
    reason: str
    more_entities: int | None = None
    """If inconclusive: the estimated number of additional entities needed, if known."""


def judge_rule(
    rule: Rule, measured: Numbers | None, *, baseline: bool, on_holdout: bool = False
) -> Judged | None:
    """Decide one rule.

    Args:
        rule: The rule.
        measured: Its numbers; None if they are missing.
        baseline: Whether there is a live model. Without one, comparisons are skipped.
        on_holdout: Its dataset is the holdout, where an absolute bound must ask for more than an
            answer without a model scores.

    Returns:
        The result; None if the rule has only comparisons and there is no baseline.
    """
    if not baseline and not absolute(rule):
        return None
    flaw: Flaw | None = None
    if measured is None:
        measured = Numbers(rule.name)
        flaw = ("MissingNumber", f"no numbers for {rule.metric}", None)
    bounds = [*absolute_bounds(rule, measured.candidate)]
    if baseline:
        bounds += comparison_bounds(rule, measured)
    flaw = flaw or _flaw(rule, measured, baseline=baseline)
    if not flaw and on_holdout and (vain := proves_nothing(rule, measured.trivial_baseline)):
        reason = "MissingNumber" if isnan(measured.trivial_baseline) else "FloorProvesNothing"
        flaw = (reason, vain, None)
    if flaw:
        return _undecided(rule, measured, bounds[-1], flaw)
    return _decided(rule, measured, [(three_valued(bound), bound) for bound in bounds])


def overall(said: Sequence[Judged]) -> Finding:
    """Combine Required rules: any Reject rejects, all must pass, none is inconclusive."""
    found = [each.result.verdict for each in said if each.result.severity == "Required"]
    if "Reject" in found:
        return "Reject"
    return "Pass" if found and set(found) == {"Pass"} else "Inconclusive"


def _flaw(rule: Rule, measured: Numbers, *, baseline: bool) -> Flaw | None:
    """Return why the numbers cannot decide the rule, or None."""
    entities, positives = measured.entities, measured.positives
    if entities < (least := rule.min_entities):
        lacking = f"{entities:,} contributing entities < {least:,}"
        return "TooFewEntities", lacking, least - max(entities, 0)
    if positives < (wanted := rule.min_positives or 0):
        more = ceil(entities * wanted / positives) - entities if positives > 0 else None
        return "TooFewPositives", f"{positives:,} positives < {wanted:,}", more
    lowest, most = value_range(rule.metric)
    if absolute(rule) and not measured.candidate.within(lowest, most):
        words = f"{_missing(measured.candidate)} of {rule.metric} for the candidate"
        return "MissingNumber", words, None
    if baseline and comparison(rule):
        span = most - lowest
        if not (measured.live.within(lowest, most) and measured.delta.within(-span, span)):
            words = f"{_missing(measured.delta)} of {rule.metric} for the comparison with live"
            return "MissingNumber", words, None
        if measured.live.value == 0.0 and _relative(rule):
            return (
                "ZeroBaseline",
                "live is 0, so a relative margin is undefined; use an absolute one",
                None,
            )
    return _flaw_of_reference(rule, measured) if baseline and cumulative(rule) else None


def _flaw_of_reference(rule: Rule, measured: Numbers) -> Flaw | None:
    """Return why the numbers do not compare with the reference, or None."""
    least, most = value_range(rule.metric)
    own, span = Interval(measured.reference, measured.reference, measured.reference), most - least
    if not (own.within(least, most) and measured.versus_reference.within(-span, span)):
        missing = _missing(measured.versus_reference)
        words = f"{missing} of {rule.metric} for the comparison with the reference"
        return "MissingNumber", words, None
    margin = rule.max_cumulative_regression
    if measured.reference == 0.0 and margin and margin.relative is not None:
        words = "the reference is 0, so a relative margin is undefined; use an absolute one"
        return "ZeroBaseline", words, None
    return None


def _missing(found: Interval) -> str:
    """Return what a number lacks: its value or, without variation between entities, its bounds."""
    unbounded = isfinite(found.value) and isnan(found.low) and isnan(found.high)
    return "no bounds" if unbounded else "no value"


def _undecided(rule: Rule, measured: Numbers, bound: Bound, flaw: Flaw) -> Judged:
    reason, words, more = flaw
    message = f"{rule.name}: {words} on {rule.dataset}, {bound.requirement}: inconclusive"
    result = _result(rule, measured, bound, ("Inconclusive", message))
    return Judged(result, reason, more)


def _decided(rule: Rule, measured: Numbers, findings: list[tuple[Finding, Bound]]) -> Judged:
    """All bounds must pass, any Reject rejects; report the worst, the last one of equals."""
    for finding in ("Reject", "Inconclusive", "Pass"):
        chosen = [bound for found, bound in findings if found == finding]
        if chosen:
            break
    bound, more = chosen[-1], None
    words = {"Pass": "passed", "Reject": "failed", "Inconclusive": "inconclusive"}[finding]
    message = (
        f"{rule.name}: {_value(rule, bound)}, {bound.requirement}: {words}"
        f" on {_where(rule, measured)}"
    )
    if finding == "Inconclusive":
        more = _most([more_entities(each, measured.entities) for each in chosen])
        message += f"; {_needed(more)}"
    reason = {"Pass": "Passed", "Reject": "Failed", "Inconclusive": "NotDecided"}[finding]
    return Judged(_result(rule, measured, bound, (finding, message)), reason, more)


def _result(rule: Rule, measured: Numbers, bound: Bound, said: tuple[Finding, str]) -> RuleResult:
    return RuleResult(
        rule=rule.name,
        metric=rule.metric,
        dataset=rule.dataset,
        candidate=decimal(measured.candidate.value),
        baseline=decimal(measured.live.value),
        delta=decimal(better(rule.metric, measured.delta).value),
        superior=measured.entities >= rule.min_entities
        and measured.delta.within(-inf, inf)
        and better(rule.metric, measured.delta).low > 0,
        low=decimal(bound.interval.low),
        high=decimal(bound.interval.high),
        bound=bound.text,
        entities=max(measured.entities, 0),
        positives=max(measured.positives, 0),
        severity=rule.severity,
        verdict=said[0],
        message=said[1][:TEXT_LIMIT],
    )


def _relative(rule: Rule) -> bool:
    margins = (rule.min_improvement, rule.max_regression)
    return any(margin is not None and margin.relative is not None for margin in margins)


def _value(rule: Rule, bound: Bound) -> str:
    interval, what = bound.interval, rule.metric
    if bound.compares:
        worse = interval.value < 0
        what += " regressed by" if worse else " improved by"
        interval = interval.negated() if worse else interval
    value, low, high = (readable(x) for x in interval)
    against = " against the reference" if bound.versus_reference else ""
    return f"{what} {value}{against} (bounds {low} to {high})"


def _where(rule: Rule, measured: Numbers) -> str:
    return f"{rule.dataset} ({counted(rule.metric, measured.entities, measured.positives)})"


def _needed(more: int | None) -> str:
    if more is None:
        return "value and bound are too close to estimate the number of entities needed"
    return f"about {more:,} more entities would decide it"


def _most(counts: list[int | None]) -> int | None:
    """Return the largest count; None if one is unknown."""
    known = [count for count in counts if count is not None]
    return max(known) if len(known) == len(counts) else None
