"""Workloads of Kueue as an observation holds them, and whether they can be read at all.

Plain frozen values; `cluster/reading` creates them from raw objects. Conditions and their messages
are Kueue's own (its API v1beta1).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime


@dataclass(frozen=True)
class WorkloadCondition:
    """A condition of a Workload."""

    true: bool
    reason: str = ""
    message: str = ""


@dataclass(frozen=True)
class ObservedWorkload:
    """What Kueue says of one Job."""

    name: str
    uid: str
    job_uid: str
    """Label kueue.x-k8s.io/job-uid."""
    created: datetime
    active: bool = True
    """spec.active; otherwise it is never admitted, and its Job does not run."""
    deactivated_by_us: bool = False
    """Annotation springtide.dev/suspended: only then is it ours to activate again."""
    resumed: datetime | None = None
    """Annotation springtide.dev/resumed: when we activated it again."""
    conditions: Mapping[str, WorkloadCondition] = field(default_factory=dict)
    """By type: QuotaReserved, Admitted, Evicted, Finished."""
    checks: tuple[str, ...] = ()
    """Admission checks that are not ready, with name, state and message."""
    requeue_at: datetime | None = None
    """When Kueue considers it again after a back-off."""

    def condition(self, kind: str) -> WorkloadCondition | None:
        """Return a condition that is True."""
        found = self.conditions.get(kind)
        return found if found and found.true else None


@dataclass(frozen=True)
class ObservedKind:
    """Whether objects of a kind that may be missing, such as Workloads, can be read."""

    listed: bool = True
    """False: nothing is known of any of them yet."""
    unavailable: str = ""
    """Why they cannot be read, and what to install."""
    served: bool = True
    """False: the API server has no such kind."""

    def throughout(self, after: ObservedKind) -> ObservedKind:
        """Return whether they could be read all the time: only then a missing one is gone."""
        return ObservedKind(
            self.listed and after.listed,
            after.unavailable or self.unavailable,
            self.served and after.served,
        )
