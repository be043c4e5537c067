"""Which generation a target's Deployment runs and how many of its pods are available."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

    from springtide_api.objects import ModelGeneration
    from springtide_operator.lifecycle.state.observed import ObservedCanary, ObservedTarget


def not_serving(
    generation: ModelGeneration, targets: Iterable[ObservedTarget]
) -> tuple[ObservedTarget, ...]:
    """Targets whose template does not name the weights of this generation."""
    artifact = generation.status.artifact
    digest = artifact.served_digest if artifact else None
    number = generation.spec.number
    return tuple(t for t in targets if t.digest != digest or t.number != number)


def is_outdated(
    generation: ModelGeneration, target: ObservedTarget, canary: ObservedCanary
) -> bool:
    """Whether a canary runs something else than the target's template with this generation."""
    behind = bool(not_serving(generation, [canary.deployment]))
    return behind or canary.made_from != (target.template or "")


def available(target: ObservedTarget) -> bool:
    """Whether all pods of the newest template are available, as in `kubectl rollout status`."""
    full = target.desired > 0 and target.updated >= target.desired
    return target.settled and full and target.old == 0 and target.available >= target.desired


def new_pods(target: ObservedTarget) -> int:
    """How many pods of the newest template are available; those of older ones may be, too."""
    known = target.ready if target.ready is not None else target.available - target.old
    return max(0, min(known, target.desired))
