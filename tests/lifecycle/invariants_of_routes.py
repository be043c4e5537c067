"""Invariants of canaries by Gateway: weights, who has them, and what is deleted when."""

from __future__ import annotations

from datetime import timedelta
from math import ceil
from typing import TYPE_CHECKING

from lifecycle.generation_facts import in_progress, live_of, of_another_version

from springtide_api.names import canary_name
from springtide_operator.lifecycle.routes.actions import SetRouteWeights

if TYPE_CHECKING:
    from springtide_api.generation.rollout import RolloutRoute, RolloutStatus
    from springtide_operator.lifecycle.state.observation import Observation
    from springtide_operator.lifecycle.state.plan import (
        ApplyCanary,
        DeleteCanary,
        WriteGeneration,
    )

DRAIN = timedelta(seconds=15)


class RouteInvariants:
    """Checks writes to routes, and deletions of what they lead to."""

    def check_traffic(self, seen: Observation, action: SetRouteWeights | DeleteCanary) -> None:
        if isinstance(action, SetRouteWeights):
            self.weights_are_the_owners_or_a_share_of_them(seen, action)
        else:
            self.no_pods_are_deleted_that_get_requests(seen, action)
            self.wanted_warm_pods_are_not_deleted(seen, action)

    def weights_are_the_owners_or_a_share_of_them(
        self, seen: Observation, action: SetRouteWeights
    ) -> None:
        """A canary gets requests in its steps alone, and once all its pods may get them.

        In a bake the previous generation gets a share.
        """
        recorded = self.recorded_routes(seen, action.route)
        bakes = seen.lineage.rolls is None
        for rule in {each.rule for each in action.changes}:
            stable, canary = (each for each in action.changes if each.rule == rule)
            assert (stable.service + "-canary", stable.after >= 0) == (canary.service, True)
            target, route = recorded.get(stable.service, ("", None))
            totals = {each.rule: each.weight for each in route.weights} if route else {}
            total = totals.get(rule) or max(1, stable.before + canary.before)
            assert stable.after + canary.after == total, "the sum is that of the owner"
            if canary.after == total and canary.after:
                self.all_requests_go_to_ready_warm_pods(seen, target, stable)
            elif canary.after and bakes:
                self.a_share_is_the_declared_one_and_goes_to_ready_pods_of_previous(
                    seen, target, canary, total
                )
            elif canary.after:
                self.requests_go_to_available_pods_of_the_candidate(seen, target)
            elif route is not None:
                self.requests_return_to_a_target_that_is_back(seen, target, route)

    def requests_go_to_available_pods_of_the_candidate(
        self, seen: Observation, target: str
    ) -> None:
        stepping = [g for g in seen.generations if in_progress(g) and g.status.rollout.step]
        assert len(stepping) == 1
        rollout = stepping[0].status.rollout
        assert not rollout.rollback_reason
        assert rollout.steps_ended_at is None
        assert seen.lineage.pinned is None
        canary = next(c for c in seen.canaries if c.name == canary_name(target))
        deployment = canary.deployment
        assert canary.ours
        assert deployment.available >= deployment.desired > 0
        assert deployment.number == stepping[0].spec.number
        assert seen.routings[target].ready_endpoints >= deployment.desired

    def pods_are_the_share_of_the_available_ones(
        self, seen: Observation, action: ApplyCanary, rollout: RolloutStatus
    ) -> None:
        (target,) = [t for t in seen.targets if t.target == action.target]
        name = target.target.target_ref.name
        (route,) = [each.route for each in rollout.targets if each.name == name]
        share = max(rollout.weight, route.weight) * target.available / 100
        assert action.replicas == max(1, ceil(share))
        assert not action.dropped_labels - {"app"}

    def no_pods_are_deleted_that_get_requests(
        self, seen: Observation, action: DeleteCanary
    ) -> None:
        there = (routing.route.name for routing in seen.routings.values())
        recorded = [each for name in {*there} for each in self.recorded_routes(seen, name).items()]
        for service, (target, route) in recorded:
            if canary_name(target) != action.name or target not in seen.routings:
                continue
            assert not seen.routings[target].route.unavailable or (
                route.withdrawn_at is not None
            ), "it may still get requests"
            backends = seen.routings[target].route.backends
            assert [b for b in backends if b.name == f"{service}-canary" and b.weight] == []
            at = route.withdrawn_at
            assert at or not route.weight
            assert at is None or self.world.now - at >= DRAIN, "the gateway may not have followed"
        self.warm_pods_are_deleted_after_the_gateway_has_followed(seen, action)

    def no_requests_go_to_a_canary_without_pods(self) -> None:
        """At rest, whatever holds its step: a gateway would fail them."""
        world = self.world
        if world.routes_changed or world.route_problem or world.refusals:
            return
        seen = world.seen()
        for g in filter(in_progress, world.generations.values()):
            for each in g.status.rollout.targets if not of_another_version(g) else ():
                canary, routing = (
                    world.canaries.get(canary_name(each.name)),
                    seen.routings.get(each.name),
                )
                if not each.route or routing is None or each.name not in world.targets:
                    continue
                ready = min(canary.deployment.available, routing.ready_endpoints) if canary else 0
                name = f"{each.route.service}-canary"
                shares = [b.weight for b in routing.route.backends if b.name == name]
                assert ready or not any(shares), each.name

    def a_route_is_recorded_as_withdrawn_once_it_is(
        self, seen: Observation, write: WriteGeneration
    ) -> None:
        """With weight 0 as it was seen: the drain counts from then."""
        before = next((g for g in seen.generations if g.metadata.name == write.name), None)
        known = {t.name: t.route for t in before.status.rollout.targets} if before else {}
        for each in write.status.rollout.targets:
            old = known.get(each.name)
            if not each.route or not each.route.withdrawn_at or each.name not in seen.routings:
                continue
            if old is None or old.withdrawn_at == each.route.withdrawn_at:
                continue
            name = f"{each.route.service}-canary"
            backends = seen.routings[each.name].route.backends
            assert [b for b in backends if b.name == name and b.weight] == []

    def recorded_routes(self, seen: Observation, name: str) -> dict[str, tuple[str, RolloutRoute]]:
        """Target and recorded route of that name by Service, of a rollout or a bake in progress.

        Of two targets with one Service, that of the spec.
        """
        rolls, names = seen.lineage.rolls, [t.target.target_ref.name for t in seen.targets]
        live = live_of(list(seen.generations))
        if rolls is None and live and live.status.rollout.bake_started_at:
            rolls = live
        targets = rolls.status.rollout.targets if rolls else []
        targets = sorted(targets, key=lambda each: each.name in names)
        routed = [each for each in targets if each.route]
        if rolls is live:
            routed = [each for each in routed if each.route.name == name]
        return {each.route.service: (each.name, each.route) for each in routed}

    def no_route_leads_to_a_canary_at_rest(self, stepping: bool) -> None:
        """Without steps, no weight that the operator wrote is left."""
        if stepping or self.world.routes_changed or self.world.route_problem:
            return
        there = list(self.world.generations.values())
        live = live_of(there)
        for route in self.world.routes.values():
            canaries = [b for b in route.backends if b.name.endswith("-canary")]
            recorded = [each.route for each in live.status.rollout.targets] if live else []
            given = any(each.weight for each in recorded if each)
            assert given or [b.weight for b in canaries] == [0] * len(canaries)
        self.a_share_at_rest_is_the_declared_one(there)

    def a_route_may_need_its_owner(self) -> bool:
        """Whether a user must act on a route as soon as a canary needs it."""
        world = self.world
        declared = [each.http_route for each in world.update.spec.rollout.targets]
        recorded = [
            each.route
            for g in world.generations.values()
            if in_progress(g)
            for each in g.status.rollout.targets
        ]
        if not any([*declared, *recorded]):
            return False
        changed = world.routes_changed or "shop" not in world.routes
        return changed or bool(world.route_problem) or not world.endpoints_follow
