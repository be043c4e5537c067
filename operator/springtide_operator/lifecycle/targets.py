"""The user's Deployments: whether they are there and ours to serve, and still carry live.

A Deployment stays its owner's: what somebody else set is never overwritten, only told.
"""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

from springtide_api.update_status import TargetStatus
from springtide_operator.lifecycle.lineage import (
    finished,
    servable,
)
from springtide_operator.lifecycle.plan import Announcement, Serve, Serving, Step, Waiting

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from springtide_api.objects import ModelGeneration
    from springtide_operator.lifecycle.observation import Observation, TargetSeen

CHECK = timedelta(seconds=30)
HOUR = timedelta(hours=1)
MOST_REAPPLIED = 3


def restore(seen: Observation, now: datetime) -> Step | None:
    """Claim new targets, and bring to live what lacks our fields or carries older ones of ours."""
    if blocked(seen):
        return None
    unclaimed = [t for t in seen.targets if not t.claimed_by and t.digest is None]
    current, under_way = seen.lineage.live, seen.lineage.candidate
    if under_way and servable(under_way):
        return None
    stray = [t for t in seen.targets if _astray(seen, t)]
    if current is None:
        claims = tuple(serve(seen, current, target) for target in (*unclaimed, *stray))
        return Step(actions=claims) if claims else None
    gone = [t for t in seen.targets if t.digest is None and not t.foreign_manager]
    if not gone and not stray:
        return None
    step = apply(seen, current, [*gone, *stray], now)
    return step if step.actions else None


def _astray(seen: Observation, target: TargetSeen) -> bool:
    """Whether we put there what it carries, and it is not live: it was no target for a while."""
    current = seen.lineage.live
    artifact = current.status.artifact if current else None
    is_live = artifact is not None and target.digest == artifact.served_digest
    return not is_live and not target.foreign_manager and target.digest in _ended(seen)


def _ended(seen: Observation) -> set[str]:
    """Digests of generations to which nothing more will happen by itself."""
    artifacts = (g.status.artifact for g in seen.generations if finished(g))
    return {artifact.served_digest for artifact in artifacts if artifact}


def carried(seen: Observation, generation: ModelGeneration, target: TargetSeen) -> bool:
    """Whether a target was ever made to carry a generation, as far as anything tells."""
    artifact, began = generation.status.artifact, generation.status.rollout.step_started_at
    known = _known(seen, target.target.target_ref.name)
    if began and any(moment >= began for moment in known.reapplied):
        return True
    named = {target.digest, known.digest, *target.named}
    return artifact is not None and artifact.served_digest in named


def apply(
    seen: Observation, generation: ModelGeneration, targets: Sequence[TargetSeen], now: datetime
) -> Step:
    """Make targets carry a generation; where our fields were wiped, at most 3 times an hour."""
    spent = [target for target in targets if _spent(seen, target, now)]
    allowed = [target for target in targets if target not in spent]
    if not allowed:
        return Step(waiting=_fields_wiped(seen, spent[0], now), wake_after=CHECK)
    names = {t.target.target_ref.name for t in allowed if _wiped(seen, t)}
    events = tuple(
        Announcement("FieldsRestored", f"Deployment {name}: our fields were gone; applied again")
        for name in sorted(names)
    )
    return Step(
        actions=tuple(serve(seen, generation, target) for target in allowed),
        facts={"targets": _counted(seen, names, now)} if names else {},
        events=events,
    )


def _wiped(seen: Observation, target: TargetSeen) -> bool:
    """Whether a target lacks our fields that carried them before."""
    carried = seen.lineage.live is not None or _known(seen, target.target.target_ref.name).digest
    return target.digest is None and bool(carried)


def _spent(seen: Observation, target: TargetSeen, now: datetime) -> bool:
    return _wiped(seen, target) and len(_recent(seen, target, now)) >= MOST_REAPPLIED


def _fields_wiped(seen: Observation, target: TargetSeen, now: datetime) -> Waiting:
    name, env = target.target.target_ref.name, target.target.env
    again = min(_recent(seen, target, now)) + HOUR
    message = (
        f"{_name(target)}: our fields were wiped again after {MOST_REAPPLIED} applies "
        f"within an hour; find who replaces it (kubectl get deployment {name} --output=yaml "
        f"--show-managed-fields) and let it leave {env.uri} and {env.digest} alone; they are "
        f"applied again at {again:%H:%M} UTC"
    )
    return Waiting("FieldsWiped", message, "Roll", targets=True)


