"""The deletion of an update: a rollout in progress is rolled back, then the finalizer goes.

A canary is deleted first, but where warm pods get the requests that targets are to serve again.

Jobs and pods are deleted by their owner reference. The finalizer is present only during a rollout:
without the operator nothing would roll back pods that never become available. It is removed once no
target requests such pods; where another client's value prevents that, an Event says so.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from springtide_api.names import FINALIZER, canary_name
from springtide_api.schema import duration
from springtide_operator.lifecycle.canary.canaries import present
from springtide_operator.lifecycle.canary.gateway import shifted, still_routed
from springtide_operator.lifecycle.canary.removal import (
    delete_canaries,
    deletion_of,
    removal_waiting,
)
from springtide_operator.lifecycle.rollout.apply import serve
from springtide_operator.lifecycle.rollout.availability import not_serving
from springtide_operator.lifecycle.rollout.rollback import (
    removed_targets_serving,
    rollback_completed,
)
from springtide_operator.lifecycle.rollout.rollback_decision import decide_rollback
from springtide_operator.lifecycle.rollout.rollout_status import with_rollout
from springtide_operator.lifecycle.rollout.target_facts import claimed_by_another
from springtide_operator.lifecycle.state.generations import rolling
from springtide_operator.lifecycle.state.plan import (
    RECHECK,
    Event,
    SetFinalizer,
    Step,
    Waiting,
)
from springtide_operator.lifecycle.state.refusals import not_refused, refused_apply
from springtide_operator.lifecycle.traffic.withdrawal import (
    drain_wake,
    is_drained,
    routes_back,
    withdraw_traffic,
)
from springtide_operator.lifecycle.warm.standby import kept_warm, standby, standby_targets

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from datetime import datetime

    from springtide_api.objects import ModelGeneration
    from springtide_operator.lifecycle.state.observation import Observation
    from springtide_operator.lifecycle.state.observed import ObservedTarget, Refusal


def finalize(seen: Observation, now: datetime) -> Step | None:
    """Roll back the rollout of an update that is being deleted, then remove the finalizer."""
    meta = seen.update.metadata
    if meta.deletion_timestamp is None:
        return None
    if FINALIZER not in meta.finalizers:
        return Step()
    under_way = seen.lineage.candidate
    if seen.namespace_terminating:
        return Step(actions=(SetFinalizer(present=False),))
    rolls = under_way if under_way and rolling(under_way) else None
    if rolls and not rolls.status.rollout.rollback_reason:
        why = "the IncrementalUpdate was deleted during the rollout"
        return Step(actions=decide_rollback(seen, rolls, why, now).actions)
    if step := _wait_for_targets(seen, rolls, now) or _remove_canaries(seen, now):
        return step
    if under_way is None or rolls is None:
        return Step(actions=(SetFinalizer(present=False),))
    if under_way.status.rollout.promoted_at and seen.lineage.served is None:
        return _keep_serving(under_way)
    return _roll_back(seen, under_way, now)


def _wait_for_targets(
    seen: Observation, rolls: ModelGeneration | None, now: datetime
) -> Step | None:
    """Let the targets return while warm pods get their requests, until the deadline."""
    if rolls is None:
        return None
    rollout = rolls.status.rollout
    warm = [name for name in sorted(kept_warm(seen)) if shifted(rollout, name)]
    if not warm or _is_late(seen, now):
        return None
    names = ", ".join(f"Deployment {canary_name(name)}" for name in warm)
    waiting = Waiting("RollingBack", f"{names} serves the requests until the targets do", "Rollout")
    applied = _apply_back(seen, _carrying(seen, rolls), now)
    return applied or Step(waiting=waiting, wake_after=RECHECK)


def _remove_canaries(seen: Observation, now: datetime) -> Step | None:
    """Take the traffic from the canaries and delete them; what stays refused is left."""
    left = [each for each in present(seen) if not each.deployment.deleting]
    names = [deletion_of(each) for each in left]
    names += [f"HTTPRoute {route.name}" for route in routes_back(seen).values()]
    refused = list(filter(None, map(seen.refusal, names)))
    given_up = seen.lineage.rolls is None and _is_late(seen, now)
    if refused and (given_up or _outlasted(seen, refused, now)):
        return None
    if step := withdraw_traffic(seen, (), now):
        return step
    gone = [each for each in left if is_drained(seen, each, (), now)]
    if gone:
        return delete_canaries(seen, gone, now)
    drains = drain_wake(seen, now)
    if not left or (drains is None and _is_late(seen, now)):
        return None
    return Step(waiting=removal_waiting(seen), wake_after=drains or RECHECK)


def _is_late(seen: Observation, now: datetime) -> bool:
    """Whether the deletion waits for longer than a rollout may take: routes cannot be read."""
    asked = seen.update.metadata.deletion_timestamp or now
    return now - asked >= duration(seen.update.spec.rollout.deadline)


def _keep_serving(generation: ModelGeneration) -> Step:
    """Leave a promoted generation where nothing is left to return to: as without the deletion."""
    name = generation.metadata.name
    message = (
        f"deleted during the rollback of {name}; no earlier generation is left, so the targets "
        "keep serving it"
    )
    event = Event("RollbackIncomplete", message, "Warning")
    return Step(actions=(SetFinalizer(present=False),), events=(event,))


def _roll_back(seen: Observation, aborted: ModelGeneration, now: datetime) -> Step:
    """Roll back what can be rolled back; the pods of live are left to their Deployment."""
    left = _outdated(seen, aborted)
    carrying = _carrying(seen, aborted)
    if step := _apply_back(seen, carrying, now):
        return step
    events = (_left_in_place(aborted, left),) if left else ()
    if carrying:
        return Step(actions=(SetFinalizer(present=False),), events=events)
    back = rollback_completed(seen, aborted)
    return Step(actions=(with_rollout(aborted, {"rolled_back_at": now}),), events=(*events, back))


def _outdated(seen: Observation, aborted: ModelGeneration) -> Sequence[ObservedTarget]:
    """Targets that run something else than they should after the rollback."""
    current = seen.lineage.served
    there = [target for target in seen.targets if target.uid and target.digest is not None]
    there += removed_targets_serving(seen, aborted)
    return not_serving(current, there) if current else there


def _carrying(seen: Observation, aborted: ModelGeneration) -> list[ObservedTarget]:
    """Targets that run what is rolled back."""
    artifact = aborted.status.artifact
    left = _outdated(seen, aborted)
    return [t for t in left if artifact and t.digest == artifact.served_digest]


def _apply_back(
    seen: Observation, carrying: Iterable[ObservedTarget], now: datetime
) -> Step | None:
    """Apply what targets should run; None: nothing is left to do, or it is given up."""
    ours = [t for t in carrying if not (t.foreign_manager or claimed_by_another(seen, t))]
    open_now = not_refused(seen, ours, now)
    if not open_now and (not ours or _given_up(seen, ours, now)):
        return None
    served = seen.lineage.served
    return Step(actions=tuple(serve(seen, served, target) for target in open_now or ours))


def _given_up(seen: Observation, targets: Sequence[ObservedTarget], now: datetime) -> bool:
    """Whether the apply of the rollback was refused for longer than a rollout may take.

    The time before the first refusal does not count: the operator may have been away.
    """
    refusal = refused_apply(seen, targets)
    return _outlasted(seen, [refusal] if refusal else [], now)


def _outlasted(seen: Observation, refusals: Sequence[Refusal], now: datetime) -> bool:
    """Whether a write of the deletion was refused for longer than a rollout may take."""
    asked = seen.update.metadata.deletion_timestamp or now
    patience = duration(seen.update.spec.rollout.deadline)
    return any(now - max(asked, refusal.since) >= patience for refusal in refusals)


def _left_in_place(aborted: ModelGeneration, targets: Iterable[ObservedTarget]) -> Event:
    each = (
        f"Deployment {t.target.target_ref.name} ({t.target.env.digest}={t.digest}"
        f"{f', by {t.foreign_manager}' if t.foreign_manager else ''})"
        for t in targets
    )
    message = (
        f"deleted during the rollout of {aborted.metadata.name}; values of it or another client "
        f"remain on {', '.join(each)}; change them there"
    )
    return Event("RollbackIncomplete", message, "Warning")


def ensure_finalizer(seen: Observation, now: datetime) -> Step | None:
    """Keep the finalizer exactly while a rollout is in progress, or a canary is there or wanted.

    Without targets nothing would have to be undone.
    """
    under_way = seen.lineage.candidate
    rolls = under_way is not None and rolling(under_way) and bool(seen.targets)
    wanted = rolls or bool(present(seen))
    wanted |= standby(seen) is not None and bool(standby_targets(seen))
    wanted |= bool(still_routed(seen))
    if wanted == (FINALIZER in seen.update.metadata.finalizers):
        return None
    return Step(actions=(SetFinalizer(present=wanted),))
