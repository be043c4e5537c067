"""Pods that fail during the bake: since when, and whether for too long.

Only pods whose serving container runs or ended count: a pod without a node or an image would not be
better off with another generation. What the owner of a Deployment changes stops the clock.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from springtide_api.schema import duration
from springtide_operator.lifecycle.rollout.availability import not_serving
from springtide_operator.lifecycle.rollout.failing_pods import failing_facts
from springtide_operator.lifecycle.rollout.rollout_clock import recorded_targets
from springtide_operator.lifecycle.rollout.target_problems import idle, targets_problem

if TYPE_CHECKING:
    from datetime import datetime, timedelta

    from springtide_api.objects import ModelGeneration
    from springtide_operator.lifecycle.state.observation import Observation
    from springtide_operator.lifecycle.state.observed import ObservedTarget


def pod_facts(seen: Observation, generation: ModelGeneration, now: datetime) -> dict[str, object]:
    """What must be written about the pods; empty: nothing."""
    rollout = generation.status.rollout
    if stops_clock(seen):
        known = rollout.unavailable_since or rollout.recovered_at
        return {"unavailable_since": None, "recovered_at": None} if known else {}
    targets = recorded_targets(seen, rollout)
    if targets != rollout.targets:
        return {"targets": targets}
    target = failing_target(seen, generation)
    starting = target is not None and not target.trouble
    failing, deadline = target is not None, _deadline(seen)
    return failing_facts(rollout, now, failing=failing, starting=starting, deadline=deadline)


def pod_failure(seen: Observation, generation: ModelGeneration, now: datetime) -> str:
    """Why the pods fail the bake; empty while they do not."""
    since, target = generation.status.rollout.unavailable_since, failing_target(seen, generation)
    if since is None or target is None or stops_clock(seen) or now - since < _deadline(seen):
        return ""
    deadline = seen.update.spec.rollout.deadline
    detail = f" ({target.trouble})" if target.trouble else ""
    return (
        f"Deployment {target.target.target_ref.name}: {target.failing} of {target.desired} pods "
        f"fail{detail}; pods have failed since {since:%H:%M} UTC, longer than {deadline} "
        "(rollout.deadline)"
    )


def pod_wake(seen: Observation, generation: ModelGeneration, now: datetime) -> timedelta | None:
    """When the clock of the pods is due."""
    rollout = generation.status.rollout
    began = rollout.recovered_at or rollout.unavailable_since
    return began + _deadline(seen) - now if began else None


def stops_clock(seen: Observation) -> bool:
    """Whether something other than the generation decides on the pods."""
    return bool(targets_problem(seen) or idle(seen))


def failing_target(seen: Observation, generation: ModelGeneration) -> ObservedTarget | None:
    """A target on which pods of this generation fail, as its owner left it at the promotion."""
    known = {each.name: each.template for each in generation.status.rollout.targets}
    return next(
        (
            target
            for target in seen.targets
            if target.failing
            and target.settled
            and not not_serving(generation, [target])
            and target.template == known.get(target.target.target_ref.name, target.template)
        ),
        None,
    )


def _deadline(seen: Observation) -> timedelta:
    return duration(seen.update.spec.rollout.deadline)