def serve(seen: Observation, generation: ModelGeneration | None, target: TargetSeen) -> Serve:
    """The apply that makes a target carry a generation, or nothing but our claim."""
    serving = None
    if generation is not None and generation.status.artifact is not None:
        artifact = generation.status.artifact
        serving = Serving(generation.spec.number, artifact.served_digest, artifact.uri)
    numbers = [g.spec.number for g in seen.generations]
    if target.highest_number is not None:
        numbers.append(target.highest_number)
    return Serve(target.target, target.uid, serving, max(numbers, default=None))


def in_sync(seen: Observation, now: datetime) -> Waiting | None:
    """Why the targets are not what they should be, if a person must act."""
    if why := blocked(seen):
        return why
    current, under_way = seen.lineage.live, seen.lineage.candidate
    digests = {
        g.status.artifact.served_digest
        for g in (current, under_way if under_way and servable(under_way) else None)
        if g and g.status.artifact
    }
    if why := conflict(seen, digests):
        return why
    spent = [target for target in seen.targets if _spent(seen, target, now)]
    return _fields_wiped(seen, spent[0], now) if spent else None


def blocked(seen: Observation) -> Waiting | None:
    """Why a target cannot be served at all: missing, without the container, or another's."""
    for index, target in enumerate(seen.targets):
        path, name = f"spec.rollout.targets[{index}]", _name(target)
        if not target.uid or target.deleting:
            message = f"{name} does not exist; create it or change {path}.targetRef.name"
            return _stop("TargetNotFound", message)
        if target.claimed_by and target.claimed_by != seen.update.metadata.name:
            message = (
                f"{name} is served by IncrementalUpdate {target.claimed_by}; change "
                f"{path}.targetRef.name, or remove its label springtide.dev/update"
            )
            return _stop("TargetClaimed", message)
        if not target.has_container:
            there = f", only {', '.join(target.containers)}" if target.containers else ""
            message = f"{name} has no container {target.target.container}{there}; change "
            message += f"{path}.container"
            return _stop("ContainerNotFound", message)
    return None


def idle(seen: Observation) -> Waiting | None:
    """Why a target cannot roll now, though nothing is wrong: paused, or scaled to 0."""
    for target in seen.targets:
        if target.paused:
            name = target.target.target_ref.name
            message = f"{_name(target)} is paused; kubectl rollout resume deployment/{name}"
            return Waiting("TargetPaused", message, "Roll", blocked=True, targets=True)
        if target.wanted == 0:
            message = f"{_name(target)} is scaled to 0; scale it up to roll out"
            return Waiting("TargetScaledToZero", message, "Roll", blocked=True, targets=True)
    return None


def conflict(seen: Observation, digests: set[str]) -> Waiting | None:
    """Why somebody else's value stands where ours should; what we put there is no such value."""
    for target in seen.targets:
        env = target.target.env
        if target.foreign_manager:
            message = (
                f"{_name(target)}: {target.foreign_manager} sets {env.uri} or {env.digest}, and "
                "nothing rolls out meanwhile; to hand them over, remove both there, or by kubectl "
                f"set env deployment/{target.target.target_ref.name} --containers="
                f"{target.target.container} {env.uri}- {env.digest}-, and they are applied again"
            )
            return Waiting("FieldConflict", message, "Roll", targets=True)
        if target.digest is not None and target.digest not in digests | _ended(seen):
            message = (
                f"{_name(target)} carries {_brief(target.digest)}, which is not what is live; undo "
                f"the change of {env.digest}, or remove both variables and they are applied again"
            )
            return Waiting("FieldConflict", message, "Roll", targets=True)
    return None


def _stop(reason: str, message: str) -> Waiting:
    return Waiting(reason, message, "Roll", blocked=True, targets=True)


def _brief(digest: str) -> str:
    return digest if len(digest) <= 20 else f"{digest[:19]}…"


def _name(target: TargetSeen) -> str:
    return f"Deployment {target.target.target_ref.name}"


def _known(seen: Observation, name: str) -> TargetStatus:
    for status in seen.update.status.targets:
        if status.name == name:
            return status
    return TargetStatus(name=name)


def _recent(seen: Observation, target: TargetSeen, now: datetime) -> list[datetime]:
    known = _known(seen, target.target.target_ref.name)
    return [moment for moment in known.reapplied if now - moment < HOUR]


def _counted(seen: Observation, names: set[str], now: datetime) -> list[TargetStatus]:
    counted = []
    for target in seen.targets:
        name = target.target.target_ref.name
        recent = _recent(seen, target, now)
        reapplied = [*recent, now][-MOST_REAPPLIED:] if name in names else recent
        counted.append(_known(seen, name).model_copy(update={"reapplied": reapplied}))
    return counted
