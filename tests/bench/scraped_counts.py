"""What is fed to the comparison of a canary: counts that were scraped, or Prometheus' `increase`.

    python tests/bench/scraped_counts.py [runs]

Both generations fail 2 % of their requests, so that every finding is a false alarm. Counters are
scraped and asked for as in a cluster: one canary pod and three live ones with nine times its
requests, each scraped at its own moments. `increase` is computed as Prometheus does: it
extrapolates to the edges of the time that is asked about, so a look soon after the start sees
requests twice.

With 1,000 runs of 100 looks, `increase` finds 2.4 to 6.6 %, the most with 10 requests a second, a
look every 5 s and a scrape every 30 s; counts that were scraped find 0.4 to 2.3 %.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from springtide_judging.two_binomials import Counts, Evidence, look

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    Array = NDArray[np.float64]

RATE = 0.02
LIVE_PODS, LIVE_SHARE = 3, 9
LOOKS = 100
AT_ONCE = 50
"""Runs with the same moments of scrapes."""


@dataclass(frozen=True)
class Pod:
    """Its counters of good and of bad requests at each scrape, in many runs."""

    times: Array
    good: Array
    bad: Array


def pod(random: np.random.Generator, per_second: float, scrape: float, seconds: float) -> Pod:
    """A pod that gets requests from moment 0 on, and was scraped before."""
    times = np.arange(random.uniform(-scrape, 0.0), seconds, scrape)
    between = np.diff(np.maximum(times, 0.0), prepend=0.0)
    requests = random.poisson((between * per_second)[:, None], (len(times), AT_ONCE))
    bad = random.binomial(requests, RATE)
    return Pod(times, (requests - bad).cumsum(axis=0), bad.cumsum(axis=0))


def scraped(counter: Array, times: Array, until: float) -> Array | None:
    """The last value minus the first."""
    there = np.nonzero((times > 0.0) & (times <= until))[0]
    return counter[there[-1]] - counter[there[0]] if len(there) else None


def increase(counter: Array, times: Array, until: float) -> Array | None:
    """As Prometheus extrapolates it from moment 0 to another."""
    there = np.nonzero((times > 0.0) & (times <= until))[0]
    if len(there) < 2:
        return None
    first, last = counter[there[0]], counter[there[-1]]
    grown, lasted = last - first, times[there[-1]] - times[there[0]]
    mean = lasted / (len(there) - 1)
    to_zero = lasted * first / np.maximum(grown, 1e-12)
    before = np.where(grown > 0, np.minimum(times[there[0]], to_zero), times[there[0]])
    before = np.where(before < 1.1 * mean, before, mean / 2)
    after = until - times[there[-1]]
    return grown * (lasted + before + (after if after < 1.1 * mean else mean / 2)) / lasted


def false_alarms(
    count: Callable[[Array, Array, float], Array | None],
    *,
    per_second: float,
    every: float,
    scrape: float,
    runs: int,
) -> float:
    """The share of runs in which equal generations are distinguished."""
    random, found = np.random.default_rng(1), 0
    for _ in range(runs // AT_ONCE):
        live = per_second * LIVE_SHARE / LIVE_PODS
        make = partial(pod, random, scrape=scrape, seconds=every * LOOKS)
        found += _found(count, [make(per_second)], [make(live) for _ in range(LIVE_PODS)], every)
    return found / (runs // AT_ONCE * AT_ONCE)


def _found(
    count: Callable[[Array, Array, float], Array | None],
    canary: list[Pod],
    live: list[Pod],
    every: float,
) -> int:
    states, regressed = [Evidence() for _ in range(AT_ONCE)], [False] * AT_ONCE
    for number in range(1, LOOKS + 1):
        sides = [_sums(count, pods, number * every) for pods in (canary, live)]
        for run in range(AT_ONCE if all(sides) else 0):
            if not regressed[run]:
                counts = [
                    Counts(int(bad[run]), int(total[run])) for bad, total in filter(None, sides)
                ]
                states[run] = look(states[run], *counts, max_regression=0.0)
                regressed[run] = states[run].regressed()
    return sum(regressed)


def _sums(
    count: Callable[[Array, Array, float], Array | None], pods: list[Pod], until: float
) -> tuple[Array, Array] | None:
    """Bad and all requests of one side; None: not scraped often enough."""
    good = [count(each.good, each.times, until) for each in pods]
    bad = [count(each.bad, each.times, until) for each in pods]
    if any(each is None for each in good):
        return None
    failed = sum(filter(lambda each: each is not None, bad)) + 1e-6
    return np.floor(failed), np.floor(failed + sum(good))


def main(runs: int) -> None:
    """Print the table."""
    heads = ("requests/s", "look every", "scrape every", "increase", "scraped")
    print("".join(f"{head:>14}" for head in heads))
    for per_second, every, scrape in (
        (1, 5, 30),
        (1, 30, 60),
        (10, 5, 30),
        (10, 30, 60),
        (1, 60, 15),
    ):
        found = [
            false_alarms(count, per_second=per_second, every=every, scrape=scrape, runs=runs)
            for count in (increase, scraped)
        ]
        cells = (f"{per_second}", f"{every} s", f"{scrape} s", *(f"{each:.1%}" for each in found))
        print("".join(f"{cell:>14}" for cell in cells), flush=True)


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 1000)
