"""Removes canaries: at the end of a rollout, and at once where it is aborted or pinned over."""

from __future__ import annotations

from typing import TYPE_CHECKING

from springtide_operator.lifecycle.canary.canaries import present
from springtide_operator.lifecycle.canary.removal import delete_canaries
from springtide_operator.lifecycle.rollout.availability import available, not_serving
from springtide_operator.lifecycle.state.generations import unknown_value

if TYPE_CHECKING:
    from datetime import datetime

    from springtide_api.objects import ModelGeneration
    from springtide_operator.lifecycle.state.observation import Observation
    from springtide_operator.lifecycle.state.observed import ObservedCanary
    from springtide_operator.lifecycle.state.plan import Step


def remove_canaries(seen: Observation, now: datetime) -> Step | None:
    """Delete every canary that no rollout wants: all outside a rollout, and those of others."""
    there = [each for each in present(seen) if not each.deployment.deleting]
    left = [each for each in there if not _is_kept(seen, each)]
    return delete_canaries(seen, left, now) if left else None


def _is_kept(seen: Observation, canary: ObservedCanary) -> bool:
    rolls = seen.lineage.rolls
    if rolls is None or seen.lineage.pinned is not None:
        return False
    rollout = rolls.status.rollout
    if unknown_value(rolls) and rollout.step is not None:
        return True
    if rollout.step is None or rollout.rollback_reason:
        return False
    names = {target.target.target_ref.name for target in seen.targets}
    of_rollout = canary.of in names and canary.deployment.number == rolls.spec.number
    return of_rollout and not (rollout.steps_ended_at and _is_complete(seen, rolls))


def _is_complete(seen: Observation, generation: ModelGeneration) -> bool:
    """Whether all pods of all targets run a generation and are available."""
    behind = not_serving(generation, seen.targets)
    return not behind and all(available(target) for target in seen.targets)
