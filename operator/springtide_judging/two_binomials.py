"""Compares the error rates of two streams of requests, at any number of looks.

The test bets on the canary's regression at each look; its wealth stays below 20 with probability
95 % where there is none, however often it is looked at. E-variables of two Bernoulli streams:
Turner, Ly and Gruenwald 2024, "Generic E-variables for exact sequential k-sample tests that allow
for optional stopping".
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import exp, log

ERROR = 0.05
"""Probability of a false alarm over all looks together."""

REGRESSIONS = ((1.5, 0.25), (2.25, 0.5), (5.0, 0.25))
"""What is bet on: how many times the allowed rate the canary fails, and the share of the stake.
Chosen by simulation: errors doubled from 2 to 4 % are found soonest, others not much later."""


@dataclass(frozen=True)
class Counts:
    """Requests of one side since the comparison began."""

    bad: int = 0
    total: int = 0


@dataclass(frozen=True)
class Evidence:
    """What is known after a look; the next look starts from it.

    Args:
        canary: Counts of the canary at that look.
        stable: Counts of the stable generation.
        earlier: Requests of the stable generation before the comparison; they estimate its rate.
        wealth: Logarithm of what each bet of `REGRESSIONS` has made of its stake.
    """

    canary: Counts = Counts()
    stable: Counts = Counts()
    earlier: Counts = Counts()
    wealth: tuple[float, ...] = (0.0,) * len(REGRESSIONS)

    @property
    def e_value(self) -> float:
        """What all bets together have made of a stake of 1: evidence of a regression."""
        known = zip(REGRESSIONS, self.wealth, strict=True)
        return sum(share * exp(min(each, 700.0)) for (_, share), each in known)

    def regressed(self, error: float = ERROR) -> bool:
        """Return whether the canary fails more often than is allowed."""
        return self.e_value >= 1.0 / error


def look(before: Evidence, canary: Counts, stable: Counts, *, max_regression: float) -> Evidence:
    """Add the requests since the last look.

    The rate of the stable generation is estimated by what was known before this look, so the first
    one bets nothing without `earlier`. Counts that fell, as extrapolated counters do, and a side
    without requests add nothing.

    Args:
        before: The evidence so far.
        canary: All requests of the canary since the comparison began.
        stable: All requests of the stable generation since then.
        max_regression: The rate of the canary may be higher by this much: 0.005 is half a
            percentage point.
    """
    new_canary, new_stable = _since(before.canary, canary), _since(before.stable, stable)
    after = replace(
        before, canary=_sum(before.canary, new_canary), stable=_sum(before.stable, new_stable)
    )
    known = _sum(before.earlier, before.stable)
    if not known.total or not new_canary.total:
        return after
    rate = (known.bad + 0.5) / (known.total + 1.0)
    gains = (
        _gain(new_canary, new_stable, rate, factor, allowed=max_regression)
        for factor, _ in REGRESSIONS
    )
    wealth = tuple(each + gain for each, gain in zip(before.wealth, gains, strict=True))
    return replace(after, wealth=wealth)


def _since(before: Counts, now: Counts) -> Counts:
    total = max(0, now.total - before.total)
    return Counts(min(total, max(0, now.bad - before.bad)), total)


def _sum(one: Counts, other: Counts) -> Counts:
    return Counts(one.bad + other.bad, one.total + other.total)


def _gain(canary: Counts, stable: Counts, rate: float, factor: float, *, allowed: float) -> float:
    """Logarithm of the e-variable of one look, for one bet.

    Likelihood of the bet over that of the nearest pair of rates without a regression. Nearest by
    the divergence that is weighted by the requests of both sides: then no pair of rates without a
    regression expects a gain, because they are a convex set.
    """
    most = min(rate + allowed, 1.0)
    bet = min(factor * most, (1.0 + most) / 2.0)
    if bet <= most:
        return 0.0
    nearest = _nearest(bet, rate, canary.total, stable.total, allowed=allowed)
    return _log_ratio(canary, bet, nearest + allowed) + _log_ratio(stable, rate, nearest)


def _log_ratio(counts: Counts, numerator: float, denominator: float) -> float:
    good = counts.total - counts.bad
    return counts.bad * log(numerator / denominator) + good * log(
        (1.0 - numerator) / (1.0 - denominator)
    )


def _nearest(bet: float, rate: float, canary: int, stable: int, *, allowed: float) -> float:
    """The stable rate of the nearest pair: the canary's is higher by exactly `allowed`."""
    if not allowed:
        return (canary * bet + stable * rate) / (canary + stable)
    low, high = rate, bet - allowed  # the slope is at most 0 at one end, at least 0 at the other
    for _ in range(40):
        middle = (low + high) / 2.0
        slope = canary * _slope(bet, middle + allowed) + stable * _slope(rate, middle)
        low, high = (middle, high) if slope < 0.0 else (low, middle)
    return (low + high) / 2.0


def _slope(rate: float, at: float) -> float:
    """Derivative of the divergence of a Bernoulli rate from another, by the other."""
    return (at - rate) / (at * (1.0 - at))
