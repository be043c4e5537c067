"""Before the first step of a canary: weights and templates that are not possible are refused."""

from __future__ import annotations

from typing import TYPE_CHECKING

from springtide_operator.lifecycle.canary.canaries import canary_of, spec_steps
from springtide_operator.lifecycle.canary.gateway import gateway_problem, route_of
from springtide_operator.lifecycle.canary.weights import is_expressible, nearest_weights
from springtide_operator.lifecycle.state.plan import Waiting

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from springtide_operator.lifecycle.state.observation import Observation
    from springtide_operator.lifecycle.state.observed import ObservedTarget


def not_possible(seen: Observation, steps: Iterable[int]) -> Waiting | None:
    """Why a canary of the targets is not possible.

    Args:
        seen: the update.
        steps: positions in the spec of the steps whose weights are checked.
    """
    positions = tuple(steps)
    found = (target_problem(seen, target, positions) for target in seen.targets)
    return next(filter(None, found), None)


def target_problem(
    seen: Observation, target: ObservedTarget, positions: Sequence[int] = ()
) -> Waiting | None:
    """Why a target can have no canary.

    Args:
        seen: the update.
        target: the target.
        positions: in the spec of the steps whose weights are checked.
    """
    why = _name_taken(seen, target) or _not_copied(target)
    return why or _traffic(seen, target, positions)


def _name_taken(seen: Observation, target: ObservedTarget) -> Waiting | None:
    """Whether another Deployment has the name of a target's canary."""
    found = canary_of(seen, target)
    if found is None or found.ours:
        return None
    message = (
        f"Deployment {found.name} exists and is no canary of this update; the canary of "
        f"Deployment {target.target.target_ref.name} needs this name: delete or rename it"
    )
    return Waiting("NameCollision", message, "Rollout", blocked=True, targets=True)


def _not_copied(target: ObservedTarget) -> Waiting | None:
    if not target.not_copied:
        return None
    message = (
        f"Deployment {target.target.target_ref.name} can have no canary: {target.not_copied}; "
        "change its template, or set spec.rollout.strategy.type to RollingUpdate"
    )
    return Waiting("CanaryNotPossible", message[:1024], "Rollout", blocked=True, targets=True)


def _traffic(seen: Observation, target: ObservedTarget, positions: Sequence[int]) -> Waiting | None:
    if route_of(seen, target) is None:
        return _weight(seen, target, positions)
    steps, bake = spec_steps(seen), seen.update.spec.rollout.bake
    shares = [steps[position].weight for position in positions]
    if shares and seen.lineage.rolls is None and bake and bake.holdback:
        shares.append(bake.holdback)
    return gateway_problem(seen, target, shares)


def _weight(seen: Observation, target: ObservedTarget, positions: Iterable[int]) -> Waiting | None:
    name, pods = target.target.target_ref.name, target.desired
    for position in positions:
        weight = spec_steps(seen)[position].weight
        if not pods or is_expressible(weight, pods):
            continue  # without pods, the step waits for them first
        nearest = ", ".join(f"{each} %" for each in nearest_weights(weight, pods))
        message = (
            f"spec.rollout.strategy.canary.steps[{position}].weight: {weight} % is not possible "
            f"within 5 points beside the {pods} pods of Deployment {name}; the nearest are "
            f"{nearest}: use one of them, or more pods"
        )
        return Waiting("WeightNotPossible", message, "Rollout", blocked=True)
    return None
