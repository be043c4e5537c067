"""What a canary shows to users: its step and weight, in the column, in messages and in Events."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

from springtide_operator.lifecycle.canary.canaries import canary_of, spec_steps
from springtide_operator.lifecycle.canary.gateway import pods_wanted
from springtide_operator.lifecycle.state.plan import Event, Waiting

if TYPE_CHECKING:
    from datetime import datetime

    from springtide_api.objects import ModelGeneration
    from springtide_operator.lifecycle.state.observation import Observation

_DAY = timedelta(days=1)


def short(seen: Observation, generation: ModelGeneration, detail: str) -> str:
    """Weight and step for the column, such as "canary 10 %, step 1/3, 0/1 pods"."""
    rollout, steps = generation.status.rollout, len(spec_steps(seen))
    return f"canary {rollout.weight} %, step {rollout.step}/{steps}, {detail}"


def at_weight(
    seen: Observation, generation: ModelGeneration, until: datetime, now: datetime
) -> Waiting:
    """That the canary has its weight, and until when.

    A time, not a remaining time: each change of it would be one more write of the status.

    Args:
        seen: the update.
        generation: the candidate.
        until: when the step ends.
        now: the moment.
    """
    rollout = generation.status.rollout
    moment = f"{until:%H:%M} UTC" if until - now < _DAY else f"{until:%Y-%m-%d %H:%M} UTC"
    name = generation.metadata.name
    message = f"{name} serves {rollout.weight} % until {moment}: {_pods(seen)}"
    if now >= until:
        message = f"{name} serves {rollout.weight} %; the time of the step ended at {moment}"
    if since := rollout.unavailable_since:
        limit = seen.update.spec.rollout.deadline
        message += (
            f"; canary pods were unavailable since {since:%H:%M} UTC: the step ends once all have "
            f"been available for {limit} (rollout.deadline)"
        )
    detail = f"until {moment}" if now < until else "waits for pods"
    return Waiting("Canary", message[:1024], "Rollout", short=short(seen, generation, detail))


def step_event(seen: Observation, generation: ModelGeneration, number: int, why: str) -> Event:
    """The Event of a step that starts, or starts again.

    Args:
        seen: the update.
        generation: the candidate.
        number: of the step, from 1.
        why: why it starts again.
    """
    steps, name = spec_steps(seen), generation.metadata.name
    weight = steps[number - 1].weight
    shares = ", ".join(
        f"{pods_wanted(seen, t, weight)} beside {t.desired} of Deployment "
        f"{t.target.target_ref.name}"
        for t in seen.targets
    )
    message = f"{name}: canary step {number} of {len(steps)}: {weight} %, pods: {shares}"
    if why:
        message = f"{name}: canary step {number} of {len(steps)} starts again: {why}"
    return Event("CanaryStep", message[:1024], generation=name)


def steps_passed(seen: Observation, generation: ModelGeneration) -> Event:
    """The Event of the end of the steps."""
    name, number = generation.metadata.name, generation.status.rollout.step or 1
    names = ", ".join(f"Deployment {t.target.target_ref.name}" for t in seen.targets)
    reason, how = "CanaryPassed", "its canary passed"
    if number > len(spec_steps(seen)):
        reason, how = "CanaryEnded", f"its canary ends, as the spec has no step {number} any more"
    message = f"{name}: {how}, and it rolls out to {names}"
    return Event(reason, message[:1024], generation=name)


def canary_weight(seen: Observation) -> int | None:
    """The share of the canary in percent, for the metric; None: there is none."""
    rolls = seen.lineage.rolls
    if rolls is None or rolls.status.rollout.rollback_reason:
        return None
    return rolls.status.rollout.weight


def _pods(seen: Observation) -> str:
    """The canary pods of each target, beside its own."""
    each = []
    for target in seen.targets:
        canary = canary_of(seen, target)
        count = canary.deployment.desired if canary else 0
        name = target.target.target_ref.name
        each.append(f"{count} beside {target.desired} of Deployment {name}")
    return f"canary pods: {', '.join(each)}"
