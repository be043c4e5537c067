"""What holds the steps of a canary: its owner, another client, a refused write, spec.suspend."""

from __future__ import annotations

from typing import TYPE_CHECKING

from springtide_api.names import canary_name
from springtide_operator.lifecycle.canary.canaries import (
    in_steps,
    is_edited_at_once,
    present,
    spec_steps,
)
from springtide_operator.lifecycle.canary.gateway import (
    recorded_route,
    weight_conflict,
)
from springtide_operator.lifecycle.canary.start import not_possible
from springtide_operator.lifecycle.rollout.availability import available, new_pods
from springtide_operator.lifecycle.rollout.rollout_status import with_rollout
from springtide_operator.lifecycle.rollout.target_problems import idle, targets_problem
from springtide_operator.lifecycle.routes.weights import canary_service
from springtide_operator.lifecycle.state.generations import rolling
from springtide_operator.lifecycle.state.plan import Step, Waiting
from springtide_operator.lifecycle.steps.shift import is_shifted

if TYPE_CHECKING:
    from datetime import datetime

    from springtide_api.generation.rollout import RolloutStatus
    from springtide_api.objects import ModelGeneration
    from springtide_operator.lifecycle.state.observation import Observation
    from springtide_operator.lifecycle.state.observed import Refusal


def hold(seen: Observation, generation: ModelGeneration) -> Waiting | None:
    """Why nothing is written for a canary now, and its deadline does not run."""
    return (
        targets_problem(seen)
        or idle(seen)
        or _changing(seen, generation)
        or not_possible(seen, ())
        or _edited(seen)
        or weight_conflict(seen, generation.status.rollout)
    )


def live_deleted(seen: Observation) -> Waiting | None:
    """Whether the record of the live generation was deleted, and no earlier one is left.

    Nothing is there to compare a canary with, or to return to: a user decides on it.
    """
    generation = seen.lineage.candidate
    if generation is None or seen.lineage.live is not None or not rolling(generation):
        return None
    name, rollout = generation.metadata.name, generation.status.rollout
    if rollout.rollback_reason or not in_steps(rollout):
        return None
    if (rollout.step or 1) > len(spec_steps(seen)):
        return None
    message = (
        f"{name} serves {rollout.weight} %, and the ModelGeneration that was live beside it was "
        "deleted: the steps hold, and the targets keep what they serve; restore it from a backup, "
        f"annotate springtide.dev/request=rollback.g{generation.spec.number}@<token>, or remove "
        f"spec.rollout.strategy to roll {name} out without steps"
    )
    return Waiting("LiveGenerationDeleted", message[:1024], "Rollout", targets=True, held=True)


def is_unweighted(seen: Observation, rollout: RolloutStatus, why: Waiting) -> bool:
    """Whether a step loses its weight by what holds it, or meanwhile: its duration starts again."""
    lost = why == weight_conflict(seen, rollout) or not is_shifted(seen, rollout)
    return rollout.weight_seen_at is not None and lost


def hold_step(seen: Observation, generation: ModelGeneration, why: Waiting, now: datetime) -> Step:
    """Hold a step whose pods were unavailable, or whose weight another client changed.

    The time of the hold does not count for the pods, and the duration starts again without the
    weight.
    """
    rollout = generation.status.rollout
    since = rollout.held_since or now
    facts: dict[str, object] = {
        "held_since": since,
        "unavailable_since": None,
        "recovered_at": None,
    }
    if is_unweighted(seen, rollout, why):
        facts["weight_seen_at"] = None
    return Step(actions=(with_rollout(generation, facts),), waiting=why)


def refused_write(seen: Observation, rollout: RolloutStatus) -> Refusal | None:
    """The refusal of a write to a canary, its target, its Service or its route."""
    names = [target.target.target_ref.name for target in seen.targets]
    written = [f"Deployment {each}" for name in names for each in (canary_name(name), name)]
    written += [f"deletion of Deployment {canary_name(name)}" for name in names]
    for name in names:
        if route := recorded_route(rollout, name):
            written += [f"Service {canary_service(route.service)}", f"HTTPRoute {route.name}"]
    return next(filter(None, map(seen.refusal, written)), None)


def suspended(rollout: RolloutStatus) -> Waiting:
    """That the next step waits for spec.suspend."""
    message = (
        f"spec.suspend is true: the canary keeps {rollout.weight} %; set it to false for the next "
        "step"
    )
    return Waiting("Suspended", message, "Rollout")


def _edited(seen: Observation) -> Waiting | None:
    """Whether a canary that was just created is edited: a client that always does is not raced."""
    for canary in present(seen):
        if is_edited_at_once(seen, canary):
            message = (
                f"Deployment {canary.name}: {canary.edited_by} changed its pod template; it is "
                "created again as it was, at most every 30 seconds: let that client leave it alone"
            )
            return Waiting("FieldConflict", message, "Rollout", targets=True, held=True)
    return None


def _changing(seen: Observation, generation: ModelGeneration) -> Waiting | None:
    """Whether the owner's change of a target is not finished: its canary is made from it after."""
    began = {each.name: each.template for each in generation.status.rollout.targets}
    for target in seen.targets:
        name = target.target.target_ref.name
        if target.template == began.get(name, target.template) or available(target):
            continue
        who = f" by {target.changed_by}" if target.changed_by else ""
        message = (
            f"Deployment {name}: its pod template was changed{who} during the canary of "
            f"{generation.metadata.name} ({new_pods(target)} of {target.desired} new pods "
            "available); the canary is made again from it once all are"
        )
        if target.trouble:
            message += f" ({target.trouble})"
        held = bool(target.stalled)
        return Waiting("TargetChanging", message[:1024], "Rollout", held=held)
    return None
