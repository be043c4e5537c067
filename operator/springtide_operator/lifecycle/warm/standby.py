"""Which pods of the previous generation there should be, and which of those there are must stay.

During the bake of live a canary runs the generation that a rollback returns to, with weight 0 or
the share of rollout.bake.holdback. In the rollback pods that were kept warm, as many as the target
has, get all requests as soon as they can, until it runs that generation again; others their share.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from springtide_operator.lifecycle.canary.canaries import (
    canary_of,
    is_edited_at_once,
    present,
)
from springtide_operator.lifecycle.canary.gateway import ALL, recorded_route
from springtide_operator.lifecycle.rollout.availability import available, not_serving
from springtide_operator.lifecycle.rollout.rollback import is_stuck, removed_targets_returning
from springtide_operator.lifecycle.rollout.rollback_decision import rollback_target
from springtide_operator.lifecycle.rollout.target_facts import claimed_by_another
from springtide_operator.lifecycle.state.generations import bakes, rolling, unknown_value

if TYPE_CHECKING:
    from springtide_api.generation.rollout import RolloutRoute
    from springtide_api.objects import ModelGeneration
    from springtide_operator.lifecycle.state.observation import Observation
    from springtide_operator.lifecycle.state.observed import ObservedCanary, ObservedTarget


def holdback(seen: Observation) -> int:
    """Share of the requests in percent that the previous generation keeps in a bake; 0: none."""
    bake = seen.update.spec.rollout.bake
    return (bake.holdback or 0) if bake else 0


def standby(seen: Observation) -> ModelGeneration | None:
    """The generation whose pods are kept: that which a rollback of live would return to."""
    live, spec = seen.lineage.baking, seen.update.spec
    rollout = spec.rollout
    wanted = (rollout.rollback.keep_warm or holdback(seen)) and rollout.bake
    if spec.mode != "Enforce":
        return None
    if live is None or not wanted or seen.lineage.rolls is not None:
        return None
    return rollback_target(seen, live)


def standby_targets(seen: Observation) -> tuple[ObservedTarget, ...]:
    """Targets with such pods: their routes are on record, as the spec names them."""
    live = seen.lineage.live
    if live is None:
        return ()
    own = (target for target in seen.targets if not claimed_by_another(seen, target))
    return tuple(target for target in own if _is_recorded(live, target))


def standby_pods(seen: Observation, target: ObservedTarget) -> int:
    """How many pods: as many as the target has, if they are kept warm, else those of their share.

    A share that falls is written to the route before its pods go.
    """
    live = seen.lineage.live
    if live is None or seen.update.spec.rollout.rollback.keep_warm:
        return target.desired
    route = recorded_route(live.status.rollout, target.target.target_ref.name)
    return pods_of_share(max(holdback(seen), route.weight if route else 0), target)


def pods_of_share(percent: int, target: ObservedTarget) -> int:
    """How many pods a share needs, so that each has the load of a pod of the target.

    Not by its available pods: these run what is compared, and requests do not fall where they fail.
    """
    return max(1, -(-percent * target.desired // 100)) if target.desired else 0


def _is_recorded(live: ModelGeneration, target: ObservedTarget) -> bool:
    declared = target.target
    route = recorded_route(live.status.rollout, declared.target_ref.name)
    named = declared.http_route, declared.service
    return route is not None and (route.name, route.service) == named


def returning(seen: Observation) -> ModelGeneration | None:
    """The generation that is rolled back after its promotion, if one is."""
    rolls = seen.lineage.rolls
    if rolls is None or unknown_value(rolls) or not rolling(rolls):
        return None
    return rolls if rolls.status.rollout.promoted_at else None


def kept_warm(seen: Observation) -> frozenset[str]:
    """Names of the targets whose canary, as it is, has pods of previous that must stay."""
    if (rolled_back := returning(seen)) is not None:
        removed = removed_targets_returning(seen, rolled_back)
        stay = [t for t in seen.targets if _stays(seen, rolled_back, t)]
        stay += [t for t in removed if _serves(seen, rolled_back, t)]
        return frozenset(target.target.target_ref.name for target in stay)
    live, wanted = seen.lineage.live, seen.update.spec.rollout.rollback.keep_warm
    if (wanted or holdback(seen)) and live and bakes(live) and unknown_value(live):
        return frozenset(each.of for each in present(seen))  # those of another version
    generation = standby(seen)
    if generation is None:
        return frozenset()
    found = (canary_of(seen, target) for target in standby_targets(seen))
    return frozenset(c.of for c in found if c and c.ours and is_standby(seen, generation, c))


def is_standby(seen: Observation, generation: ModelGeneration, canary: ObservedCanary) -> bool:
    """Whether a canary runs what is kept; one that a client edited is created again.

    At most every 30 seconds: a client that always edits it is not raced.
    """
    unedited = not canary.edited_by or is_edited_at_once(seen, canary)
    return unedited and not not_serving(generation, [canary.deployment])


def _stays(seen: Observation, rolled_back: ModelGeneration, target: ObservedTarget) -> bool:
    """Whether the warm pods of a target stay in a rollback: they get its requests, or may soon."""
    canary, served = canary_of(seen, target), seen.lineage.served
    route = recorded_route(rolled_back.status.rollout, target.target.target_ref.name)
    if canary is None or not canary.ours or canary.deployment.deleting or canary.edited_by:
        return False
    if route is None or served is None or is_back(served, target):
        return False
    if claimed_by_another(seen, target):
        return False
    if route.weight == ALL:
        return ready_pods(seen, target, canary) > 0
    if is_stuck(seen, rolled_back, target, seen.now):
        return False
    if route.weight:
        there = bool(target.uid and target.desired)
        return there and ready_pods(seen, target, canary) > 0
    few = canary.deployment.desired < target.desired or not target.desired
    warm = not few or seen.update.spec.rollout.rollback.keep_warm
    # After the bake they are left over, as after a refused deletion: the spec may have no route.
    return warm and bakes(rolled_back) and _may_serve(served, route, canary)


def _serves(seen: Observation, rolled_back: ModelGeneration, removed: ObservedTarget) -> bool:
    """Whether warm pods have the requests of a removed target; others of it are not needed."""
    route = recorded_route(rolled_back.status.rollout, removed.target.target_ref.name)
    return bool(route and route.weight == ALL) and _stays(seen, rolled_back, removed)


def _may_serve(served: ModelGeneration, route: RolloutRoute, canary: ObservedCanary) -> bool:
    """Whether pods without requests only start; others would take room from the target's."""
    pods = canary.deployment
    fails = not pods.desired or bool(pods.trouble or (pods.settled and pods.stalled))
    return route.shifted_at is None and not fails and not not_serving(served, [pods])


def is_back(served: ModelGeneration, target: ObservedTarget) -> bool:
    """Whether all pods of a target run what it should serve and are available."""
    return not not_serving(served, [target]) and available(target)


def ready_pods(seen: Observation, target: ObservedTarget, canary: ObservedCanary) -> int:
    """How many pods of a canary may get requests: available ones that are endpoints."""
    routing = seen.routings.get(target.target.target_ref.name)
    return min(canary.deployment.available, routing.ready_endpoints) if routing else 0
