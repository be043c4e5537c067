"""Keeps pods of the previous generation during the bake of live.

Their number follows that of the target. What refuses them holds no other stage up.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from springtide_api.names import FINALIZER
from springtide_operator.lifecycle.canary.canaries import canary_of, present
from springtide_operator.lifecycle.canary.deployment import canary_deployment
from springtide_operator.lifecycle.canary.gateway import (
    new_route,
    recorded_route,
    service_to_create,
)
from springtide_operator.lifecycle.rollout.availability import available, is_outdated
from springtide_operator.lifecycle.rollout.rollout_status import with_rollout
from springtide_operator.lifecycle.rollout.target_facts import usable_targets
from springtide_operator.lifecycle.state.plan import ApplyCanary, Event, Step, subject
from springtide_operator.lifecycle.traffic.withdrawal import is_drained
from springtide_operator.lifecycle.warm.report import standby_problem
from springtide_operator.lifecycle.warm.share import is_given
from springtide_operator.lifecycle.warm.standby import (
    holdback,
    is_standby,
    standby,
    standby_pods,
    standby_targets,
)

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from springtide_api.objects import ModelGeneration
    from springtide_operator.lifecycle.state.observation import Observation
    from springtide_operator.lifecycle.state.observed import ObservedTarget
    from springtide_operator.lifecycle.state.plan import Action


def keep_warm(seen: Observation, now: datetime) -> Step | None:
    """Create the pods of every target, and change them with it."""
    generation, live = standby(seen), seen.lineage.live
    if generation is None or live is None or FINALIZER not in seen.update.metadata.finalizers:
        return None
    if not all(is_standby(seen, generation, each) for each in present(seen)):
        return None  # another generation's go first
    targets = [t for t in usable_targets(seen) if _may_change(seen, live, t)]
    if step := _record_weights(seen, live, targets):
        return step
    actions = [action for t in targets for action in _writes(seen, generation, t, now)]
    if not actions:
        return None
    refused = {r.subject for r in seen.refusals if r.is_pending(now)}
    open_now = [each for each in actions if subject(each) not in refused]
    new = (each for each in open_now if isinstance(each, ApplyCanary) and not each.uid)
    events = tuple(_event(seen, generation, live, each) for each in new)
    return Step(actions=tuple(open_now or actions), events=events)


def _may_change(seen: Observation, live: ModelGeneration, target: ObservedTarget) -> bool:
    """Whether pods may be created or changed now: not amid a change of the target's owner."""
    name = target.target.target_ref.name
    routing = seen.routings.get(name)
    if target not in standby_targets(seen) or routing is None or routing.services is None:
        return False
    began = {each.name: each.template for each in live.status.rollout.targets}
    settled = available(target) or target.template == began.get(name)
    return settled and standby_problem(seen, target) is None


def _record_weights(
    seen: Observation, live: ModelGeneration, targets: Sequence[ObservedTarget]
) -> Step | None:
    """Record the weights of routes that their owner changed since: a rollback restores these."""
    weights = {}
    for target in targets:
        name, route = target.target.target_ref.name, new_route(seen, target)
        known = recorded_route(live.status.rollout, name)
        if route and known and not is_given(known) and route.weights != known.weights:
            weights[name] = route.weights
    if not weights:
        return None
    recorded = [
        each.model_copy(
            update={"route": each.route.model_copy(update={"weights": weights[each.name]})}
        )
        if each.route and each.name in weights
        else each
        for each in live.status.rollout.targets
    ]
    return Step(actions=(with_rollout(live, {"targets": recorded}),))


def _writes(
    seen: Observation, generation: ModelGeneration, target: ObservedTarget, now: datetime
) -> tuple[Action, ...]:
    """What must be written now; pods are replaced once the gateway sends them nothing any more.

    Args:
        seen: the update.
        generation: what they run.
        target: what they are made from.
        now: the moment.
    """
    canary, pods = canary_of(seen, target), standby_pods(seen, target)
    if canary and (canary.deployment.deleting or canary.edited_by):
        return ()
    outdated = canary is not None and is_outdated(generation, target, canary)
    if canary and outdated and not is_drained(seen, canary, (), now):
        return ()
    writes: list[Action] = []
    if service := service_to_create(seen, target):
        writes.append(service)
    if canary is None or outdated or canary.deployment.desired != pods:
        writes.append(canary_deployment(seen, generation, target, pods))
    return tuple(writes)


def _event(
    seen: Observation, generation: ModelGeneration, live: ModelGeneration, made: ApplyCanary
) -> Event:
    """The Event of pods that are created.

    Args:
        seen: the update.
        generation: what they run.
        live: what bakes.
        made: their Deployment.
    """
    pods, name = f"{made.replicas} pods of {generation.metadata.name}", live.metadata.name
    if seen.update.spec.rollout.rollback.keep_warm:
        why = f"keeps {pods} warm while {name} bakes (rollout.rollback.keepWarm)"
        return Event("KeptWarm", f"Deployment {made.name} {why}")
    share = f"{holdback(seen)} % of the requests (rollout.bake.holdback)"
    return Event("HeldBack", f"Deployment {made.name} keeps {pods} while {name} bakes, for {share}")
