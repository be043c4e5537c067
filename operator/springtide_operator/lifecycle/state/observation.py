"""Everything known about one update, read once and frozen: the input of `decide`.

Facts come from spec, generations, Jobs, Pods and Deployments; nothing here is read from a phase.
`cluster/reading/observer.py` fills these in.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cached_property
from typing import TYPE_CHECKING

from springtide_operator.lifecycle.queues.observed import ObservedKind
from springtide_operator.lifecycle.state.lineage import derive
from springtide_operator.lifecycle.state.observed import ProbeCounts

if TYPE_CHECKING:
    from collections.abc import Mapping

    from springtide_api.objects import IncrementalUpdate, Meta, ModelGeneration
    from springtide_api.update.status import UpdateStatus
    from springtide_operator.lifecycle.queues.observed import ObservedWorkload
    from springtide_operator.lifecycle.routes.observed import ObservedRouting
    from springtide_operator.lifecycle.state.lineage import Lineage
    from springtide_operator.lifecycle.state.observed import (
        Defaults,
        ObservedCanary,
        ObservedJob,
        ObservedProgress,
        ObservedSample,
        ObservedTarget,
        Refusal,
    )

NEVER = datetime.max.replace(tzinfo=UTC)


@dataclass(frozen=True)
class Observation:
    """Everything known about one update, read once."""

    update: IncrementalUpdate
    generations: tuple[ModelGeneration, ...]
    """All whose spec.updateRef.name is this update's, by number, whatever their uid label."""
    jobs: tuple[ObservedJob, ...]
    targets: tuple[ObservedTarget, ...]
    """In the order of spec.rollout.targets."""
    defaults: Defaults
    removed_targets: tuple[ObservedTarget, ...] = ()
    """Targets of the rollout in progress that the spec no longer names."""
    canaries: tuple[ObservedCanary, ...] = ()
    """Deployments of canaries of this update, and those that have the name of one."""
    routings: Mapping[str, ObservedRouting] = field(default_factory=dict)
    """With traffic Gateway: the way of the requests to each target, by its name. In a rollout, the
    one that was recorded at its start."""
    kueue: ObservedKind = field(default_factory=ObservedKind)
    """Whether Workloads of Kueue can be read."""
    job_sets: ObservedKind = field(default_factory=ObservedKind)
    """Whether JobSets can be read."""
    workloads: tuple[ObservedWorkload, ...] = ()
    """Workloads of those Jobs that are in a queue."""
    digests_elsewhere: frozenset[str] = frozenset()
    """Digests on Deployments that are no longer targets and still have our label."""
    progress: dict[str, ObservedProgress] = field(default_factory=dict)
    """By the name of the Job."""
    samples: tuple[ObservedSample, ...] = ()
    """What was measured last for each metric of rollout.analysis."""
    probes: ProbeCounts = field(default_factory=ProbeCounts)
    namespace_terminating: bool = False
    refusals: tuple[Refusal, ...] = ()
    """Recently refused writes."""
    now: datetime = NEVER
    """The moment of the decision; `decide` sets it."""

    def refusal(self, subject: str) -> Refusal | None:
        """The refusal of a write, if it was refused recently."""
        return next((each for each in self.refusals if each.subject == subject), None)

    @cached_property
    def lineage(self) -> Lineage:
        """The lineage, derived once for all that read this observation."""
        return derive(self.update, self.generations, self.targets)

    def job(self, name: str) -> ObservedJob | None:
        """The Job of that name, if it is ours."""
        for job in self.jobs:
            if job.name == name and job.owner_uid == self.update.metadata.uid:
                return job
        return None

    def workload(self, job: ObservedJob) -> ObservedWorkload | None:
        """The Workload of a Job; Kueue deletes all but one, of several it is the newest."""
        own = [each for each in self.workloads if each.job_uid == job.uid]
        return max(own, key=lambda each: each.created, default=None)


@dataclass(frozen=True)
class InvalidUpdate:
    """An update that is invalid, or whose generations are: nothing can be decided."""

    metadata: Meta
    status: UpdateStatus
    """As far as it can be read."""
    problems: tuple[str, ...]
    """What is wrong, each with the path of its field."""
    remedy: str = "change it"
