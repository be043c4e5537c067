"""Rolls a generation out: what the targets should run, when it is promoted or rolled back.

Order of a promotion: verdict, start, one apply for each target, availability, promotion. Without
targets the promotion follows the start. `roll_out` shows why a rollout is where it is.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from springtide_operator.lifecycle.canary.canaries import first_step, spec_steps, uses_canary
from springtide_operator.lifecycle.canary.removal import removal_waiting
from springtide_operator.lifecycle.canary.report import step_event
from springtide_operator.lifecycle.canary.start import not_possible
from springtide_operator.lifecycle.evaluation.approval import (
    approval_waiting,
    approved,
    awaits_approval,
    rejection,
)
from springtide_operator.lifecycle.evaluation.freeze import freeze
from springtide_operator.lifecycle.evaluation.modes import writes_targets
from springtide_operator.lifecycle.rollout.apply import apply_generation, ever_served
from springtide_operator.lifecycle.rollout.availability import available, new_pods, not_serving
from springtide_operator.lifecycle.rollout.bake_start import bake_facts, waits_for_bake
from springtide_operator.lifecycle.rollout.live_message import live_message
from springtide_operator.lifecycle.rollout.pin import pin_not_possible, return_waiting
from springtide_operator.lifecycle.rollout.restore import restore_targets
from springtide_operator.lifecycle.rollout.rollback import roll_back
from springtide_operator.lifecycle.rollout.rollback_decision import decide_rollback
from springtide_operator.lifecycle.rollout.rollout_clock import (
    abort_if_late,
    pause_clock,
    restart_clock,
    rollout_targets,
    stall_of,
    start_facts,
    with_new_route,
)
from springtide_operator.lifecycle.rollout.rollout_status import with_rollout
from springtide_operator.lifecycle.rollout.target_problems import idle, targets_problem, unfinished
from springtide_operator.lifecycle.state.generations import rolling, servable
from springtide_operator.lifecycle.state.plan import RECHECK, Event, Step, Waiting, WriteGeneration
from springtide_operator.lifecycle.state.refusals import refusal_waiting, refused_apply

if TYPE_CHECKING:
    from datetime import datetime

    from springtide_api.objects import ModelGeneration
    from springtide_operator.lifecycle.state.observation import Observation


def roll_out(seen: Observation, now: datetime) -> Step | None:
    """Move all targets to the candidate together, or all of them back."""
    generation = seen.lineage.candidate
    if generation is None:
        return None
    if generation.status.rollout.rollback_reason:
        return roll_back(seen, generation, now)
    if not servable(generation) or not writes_targets(seen) or seen.lineage.pinned is not None:
        return None
    if rolling(generation):
        # A person may reject it in the moment in which it starts.
        if why := rejection(generation):
            return decide_rollback(seen, generation, why, now)
        return _continue(seen, generation, now)
    if held := _start_blocker(seen, generation, now):
        # Live is served meanwhile: removed fields are restored.
        return restore_targets(seen, now) or Step(waiting=held, wake_after=RECHECK)
    return _start(seen, generation, now)


def _start_blocker(seen: Observation, generation: ModelGeneration, now: datetime) -> Waiting | None:
    """Why an accepted generation does not roll out yet."""
    if why := pin_not_possible(seen):
        return why
    if why := freeze(seen):
        return why
    if awaits_approval(seen, generation):
        return approval_waiting(seen, generation)
    if why := targets_problem(seen) or return_waiting(seen) or unfinished(seen):
        return why
    if seen.update.spec.suspend:
        message = "spec.suspend is true; set it to false to roll out"
        return Waiting("Suspended", message, "Rollout")
    if uses_canary(seen, generation):
        steps = range(len(spec_steps(seen)))
        if why := not_possible(seen, steps):
            return why
    return waits_for_bake(seen, now) or removal_waiting(seen)


def _continue(seen: Observation, generation: ModelGeneration, now: datetime) -> Step:
    """Continue a rollout, or pause its deadline while something other than its pods holds it."""
    behind = not_serving(generation, seen.targets)
    why, refusal = targets_problem(seen) or idle(seen), refused_apply(seen, behind)
    if why is None and refusal is not None:
        if generation.status.rollout.held_since and not refusal.is_pending(now):
            return apply_generation(seen, generation, behind, now)
        why = refusal_waiting(refusal)
    if why is None and not behind and all(map(available, seen.targets)):
        why = removal_waiting(seen)
    return pause_clock(seen, generation, why, now) or _next_step(seen, generation, now)


def _next_step(seen: Observation, generation: ModelGeneration, now: datetime) -> Step:
    """One step of a rollout: apply, then wait for availability, then promote."""
    if behind := not_serving(generation, seen.targets):
        if not all(ever_served(seen, generation, target) for target in behind) and (
            aborted := restart_clock(seen, generation, now)
        ):
            return aborted
        return apply_generation(seen, generation, behind, now)
    if all(available(target) for target in seen.targets):
        return _promote(seen, generation, now)
    return _wait_or_abort(seen, generation, now)


def _start(seen: Observation, generation: ModelGeneration, now: datetime) -> Step:
    name, current = generation.metadata.name, seen.lineage.live
    parent = generation.spec.parent
    if current and generation.spec.origin == "Imported":
        return _retire(generation, f"{current.metadata.name} is already live", now)
    if parent and current and current.metadata.name != parent.name:
        return _retire(generation, f"its parent {parent.name} is no longer live", now)
    facts, events = start_facts(seen, now), []
    if names := ", ".join(f"Deployment {each}" for each in _names(seen)):
        message = f"{name} rolls out to {names}{approved(generation)}"
        events.append(Event("RollingOut", message[:1024], generation=name))
    if uses_canary(seen, generation):
        routed = [with_new_route(seen, each) for each in rollout_targets(seen)]
        facts |= {**first_step(seen), "targets": routed}
        events.append(step_event(seen, generation, 1, ""))
    return Step(actions=(with_rollout(generation, facts),), events=tuple(events))


def _retire(generation: ModelGeneration, why: str, now: datetime) -> Step:
    status = generation.status.model_copy(
        update={"retired_reason": "ParentNotLive", "message": why, "verdict_at": now}
    )
    name = generation.metadata.name
    event = Event("Retired", f"{name}: {why}", "Warning", generation=name)
    return Step(actions=(WriteGeneration(name, status),), events=(event,))


def _names(seen: Observation) -> list[str]:
    return [target.target.target_ref.name for target in seen.targets]


def _promote(seen: Observation, generation: ModelGeneration, now: datetime) -> Step:
    name, data = generation.metadata.name, generation.spec.data
    quarantined = sorted(
        {*(data.quarantined if data else []), *seen.update.status.cursor.quarantined}
    )
    through = data.windows[-1].to if data and data.windows else generation.status.trained_through
    before = seen.lineage.live and seen.lineage.live.status.rollout.promoted_at
    at = max(now, before or now)  # a clock that was set back must not keep the older one live
    changes = {"promoted_at": at, **bake_facts(seen, at)}
    rollout = generation.status.rollout.model_copy(update=changes)
    status = generation.status.model_copy(
        update={"rollout": rollout, "trained_through": through, "quarantined": quarantined}
    )
    names = _names(seen)
    message = live_message(generation, names) + ("" if names else approved(generation))
    return Step(
        actions=(WriteGeneration(name, status),),
        events=(Event("Promoted", message[:1024], generation=name),),
    )


def _wait_or_abort(seen: Observation, generation: ModelGeneration, now: datetime) -> Step:
    deadline = generation.status.rollout.deadline or now
    counted = [(new_pods(target) if target.settled else 0, target) for target in seen.targets]
    ready, slowest = min(counted, key=lambda each: each[0] / max(each[1].desired, 1))
    state = (
        f"Deployment {slowest.target.target_ref.name}: {ready} of {slowest.desired} new pods "
        f"available"
    )
    if slowest.trouble:
        state += f" ({slowest.trouble})"
    stalled = stall_of(generation.status.rollout, seen.targets)
    late = [t for t in seen.targets if not available(t)]
    if aborted := abort_if_late(seen, generation, state, now, late=late, stalled=stalled):
        return aborted
    waiting = Waiting("RollingOut", state, "Rollout", short=f"{ready}/{slowest.desired} pods")
    return Step(waiting=waiting, wake_after=min(deadline - now, RECHECK))
