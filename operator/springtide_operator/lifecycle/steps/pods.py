"""Canary pods: whether all are available, and for how long they may not be."""

from __future__ import annotations

from typing import TYPE_CHECKING

from springtide_api.schema import duration
from springtide_operator.lifecycle.canary.canaries import canary_of
from springtide_operator.lifecycle.canary.report import short
from springtide_operator.lifecycle.rollout.availability import available, new_pods
from springtide_operator.lifecycle.rollout.failing_pods import failing_facts
from springtide_operator.lifecycle.rollout.rollback_decision import decide_rollback
from springtide_operator.lifecycle.rollout.rollout_clock import (
    abort_if_late,
    failure_of_others,
    stall_of,
)
from springtide_operator.lifecycle.rollout.rollout_status import with_rollout
from springtide_operator.lifecycle.state.plan import RECHECK, Step, Waiting

if TYPE_CHECKING:
    from datetime import datetime

    from springtide_api.generation.rollout import RolloutStatus
    from springtide_api.objects import ModelGeneration
    from springtide_operator.lifecycle.state.observation import Observation
    from springtide_operator.lifecycle.state.observed import ObservedTarget
    from springtide_operator.lifecycle.state.plan import WriteGeneration


def all_available(seen: Observation) -> bool:
    """Whether all canary pods of all targets are available."""
    found = [canary_of(seen, target) for target in seen.targets]
    return all(c is not None and available(c.deployment) for c in found)


def wait_for_pods(seen: Observation, generation: ModelGeneration, now: datetime) -> Step:
    """Wait until all canary pods are available, until the deadline of the step."""
    late, state, counts = _state(seen)
    stalled = stall_of(generation.status.rollout, late)
    if aborted := abort_if_late(seen, generation, state, now, late=late, stalled=stalled):
        return aborted
    deadline = generation.status.rollout.deadline or now
    waiting = Waiting("Canary", state, "Rollout", short=short(seen, generation, counts))
    return Step(waiting=waiting, wake_after=min(deadline - now, RECHECK))


def pod_facts(seen: Observation, rollout: RolloutStatus, now: datetime) -> dict[str, object]:
    """What must be written about the pods of a weight that was seen; empty: nothing."""
    deadline = duration(seen.update.spec.rollout.deadline)
    return failing_facts(rollout, now, failing=not all_available(seen), deadline=deadline)


def rescaling(seen: Observation, generation: ModelGeneration) -> tuple[WriteGeneration, ...]:
    """What is written before the number of pods changes: new pods have a deadline of their own.

    Where pods were seen to fail, their time goes on.
    """
    late, _, _ = _state(seen)
    rollout = generation.status.rollout
    if rollout.unavailable_since is None or any(each.trouble for each in late):
        return ()
    return (with_rollout(generation, {"unavailable_since": None, "recovered_at": None}),)


def abort_failed_pods(seen: Observation, generation: ModelGeneration, now: datetime) -> Step | None:
    """Abort a canary whose pods were unavailable for longer than the deadline."""
    since, limit = generation.status.rollout.unavailable_since, seen.update.spec.rollout.deadline
    if since is None or all_available(seen) or now - since < duration(limit):
        return None
    late, state, _ = _state(seen)
    why = (
        f"{state}; canary pods have been unavailable since {since:%H:%M} UTC, longer than {limit} "
        "(rollout.deadline); see the events of its pods"
    )
    return decide_rollback(seen, generation, why, now, {"failure": failure_of_others(late)})


def _state(seen: Observation) -> tuple[list[ObservedTarget], str, str]:
    """Canaries with unavailable pods, a sentence about the first, and its pods in short."""
    found = (canary_of(seen, target) for target in seen.targets)
    late = [c.deployment for c in found if c is not None and not available(c.deployment)]
    if not late:
        return [], "the canary's Deployment does not exist", "no pods"
    first = late[0]
    name = first.target.target_ref.name
    if first.deleting:
        return late, f"Deployment {name} is being deleted; it is created again after", "no pods"
    ready = new_pods(first) if first.settled else 0
    state = f"Deployment {name}: {ready} of {first.desired} canary pods available"
    if first.trouble:
        state += f" ({first.trouble})"
    return late, state, f"{ready}/{first.desired} pods"
