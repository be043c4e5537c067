"""The canaries of an update: which there are, and the facts of a rollout that has steps."""

from __future__ import annotations

from typing import TYPE_CHECKING

from springtide_api.names import canary_name
from springtide_operator.lifecycle.state.plan import RECHECK

if TYPE_CHECKING:
    from collections.abc import Sequence

    from springtide_api.generation.rollout import RolloutStatus
    from springtide_api.objects import ModelGeneration
    from springtide_api.update.rollout import CanaryStep
    from springtide_operator.lifecycle.state.observation import Observation
    from springtide_operator.lifecycle.state.observed import ObservedCanary, ObservedTarget


UNSTEPPED: dict[str, object] = {
    "step": None,
    "weight": None,
    "weight_seen_at": None,
    "steps_ended_at": None,
    "unavailable_since": None,
    "recovered_at": None,
}
"""What a canary leaves in `status.rollout` of a rollout that may start again."""


def uses_canary(seen: Observation, generation: ModelGeneration) -> bool:
    """Whether a rollout that starts now has steps: something is live to compare with."""
    live, strategy = seen.lineage.live, seen.update.spec.rollout.strategy
    return strategy.canary is not None and live is not None and live is not generation


def spec_steps(seen: Observation) -> Sequence[CanaryStep]:
    """The steps as the spec has them now; none where its strategy has no canary."""
    canary = seen.update.spec.rollout.strategy.canary
    return canary.steps if canary else ()


def first_step(seen: Observation) -> dict[str, object]:
    """What the start of a rollout with a canary writes, beside its clock."""
    # A pin ended the attempt before without a verdict: its samples are not of this one.
    return {**UNSTEPPED, "step": 1, "weight": spec_steps(seen)[0].weight, "analysis": []}


def in_steps(rollout: RolloutStatus) -> bool:
    """Whether a rollout is in the steps of a canary: the targets serve live."""
    return rollout.step is not None and rollout.steps_ended_at is None


def present(seen: Observation) -> tuple[ObservedCanary, ...]:
    """Our canaries that exist, those that are being deleted included."""
    return tuple(each for each in seen.canaries if each.ours and each.deployment.uid)


def is_edited_at_once(seen: Observation, canary: ObservedCanary) -> bool:
    """Whether a client edited a canary soon after its creation: that client is not raced."""
    young = canary.created is not None and seen.now - canary.created < RECHECK
    return bool(canary.edited_by) and young


def canary_of(seen: Observation, target: ObservedTarget) -> ObservedCanary | None:
    """The Deployment that has the name of a target's canary, ours or not."""
    name = canary_name(target.target.target_ref.name)
    return next((c for c in seen.canaries if c.name == name and c.deployment.uid), None)
