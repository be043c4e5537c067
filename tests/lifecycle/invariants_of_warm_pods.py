"""Invariants of warm pods: what they run, when they get requests, and how long they stay."""

from __future__ import annotations

from datetime import timedelta
from math import ceil
from typing import TYPE_CHECKING

from lifecycle.generation_facts import (
    bakes,
    digest_of,
    in_progress,
    live_of,
    pinned_of,
    promotions,
)
from lifecycle.invariants_of_owners import is_usable

from springtide_api.names import FINALIZER, canary_name
from springtide_operator.lifecycle.state.generations import unknown_value

if TYPE_CHECKING:
    from collections.abc import Iterator

    from springtide_api.generation.rollout import RolloutRoute
    from springtide_api.objects import IncrementalUpdate, ModelGeneration
    from springtide_operator.lifecycle.routes.weights import WeightChange
    from springtide_operator.lifecycle.state.observation import Observation
    from springtide_operator.lifecycle.state.observed import ObservedTarget
    from springtide_operator.lifecycle.state.plan import ApplyCanary, DeleteCanary


class WarmPodInvariants:
    """Checks writes to warm pods, and to routes that lead to them."""

    def warm_pods_run_previous_during_the_bake(
        self, seen: Observation, action: ApplyCanary
    ) -> None:
        """As many as the target has, or its share needs, and of no other generation beside them.

        With weight 0, but where their number alone changes.
        """
        back = kept_warm(seen.update, list(seen.generations))
        assert back, "nothing is kept warm"
        assert (action.serving.number, action.serving.digest) == (
            back.spec.number,
            digest_of(back),
        )
        assert not seen.update.metadata.deletion_timestamp
        assert FINALIZER in seen.update.metadata.finalizers
        (target,) = [t for t in seen.targets if t.target == action.target]
        assert action.replicas in standby_pods(seen, target)
        assert action.serving.digest not in self.rolled_back
        assert action.selector
        assert action.dropped_labels == {"app"}
        there = [c for c in seen.canaries if c.name == action.name and c.ours]
        served = action.serving.digest, action.template
        if not any((c.deployment.digest, c.made_from) == served for c in there):
            self._has_no_requests(seen, target)
        numbers = {c.deployment.number for c in seen.canaries if c.ours}
        assert numbers <= {back.spec.number}

    def _has_no_requests(self, seen: Observation, target: ObservedTarget) -> None:
        """Or these cannot be taken back: without pods each of them would fail."""
        routing, named = seen.routings[target.target.target_ref.name], target.target.service
        canary = f"{named}-canary"
        weights = [b.weight for b in routing.route.backends if b.name == canary and b.weight]
        refused = seen.refusal(f"HTTPRoute {routing.route.name}")
        assert weights == [] or (refused and refused.is_pending(seen.now))

    def all_requests_go_to_ready_warm_pods(
        self, seen: Observation, target: str, stable: WeightChange
    ) -> None:
        """Once, in the rollback of a generation that baked, and as many as the target has."""
        (g,) = _rolled_back(list(seen.generations))
        assert bakes(g)
        assert stable.after == 0
        (recorded,) = [each.route for each in g.status.rollout.targets if each.name == target]
        assert recorded.shifted_at is None
        current = pinned_of(seen.update, list(seen.generations)) or live_of([*seen.generations])
        (canary,) = [c for c in seen.canaries if c.name == canary_name(target)]
        (own,) = [t for t in seen.targets if t.target.target_ref.name == target]
        pods = canary.deployment
        assert canary.ours
        assert not canary.edited_by
        assert (pods.number, pods.digest) == (current.spec.number, digest_of(current))
        ready = min(pods.available, seen.routings[target].ready_endpoints)
        assert ready >= max(1, own.available)
        assert pods.desired >= own.desired or ready >= own.desired, "they are only a share"
        assert not _is_back(own, current)

    def requests_return_to_a_target_that_is_back(
        self, seen: Observation, target: str, route: RolloutRoute
    ) -> None:
        """Or where warm pods serve no more; or the target is none any more."""
        current = pinned_of(seen.update, list(seen.generations)) or live_of([*seen.generations])
        there = [t for t in seen.targets if _is_ours(seen, t)]
        there += [t for t in seen.removed_targets if self._returns(seen, t, current)]
        own = [t for t in there if t.target.target_ref.name == target]
        if route.weight != 100 or seen.update.metadata.deletion_timestamp or not own:
            return
        canary = next((c for c in seen.canaries if c.name == canary_name(target)), None)
        lost = canary is None or canary.edited_by or canary.deployment.deleting
        lost = lost or not (canary.deployment.available and seen.routings[target].ready_endpoints)
        assert lost or current is None or _is_back(own[0], current)

    def _returns(
        self, seen: Observation, removed: ObservedTarget, current: ModelGeneration | None
    ) -> bool:
        """Whether a target that was removed from the spec runs what is rolled back, or live."""
        runs = {digest_of(g) for g in (*_rolled_back(list(seen.generations)), current) if g}
        left = removed.foreign_manager or removed.deleting or not removed.desired
        return (
            removed.claimed_by == seen.update.metadata.name and removed.digest in runs and not left
        )

    def warm_pods_are_deleted_after_the_gateway_has_followed(
        self, seen: Observation, action: DeleteCanary
    ) -> None:
        """Whoever gave them weight in the bake."""
        live, rolls = live_of(list(seen.generations)), seen.lineage.rolls
        if live is None or (rolls is not None and rolls.status.rollout.step is not None):
            return
        for each in live.status.rollout.targets:
            declared = [t.target for t in seen.targets if t.target.target_ref.name == each.name]
            if not each.route or canary_name(each.name) != action.name or not declared:
                continue
            if (each.route.name, each.route.service) == (
                declared[0].http_route,
                declared[0].service,
            ):
                at = each.route.withdrawn_at
                assert not seen.routings[each.name].route.unavailable
                assert at is not None
                assert self.world.now - at >= timedelta(seconds=15)

    def wanted_warm_pods_are_not_deleted(self, seen: Observation, action: DeleteCanary) -> None:
        back = kept_warm(seen.update, list(seen.generations))
        if back is None or seen.update.metadata.deletion_timestamp:
            return
        (canary,) = [c for c in seen.canaries if c.name == action.name]
        declared = {t.target_ref.name: t for t in seen.update.spec.rollout.targets}
        wanted = canary.of in declared and self._is_recorded(seen, declared[canary.of])
        runs = (canary.deployment.number, canary.deployment.digest)
        assert canary.edited_by or not wanted or runs != (back.spec.number, digest_of(back))

    def _is_recorded(self, seen: Observation, target: object) -> bool:
        live = live_of(list(seen.generations))
        routes = {each.name: each.route for each in live.status.rollout.targets}
        route = routes.get(target.target_ref.name)
        named = target.http_route, target.service
        (there,) = [t for t in seen.targets if t.target.target_ref.name == target.target_ref.name]
        return _is_ours(seen, there) and route is not None and (route.name, route.service) == named

    def warm_pods_are_there_at_rest(self, there: list[ModelGeneration]) -> None:
        """Where nothing is in the way, as many as the target has."""
        world, seen = self.world, self.world.seen()
        back = kept_warm(world.update, there)
        if back is None or world.refusals or self.a_route_may_need_its_owner():
            return
        live = live_of(there)
        templates = {each.name: each.template for each in live.status.rollout.targets}
        for declared in world.update.spec.rollout.targets:
            name = declared.target_ref.name
            target = world.as_declared(world.targets[name], declared)
            canary = world.canaries.get(canary_name(name))
            changing = target.template != templates.get(name) and not _all_available(target)
            if not self._is_recorded(seen, declared) or changing or not is_usable(target):
                continue
            assert canary, name
            replaced = canary.made_from != (target.template or "")  # once it has no requests
            wanted = standby_pods(seen, target)
            assert canary.edited_by or replaced or canary.deployment.desired in wanted
            assert canary.deployment.number == back.spec.number

    def reasons_of_warm_pods(self, there: list[ModelGeneration]) -> Iterator[str]:
        """Why a user must act on warm pods, or on a target that is to take their requests."""
        back = kept_warm(self.world.update, there)
        for canary in self.world.canaries.values() if back else ():
            young = canary.created and self.world.now - canary.created < timedelta(seconds=30)
            if canary.edited_by and young:
                yield "warm pods that are edited at once"
        for g in _rolled_back(there):
            for each in g.status.rollout.targets:
                shifted = each.route and each.route.weight == 100
                if shifted and not self.world.targets[each.name].desired:
                    yield "no pods to return to"

    def serves_by_warm_pods(self, name: str) -> bool:
        """Whether the requests of a target go to warm pods."""
        there = list(self.world.generations.values())
        routes = [
            e.route
            for g in _rolled_back(there)
            for e in g.status.rollout.targets
            if e.name == name and e.route
        ]
        return any(route.weight == 100 for route in routes)


