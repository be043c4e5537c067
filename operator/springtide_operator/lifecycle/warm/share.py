"""The share of the requests that pods of the previous generation have in a bake (bake.holdback)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from springtide_operator.lifecycle.canary.canaries import canary_of
from springtide_operator.lifecycle.canary.gateway import recorded_route, totals
from springtide_operator.lifecycle.rollout.availability import is_outdated
from springtide_operator.lifecycle.routes.problems import (
    RouteProblem,
    coarse_problem,
    start_problem,
)
from springtide_operator.lifecycle.routes.weights import expected, unexpected
from springtide_operator.lifecycle.warm.standby import (
    holdback,
    pods_of_share,
    ready_pods,
    standby,
    standby_targets,
)

if TYPE_CHECKING:
    from springtide_api.generation.rollout import RolloutRoute
    from springtide_api.objects import ModelGeneration
    from springtide_operator.lifecycle.state.observation import Observation
    from springtide_operator.lifecycle.state.observed import ObservedTarget


def compared_in_bake(seen: Observation) -> ModelGeneration | None:
    """The generation that a ratio metric compares live with in the bake; None: there is none."""
    return standby(seen) if holdback(seen) and standby_targets(seen) else None


def route_in_bake(seen: Observation, target: ObservedTarget) -> RolloutRoute | None:
    """The route of a target as it is recorded of live."""
    live = seen.lineage.live
    return recorded_route(live.status.rollout, target.target.target_ref.name) if live else None


def share_on_record(seen: Observation) -> int:
    """The share in percent that a route may have been given last, recorded or not."""
    live = seen.lineage.live
    recorded = live.status.rollout.holdback if live else None
    return recorded or holdback(seen)


def is_given(route: RolloutRoute) -> bool:
    """Whether a route may give pods of the previous generation requests."""
    return bool(route.weight) or route.withdrawn_at is None


def wanted_share(seen: Observation, target: ObservedTarget) -> int:
    """The share in percent that pods of the previous generation should have now.

    The declared one, once as many are ready as it needs, until none is, or they are replaced. What
    they have stays meanwhile.
    """
    generation, canary = standby(seen), canary_of(seen, target)
    route, share = route_in_bake(seen, target), holdback(seen)
    if generation is None or route is None or canary is None or not (share and target.desired):
        return 0
    pods = canary.deployment
    if not canary.ours or pods.deleting or canary.edited_by:
        return 0
    if is_outdated(generation, target, canary) or _coarse(target, route, share):
        return 0
    ready = ready_pods(seen, target, canary)
    if pods.settled and not pods.old and ready >= pods_of_share(share, target):
        return share
    return min(route.weight, share) if ready else 0


def weights_problem(seen: Observation, target: ObservedTarget) -> RouteProblem | None:
    """Why the weights of a target's route are not written: another client's, or too coarse ones."""
    routing, route = seen.routings.get(target.target.target_ref.name), route_in_bake(seen, target)
    if routing is None or route is None:
        return None
    found = changed_weights(seen, target) if is_given(route) else None
    if not is_given(route):
        found = start_problem(routing.route, route.service)
    return found or _coarse(target, route, holdback(seen))


def changed_weights(seen: Observation, target: ObservedTarget) -> RouteProblem | None:
    """What another client changed in the weights of a route that may give a share."""
    routing, route = seen.routings.get(target.target.target_ref.name), route_in_bake(seen, target)
    if routing is None or route is None or not is_given(route):
        return None
    shares = (route.weight, share_on_record(seen))
    shown = unexpected(routing.route, route.service, totals(route), shares)
    if shown is None:
        return None
    stable, canary = shown
    wanted = expected(shown, totals(route), route.weight)
    by = f" by {routing.route.changed_by}" if routing.route.changed_by else ""
    message = (
        f"HTTPRoute {route.name}: rules[{stable.rule}] weighs {stable.name} {stable.weight} and "
        f"{canary.name} {canary.weight}, changed{by}; the comparison goes on once they are "
        f"{wanted[0]} and {wanted[1]} again; let other clients ignore differences of weight"
    )
    return RouteProblem("FieldConflict", message)


def _coarse(target: ObservedTarget, route: RolloutRoute, share: int) -> RouteProblem | None:
    service = target.target.service or route.service
    return coarse_problem(route.name, service, totals(route), [share]) if share else None
