"""The probes of the whole cluster, and which updates wait for their turn to start one.

The waiting updates are kept in memory alone: after a restart each gets its place again.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING

from springtide_operator.cluster.api.kinds import JOB, POD
from springtide_operator.cluster.api.objects import moment
from springtide_operator.cluster.reading.observed_jobs import why_waiting
from springtide_operator.cluster.watching.watches import PROBE, pods_of_job
from springtide_operator.lifecycle.probing.probe_turns import probes_in_turn
from springtide_operator.lifecycle.state.observed import ProbeCounts

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

    from springtide_operator.cluster.api.kinds import Raw
    from springtide_operator.cluster.watching.cache import Cache, NamespacedName
    from springtide_operator.lifecycle.state.observed import Defaults

PODLESS = timedelta(minutes=1)
"""A quota or admission prevents the pod of a Job that has none after this time."""


@dataclass
class ProbeSlots:
    """Counts probes, and decides which update is next."""

    cache: Cache
    limits: Defaults
    now: Callable[[], datetime]
    _starting: Counter[str] = field(default_factory=Counter)
    _waiting: dict[str, dict[str, None]] = field(default_factory=dict)
    """By namespace and name; namespaces whose turn was longest ago, updates that wait longest."""
    _woken: set[NamespacedName] = field(default_factory=set)

    def seen(self, namespace: str, name: str) -> ProbeCounts:
        """Return what counts for the turn of one update."""
        running, own = self._running(), self._held(namespace)
        free = self.limits.max_probes - running
        ahead = 0
        if self._waiting and free > 0 and own < self.limits.max_probes_per_namespace:
            ahead = self._ahead(free, namespace, name)
        return ProbeCounts(running, own, ahead)

    def start(self, namespace: str, count: int) -> None:
        """Count probes that are decided and not created yet; negative: they are created now."""
        self._starting[namespace] += count
        if count > 0 and namespace in self._waiting:
            self._waiting[namespace] = self._waiting.pop(namespace)
        if not self._starting[namespace]:
            del self._starting[namespace]

    def wait(self, namespace: str, name: str, *, waits: bool) -> None:
        """Note whether an update waits for its turn."""
        self._woken.discard((namespace, name))
        if waits:
            self._waiting.setdefault(namespace, {}).setdefault(name)
        elif name in self._waiting.get(namespace, ()):
            del self._waiting[namespace][name]
            if not self._waiting[namespace]:
                del self._waiting[namespace]

    def next(self) -> list[NamespacedName]:
        """Return the updates whose turn has come since this was asked last."""
        free = self.limits.max_probes - self._running() if self._waiting else 0
        if free <= 0:
            return []
        come = [place for place in self._turns(free, self._waiting) if place not in self._woken]
        self._woken.update(come)
        return come

    def _ahead(self, free: int, namespace: str, name: str) -> int:
        waiting = self._waiting
        if name not in waiting.get(namespace, ()):
            waiting = {**waiting, namespace: {**waiting.get(namespace, {}), name: None}}
        come = self._turns(free, waiting)
        return come.index((namespace, name)) if (namespace, name) in come else len(come)

    def _turns(self, free: int, waiting: dict[str, dict[str, None]]) -> list[NamespacedName]:
        most = self.limits.max_probes_per_namespace
        held = {namespace: self._held(namespace) for namespace in waiting}
        # No more than `most` of one namespace can come.
        first = {namespace: _first(names, most) for namespace, names in waiting.items()}
        return probes_in_turn(free, held, first, most=most)

    def _held(self, namespace: str) -> int:
        return self.cache.stores[JOB].count((PROBE, namespace)) + self._starting[namespace]

    def _running(self) -> int:
        """Count what runs or starts, of each namespace what it may have: users can label Jobs."""
        running = Counter(self._starting)
        for raw in self.cache.stores[JOB].by_index(PROBE):
            if not self._cannot_run(raw):
                running[raw["metadata"]["namespace"]] += 1
        most = self.limits.max_probes_per_namespace
        return sum(min(count, most) for count in running.values())

    def _cannot_run(self, job: Raw) -> bool:
        """Whether scheduler, kubelet or admission keep its pod from running."""
        metadata = job["metadata"]
        pods = self.cache.stores[POD].by_index(pods_of_job(metadata["namespace"], metadata["name"]))
        if not pods:
            return self.now() - moment(metadata["creationTimestamp"]) > PODLESS
        return all(map(why_waiting, pods))


def _first(names: dict[str, None], count: int) -> list[str]:
    return [name for name, _ in zip(names, range(count), strict=False)]
