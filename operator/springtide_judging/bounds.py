"""Measured numbers with confidence bounds, and the bounds that a rule requires.

No I/O. Everything that depends on the direction and range of a metric is here; `rules` uses it.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil, inf, isfinite, isnan, nan
from typing import TYPE_CHECKING, Literal, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator

    from springtide_api.contract import EvaluateOutput, ReferenceRow, RuleRow
    from springtide_api.update.gate import Margin, Rule

Finding = Literal["Pass", "Reject", "Inconclusive"]

ERRORS = frozenset({"rmse", "mae", "mape", "wape"})
"""Errors of predicted numbers."""
LOWER_IS_BETTER = frozenset({"log_loss", "ece", "loss", "perplexity"}) | ERRORS
UNBOUNDED = frozenset({"log_loss", "perplexity"}) | ERRORS
"""Metrics that may exceed 1; all others are at most 1."""
WITHOUT_POSITIVES = ERRORS | {"r2", "perplexity", "masked_accuracy"}
"""Metrics of numbers and texts: no label is the positive one."""
UNFLOORED = frozenset({"ece"})
"""Metrics on which a trivial baseline can be perfect: a constant prediction is calibrated."""
SLACK = 1e-6
"""Tolerance: results are rounded to six digits."""

MOST = 1e99
"""Larger numbers cannot be written in the API."""


class Interval(NamedTuple):
    """A number with its one-sided confidence bounds; NaN if it could not be computed."""

    value: float = nan
    low: float = nan
    high: float = nan

    def negated(self) -> Interval:
        """Return the interval of the negated number."""
        return Interval(-self.value, -self.high, -self.low)

    def within(self, least: float, most: float) -> bool:
        """Return whether all three are ordered numbers within [least, most]."""
        sane = all(isfinite(x) and least - SLACK <= x <= most + SLACK for x in self)
        return sane and self.low <= self.high


class Numbers(NamedTuple):
    """A `RuleRow` with named fields; `delta` is candidate minus live, with the metric's sign."""

    rule: str
    candidate: Interval = Interval()
    live: Interval = Interval()
    delta: Interval = Interval()
    candidate_error: float = nan
    live_error: float = nan
    entities: int = 0
    """Number of contributing entities."""
    positives: int = 0
    trivial_baseline: float = nan
    """Score of a trivial baseline on the same rows."""
    reference: float = nan
    """Value of the generation that maxCumulativeRegression compares with."""
    versus_reference: Interval = Interval()
    """Candidate minus that generation, with the metric's sign."""


@dataclass(frozen=True)
class Bound:
    """One bound that a rule requires, oriented so that `shown` must be above `limit`."""

    text: str
    """Short form, such as "delta > -0.005"."""
    requirement: str
    """The same for messages, such as "allowed regression 0.005"."""
    interval: Interval
    """For display: the candidate's value, or the delta where positive is better."""
    shown: Interval
    limit: float | None
    """On the scale of `shown`. None if it is undefined: a fraction of a live value of 0."""
    closed: bool
    """Whether a value equal to the limit passes."""
    compares: bool = False
    """Whether it is about the difference to the live model or to the reference."""
    versus_reference: bool = False

    @property
    def mark(self) -> float | None:
        """The limit on the scale of `interval`."""
        if self.limit is None:
            return None
        return self.limit if self.shown == self.interval else -self.limit


def measured(output: EvaluateOutput) -> dict[str, Numbers]:
    """Return the numbers of an evaluation by the name of the rule."""
    # Another trainer image may omit the optional lists, or return shorter ones.
    missing = [None] * len(output.rules)
    beside = zip(
        output.rules,
        [*output.trivial_baseline, *missing],
        [*output.versus_reference, *missing],
        strict=False,
    )
    return {row[0]: numbers(row, score, compared) for row, score, compared in beside}


def numbers(
    row: RuleRow,
    trivial_baseline: float | None = None,
    versus_reference: ReferenceRow | None = None,
) -> Numbers:
    """Convert a positional row and its optional values; null becomes NaN."""
    floats = [nan if x is None else float(x) for x in row[1:12]]
    compared = [nan if x is None else float(x) for x in versus_reference or (None,) * 4]
    return Numbers(
        row[0],
        Interval(*floats[0:3]),
        Interval(*floats[3:6]),
        Interval(*floats[6:9]),
        floats[9],
        floats[10],
        row[12],
        row[13],
        nan if trivial_baseline is None else trivial_baseline,
        compared[0],
        Interval(*compared[1:4]),
    )


def value_range(metric: str) -> tuple[float, float]:
    """Return the least and the largest value that a metric can have."""
    least = {"r2": -inf, "perplexity": 1.0}.get(metric, 0.0)
    return least, inf if metric in UNBOUNDED else 1.0


def counted(metric: str, entities: int, positives: int) -> str:
    """Format the counts behind a number: contributing entities, and positives if there are any."""
    text = f"{entities:,} contributing entities"
    return text if metric in WITHOUT_POSITIVES else f"{text}, {positives:,} positives"


def better(metric: str, interval: Interval) -> Interval:
    """Return the interval with the sign where more is better."""
    return interval.negated() if metric in LOWER_IS_BETTER else interval


def absolute(rule: Rule) -> bool:
    """Return whether the rule has a bound on the candidate's value."""
    return rule.min is not None or rule.max is not None


def comparison(rule: Rule) -> bool:
    """Return whether the rule compares the candidate with the live model."""
    return rule.min_improvement is not None or rule.max_regression is not None


