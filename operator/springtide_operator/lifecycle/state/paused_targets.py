"""Targets that are paused: their Deployment replaces no pods, and so no rollout can end."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from springtide_operator.lifecycle.state.plan import Waiting

if TYPE_CHECKING:
    from collections.abc import Iterable

    from springtide_operator.lifecycle.state.observation import Observation
    from springtide_operator.lifecycle.state.observed import ObservedTarget


def paused(targets: Iterable[ObservedTarget]) -> Waiting | None:
    """Which of these targets is paused: its pods are not replaced."""
    for target in targets:
        if target.paused:
            name = target.target.target_ref.name
            message = f"Deployment {name} is paused; kubectl rollout resume deployment/{name}"
            return Waiting("TargetPaused", message, "Rollout", blocked=True, targets=True)
    return None


def paused_at_rest(seen: Observation) -> Waiting | None:
    """Which target is paused while nothing rolls out: runs go on, and the next rollout waits."""
    found = paused(seen.targets)
    if found is None:
        return None
    message = f"{found.message}; no generation rolls out meanwhile"
    return replace(found, message=message, blocked=False, held=True)
