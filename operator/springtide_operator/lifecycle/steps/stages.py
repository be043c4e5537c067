"""The steps of a canary: what is written next, and when a step or the canary ends.

Order of a step: status; canary pods of every target; `weightSeenAt` once all are available; its
duration; the next step. After the last one the targets get the generation as without a canary.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from springtide_api.schema import duration
from springtide_operator.lifecycle.canary.canaries import in_steps, spec_steps
from springtide_operator.lifecycle.canary.gateway import weight_conflict
from springtide_operator.lifecycle.canary.report import at_weight, step_event, steps_passed
from springtide_operator.lifecycle.canary.start import not_possible
from springtide_operator.lifecycle.evaluation.approval import rejection
from springtide_operator.lifecycle.rollout.apply import apply_generation
from springtide_operator.lifecycle.rollout.availability import not_serving
from springtide_operator.lifecycle.rollout.restore import restore_live
from springtide_operator.lifecycle.rollout.rollback_decision import decide_rollback
from springtide_operator.lifecycle.rollout.rollout_clock import (
    pause_clock,
    recorded_targets,
    restart_clock,
)
from springtide_operator.lifecycle.rollout.rollout_status import with_rollout
from springtide_operator.lifecycle.state.generations import rolling, servable
from springtide_operator.lifecycle.state.plan import RECHECK, Step
from springtide_operator.lifecycle.state.recorded_times import is_ahead
from springtide_operator.lifecycle.state.refusals import refusal_waiting
from springtide_operator.lifecycle.steps.holds import (
    hold,
    hold_step,
    is_unweighted,
    live_deleted,
    refused_write,
    suspended,
)
from springtide_operator.lifecycle.steps.metrics import wait_for_metrics
from springtide_operator.lifecycle.steps.parking import (
    abort_unanswered,
    park_traffic,
    park_unanswered,
    why_unanswered,
)
from springtide_operator.lifecycle.steps.pods import (
    abort_failed_pods,
    all_available,
    pod_facts,
    rescaling,
    wait_for_pods,
)
from springtide_operator.lifecycle.steps.shift import (
    is_shifted,
    shift_traffic,
    shifted_targets,
    with_shown_weights,
)
from springtide_operator.lifecycle.steps.writes import canary_writes, why_replaced

if TYPE_CHECKING:
    from datetime import datetime

    from springtide_api.objects import ModelGeneration
    from springtide_operator.lifecycle.state.observation import Observation
    from springtide_operator.lifecycle.state.plan import Waiting

UNSEEN: dict[str, object] = {
    "weight_seen_at": None,
    "held_since": None,
    "unavailable_since": None,
    "recovered_at": None,
}
"""What a step that starts clears."""


def continue_canary(seen: Observation, now: datetime) -> Step | None:
    """Continue the steps of a canary, as the spec has them now."""
    generation = seen.lineage.candidate
    if generation is None or seen.lineage.pinned is not None or not servable(generation):
        return None
    if not rolling(generation) or not in_steps(generation.status.rollout):
        return None
    if why := rejection(generation):
        return decide_rollback(seen, generation, why, now)
    return _continue(seen, generation, now)


def _continue(seen: Observation, generation: ModelGeneration, now: datetime) -> Step:
    rollout, steps = generation.status.rollout, spec_steps(seen)
    number = rollout.step or 1
    if number > len(steps):
        return end_steps(seen, generation, now)
    lost = live_deleted(seen)
    edited = lost is None and steps[number - 1].weight != rollout.weight
    if edited and not_possible(seen, [number - 1]) is None:
        return begin_step(seen, generation, number, now)
    why, refusal = lost or hold(seen, generation), refused_write(seen, rollout)
    if why is None and (edited or rollout.weight_seen_at is None):
        why = not_possible(seen, [number - 1])
    if why is None and refusal is not None:
        if rollout.held_since and not refusal.is_pending(now):
            return _next(seen, generation, now)
        why = refusal_waiting(refusal)
    return _pause(seen, generation, why, now) or _next(seen, generation, now)


def _pause(
    seen: Observation, generation: ModelGeneration, why: Waiting | None, now: datetime
) -> Step | None:
    """Hold the step for a cause, or go on after one; None: neither is to be written."""
    rollout = generation.status.rollout
    if why is None:
        return pause_clock(seen, generation, None, now)
    lost = park_unanswered(seen, now) if weight_conflict(seen, rollout) is None else None
    if found := lost or restore_live(seen, now):
        return replace(found, waiting=why)
    if rollout.unavailable_since or is_unweighted(seen, rollout, why):
        return hold_step(seen, generation, why, now)
    return pause_clock(seen, generation, why, now)


def begin_step(
    seen: Observation,
    generation: ModelGeneration,
    number: int,
    now: datetime,
    why: str = "",
    *,
    unavailable_since: datetime | None = None,
) -> Step:
    """Write that a step starts, or starts again.

    Args:
        seen: the update.
        generation: the candidate.
        number: of the step, from 1.
        now: the moment.
        why: why it starts again.
        unavailable_since: since when its pods fail, where that is why.
    """
    weight = spec_steps(seen)[number - 1].weight
    facts = {**_clock(seen, generation, now), "step": number, "weight": weight, **UNSEEN}
    facts["unavailable_since"] = unavailable_since
    event = step_event(seen, generation, number, why)
    return Step(actions=(with_rollout(generation, facts),), events=(event,))


def end_steps(seen: Observation, generation: ModelGeneration, now: datetime) -> Step:
    """Write that the steps are over: from now on the targets get the generation."""
    facts = {**_clock(seen, generation, now), **UNSEEN, "steps_ended_at": now}
    return Step(
        actions=(with_rollout(generation, facts),), events=(steps_passed(seen, generation),)
    )


def _clock(seen: Observation, generation: ModelGeneration, now: datetime) -> dict[str, object]:
    rollout, patience = generation.status.rollout, duration(seen.update.spec.rollout.deadline)
    targets = with_shown_weights(seen, rollout, recorded_targets(seen, rollout))
    return {"step_started_at": now, "deadline": now + patience, "targets": targets}


def _next(seen: Observation, generation: ModelGeneration, now: datetime) -> Step:
    """What is written next in a step, or what it waits for."""
    rollout, live = generation.status.rollout, seen.lineage.live
    assert live is not None
    if behind := not_serving(live, seen.targets):
        return apply_generation(seen, live, behind, now)
    if why := why_replaced(seen, generation):
        if rollout.weight_seen_at:
            return begin_step(seen, generation, rollout.step or 1, now, why)
        if parked := park_traffic(seen, generation, now):
            return parked
        # A step that is held for a refused write gets the time of the hold when that ends.
        again = None if rollout.held_since else restart_clock(seen, generation, now)
        if again:
            return again
    if lost := _without_pods(seen, generation, now):
        return lost
    if writes := canary_writes(seen, generation):
        return Step(actions=(*rescaling(seen, generation), *writes))
    return _watch_pods(seen, generation, now)


def _without_pods(seen: Observation, generation: ModelGeneration, now: datetime) -> Step | None:
    """Where no pod answers the requests of a canary: they return, and the step starts again."""
    rollout, why = generation.status.rollout, why_unanswered(seen)
    if not why or rollout.weight_seen_at is None:
        return park_unanswered(seen, now)
    if aborted := abort_unanswered(seen, generation, now):
        return aborted
    since = rollout.unavailable_since or now
    return begin_step(seen, generation, rollout.step or 1, now, why, unavailable_since=since)


def _watch_pods(seen: Observation, generation: ModelGeneration, now: datetime) -> Step:
    """Wait for the pods, then for the end of the step."""
    rollout = generation.status.rollout
    seen_at = rollout.weight_seen_at if is_shifted(seen, rollout) else None
    if seen_at is None and not all_available(seen):
        return wait_for_pods(seen, generation, now)
    if seen_at is None and (step := shift_traffic(seen, generation, now)):
        return step
    if seen_at is None or is_ahead(seen_at, now):
        facts = {"weight_seen_at": now, "targets": shifted_targets(seen, rollout)}
        return Step(actions=(with_rollout(generation, facts),))
    if facts := pod_facts(seen, rollout, now):
        return Step(actions=(with_rollout(generation, facts),))
    return abort_failed_pods(seen, generation, now) or _end_of_step(seen, generation, now)


def _end_of_step(seen: Observation, generation: ModelGeneration, now: datetime) -> Step:
    """Wait for the end of a step, or start the next one."""
    rollout, steps = generation.status.rollout, spec_steps(seen)
    number, seen_at = rollout.step or 1, rollout.weight_seen_at or now
    until = seen_at + duration(steps[number - 1].duration)
    if now < until or rollout.unavailable_since:
        waiting = at_weight(seen, generation, until, now)
        return Step(
            waiting=waiting, wake_after=RECHECK if rollout.unavailable_since else until - now
        )
    if longer := wait_for_metrics(seen, now):
        return longer
    if seen.update.spec.suspend:
        return Step(waiting=suspended(rollout))
    if number == len(steps):
        return end_steps(seen, generation, now)
    if why := not_possible(seen, [number]):
        return Step(waiting=why, wake_after=RECHECK)
    return begin_step(seen, generation, number + 1, now)
