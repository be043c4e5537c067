"""A small Kueue of the test world, with the conditions and messages of Kueue 0.14.

It makes a Workload for each Job in a queue, admits so many at a time, and stops what is evicted or
not active. It acts in turns, as its controllers do.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from springtide_operator.lifecycle.queues.observed import (
    ObservedKind,
    ObservedWorkload,
    WorkloadCondition,
)

if TYPE_CHECKING:
    from springtide_operator.lifecycle.queues.actions import ActivateWorkload, DeactivateWorkload

MISSING = ObservedKind(
    listed=False,
    unavailable="the API server does not serve workloads of kueue.x-k8s.io; install a version of "
    "Kueue that serves v1beta1, such as 0.14",
    served=False,
)
NO_QUOTA = (
    "couldn't assign flavors to pod set main: insufficient unused quota for nvidia.com/gpu in "
    "flavor l4, 1 more needed"
)
PREEMPTED = (
    "Preempted to accommodate a workload (UID: 17, JobUID: 18) due to prioritization in the "
    "ClusterQueue"
)
REQUEUES_USED_UP = "The workload is deactivated due to exceeding the maximum number of re-queuing "
REQUEUES_USED_UP += "retries"


class Queue:
    """A queue with room for some Jobs, and what its controllers do to Jobs and Workloads."""

    def install_kueue(self) -> None:
        """Kueue runs, with a place for every Job."""
        self.kueue = ObservedKind()
        """Whether the operator can read Workloads."""
        self.workloads: dict[str, ObservedWorkload] = {}
        """By name."""
        self.kueue_runs = True
        """Whether its controllers act."""
        self.queue_admits = 9
        """Jobs that have a place at one time."""

    def workload(self, job: str) -> ObservedWorkload:
        """The Workload of a Job."""
        return self.workloads[f"job-{job}"]

    def run_kueue(self) -> None:
        """One turn of its controllers, up to the Jobs."""
        if self.kueue_runs and not self.kueue.unavailable:
            self._follow_jobs()
            for name, held in list(self.workloads.items()):
                if not held.active and not held.condition("Evicted"):
                    self._evict(name, "Deactivated", "The workload is deactivated")
            self._stop_evicted()
            self._admit()

    def preempt(self, job: str, message: str = PREEMPTED) -> None:
        """A workload of a higher priority takes the place of a Job."""
        self._evict(f"job-{job}", "Preempted", message)
        self._stop_evicted()

    def deactivate_by_kueue(self, job: str, message: str = REQUEUES_USED_UP) -> None:
        """Kueue, or a user, sets spec.active to false."""
        name = f"job-{job}"
        if self.workloads[name].active:
            self.workloads[name] = replace(self.workloads[name], active=False)
            self._evict(name, "Deactivated", message)
            self._stop_evicted()

    def activate_by_user(self, job: str) -> None:
        """A user sets spec.active to true; our annotation stays."""
        name = f"job-{job}"
        self.workloads[name] = replace(self.workloads[name], active=True)

    def refuse_admission(self, job: str, reason: str, message: str) -> None:
        """Kueue reports why a Job has no place."""
        self._set(f"job-{job}", QuotaReserved=WorkloadCondition(False, reason, message))

    def _follow_jobs(self) -> None:
        """A Workload for each Job in a queue; it ends with its Job, and is deleted with it."""
        there = {job.uid for job in self.jobs.values()}
        gone = [name for name, held in self.workloads.items() if held.job_uid not in there]
        for name in gone:
            del self.workloads[name]
        for job in self.jobs.values():
            name = f"job-{job.name}"
            if not job.queue:
                continue
            if name not in self.workloads and not job.finished:
                self.workloads[name] = ObservedWorkload(
                    name=name, uid=self._uid(), job_uid=job.uid, created=self.now
                )
            elif name in self.workloads and job.finished:
                self._set(name, Finished=WorkloadCondition(True, "Succeeded", "Job finished"))

    def _evict(self, name: str, reason: str, message: str) -> None:
        self._set(name, Evicted=WorkloadCondition(True, reason, message))

    def _stop_evicted(self) -> None:
        for name, held in self.workloads.items():
            evicted = held.condition("Evicted")
            job = next((job for job in self.jobs.values() if job.uid == held.job_uid), None)
            if evicted is None or job is None or job.finished:
                continue
            self.suspend_by_another(job.name)
            if held.condition("QuotaReserved"):
                waits = WorkloadCondition(False, "Pending", evicted.message)
                none = WorkloadCondition(False, "NoReservation", "The workload has no reservation")
                self._set(name, QuotaReserved=waits, Admitted=none)

    def _admit(self) -> None:
        unfinished = {
            name: held for name, held in self.workloads.items() if not held.condition("Finished")
        }
        admitted = [name for name, held in unfinished.items() if held.condition("Admitted")]
        free = self.queue_admits - len(admitted)
        for name, held in unfinished.items():
            if name in admitted or not held.active:
                continue
            if free <= 0:
                refused = WorkloadCondition(False, "Pending", NO_QUOTA)
                self._set(name, QuotaReserved=refused)
                continue
            free -= 1
            evicted = held.condition("Evicted")
            before = WorkloadCondition(False, "QuotaReserved", "Previously evicted")
            self._set(
                name,
                QuotaReserved=WorkloadCondition(True, "QuotaReserved", "Quota reserved in gpus"),
                Admitted=WorkloadCondition(True, "Admitted", "The workload is admitted"),
                **({"Evicted": before} if evicted else {}),
            )
            job = next(job for job in self.jobs.values() if job.uid == held.job_uid)
            self.suspend_by_another(job.name, suspend=False)

    def _set(self, name: str, **conditions: WorkloadCondition) -> None:
        held = self.workloads[name]
        self.workloads[name] = replace(held, conditions={**held.conditions, **conditions})

    # What the operator writes.

    def _deactivate(self, action: DeactivateWorkload) -> bool:
        """Deactivate a Workload; False where a test of the patch fails."""
        held = self.workloads.get(action.name)
        if held is None or held.uid != action.uid or not held.active:
            self._observe_own_write("workloads", action.name)
            return False
        self.workloads[action.name] = replace(held, active=False, deactivated_by_us=True)
        self._observe_own_write("workloads", action.name)
        return True

    def _activate(self, action: ActivateWorkload) -> bool:
        """Activate a Workload; False where a test of the patch fails."""
        held = self.workloads.get(action.name)
        if held is None or held.uid != action.uid or not held.deactivated_by_us:
            self._observe_own_write("workloads", action.name)
            return False
        changes = {"active": True, "deactivated_by_us": False, "resumed": action.at}
        self.workloads[action.name] = replace(held, **changes)
        self._observe_own_write("workloads", action.name)
        return True
