"""How often a canary is found worse than the stable generation, by simulation.

    python tests/bench/false_rollbacks.py [runs]

Requests fail independently; the canary gets one request in ten. Equal generations are compared
every minute for a day, others until the canary has had 1,000 or 3,000 requests. The comparison is
that of the operator. `at the end` is a plain one-sided test of two binomials at 5 % that looks
once, after the last request. `earlier` are requests that the stable generation had before.
In a bake with holdback 10 the sides are the other way round: nine requests in ten are compared with
one of the previous generation, 600 in each minute.

With 1,000 runs, equal generations are rejected on 0.7 to 3.4 % of the days. Errors doubled from 2
to 4 % are found within 1,000 canary requests in 86, 84 and 80 % of the runs (a look after every 10,
50 and 100 of them), in 84 % with 100 and 9,000 earlier requests; the plain test that looks once
finds 97 %. Where 0.5 or 1 point is allowed, 45 to 55 % and 16 to 23 % are found; within 3,000
requests 94 and 54 to 61 %.

In the bake, with 400 runs, equal generations are rejected on 0.5 to 5.2 % of the days, with a
standard error of 1.1 points. Errors doubled from 2 to 4 % are found within an hour in all runs but
one, in the median after 10 minutes; 3 % in place of 2 % in 83 % of them.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from math import sqrt

import numpy as np

from springtide_judging.two_binomials import Counts, Evidence, look

STABLE_SHARE = 9
"""Requests of the stable generation for each of the canary."""

HELD_BACK = 1 / 9
"""Requests of the previous generation for each of the promoted one, with bake.holdback 10."""

MINUTES = 24 * 60


@dataclass(frozen=True)
class Traffic:
    """What both sides do."""

    canary: float
    """Rate of failed requests of the canary."""
    stable: float
    per_look: int
    """Requests of the canary between two looks."""
    looks: int
    max_regression: float = 0.0
    earlier: int = 0
    """Requests of the stable generation before the comparison."""
    stable_share: float = STABLE_SHARE
    """Requests of the stable generation for each of the canary."""


@dataclass(frozen=True)
class Found:
    """What became of the runs."""

    runs: int
    at_look: tuple[int, ...]
    """At which look the canary was found worse, for the runs where it was."""
    at_end: int
    """How many runs the plain test finds that looks once."""

    @property
    def share(self) -> float:
        return len(self.at_look) / self.runs


def simulate(traffic: Traffic, *, runs: int, seed: int = 0) -> Found:
    """Compare both sides in every run, look by look."""
    random = np.random.default_rng(seed)
    at_look, at_end = [], 0
    sizes = traffic.per_look, round(traffic.per_look * traffic.stable_share)
    for _ in range(runs):
        canary = random.binomial(sizes[0], traffic.canary, traffic.looks).cumsum().tolist()
        stable = random.binomial(sizes[1], traffic.stable, traffic.looks).cumsum().tolist()
        earlier = Counts(int(random.binomial(traffic.earlier, traffic.stable)), traffic.earlier)
        start = Evidence(earlier=earlier)
        found = _first_alarm(start, canary, stable, sizes, allowed=traffic.max_regression)
        if found is not None:
            at_look.append(found)
        at_end += _plain(canary[-1], stable[-1], [size * traffic.looks for size in sizes], traffic)
    return Found(runs, tuple(at_look), at_end)


def _first_alarm(
    evidence: Evidence,
    canary: list[int],
    stable: list[int],
    sizes: tuple[int, int],
    *,
    allowed: float,
) -> int | None:
    for index, (one, other) in enumerate(zip(canary, stable, strict=True), 1):
        now = Counts(one, sizes[0] * index), Counts(other, sizes[1] * index)
        evidence = look(evidence, *now, max_regression=allowed)
        if evidence.regressed():
            return index
    return None


def _plain(canary: int, stable: int, totals: list[int], traffic: Traffic) -> bool:
    """Whether the difference is 1.645 standard errors above what is allowed."""
    one, other = canary / totals[0], stable / totals[1]
    pooled = (canary + stable) / sum(totals)
    spread = sqrt(max(pooled * (1 - pooled), 1e-12) * (1 / totals[0] + 1 / totals[1]))
    return one - other - traffic.max_regression > 1.6449 * spread


def main(runs: int) -> None:
    """Print the table."""
    print(f"{runs} runs; a share of 5 % has a standard error of {sqrt(0.0475 / runs):.1%}")
    heads = ("canary", "stable", "allowed", "looks", "requests", "earlier", "found", "median after")
    print("".join(f"{head:>14}" for head in (*heads, "at the end")))
    for stable, per_look in ((0.02, 10), (0.02, 60), (0.001, 60), (0.3, 60)):
        _line(Traffic(stable, stable, per_look, MINUTES, earlier=540), runs)
    print("in a bake with holdback 10:")
    for stable in (0.02, 0.001, 0.3):
        _line(Traffic(stable, stable, 540, MINUTES, stable_share=HELD_BACK), runs)
    for canary in (0.04, 0.03):
        _line(Traffic(canary, 0.02, 540, 60, stable_share=HELD_BACK), runs)
    print("in the steps of a canary:")
    for requests in (1000, 3000):
        for canary, allowed in ((0.04, 0.0), (0.04, 0.005), (0.04, 0.01), (0.03, 0.0), (0.1, 0.01)):
            for per_look, earlier in ((10, 0), (50, 0), (100, 0), (100, 9000)):
                looks = requests // per_look
                _line(Traffic(canary, 0.02, per_look, looks, allowed, earlier), runs)


def _line(traffic: Traffic, runs: int) -> None:
    found = simulate(traffic, runs=runs)
    after = np.median(found.at_look) * traffic.per_look if found.at_look else float("nan")
    cells = (
        *(f"{rate:.1%}" for rate in (traffic.canary, traffic.stable, traffic.max_regression)),
        *(f"{n:,}" for n in (traffic.looks, traffic.looks * traffic.per_look, traffic.earlier)),
        f"{found.share:.1%}",
        f"{after:,.0f}",
        f"{found.at_end / runs:.1%}",
    )
    print("".join(f"{cell:>14}" for cell in cells), flush=True)


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 1000)
