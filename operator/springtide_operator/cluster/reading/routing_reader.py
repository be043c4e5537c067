"""The way of the requests to a target of a gateway's canary, read as far as it is needed."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING

from springtide_operator.cluster.api.kinds import HTTP_ROUTE
from springtide_operator.cluster.reading.observed_routes import (
    observed_budget,
    observed_route,
    observed_service,
    ready_endpoints,
    selector_of,
)
from springtide_operator.lifecycle.routes.observed import ObservedRouting, Selector
from springtide_operator.lifecycle.routes.weights import canary_service

if TYPE_CHECKING:
    from springtide_api.update.rollout import Target
    from springtide_operator.cluster.api.kinds import Raw
    from springtide_operator.cluster.reading.live_reader import LiveReader
    from springtide_operator.cluster.watching.cache import Cache
    from springtide_operator.lifecycle.routes.observed import ObservedRoute

NOT_LISTED = "HTTPRoutes are not listed yet"


@dataclass
class RoutingReader:
    """Reads routes from the cache, and what is beside them live."""

    cache: Cache
    live_reader: LiveReader

    async def read(
        self, namespace: str, target: Target, deployment: Raw | None, *, services: bool
    ) -> ObservedRouting:
        """Read the way of the requests to one target.

        Args:
            namespace: of the update.
            target: with service and httpRoute.
            deployment: the target itself, if it exists.
            services: whether Services, budgets and endpoints are needed, too.
        """
        route = self._route(namespace, target.http_route or "")
        if not services:
            return ObservedRouting(route)
        canary = canary_service(target.service or "")
        named, budgets, slices = await asyncio.gather(
            self.live_reader.services(namespace),
            self.live_reader.disruption_budgets(namespace),
            self.live_reader.endpoint_slices(namespace, canary),
        )
        spec = deployment["spec"] if deployment else {}
        labels = ((spec.get("template") or {}).get("metadata") or {}).get("labels") or {}
        selector = spec.get("selector")
        return ObservedRouting(
            route,
            services=tuple(map(observed_service, named)),
            budgets=tuple(map(observed_budget, budgets)),
            ready_endpoints=ready_endpoints(slices),
            pod_labels=tuple(sorted(labels.items())),
            pod_selector=selector_of(selector) if selector else Selector(),
        )

    def _route(self, namespace: str, name: str) -> ObservedRoute:
        store = self.cache.stores[HTTP_ROUTE]
        unavailable = store.unavailable or ("" if store.listed else NOT_LISTED)
        held = store.get(namespace, name)
        return observed_route(name, held, unavailable, served=store.served)
