"""From what Prometheus answered to a sample with its verdict."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from springtide_api.generation.rollout import AnalysisSample
from springtide_judging.bounds import decimal
from springtide_judging.two_binomials import Counts
from springtide_operator.lifecycle.analysis.comparison import (
    BOUND,
    comparison_of,
    continued,
    evidence,
    in_all_steps,
    share,
)
from springtide_operator.lifecycle.analysis.queries import BAD, TOTAL, part
from springtide_operator.lifecycle.analysis.samples import ERROR, FAIL, NO_DATA, PASS, bound
from springtide_operator.lifecycle.state.observed import NO_SERIES

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import datetime

    from springtide_api.generation.comparison import Comparison
    from springtide_api.update.analysis import Metric
    from springtide_operator.lifecycle.analysis.watched import Baseline, Watched
    from springtide_operator.lifecycle.state.observed import ObservedSample

MOST = 10.0**15
"""A number above it is no count of requests."""


@dataclass(frozen=True)
class Measured:
    """A sample, and what a comparison has shown with it."""

    sample: AnalysisSample
    comparison: Comparison | None = None


def measure(about: Watched, metric: Metric, answers: Sequence[ObservedSample]) -> Measured | None:
    """The sample that answers make; None: some of them are missing.

    Args:
        about: what is watched.
        metric: the metric that was asked for.
        answers: to its queries of one moment.
    """
    if metric.ratio is None:
        return Measured(_with_bounds(metric, answers[0])) if answers else None
    if about.baseline is None or about.baseline.since is None:
        return None
    by_part = {each.part: each for each in answers}
    if set(by_part) != {part(s, n) for s in about.baseline.sides for n in (BAD, TOTAL)}:
        return None
    return _with_baseline(about, about.baseline, metric, by_part, since=about.baseline.since)


def _with_bounds(metric: Metric, measured: ObservedSample) -> AnalysisSample:
    """Compare a number with fixed bounds."""
    value, number = metric.value, measured.value
    assert value is not None
    if number is None:
        return _without_number(metric, measured.at, measured.problem, invalid=measured.invalid)
    inside = (value.min is None or number >= float(value.min)) and (
        value.max is None or number <= float(value.max)
    )
    return AnalysisSample(
        time=measured.at,
        metric=metric.name,
        value=decimal(number),
        bound=bound(metric),
        verdict=PASS if inside else FAIL,
        message=measured.problem[:128],
    )


def _with_baseline(
    about: Watched,
    baseline: Baseline,
    metric: Metric,
    by_part: Mapping[str, ObservedSample],
    *,
    since: datetime,
) -> Measured:
    """Compare the requests of the watched generation with those of its baseline."""
    one, other = baseline.sides
    at = by_part[part(one, TOTAL)].at
    for name in (part(side, number) for number in (TOTAL, BAD) for side in (one, other)):
        if problem := _problem(by_part[name]):
            invalid = by_part[name].invalid
            return Measured(_without_number(metric, at, f"{name}: {problem}", invalid=invalid))
    watched, compared = _both(baseline, by_part)
    for side, counts in ((one, watched), (other, compared)):
        if why := _incomplete(counts):
            return Measured(_without_number(metric, at, f"{side}: {why}"))
    known = comparison_of(about, metric)
    after = continued(about, metric, watched, compared, since=since)
    notes = []
    if known is not None and known.since == since and _fell(known, watched, compared):
        notes.append("counts fell, ignored")
    if all(by_part[part(side, BAD)].value is None for side in (one, other)):
        notes.append(f"bad: {NO_SERIES}")
    return Measured(_sample(baseline, metric, at, after, notes=notes), after)


def _both(baseline: Baseline, by_part: Mapping[str, ObservedSample]) -> tuple[Counts, Counts]:
    watched, compared = (
        Counts(_count(by_part[part(side, BAD)]), _count(by_part[part(side, TOTAL)]))
        for side in baseline.sides
    )
    return watched, compared


def _sample(
    baseline: Baseline,
    metric: Metric,
    at: datetime,
    after: Comparison,
    *,
    notes: Sequence[str],
) -> AnalysisSample:
    one, other = in_all_steps(after)
    e_value = evidence(after).e_value
    first, second = baseline.sides
    message = (
        f"{first} {one.bad} of {one.total}, {second} {other.bad} of {other.total}, "
        f"e-value {e_value:.3g} of {BOUND}"
    )
    message = "; ".join([message, *notes])
    return AnalysisSample(
        time=at,
        metric=metric.name,
        value=f"{share(one) - share(other):.6g}",
        bound=bound(metric),
        verdict=FAIL if evidence(after).regressed() else PASS,
        message=message[:128],
    )


def _without_number(
    metric: Metric, at: datetime, problem: str, *, invalid: bool = False
) -> AnalysisSample:
    verdict = ERROR if invalid else NO_DATA
    return AnalysisSample(
        time=at, metric=metric.name, bound=bound(metric), verdict=verdict, message=problem[:128]
    )


def _problem(answer: ObservedSample) -> str:
    """Why an answer is no count. Counters that no bad request has made yet are 0."""
    if answer.value is None:
        unborn = answer.part.endswith(BAD) and answer.problem == NO_SERIES
        return "" if unborn else answer.problem
    if not 0 <= answer.value <= MOST:
        return f"{answer.value:g} is no number of requests"
    return ""


def _count(answer: ObservedSample) -> int:
    """Whole requests; what `increase` extrapolates beyond them is no request."""
    return int((answer.value or 0.0) + 1e-6)


def _incomplete(counts: Counts) -> str:
    if not counts.total:
        return "no requests"
    if counts.bad > counts.total:
        return f"{counts.bad} bad of {counts.total}; total must include the bad ones"
    return ""


def _fell(known: Comparison, watched: Counts, baseline: Counts) -> bool:
    pairs = ((known.watched, watched), (known.baseline, baseline))
    return any(now.total < before.total or now.bad < before.bad for before, now in pairs)
