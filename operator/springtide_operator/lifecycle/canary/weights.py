"""How many canary pods a weight needs, and which weights whole pods can express."""

from __future__ import annotations

TOLERANCE = 5.0
"""Percentage points by which the share of whole pods may differ from a weight."""


def canary_pods(weight: int, pods: int) -> int:
    """The number of canary pods whose share among all pods is nearest to a weight.

    Args:
        weight: share in percent.
        pods: pods of the target, which it keeps.
    """
    exact = pods * weight // (100 - weight)
    counts = (max(exact, 1), exact + 1)
    return min(counts, key=lambda count: abs(share(count, pods) - weight))


def share(canary: int, pods: int) -> float:
    """The share of canary pods among all pods, in percent."""
    return 100 * canary / (canary + pods)


def is_expressible(weight: int, pods: int) -> bool:
    """Whether whole pods reach a weight within the tolerance."""
    return abs(share(canary_pods(weight, pods), pods) - weight) <= TOLERANCE


def nearest_weights(weight: int, pods: int) -> list[int]:
    """The weights next to one that whole pods reach, in whole percent."""
    count = canary_pods(weight, pods)
    counts = {max(count - 1, 1), count, count + 1}
    return sorted({min(round(share(each, pods)), 99) for each in counts})
