"""What users read of pods of previous: whether there are as many as wanted, what refuses them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from springtide_operator.lifecycle.canary.canaries import (
    canary_of,
    is_edited_at_once,
    present,
)
from springtide_operator.lifecycle.canary.gateway import selector_labels
from springtide_operator.lifecycle.canary.start import target_problem
from springtide_operator.lifecycle.rollout.availability import available
from springtide_operator.lifecycle.rollout.rollout_clock import cause_of_others
from springtide_operator.lifecycle.routes.service_problems import outdated_service
from springtide_operator.lifecycle.state.plan import Waiting
from springtide_operator.lifecycle.warm.share import compared_in_bake, weights_problem
from springtide_operator.lifecycle.warm.standby import (
    holdback,
    kept_warm,
    standby,
    standby_targets,
)

if TYPE_CHECKING:
    from springtide_api.objects import ModelGeneration
    from springtide_operator.lifecycle.state.observation import Observation
    from springtide_operator.lifecycle.state.observed import ObservedCanary, ObservedTarget

REFUSED = frozenset({"QuotaExceeded", "PodsForbidden"})
"""Causes for which pods are never created without a user."""


def standby_problem(seen: Observation, target: ObservedTarget) -> Waiting | None:
    """Why pods of a target are not created; None too where its Services were not read."""
    routing, service = seen.routings.get(target.target.target_ref.name), target.target.service
    if routing is None or routing.services is None or service is None:
        return None
    if why := target_problem(seen, target):
        return _held(seen, why.reason, why.message)
    labels = selector_labels(target)
    found = weights_problem(seen, target) or outdated_service(routing, service, labels)
    return _held(seen, found.reason, found.message) if found else None


def standby_hold(seen: Observation) -> Waiting | None:
    """Why a user must act before a rollback can be one write, or generations be compared."""
    generation = standby(seen)
    if generation is None:
        return None
    for target in standby_targets(seen):
        canary = canary_of(seen, target)
        why = standby_problem(seen, target)
        if why or (canary and (why := _pods_missing(seen, generation, canary))):
            return why
    return None


def _pods_missing(
    seen: Observation, generation: ModelGeneration, canary: ObservedCanary
) -> Waiting | None:
    """Why pods of the previous generation are not there, where only a user can change that."""
    pods, live = canary.deployment, seen.lineage.live
    if is_edited_at_once(seen, canary):
        message = (
            f"Deployment {canary.name}: {canary.edited_by} changed its pod template; it is created "
            "again as it was, at most every 30 seconds: let that client leave it alone"
        )
        return _held(seen, "FieldConflict", message)
    stalled = pods.stalled if pods.settled else ""
    if available(pods) or not (stalled or cause_of_others(pods.trouble) in REFUSED):
        return None
    name, warm = live.metadata.name if live else "", seen.update.spec.rollout.rollback.keep_warm
    until = [f"a rollback of {name} replaces the pods of its targets"] if warm else []
    until += [f"{name} is not compared with it, and bakes on"] if holdback(seen) else []
    message = (
        f"Deployment {canary.name}: not all of {pods.desired} pods of {generation.metadata.name} "
        f"are available ({pods.trouble or stalled}); until they are, {'; '.join(until)}"
    )
    return _held(seen, "NotKeptWarm" if warm else "NotHeldBack", message)


def _held(seen: Observation, reason: str, message: str) -> Waiting:
    warm = seen.update.spec.rollout.rollback.keep_warm
    field = "rollout.rollback.keepWarm" if warm else "rollout.bake.holdback"
    return Waiting(reason, f"{field}: {message}"[:1024], "Rollout", held=True)


def held_back(seen: Observation) -> int | None:
    """Share in percent that previous has on every route; None: it has none."""
    live = seen.lineage.baking
    there = compared_in_bake(seen) is not None and live is not None
    return holdback(seen) if there and live and live.status.rollout.holdback_seen_at else None


def share_words(seen: Observation) -> str:
    """What the message of the bake says of a holdback; empty: there is none."""
    generation = compared_in_bake(seen)
    if generation is None:
        return ""
    name, share = generation.metadata.name, holdback(seen)
    if held_back(seen):
        return f"{name} has {share} % of the requests (rollout.bake.holdback)"
    return f"{name} gets {share} % of the requests once its pods are ready (rollout.bake.holdback)"


def standby_words(seen: Observation) -> str:
    """What the message of the bake says of warm pods; empty: none are kept."""
    if not seen.update.spec.rollout.rollback.keep_warm:
        return ""
    generation, targets = standby(seen), standby_targets(seen)
    if generation is None or not targets:
        return ""
    found = [canary_of(seen, target) for target in targets]
    all_there = all(c is not None and c.ours and available(c.deployment) for c in found)
    name = generation.metadata.name
    return f"pods of {name} are kept warm" if all_there else f"pods of {name} are not all warm yet"


def warm_pods(seen: Observation) -> int:
    """How many pods are kept warm, or serve the requests of their target in a rollback."""
    kept = kept_warm(seen) if seen.update.spec.rollout.rollback.keep_warm else frozenset()
    return sum(each.deployment.available for each in present(seen) if each.of in kept)


def warm_pods_missing(seen: Observation) -> int:
    """How many more warm pods the targets need before a rollback is one write of the route."""
    wanted = seen.update.spec.rollout.rollback.keep_warm and standby(seen)
    targets = standby_targets(seen) if wanted else ()
    kept = kept_warm(seen)
    there = {each.of: each.deployment.available for each in present(seen) if each.of in kept}
    lacks = (t.desired - there.get(t.target.target_ref.name, 0) for t in targets)
    return sum(max(0, each) for each in lacks)
