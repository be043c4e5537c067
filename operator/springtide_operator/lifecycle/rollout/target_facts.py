"""Facts about a target: what it may run, and how often our fields were removed."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

from springtide_api.names import generation_name
from springtide_api.update.status import TargetStatus
from springtide_operator.lifecycle.state.generations import finished, servable
from springtide_operator.lifecycle.state.recorded_times import is_ahead

if TYPE_CHECKING:
    from datetime import datetime

    from springtide_operator.lifecycle.state.observation import Observation
    from springtide_operator.lifecycle.state.observed import ObservedTarget

HOUR = timedelta(hours=1)

MAX_REAPPLIED = 3


def allowed_digests(seen: Observation) -> set[str]:
    """Digests that a target may run now: of live, of the rollout, and of the one that starts next.

    The next one's are there already where its weights are served from before: an initial model
    whose generation was deleted is imported again.
    """
    next_one = seen.lineage.candidate
    starts = next_one if next_one and servable(next_one) else None
    served = (seen.lineage.live, seen.lineage.rolls, starts)
    return {g.status.artifact.served_digest for g in served if g and g.status.artifact}


def finished_digests(seen: Observation) -> set[str]:
    """Digests of finished generations."""
    artifacts = (g.status.artifact for g in seen.generations if finished(g))
    return {artifact.served_digest for artifact in artifacts if artifact}


def usable_targets(seen: Observation) -> tuple[ObservedTarget, ...]:
    """Targets that exist, have the container, and are not claimed by another update."""
    there = (t for t in seen.targets if t.uid and t.has_container)
    return tuple(t for t in there if not claimed_by_another(seen, t))


def claimed_by_another(seen: Observation, target: ObservedTarget) -> bool:
    """Whether another update serves a target."""
    return target.claimed_by not in {"", seen.update.metadata.name}


def deleted_generation(seen: Observation, target: ObservedTarget) -> str:
    """The name of the generation that a target runs where its record was deleted; else empty."""
    known = {generation.spec.number for generation in seen.generations}
    if target.digest is None or target.number is None or target.number in known:
        return ""
    return generation_name(seen.update.metadata.name, target.number)


def removed(seen: Observation, target: ObservedTarget) -> bool:
    """Whether our fields were removed from a target."""
    carried = (
        seen.lineage.live is not None or recorded_status(seen, target.target.target_ref.name).digest
    )
    return target.digest is None and bool(carried)


def removed_too_often(seen: Observation, target: ObservedTarget) -> bool:
    """Whether our fields were removed as often within an hour as they are applied again."""
    return removed(seen, target) and len(recently_reapplied(seen, target)) >= MAX_REAPPLIED


def next_reapply(seen: Observation) -> datetime | None:
    """When fields that were removed too often are applied again; None: there are none."""
    often = (recently_reapplied(seen, t) for t in seen.targets if removed_too_often(seen, t))
    return min((min(moments) + HOUR for moments in often), default=None)


def recorded_status(seen: Observation, name: str) -> TargetStatus:
    """The status of a target in the update."""
    for status in seen.update.status.targets:
        if status.name == name:
            return status
    return TargetStatus(name=name)


def recently_reapplied(seen: Observation, target: ObservedTarget) -> list[datetime]:
    """When our fields were applied again within the last hour."""
    reapplied = recorded_status(seen, target.target.target_ref.name).reapplied_at
    recent = [moment for moment in reapplied if seen.now - moment < HOUR]
    return [moment for moment in recent if not is_ahead(moment, seen.now)]
