"""Rolls targets back to the live generation, or withdraws our fields where none was live."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from springtide_api.names import canary_name
from springtide_api.schema import duration
from springtide_operator.lifecycle.canary.canaries import in_steps
from springtide_operator.lifecycle.canary.gateway import shifted, weight_conflict
from springtide_operator.lifecycle.canary.removal import removal_waiting
from springtide_operator.lifecycle.rollout.apply import apply_generation, serve
from springtide_operator.lifecycle.rollout.availability import available, not_serving
from springtide_operator.lifecycle.rollout.rollout_clock import rollout_targets
from springtide_operator.lifecycle.rollout.rollout_status import with_rollout
from springtide_operator.lifecycle.rollout.target_facts import usable_targets
from springtide_operator.lifecycle.rollout.target_problems import blocked, conflict, idle
from springtide_operator.lifecycle.state.generations import unknown_value
from springtide_operator.lifecycle.state.paused_targets import paused
from springtide_operator.lifecycle.state.plan import (
    RECHECK,
    Event,
    Serve,
    Step,
    Waiting,
    WriteGeneration,
)
from springtide_operator.lifecycle.state.recorded_times import is_ahead
from springtide_operator.lifecycle.state.refusals import not_refused

if TYPE_CHECKING:
    from collections.abc import Iterable
    from datetime import datetime

    from springtide_api.objects import ModelGeneration
    from springtide_operator.lifecycle.state.observation import Observation
    from springtide_operator.lifecycle.state.observed import ObservedTarget


def roll_back(seen: Observation, generation: ModelGeneration, now: datetime) -> Step:
    """Return every target to live or to what is pinned; where none was live, remove our fields.

    Not after the steps of a canary alone: they changed no target.
    """
    current, live = seen.lineage.served, seen.lineage.live
    promoted = generation.status.rollout.promoted_at is not None
    if promoted and current is None and seen.targets:
        return Step(waiting=_nothing_left(generation), wake_after=RECHECK)
    present = usable_targets(seen)
    if current and (taken := _take_back(seen, generation, current, now)):
        return taken
    left = removed_targets_serving(seen, generation)
    behind = not_serving(current, present) if current else _withdrawn(generation, present)
    ours = tuple(target for target in behind if conflict(seen, [target]) is None)
    if ours or left:
        carrying = (*ours, *left)
        if current:
            return apply_generation(seen, current, carrying, now)
        open_now = not_refused(seen, carrying, now) or carrying
        return Step(actions=tuple(serve(seen, current, target) for target in open_now))
    if behind:
        return Step(waiting=conflict(seen, behind), wake_after=RECHECK)
    waits = _unavailable(seen, generation, present, now)
    if current and waits:
        return Step(waiting=_waiting(seen, generation, waits, now), wake_after=RECHECK)
    if why := removal_waiting(seen):
        return Step(waiting=why, wake_after=RECHECK)
    ended = with_rollout(generation, {"rolled_back_at": now})
    began = _began_again(seen, current) if promoted and current and current is live else ()
    return Step(actions=(*began, ended), events=(rollback_completed(seen, generation),))


def _withdrawn(
    generation: ModelGeneration, present: Iterable[ObservedTarget]
) -> tuple[ObservedTarget, ...]:
    """Targets that lose our fields, as nothing is live."""
    if in_steps(generation.status.rollout):
        return ()
    return tuple(target for target in present if target.digest is not None)


def _unavailable(
    seen: Observation, generation: ModelGeneration, present: Iterable[ObservedTarget], now: datetime
) -> list[ObservedTarget]:
    """Targets that a rollback waits for; none of a canary, whose steps change no target.

    Args:
        seen: the update.
        generation: what is rolled back.
        present: the targets that can be written.
        now: the moment.
    """
    if in_steps(generation.status.rollout):
        return []
    scaled = (target for target in present if target.desired)
    waits = [t for t in scaled if not (available(t) or is_stuck(seen, generation, t, now))]
    return [*waits, *(t for t in _on_warm_pods(seen, generation) if t not in waits)]


def _on_warm_pods(seen: Observation, generation: ModelGeneration) -> list[ObservedTarget]:
    """Targets that are not available, while warm pods get their requests: these go on."""
    rollout = generation.status.rollout
    own = (*seen.targets, *removed_targets_returning(seen, generation))
    there = (t for t in own if shifted(rollout, t.target.target_ref.name))
    return [target for target in there if not available(target)]


def _waiting(
    seen: Observation, generation: ModelGeneration, waits: Iterable[ObservedTarget], now: datetime
) -> Waiting:
    """What a rollback waits for.

    Args:
        seen: the update.
        generation: what is rolled back.
        waits: targets that are not back.
        now: the moment.
    """
    reason = generation.status.rollout.rollback_reason
    warm = _on_warm_pods(seen, generation)
    if not warm:
        return paused(waits) or Waiting("RollingBack", reason, "Rollout", "rolling back")
    names = ", ".join(f"Deployment {canary_name(t.target.target_ref.name)}" for t in warm)
    stuck = next((t for t in warm if is_stuck(seen, generation, t, now)), None)
    message = f"{names} serves the requests until the targets do again; {reason}"
    if stuck is not None:
        name = stuck.target.target_ref.name
        message = f"Deployment {name} makes no progress ({stuck.stalled}); {message}"
    held = stuck is not None
    waiting = Waiting("RollingBack", message[:1024], "Rollout", "on warm pods", held=held)
    changed = weight_conflict(seen, generation.status.rollout)
    return blocked(seen) or idle(seen) or paused(warm) or changed or waiting


def contested_targets(seen: Observation) -> list[ObservedTarget]:
    """Targets whose two variables another client has set."""
    return [t for t in usable_targets(seen) if conflict(seen, [t])]


def _take_back(
    seen: Observation, generation: ModelGeneration, current: ModelGeneration, now: datetime
) -> Step | None:
    """Take both variables back by force where a user asked for it, once for each target.

    Args:
        seen: the update.
        generation: what is rolled back.
        current: what the targets are to serve.
        now: the moment.
    """
    asked = generation.status.rollout.take_back
    there = [t for t in contested_targets(seen) if t.target.target_ref.name in asked]
    open_now = not_refused(seen, there, now) or tuple(there)
    names = [t.target.target_ref.name for t in open_now]
    left = [name for name in asked if name in {t.target.target_ref.name for t in there}]
    left = [name for name in left if name not in names]
    if left == asked:
        return None
    forced = (_forced(serve(seen, current, t), t) for t in open_now)
    events = (
        Event(
            "FieldsTakenBack",
            f"Deployment {t.target.target_ref.name}: {t.target.env.uri} and {t.target.env.digest} "
            f"are taken back from {t.foreign_manager or 'another client'}, as requested",
        )
        for t in open_now
    )
    return Step(
        actions=(*forced, with_rollout(generation, {"take_back": left})), events=tuple(events)
    )


def _forced(action: Serve, target: ObservedTarget) -> Serve:
    return replace(action, force_at_version=target.version, take_back=True)


def _nothing_left(generation: ModelGeneration) -> Waiting:
    """Report that the generation to return to was deleted meanwhile: nothing is withdrawn."""
    name = generation.metadata.name
    message = (
        f"{name} cannot be rolled back: no earlier generation is left; the targets keep serving "
        f"it; to start over, delete ModelGeneration {name} and remove its variables from the "
        "targets"
    )
    return Waiting("NothingToReturnTo", message, "Rollout", short="rolling back", held=True)


def _began_again(seen: Observation, current: ModelGeneration) -> tuple[WriteGeneration, ...]:
    """Record the targets as live runs on them now: their owner may have changed them since."""
    targets = rollout_targets(seen)
    same = targets == current.status.rollout.targets
    return () if same or unknown_value(current) else (with_rollout(current, {"targets": targets}),)


def is_stuck(
    seen: Observation, generation: ModelGeneration, target: ObservedTarget, now: datetime
) -> bool:
    """Whether a target makes no progress with live either: the next generation must not wait.

    A Deployment may report its previous rollout for a while: it counts after the deadline. A
    rollback that began ahead of the clock, which was set back, has had its time.
    """
    rollout, began_at = generation.status.rollout, generation.status.rollout.rollback_started_at
    times = (rollout.deadline, began_at)
    began = max((each for each in times if each), default=now)
    until = began + duration(seen.update.spec.rollout.deadline)
    over = now >= until or (began_at is not None and is_ahead(began_at, now))
    return bool(target.settled and target.stalled) and over


def removed_targets_serving(
    seen: Observation, generation: ModelGeneration
) -> tuple[ObservedTarget, ...]:
    """Targets removed from the spec during the rollout that still run what is rolled back."""
    artifact, name = generation.status.artifact, seen.update.metadata.name
    return tuple(
        t
        for t in seen.removed_targets
        if t.uid
        and artifact
        and t.digest == artifact.served_digest
        and t.claimed_by == name
        and not t.foreign_manager
    )


def removed_targets_returning(
    seen: Observation, generation: ModelGeneration
) -> tuple[ObservedTarget, ...]:
    """Targets removed from the spec that run what is rolled back, or begin to run what follows.

    One that its owner scaled to 0, or gave another value, is none of ours any more.
    """
    current, name = seen.lineage.served, seen.update.metadata.name
    back = not_serving(current, seen.removed_targets) if current else seen.removed_targets
    began = (t for t in seen.removed_targets if t not in back and t.claimed_by == name)
    found = (*removed_targets_serving(seen, generation), *began)
    return tuple(t for t in found if t.desired and not (t.deleting or t.foreign_manager))


def rollback_completed(seen: Observation, generation: ModelGeneration) -> Event:
    """The Event of a rollback that is done."""
    name, current = generation.metadata.name, seen.lineage.served
    serving = (
        f"the targets serve {current.metadata.name} again"
        if current
        else "Springtide's fields are removed from the targets"
    )
    if not seen.targets:
        serving = f"{current.metadata.name} is live again" if current else "nothing is live"
    elif current is None and in_steps(generation.status.rollout):
        serving = "its canary is removed, and the targets keep what they serve"
    message = f"{name} is rolled back and will not be served again; {serving}"
    if generation.status.rollout.failure:
        message = (
            f"the rollout of {name} failed, not for a cause of its own; {serving}; "
            f"springtide.dev/request=retry.g{generation.spec.number}@<token> rolls it out again"
        )
    return Event("RollbackCompleted", message, "Warning", generation=name)
