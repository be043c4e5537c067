"""Writes for a gateway's canary: its Service is created once, weights of the route are patched."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from springtide_api import names
from springtide_operator.cluster.api import errors
from springtide_operator.cluster.api.kinds import HTTP_ROUTE, SERVICE
from springtide_operator.manifests import routing

if TYPE_CHECKING:
    from springtide_api.objects import Meta
    from springtide_operator.cluster.api.client import Client
    from springtide_operator.cluster.api.kinds import Raw
    from springtide_operator.cluster.reading.live_reader import LiveReader
    from springtide_operator.cluster.watching.cache import Cache
    from springtide_operator.lifecycle.routes.actions import CreateCanaryService, SetRouteWeights


@dataclass
class RouteWriter:
    """Creates Services of canaries and changes weights of HTTPRoutes."""

    client: Client
    cache: Cache
    live_reader: LiveReader

    async def create_service(self, update: Meta, action: CreateCanaryService) -> Raw:
        """Create the Service with the ports of the owner's, or return the one that is there.

        Raises:
            Conflict: the owner's Service is gone; observe again.
        """
        self.live_reader.invalidate_services(update.namespace)
        try:
            owners = await self.client.get(SERVICE, update.namespace, action.service)
        except errors.NotFound as error:
            raise errors.Conflict(f"Service {action.service} does not exist now") from error
        body = routing.canary_service(update, action, owners["spec"].get("ports") or [])
        try:
            return await self.client.create(SERVICE, body)
        except errors.AlreadyExists:
            return await self.client.get(SERVICE, update.namespace, action.name)

    async def set_weights(self, update: Meta, action: SetRouteWeights) -> None:
        """Patch the weights; where one of them was changed, read the route for the next decision.

        Raises:
            PatchOutdated: a test failed; decide again.
        """
        place = update.namespace, action.route
        operations = routing.weight_patch(action)
        try:
            patched = await self.client.patch(
                HTTP_ROUTE, *place, operations, manager=names.FIELD_MANAGER
            )
        except errors.PatchOutdated:
            self.cache.insert(HTTP_ROUTE, await self.client.get(HTTP_ROUTE, *place))
            raise
        self.cache.insert(HTTP_ROUTE, patched)


def is_of(update: Meta, service: Raw) -> bool:
    """Whether a Service is the canary's of this update, or of an earlier one of its name."""
    labels = service["metadata"].get("labels") or {}
    return bool(labels.get(names.LABEL_UPDATE) == update.name)
