"""Which update may start a probe next: a limit for the cluster, one for each namespace.

Probes whose pods cannot run count against their namespace alone: what keeps them from running
seldom concerns other namespaces. The namespace with the fewest probes comes first.
"""

from __future__ import annotations

import heapq
from typing import TYPE_CHECKING

from springtide_operator.lifecycle.state.plan import TOO_MANY_PROBES, Waiting

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from springtide_operator.lifecycle.state.observation import Observation

NamespacedName = tuple[str, str]
"""Namespace and name of an update."""


def probes_in_turn(
    free: int, held: Mapping[str, int], waiting: Mapping[str, Sequence[str]], *, most: int
) -> list[NamespacedName]:
    """Return the updates that may start a probe now, in order.

    Args:
        free: probes that may be started in the cluster.
        held: probes of each namespace that have one, those that cannot run included.
        waiting: names of the updates that wait, by namespace, the longest waiting first. Of
            namespaces with equally many probes the one that is named first comes first.
        most: probes of one namespace.
    """
    heads = [
        (held.get(namespace, 0), order, namespace, 0)
        for order, (namespace, names) in enumerate(waiting.items())
        if names
    ]
    heapq.heapify(heads)
    chosen: list[NamespacedName] = []
    while heads and len(chosen) < free:
        count, order, namespace, first = heapq.heappop(heads)
        if count >= most:
            continue
        chosen.append((namespace, waiting[namespace][first]))
        if first + 1 < len(waiting[namespace]):
            heapq.heappush(heads, (count + 1, order, namespace, first + 1))
    return chosen


def wait_for_turn(seen: Observation) -> Waiting | None:
    """Why an update must wait for its turn; None: it may start a probe."""
    probes, limits = seen.probes, seen.defaults
    if probes.namespace >= limits.max_probes_per_namespace:
        message = (
            f"{probes.namespace} probes of namespace {seen.update.metadata.namespace} run or wait "
            f"for their pods; at most {limits.max_probes_per_namespace} do"
        )
        return Waiting(TOO_MANY_PROBES, message, "Probe")
    free = limits.max_probes - probes.running
    if free <= 0:
        message = f"{probes.running} probes run in the cluster; at most {limits.max_probes} do"
        return Waiting(TOO_MANY_PROBES, message, "Probe")
    if probes.ahead >= free:
        message = f"{free} more probes may run in the cluster; {probes.ahead} updates come first"
        return Waiting(TOO_MANY_PROBES, message, "Probe")
    return None
