"""HTTPRoutes and Services of the test world, and what their owners do to them."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from lifecycle.route_examples import AT_REST, route

from springtide_api.names import LABEL_CANARY, canary_name
from springtide_operator.lifecycle.routes.observed import (
    ObservedRoute,
    ObservedRouting,
    ObservedService,
    Selector,
)
from springtide_operator.lifecycle.routes.weights import canary_service
from springtide_operator.lifecycle.state.needed_reads import needs_services, routed_targets

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from springtide_api.objects import IncrementalUpdate, ModelGeneration
    from springtide_operator.lifecycle.routes.actions import CreateCanaryService, SetRouteWeights
    from springtide_operator.lifecycle.state.observed import ObservedCanary

OWN = (("app", "ranker"),)


class Routes:
    """Applies weights and Services as the API server does, and follows pods as EndpointSlices."""

    def create_route(self, name: str = "shop", **weights: int) -> None:
        """Create a route, by default of ranker at rest."""
        named = {key.replace("_", "-"): value for key, value in weights.items()}
        self.routes[name] = route(named or AT_REST, name=name, uid=self._uid())
        for each in named or AT_REST:
            if not each.endswith("-canary"):
                self.services[each] = ObservedService(each, Selector(OWN))

    def create_routes(self) -> None:
        """Create a route at rest with a rule for each of two targets, and their Services."""
        rules = ({each: 100, f"{each}-canary": 0} for each in ("ranker", "reranker"))
        self.routes["shop"] = route(*rules, uid=self._uid())
        for each in ("ranker", "reranker"):
            self.services[each] = ObservedService(each, Selector(OWN))
        self.routes_changed = False

    def routings(
        self,
        update: IncrementalUpdate,
        generations: Sequence[ModelGeneration],
        routes: Mapping[str, ObservedRoute],
        canaries: Sequence[ObservedCanary],
    ) -> dict[str, ObservedRouting]:
        """What the operator reads of the routes."""
        found = {}
        for target in routed_targets(update, generations, canaries):
            name = target.target_ref.name
            named = ObservedRoute(target.http_route or "")
            seen = routes.get(target.http_route or "", named)
            if self.route_problem:
                seen = replace(named, unavailable=self.route_problem)
            if not needs_services(update, generations):
                found[name] = ObservedRouting(seen)
                continue
            found[name] = ObservedRouting(
                seen,
                services=tuple(self.services.values()),
                budgets=self.budgets,
                ready_endpoints=self._endpoints(name, canary_service(target.service or "")),
                pod_labels=(*OWN, ("team", "search")),
                pod_selector=Selector(OWN),
            )
        return found

    def _endpoints(self, target: str, service: str) -> int:
        canary = self.canaries.get(canary_name(target))
        if canary is None or service not in self.services or not self.endpoints_follow:
            return 0
        selector = self.services[service].selector
        if selector is None or not selector.matches({LABEL_CANARY: canary_name(target)}):
            return 0
        return canary.deployment.available

    def _create_service(self, action: CreateCanaryService) -> None:
        held = self.services.get(action.name)
        assert held is None or held.update == "shop", "a Service of another client is refused"
        made = ObservedService(action.name, Selector(action.selector), update="shop")
        self.services[action.name] = made

    def _set_weights(self, action: SetRouteWeights) -> bool:
        """Patch weights; False where a test of the patch fails."""
        seen = self.routes.get(action.route)
        if seen is None or seen.uid != action.uid:
            self._observe_own_write("routes", action.route)
            return False
        backends = list(seen.backends)
        for change in action.changes:
            place = next(
                i
                for i, b in enumerate(backends)
                if (b.rule, b.index) == (change.rule, change.index)
            )
            held = backends[place]
            if (held.name, held.weight) != (change.service, change.before):
                self._observe_own_write("routes", action.route)
                return False
            backends[place] = replace(held, weight=change.after)
        self.routes[action.route] = replace(
            seen, backends=tuple(backends), changed_by="springtide", changed_at=self.now
        )
        self._observe_own_write("routes", action.route)
        return True

    def weigh(self, stable: int, canary: int, name: str = "shop", by: str = "argocd") -> None:
        """Let another client write the weights of the first rule."""
        self.routes_changed = True
        held = self.routes[name]
        weights = iter((stable, canary))
        changed = (replace(b, weight=next(weights)) if b.rule == 0 else b for b in held.backends)
        self.routes[name] = replace(
            held, backends=tuple(changed), changed_by=by, changed_at=self.now
        )

    def weights(self, name: str = "shop") -> tuple[int, ...]:
        """All weights of a route, in order."""
        return tuple(each.weight for each in self.routes[name].backends)
