"""Removes canaries: at the end of a rollout, and at once where it is aborted or pinned over."""

from __future__ import annotations

from typing import TYPE_CHECKING

from springtide_operator.lifecycle.canary.canaries import present
from springtide_operator.lifecycle.canary.removal import delete_canaries
from springtide_operator.lifecycle.rollout.availability import available, not_serving
from springtide_operator.lifecycle.rollout.rollback import removed_targets_serving
from springtide_operator.lifecycle.state.generations import unknown_value
from springtide_operator.lifecycle.steps.parking import unanswered
from springtide_operator.lifecycle.traffic.withdrawal import (
    is_drained,
    routes_back,
    withdraw_traffic,
)
from springtide_operator.lifecycle.warm.standby import kept_warm

if TYPE_CHECKING:
    from collections.abc import Collection
    from datetime import datetime

    from springtide_api.objects import ModelGeneration
    from springtide_operator.lifecycle.state.observation import Observation
    from springtide_operator.lifecycle.state.observed import ObservedCanary
    from springtide_operator.lifecycle.state.plan import Step


def remove_canaries(seen: Observation, now: datetime) -> Step | None:
    """Delete every canary that no rollout wants: all outside a rollout, and those of others.

    Warm pods stay during a bake, and in a rollback until their target is back. With traffic Gateway
    the weight of a canary is 0 before, and the gateway has followed.
    """
    warm, kept = kept_warm(seen), _kept_targets(seen)
    if step := withdraw_traffic(seen, kept | warm, now):
        return step
    there = [each for each in present(seen) if not each.deployment.deleting]
    left = [each for each in there if each.of not in warm and not _is_kept(seen, each, kept)]
    gone = [each for each in left if is_drained(seen, each, kept, now)]
    return delete_canaries(seen, gone, now) if gone else None


def _is_kept(seen: Observation, canary: ObservedCanary, kept: Collection[str]) -> bool:
    rolls = seen.lineage.rolls
    if rolls is None or not kept:
        return False
    return bool(unknown_value(rolls)) or (
        canary.of in kept and canary.deployment.number == rolls.spec.number
    )


def _kept_targets(seen: Observation) -> frozenset[str]:
    """Names of the targets whose canaries stay: those of the spec, while a rollout has steps.

    After the steps also one that was removed from the spec, until its pods are available, and none
    whose canary has no requests, or no ready pod that answers them: it is of no use any more.
    """
    rolls = seen.lineage.rolls
    if rolls is None or seen.lineage.pinned is not None:
        return frozenset()
    rollout = rolls.status.rollout
    ended = rollout.steps_ended_at is not None and _is_complete(seen, rolls)
    over = bool(rollout.rollback_reason) or ended
    if rollout.step is None or (over and not unknown_value(rolls)):
        return frozenset()
    kept = frozenset(target.target.target_ref.name for target in seen.targets)
    if rollout.steps_ended_at is None or unknown_value(rolls):
        return kept
    rolling = (t for t in removed_targets_serving(seen, rolls) if not available(t))
    useless = {name for name, route in routes_back(seen).items() if not route.weight}
    return (kept | {t.target.target_ref.name for t in rolling}) - useless - unanswered(seen)


def _is_complete(seen: Observation, generation: ModelGeneration) -> bool:
    """Whether all pods of all targets run a generation and are available."""
    behind = not_serving(generation, seen.targets)
    return not behind and all(available(target) for target in seen.targets)
