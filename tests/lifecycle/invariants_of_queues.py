"""Invariants of Jobs in a queue of Kueue: who suspends them, and what the operator may undo."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lifecycle.generation_facts import pinned_of

from springtide_operator.lifecycle.queues.actions import ActivateWorkload, DeactivateWorkload

if TYPE_CHECKING:
    from collections.abc import Iterator

    from lifecycle.world import World

    from springtide_operator.lifecycle.queues.actions import QueueAction
    from springtide_operator.lifecycle.state.observation import Observation
    from springtide_operator.lifecycle.state.observed import ObservedJob
    from springtide_operator.lifecycle.state.plan import StartJob, SuspendJob

QUEUED_STAGES = {"train", "evaluate"}


class QueueInvariants:
    """Checks writes to Jobs and Workloads, and Workloads at rest."""

    world: World

    def a_job_in_a_queue_is_kueues(self, seen: Observation, action: SuspendJob) -> None:
        job = seen.job(action.name)
        assert job is None or not job.queue

    def a_job_is_created_in_the_queue_of_the_spec(self, seen: Observation, start: StartJob) -> None:
        named = seen.update.spec.training.compute.queue_name
        queue = start.placement.queue_name if start.placement else None
        assert queue == (named if start.run.stage in QUEUED_STAGES else None)
        assert not (queue and (seen.kueue.unavailable or not seen.kueue.listed))

    def only_what_the_operator_deactivated_is_activated(
        self, seen: Observation, action: QueueAction
    ) -> None:
        (known,) = [each for each in seen.workloads if each.name == action.name]
        job = next((job for job in seen.jobs if job.uid == known.job_uid), None)
        if isinstance(action, ActivateWorkload):
            assert known.deactivated_by_us
            assert not _held(seen)
            self.nothing_begins_beyond_the_budget(seen, job.gpus if job else 0)
        if isinstance(action, DeactivateWorkload):
            assert known.active
            limits = seen.update.spec.training.limits
            assert _held(seen) or limits.max_gpu_seconds_per_day is not None

    def no_attempt_is_counted_for_the_queue(self, failures: int) -> None:
        """Preemptions and evictions count as no failure, and start no attempt."""
        for g in self.ours():
            for run in filter(None, (g.status.training, g.status.evaluation)):
                assert run.failed_attempts <= failures

    def workloads_follow_the_update_at_rest(self) -> None:
        """While it is held, none of its Jobs can be admitted; else none is kept back for that."""
        world = self.world
        if world.kueue.unavailable or not world.kueue.listed:
            return
        held = _held(world.seen())
        limited = world.update.spec.training.limits.max_gpu_seconds_per_day is not None
        for job in self._recorded_jobs():
            for workload in world.workloads.values():
                if workload.job_uid != job.uid or workload.condition("Finished"):
                    continue
                if held:
                    assert not workload.active
                elif not limited:
                    assert not workload.deactivated_by_us

    def may_not_be_admitted(self, job: ObservedJob) -> bool:
        """Whether no Workload of a Job is active, as far as the operator can reach them."""
        own = [each for each in self.world.workloads.values() if each.job_uid == job.uid]
        return bool(self.world.kueue.unavailable) or not any(each.active for each in own)

    def reasons_of_queues(self) -> Iterator[str]:
        """Why a user must act for a queue."""
        world = self.world
        named = world.update.spec.training.compute.queue_name
        jobs = [job for job in world.jobs.values() if job.queue and not job.finished]
        own = [job for job in jobs if job.owner_uid == world.update.metadata.uid]
        if world.kueue.unavailable and (named or own):
            yield "Kueue is missing"
        if world.kueue.unavailable or _held(world.seen()):
            return
        for job in self._recorded_jobs():
            for workload in world.workloads.values():
                if workload.job_uid != job.uid or not job.suspended or workload.deactivated_by_us:
                    continue
                quota = workload.conditions.get("QuotaReserved")
                if not workload.active:
                    yield "a Workload that Kueue deactivated"
                elif quota and quota.reason == "Inadmissible":
                    yield "a queue that admits nothing"

    def _recorded_jobs(self) -> Iterator[ObservedJob]:
        """Jobs in a queue whose outcome still counts."""
        recorded = set()
        for g in self.ours():
            if g.status.verdict in {"Pending", "Inconclusive"} and not g.status.retired_reason:
                stage = g.status.evaluation if g.status.artifact else g.status.training
                recorded |= {stage.job_uid} if stage else set()
        own = self.world.update.metadata.uid
        for job in self.world.jobs.values():
            mine = job.owner_uid == own and job.uid in recorded
            if mine and job.queue and not (job.finished or job.deleting):
                yield job


def _held(seen: Observation) -> bool:
    return seen.update.spec.suspend or pinned_of(seen.update, list(seen.generations)) is not None
