"""Status writes: whole, by one manager, only where they differ, never over newer ones.

Another client that writes spec or metadata must neither block a write nor be overwritten, and a
second operator with an older view must not revert a status: so a write holds for the status as it
was observed, whatever else changed meanwhile.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from pydantic import ValidationError

from springtide_api.names import FIELD_MANAGER
from springtide_operator.cluster.api import errors

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from springtide_api.schema import Model
    from springtide_operator.cluster.api.client import Client
    from springtide_operator.cluster.api.kinds import Kind, Raw
    from springtide_operator.cluster.watching.cache import Cache, NamespacedName

TRIES = 5
"""Attempts against a concurrent writer before the back-off takes over."""


@dataclass
class StatusWriter:
    """Writes statuses of our kinds. `count` is called with the kind of every write."""

    client: Client
    cache: Cache
    count: Callable[[str], None] = lambda kind: None

    def differs(
        self, kind: Kind, place: NamespacedName, status: Raw, model: type[Model]
    ) -> set[str]:
        """Return the fields in which the cached status differs; empty: nothing to write."""
        return _differences(self.cache.get(kind, *place) or {}, status, model)

    async def write(
        self, kind: Kind, place: NamespacedName, status: Raw, model: type[Model]
    ) -> bool:
        """Write a status where it differs from the cached one.

        Returns whether another client has changed the object since it was observed. The cache
        holds that change then, so its event, if it comes later, does not wake anyone.

        Args:
            kind: of the object.
            place: namespace and name.
            status: the whole status as JSON, without nulls.
            model: its type, which knows the defaults that the API server fills in.

        Raises:
            Conflict: the status was changed meanwhile; observe again.
            NotFound: it was deleted, or a server that is starting does not know the kind yet.
        """
        raw = self.cache.get(kind, *place)
        if raw is None or not self.differs(kind, place, status, model):
            return False
        observed = version = raw["metadata"]["resourceVersion"]
        for _ in range(TRIES):
            try:
                written = await self._apply(kind, raw, version, status)
                if _differences(written, status, model):
                    written = await self._replace(kind, written, status)
            except errors.Conflict:
                live = await self.client.get(kind, *place)
                self.cache.insert(kind, live)
                same = live["metadata"]["uid"] == raw["metadata"]["uid"]
                if not same or live.get("status") != raw.get("status"):
                    raise
                version = live["metadata"]["resourceVersion"]
                continue
            self.cache.insert(kind, written)
            self.count(kind.name)
            return bool(version != observed)
        raise errors.Conflict(f"{kind.name} {'/'.join(place)}: changed too often by other clients")

    async def _apply(self, kind: Kind, raw: Raw, version: str, status: Raw) -> Raw:
        metadata = raw["metadata"]
        body = {
            "metadata": {
                "namespace": metadata["namespace"],
                "name": metadata["name"],
                "uid": metadata["uid"],
                "resourceVersion": version,
            },
            "status": _filled(status),
        }
        return await self.client.apply(
            kind, body, manager=FIELD_MANAGER, force=True, subresource="status"
        )

    async def _replace(self, kind: Kind, raw: Raw, status: Raw) -> Raw:
        """Remove fields of other managers too: an apply leaves them."""
        metadata = raw["metadata"]
        version = metadata["resourceVersion"]
        operations = [
            {"op": "test", "path": "/metadata/resourceVersion", "value": version},
            {"op": "replace", "path": "/status", "value": _filled(status)},
        ]
        place = metadata["namespace"], metadata["name"]
        return await self.client.patch(
            kind, *place, operations, manager=FIELD_MANAGER, subresource="status"
        )


def _differences(raw: Raw, status: Raw, model: type[Model]) -> set[str]:
    if raw.get("status") == _filled(status):
        return set()  # as it was written; no need to fill in defaults
    held = _normal(raw.get("status"), model) if raw else {}
    return {key for key in {*held, *status} if held.get(key) != status.get(key)}


def _filled(status: Raw) -> Raw:
    """Leave out empty objects: applied after their last field went, they would turn into null."""
    within = ((key, _filled(v) if isinstance(v, dict) else v) for key, v in status.items())
    return {key: value for key, value in within if value != {}}


def _normal(status: Any, model: type[Model]) -> Raw:
    try:
        return model.model_validate(status or {}).plain()
    except ValidationError:
        return {}  # written by another client or version: write it again
