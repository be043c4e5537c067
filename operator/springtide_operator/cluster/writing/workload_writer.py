"""Writes to Workloads of Kueue: spec.active, and in the same write whose doing it is."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from springtide_api import names
from springtide_operator.cluster.api import errors
from springtide_operator.cluster.api.kinds import WORKLOAD
from springtide_operator.lifecycle.queues.actions import DeactivateWorkload
from springtide_operator.manifests import queueing

if TYPE_CHECKING:
    from springtide_operator.cluster.api.client import Client
    from springtide_operator.cluster.watching.cache import Cache
    from springtide_operator.lifecycle.queues.actions import QueueAction


@dataclass
class WorkloadWriter:
    """Deactivates Workloads, and activates again what the operator deactivated."""

    client: Client
    cache: Cache

    async def write(self, namespace: str, action: QueueAction) -> None:
        """Patch a Workload; where it was changed, read it for the next decision.

        Raises:
            PatchOutdated: a test failed; decide again.
            NotFound: it is gone; its deletion will be reported.
        """
        place = namespace, action.name
        if isinstance(action, DeactivateWorkload):
            held = self.cache.get(WORKLOAD, *place) or {"metadata": {}}
            operations = queueing.deactivation(action, held["metadata"].get("annotations"))
        else:
            operations = queueing.activation(action)
        try:
            patched = await self.client.patch(
                WORKLOAD, *place, operations, manager=names.FIELD_MANAGER
            )
        except errors.PatchOutdated:
            self.cache.insert(WORKLOAD, await self.client.get(WORKLOAD, *place))
            raise
        self.cache.insert(WORKLOAD, patched)
