"""Writes the Deployment of a canary, made from the target as the API server has it now."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from springtide_api import names
from springtide_operator.cluster.api import errors
from springtide_operator.cluster.api.kinds import DEPLOYMENT
from springtide_operator.cluster.reading.observed_targets import others_template
from springtide_operator.cluster.writing.refused import Refused
from springtide_operator.manifests import canary

if TYPE_CHECKING:
    from springtide_api.objects import Meta
    from springtide_operator.cluster.api.client import Client
    from springtide_operator.cluster.api.kinds import Raw
    from springtide_operator.cluster.reading.live_reader import LiveReader
    from springtide_operator.cluster.watching.cache import Cache
    from springtide_operator.lifecycle.state.plan import ApplyCanary


@dataclass
class Canaries:
    """Creates and changes canaries by server-side apply, with the update's field manager."""

    client: Client
    cache: Cache
    live_reader: LiveReader

    async def apply(self, update: Meta, action: ApplyCanary) -> None:
        """Apply a canary; one that exists is changed by force, as all of it is ours.

        Raises:
            Conflict: the target or the canary is not as it was observed.
            Refused: another Deployment has its name.
        """
        owner = await self._owner(update, action)
        body, manager = canary.canary(update, action, owner), names.field_manager(update.name)
        self.live_reader.invalidate_deployment(update.namespace, action.name)
        before = await self._existing(update, action)
        if before is not None:
            body["metadata"]["uid"] = before["metadata"]["uid"]
        applied = await self.client.apply(
            DEPLOYMENT, body, manager=manager, force=before is not None
        )
        self.cache.insert(DEPLOYMENT, applied)

    async def _owner(self, update: Meta, action: ApplyCanary) -> Raw:
        """Read the target; the canary is made from nothing that was not observed."""
        name = action.target.target_ref.name
        try:
            owner = await self.client.get(DEPLOYMENT, update.namespace, name)
        except errors.NotFound as error:
            raise errors.Conflict(f"Deployment {name} does not exist now") from error
        template = others_template(owner["spec"]["template"], action.target)
        if (owner["metadata"]["uid"], template) != (action.target_uid, action.template):
            self.live_reader.invalidate_deployment(update.namespace, name)
            if names.LABEL_UPDATE in (owner["metadata"].get("labels") or {}):
                self.cache.insert(DEPLOYMENT, owner)
            raise errors.Conflict(f"Deployment {name} was changed meanwhile")
        return owner

    async def _existing(self, update: Meta, action: ApplyCanary) -> Raw | None:
        """Read the Deployment that has the canary's name; None: there is none."""
        try:
            found = await self.client.get(DEPLOYMENT, update.namespace, action.name)
        except errors.NotFound:
            if action.uid:
                self.cache.remove(DEPLOYMENT, update.namespace, action.name, action.uid)
            return None
        metadata = found["metadata"]
        if not canary.is_canary(found, update.name):
            message = (
                f"Deployment {action.name} exists and is no canary of this update; delete or "
                "rename it"
            )
            raise Refused("NameCollision", message)
        if "deletionTimestamp" in metadata or metadata["uid"] != action.uid:
            self.cache.insert(DEPLOYMENT, found)
            raise errors.Conflict(f"Deployment {action.name} was changed meanwhile")
        return found
