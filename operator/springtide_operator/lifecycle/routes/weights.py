"""The weights of an HTTPRoute: a share of the requests in whole numbers, and what is written.

Only the two weights of each rule that names both Services are ever written. Their sum is that of
the owner: other backends of a rule keep their share.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from springtide_operator.lifecycle.routes.observed import Backend, ObservedRoute

CANARY = "-canary"

MAX_ERROR = 0.5
"""Points by which a weight in whole numbers may miss the share that was asked for."""


def canary_service(service: str) -> str:
    """The name of the Service of the canary's pods."""
    return f"{service}{CANARY}"


def split(total: int, percent: int) -> tuple[int, int]:
    """The weights of Service and canary for a share of the canary in percent; 50/100 rounds up."""
    canary = (2 * total * percent + 100) // 200
    return total - canary, canary


def error_of(total: int, percent: int) -> float:
    """By how many points `split` misses a share."""
    return abs(100 * split(total, percent)[1] / total - percent) if total else float(percent)


@dataclass(frozen=True)
class WeightChange:
    """One weight to write, if it is unchanged until then."""

    rule: int
    index: int
    service: str
    before: int
    after: int


def pairs(route: ObservedRoute, service: str) -> dict[int, tuple[Backend, Backend]]:
    """Service and canary of each rule that names both, by the index of the rule."""
    found = {}
    for rule in route.rules_of(service):
        stable, canary = route.of_rule(rule, service), route.of_rule(rule, canary_service(service))
        if stable is not None and canary is not None:
            found[rule] = stable, canary
    return found


def expected(
    backends: tuple[Backend, Backend], totals: Mapping[int, int], percent: int
) -> tuple[int, int]:
    """The weights of Service and canary of a rule; one that is not recorded keeps its sum.

    Args:
        backends: Service and canary.
        totals: the recorded weight of the Service in each rule.
        percent: share of the canary.
    """
    total = totals.get(backends[0].rule) or max(1, sum(each.weight for each in backends))
    return split(total, percent)


def changes(
    route: ObservedRoute, service: str, totals: Mapping[int, int], percent: int
) -> tuple[WeightChange, ...]:
    """What to write so that the canary gets a share of the requests; empty: it has it.

    Args:
        route: as it is.
        service: the owner's Service.
        totals: the recorded weight of the Service in each rule; of others their present sum counts.
        percent: share of the canary.
    """
    made: list[WeightChange] = []
    for rule, backends in pairs(route, service).items():
        for backend, weight in zip(backends, expected(backends, totals, percent), strict=True):
            changed = WeightChange(rule, backend.index, backend.name, backend.weight, weight)
            made.append(changed)
    return tuple(made) if any(each.before != each.after for each in made) else ()


def unexpected(
    route: ObservedRoute, service: str, totals: Mapping[int, int], percents: Iterable[int]
) -> tuple[Backend, Backend] | None:
    """Service and canary of the first rule whose weights are none of these shares; None: all are.

    Args:
        route: as it is.
        service: the owner's Service.
        totals: the recorded weight of the Service in each rule.
        percents: shares that were written.
    """
    shares = list(percents)
    for stable, canary in pairs(route, service).values():
        known = [expected((stable, canary), totals, share) for share in shares]
        if (stable.weight, canary.weight) not in known:
            return stable, canary
    return None