def kept_warm(
    update: IncrementalUpdate, generations: list[ModelGeneration]
) -> ModelGeneration | None:
    """The generation whose pods are kept by the spec as it is; None: none are."""
    live, rollout = live_of(generations), update.spec.rollout
    canary = rollout.strategy.canary
    wanted = (rollout.rollback.keep_warm or share_of(update)) and update.spec.mode == "Enforce"
    wanted = wanted and rollout.bake
    if not wanted or canary is None or canary.traffic.type != "Gateway":
        return None
    if not bakes(live) or unknown_value(live) or update.status.pinned:
        return None
    if pinned_of(update, generations):
        return None
    if [g for g in generations if in_progress(g) and g.status.rollout.step_started_at]:
        return None
    others = [g for g in promotions(generations) if digest_of(g) != digest_of(live)]
    return live_of(others)


def share_of(update: IncrementalUpdate) -> int:
    """The declared share of the previous generation in percent; 0: none."""
    bake = update.spec.rollout.bake
    return (bake.holdback or 0) if bake else 0


def pods_of_share(percent: int, target: ObservedTarget) -> int:
    return max(1, ceil(percent * target.desired / 100)) if target.desired else 0


def standby_pods(seen: Observation, target: ObservedTarget) -> set[int]:
    """How many pods of previous there may be: of a share, while a larger one ends, those of it."""
    if seen.update.spec.rollout.rollback.keep_warm:
        return {target.desired}
    live = live_of(list(seen.generations))
    name = target.target.target_ref.name
    routes = [each.route for each in live.status.rollout.targets if each.name == name]
    share = max([share_of(seen.update), *(route.weight for route in routes if route)])
    return {pods_of_share(share, target)}


def _rolled_back(generations: list[ModelGeneration]) -> list[ModelGeneration]:
    """The generation that is being rolled back after its promotion."""
    rollouts = ((g, g.status.rollout) for g in generations)
    return [g for g, r in rollouts if r.promoted_at and r.rollback_reason and not r.rolled_back_at]


def _is_ours(seen: Observation, target: ObservedTarget) -> bool:
    return target.claimed_by in {"", seen.update.metadata.name}


def _is_back(target: ObservedTarget, current: ModelGeneration) -> bool:
    runs = (target.number, target.digest) == (current.spec.number, digest_of(current))
    return runs and _all_available(target)


def _all_available(target: ObservedTarget) -> bool:
    return target.available >= target.desired > 0 and target.updated >= target.desired
