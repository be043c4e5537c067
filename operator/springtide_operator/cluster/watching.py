"""Which kinds are watched, what of them is kept, and which updates a change concerns."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from springtide_api.names import LABEL_STAGE, LABEL_UPDATE
from springtide_operator.cluster.cache import Cache, Store
from springtide_operator.cluster.kinds import DEPLOYMENT, GENERATION, JOB, POD, UPDATE
from springtide_operator.cluster.reflector import Reflector

if TYPE_CHECKING:
    from springtide_operator.cluster.client import Client
    from springtide_operator.cluster.kinds import Kind, Raw

LABELS = {UPDATE: "", GENERATION: "", JOB: LABEL_STAGE, POD: LABEL_STAGE, DEPLOYMENT: LABEL_UPDATE}
"""Kinds that are watched, with their label selectors."""

Wake = Callable[[str, str], None]
"""Told namespace and name of an update."""


def by_label(raw: Raw) -> str:
    """Name the update by its label."""
    return str((raw["metadata"].get("labels") or {}).get(LABEL_UPDATE, ""))


def by_reference(raw: Raw) -> str:
    """Name the update of a generation: the reference counts, whatever its labels say."""
    return str(((raw.get("spec") or {}).get("updateRef") or {}).get("name", ""))


def itself(raw: Raw) -> str:
    """Name an update."""
    return str(raw["metadata"]["name"])


def new_cache() -> Cache:
    """Make an empty cache of all kinds that are watched."""
    owners = {UPDATE: itself, GENERATION: by_reference}
    return Cache(
        {
            kind: Store(owners.get(kind, by_label), _keep if kind == DEPLOYMENT else _trim)
            for kind in LABELS
        }
    )


def reflectors(client: Client, cache: Cache, namespace: str, wake: Wake) -> list[Reflector]:
    """Make one reflector for each kind; `wake` is told every update that a change concerns."""

    def changed(kind: Kind, raw: Raw) -> None:
        place = raw["metadata"]["namespace"]
        for name in concerned(cache, kind, raw):
            wake(place, name)

    return [
        Reflector(client, kind, cache.stores[kind], changed, namespace=namespace, labels=labels)
        for kind, labels in LABELS.items()
    ]


def concerned(cache: Cache, kind: Kind, raw: Raw) -> set[str]:
    """Name the updates that a change of an object concerns, in its namespace."""
    names = {cache.stores[kind].owner(raw)} - {""}
    if kind == DEPLOYMENT:
        names |= set(_aiming(cache, raw))
    return names


def _aiming(cache: Cache, deployment: Raw) -> list[str]:
    """Updates that name a Deployment as a target, also while another one holds it."""
    namespace, name = deployment["metadata"]["namespace"], deployment["metadata"]["name"]
    return [
        update["metadata"]["name"]
        for update in cache.stores[UPDATE].all()
        if update["metadata"]["namespace"] == namespace and name in _targets(update)
    ]


def _targets(update: Raw) -> set[str]:
    rollout = (update.get("spec") or {}).get("rollout") or {}
    return {str(target["targetRef"]["name"]) for target in rollout.get("targets") or []}


def _trim(raw: Raw) -> None:
    raw["metadata"].pop("managedFields", None)


def _keep(raw: Raw) -> None:
    """Who set which field of a target tells whose it is."""
