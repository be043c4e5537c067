"""Invariants of GPU seconds: nothing begins beyond the budget, nothing is counted twice."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from datetime import datetime

    from lifecycle.world import World

    from springtide_api.objects import ModelGeneration
    from springtide_operator.lifecycle.state.observation import Observation

DAY = 24 * 3600


class GpuInvariants:
    """Checks what begins, and the sums of every status."""

    world: World

    def nothing_begins_beyond_the_budget(self, seen: Observation, gpus: int) -> None:
        """By the statuses that the decision was made on, and its moment."""
        most = seen.update.spec.training.limits.max_gpu_seconds_per_day
        if most is not None and gpus:
            used = sum(_used_within_a_day(g, seen.now) for g in seen.generations)
            assert used < most + 1e-6

    def gpu_seconds_grow(self, old: ModelGeneration, new: ModelGeneration) -> None:
        assert new.status.gpu_seconds >= old.status.gpu_seconds
        for before, after in (
            (old.status.training, new.status.training),
            (old.status.evaluation, new.status.evaluation),
        ):
            if before and after:
                assert after.gpu_seconds >= before.gpu_seconds

    def gpu_seconds_are_at_most_what_pods_used(self) -> None:
        """Of an update that counts again as well: each of its generations once."""
        counters, uid = self.world.update.status.counters, self.world.update.metadata.uid
        used = 0.0
        for pod, (_, began, ended) in self.world.ran.items():
            seconds = ((ended or self.world.now) - began).total_seconds()
            used += seconds * self.world.gpus[pod]
        assert counters.gpu_seconds <= used
        known = self.gpu_seconds_counted.get(uid, 0)
        assert counters.gpu_seconds >= known
        self.gpu_seconds_counted[uid] = counters.gpu_seconds

    def no_gpu_second_is_lost(self) -> None:
        """At rest: each pod that a status ever named counts for as long as it ran.

        Of a restored update, the end of a pod whose Job is gone is unknown.
        """
        open_now = set()
        for g in self.ours():
            for run in filter(None, (g.status.training, g.status.evaluation)):
                self.gpu_pods |= {pod.uid for pod in run.pods if pod.gpus}
                open_now |= {pod.uid for pod in run.pods if pod.ended_at is None}
        counted = self.gpu_seconds_counted
        if self.records_lost or self.clock_was_set_back or len(counted) > 1:
            return
        ran = [(pod, *self.world.ran[pod]) for pod in self.gpu_pods - open_now]
        ended = [(pod, (end - began).total_seconds()) for pod, _, began, end in ran if end]
        used = sum(seconds * self.world.gpus[pod] for pod, seconds in ended)
        assert self.world.update.status.counters.gpu_seconds >= used


def _used_within_a_day(g: ModelGeneration, now: datetime) -> float:
    used = 0.0
    for run in filter(None, (g.status.training, g.status.evaluation)):
        ended = [(r.started_at, r.ended_at, r.gpu_seconds) for r in run.gpu_runs]
        for pod in run.pods:
            until = pod.ended_at or now
            whole = max((until - pod.started_at).total_seconds(), 0)
            ended.append((pod.started_at, until, whole * pod.gpus))
        for start, end, seconds in ended:
            if (end - now).total_seconds() > 60:
                continue  # ahead of a clock that was set back
            whole = (end - start).total_seconds()
            ages = [min(max((now - moment).total_seconds(), 0), DAY) for moment in (start, end)]
            used += seconds * (ages[0] - ages[1]) / whole if whole > 0 else 0
    return used
