"""The user's Deployments: whether they are there and ours to serve, and still carry live.

A Deployment stays its owner's: what somebody else set is never overwritten, only told.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING

from springtide_operator.lifecycle.lineage import rolling
from springtide_operator.lifecycle.observation import OWN_KEYS_TAKEN
from springtide_operator.lifecycle.plan import Event, Serve, Serving, Step, subject
from springtide_operator.lifecycle.refusals import not_refused
from springtide_operator.lifecycle.target_problems import (
    MOST_REAPPLIED,
    blocked,
    ended,
    fields_removed,
    known,
    recently_reapplied,
    removed,
    removed_too_often,
)

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from springtide_api.objects import ModelGeneration
    from springtide_api.update_status import TargetStatus
    from springtide_operator.lifecycle.observation import Observation, ObservedTarget

CHECK = timedelta(seconds=30)


def restore_targets(seen: Observation, now: datetime) -> Step | None:
    """Claim new targets, and bring to live what lacks our fields or carries older ones of ours."""
    if blocked(seen):
        return None
    unclaimed = [t for t in seen.targets if not t.claimed_by and t.digest is None]
    current, under_way = seen.lineage.live, seen.lineage.candidate
    if under_way and rolling(under_way):
        return None
    outdated = [t for t in seen.targets if _carries_older_generation(seen, t)]
    if current is None:
        wanted = [*unclaimed, *outdated]
        open_now = not_refused(seen, wanted, now) or wanted
        claims = tuple(serve(seen, current, target) for target in open_now)
        return Step(actions=claims) if claims else None
    gone = [t for t in seen.targets if t.digest is None and not t.foreign_manager]
    if not gone and not outdated:
        return None
    step = apply(seen, current, [*gone, *outdated], now)
    return step if step.actions else None


def _carries_older_generation(seen: Observation, target: ObservedTarget) -> bool:
    """Whether we put there what it carries, and it is not live: it was no target for a while."""
    current = seen.lineage.live
    artifact = current.status.artifact if current else None
    is_live = artifact is not None and target.digest == artifact.served_digest
    return not is_live and not target.foreign_manager and target.digest in ended(seen)


def ever_served(seen: Observation, generation: ModelGeneration, target: ObservedTarget) -> bool:
    """Whether a target was ever made to carry a generation, as far as anything tells."""
    artifact, began = generation.status.artifact, generation.status.rollout.step_started_at
    recorded = known(seen, target.target.target_ref.name)
    if began and any(moment >= began for moment in recorded.reapplied_at):
        return True
    named = {target.digest, recorded.digest, *target.named}
    return artifact is not None and artifact.served_digest in named


def apply(
    seen: Observation, generation: ModelGeneration, targets: Sequence[ObservedTarget], now: datetime
) -> Step:
    """Make targets carry a generation; where our fields were wiped, at most 3 times an hour."""
    spent = [target for target in targets if removed_too_often(seen, target)]
    allowed = tuple(target for target in targets if target not in spent)
    if not allowed:
        return Step(waiting=fields_removed(seen, spent[0]), wake_after=CHECK)
    allowed = not_refused(seen, allowed, now) or allowed
    names = {t.target.target_ref.name for t in allowed if removed(seen, t)}
    events = tuple(
        Event("FieldsRestored", f"Deployment {name}: our fields were gone; applied again")
        for name in sorted(names)
    )
    return Step(
        actions=tuple(serve(seen, generation, target) for target in allowed),
        facts={"targets": _reapplied_statuses(seen, names, now)} if names else {},
        events=events,
    )


def serve(seen: Observation, generation: ModelGeneration | None, target: ObservedTarget) -> Serve:
    """The apply that makes a target carry a generation, or nothing but our claim."""
    serving = None
    if generation is not None and generation.status.artifact is not None:
        artifact = generation.status.artifact
        serving = Serving(generation.spec.number, artifact.served_digest, artifact.uri)
    numbers = [g.spec.number for g in seen.generations]
    if target.highest_number is not None:
        numbers.append(target.highest_number)
    made = Serve(target.target, target.uid, serving, max(numbers, default=None))
    refusal = seen.refusal(subject(made))
    if refusal and refusal.reason == OWN_KEYS_TAKEN and not target.foreign_manager:
        return replace(made, force_at_version=target.version)
    return made


def _reapplied_statuses(seen: Observation, names: set[str], now: datetime) -> list[TargetStatus]:
    counted = []
    for target in seen.targets:
        name = target.target.target_ref.name
        recent = recently_reapplied(seen, target)
        reapplied = [*recent, now][-MOST_REAPPLIED:] if name in names else recent
        counted.append(known(seen, name).model_copy(update={"reapplied_at": reapplied}))
    return counted
