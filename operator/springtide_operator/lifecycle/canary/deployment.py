"""The Deployment of a canary as it should be: the pods of a target with another generation."""

from __future__ import annotations

from typing import TYPE_CHECKING

from springtide_api.names import canary_name
from springtide_operator.lifecycle.canary.canaries import canary_of
from springtide_operator.lifecycle.canary.gateway import dropped_keys, route_of, selector_labels
from springtide_operator.lifecycle.state.plan import ApplyCanary, Serving

if TYPE_CHECKING:
    from springtide_api.objects import ModelGeneration
    from springtide_operator.lifecycle.state.observation import Observation
    from springtide_operator.lifecycle.state.observed import ObservedTarget


def canary_deployment(
    seen: Observation, generation: ModelGeneration, target: ObservedTarget, replicas: int
) -> ApplyCanary:
    """The apply of a canary.

    Args:
        seen: the update.
        generation: what its pods run.
        target: what it is made from.
        replicas: number of its pods.
    """
    name, route = target.target.target_ref.name, route_of(seen, target)
    routing, artifact = seen.routings.get(name), generation.status.artifact
    assert artifact is not None
    there = canary_of(seen, target)
    return ApplyCanary(
        name=canary_name(name),
        target=target.target,
        target_uid=target.uid,
        template=target.template or "",
        serving=Serving(generation.spec.number, artifact.served_digest, artifact.uri),
        replicas=replicas,
        uid=there.deployment.uid if there else "",
        dropped_labels=dropped_keys(routing, route.service) if route and routing else frozenset(),
        selector=tuple(selector_labels(target).items()) if route else (),
        route=route.name if route else "",
        service=route.service if route else "",
    )