def cumulative(rule: Rule) -> bool:
    """Return whether the rule compares the candidate with the reference."""
    return rule.max_cumulative_regression is not None


def three_valued(bound: Bound) -> Finding:
    """Decide one bound: Pass if the whole interval is beyond it, Reject if none of it is."""
    low, high, limit = bound.shown.low, bound.shown.high, bound.limit
    if limit is None or isnan(low) or isnan(high):
        return "Inconclusive"
    if low > limit or (bound.closed and low == limit):
        return "Pass"
    return "Reject" if high < limit else "Inconclusive"


def absolute_bounds(rule: Rule, own: Interval) -> Iterator[Bound]:
    """Yield the required bounds on the value of a model."""
    if rule.min is not None:
        text = f"{rule.metric} >= {rule.min}"
        yield Bound(text, f"required >= {rule.min}", own, own, float(rule.min), closed=True)
    if rule.max is not None:
        limit = -float(rule.max)
        text = f"{rule.metric} <= {rule.max}"
        yield Bound(text, f"required <= {rule.max}", own, own.negated(), limit, closed=True)


def comparison_bounds(rule: Rule, measured: Numbers) -> Iterator[Bound]:
    """Yield the required bounds on the differences to the live model and to the reference."""
    delta = better(rule.metric, measured.delta)
    for margin, sign in ((rule.min_improvement, 1), (rule.max_regression, -1)):
        if margin is not None:
            size = _size(margin, measured.live.value)
            limit = None if size is None else sign * size + 0.0
            text = _comparison_text(margin, limit, live=measured.live.value)
            wanted = _requirement(margin, size, improve=sign > 0, base=measured.live.value)
            yield Bound(text, wanted, delta, delta, limit, closed=False, compares=True)
    if (margin := rule.max_cumulative_regression) is not None:
        delta = better(rule.metric, measured.versus_reference)
        size = _size(margin, measured.reference)
        limit = None if size is None else -size + 0.0
        text = _comparison_text(margin, limit, live=measured.reference, name="the reference")
        wanted = _requirement(margin, size, improve=False, base=measured.reference)
        yield Bound(
            text, wanted, delta, delta, limit, closed=False, compares=True, versus_reference=True
        )


def proves_nothing(rule: Rule, trivial_baseline: float) -> str | None:
    """Return a message if a trivial baseline meets the absolute bound of a rule, else None.

    Args:
        rule: The rule.
        trivial_baseline: Its score on the same rows; NaN if it is unknown.
    """
    if rule.metric in UNFLOORED:
        return None
    lower = rule.metric in LOWER_IS_BETTER
    bound = rule.max if lower else rule.min
    if bound is None:
        return None
    asked = f"{rule.metric} {'<=' if lower else '>='} {bound}"
    if isnan(trivial_baseline):
        return f"the score of a trivial baseline is not known, so {asked} may prove nothing"
    if (float(bound) < trivial_baseline) if lower else (float(bound) > trivial_baseline):
        return None
    return f"{asked} proves nothing: a trivial baseline scores {readable(trivial_baseline)}"


def more_entities(bound: Bound, entities: int) -> int | None:
    """Estimate how many more entities would decide a bound.

    The width of an interval is assumed to shrink with the square root of the number of entities.

    Returns:
        The number, at least 1; None if value and bound are nearly equal.
    """
    if bound.limit is None:
        return None
    above = bound.shown.value > bound.limit
    width = bound.shown.value - bound.shown.low if above else bound.shown.high - bound.shown.value
    distance = abs(bound.shown.value - bound.limit)
    if not width < 100 * distance:
        return None
    return max(ceil(entities * (width / distance) ** 2) - entities, 1)


def decimal(number: float) -> str | None:
    """Format a number as `Decimal` with six digits; None for NaN and numbers out of range.

    Exponents have two digits, so a number closer to 0 than 1e-99 is 0.
    """
    if not abs(number) < MOST:
        return None
    return f"{0.0 if abs(number) < 1 / MOST else number:.6g}"


def readable(number: float) -> str:
    """Format a number for display: four decimals, or three significant digits if it is tiny."""
    if not isfinite(number):
        return "unknown"
    return f"{number + 0.0:.4f}" if number == 0 or abs(number) >= 0.001 else f"{number:.3g}"


def _size(margin: Margin, live: float) -> float | None:
    """Return a margin in units of the metric; None if it is a fraction of 0 or of NaN."""
    if margin.absolute is not None:
        return float(margin.absolute)
    return float(margin.relative or 0) * abs(live) if isfinite(live) and live != 0 else None


def _comparison_text(
    margin: Margin, limit: float | None, *, live: float, name: str = "live"
) -> str:
    if margin.absolute is not None:
        return f"delta > {decimal(limit or 0.0)}"
    share = f"{margin.relative} of {name} {readable(live)}"
    return f"delta > {readable(limit)} ({share})" if limit is not None else f"delta within {share}"


def _requirement(margin: Margin, size: float | None, *, improve: bool, base: float) -> str:
    """Return a required improvement or an allowed regression for messages."""
    kind = "required improvement above" if improve else "allowed regression"
    if margin.absolute is not None:
        return f"{kind} {decimal(float(margin.absolute))}"
    if size is None:
        return f"{kind} {margin.relative} of {readable(base)}"
    return f"{kind} {readable(size)} ({margin.relative} of {readable(base)})"
