"""Labels, owner references and objects of our own kinds: who made a thing and whose it is."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from springtide_api.names import (
    ANNOTATION_PROBE,
    API_VERSION,
    GENERATION_KIND,
    LABEL_GENERATION,
    LABEL_UPDATE,
    LABEL_UPDATE_UID,
    UPDATE_KIND,
)

if TYPE_CHECKING:
    from springtide_api.objects import Meta
    from springtide_operator.lifecycle.state.plan import CreateGeneration


def labels(update: Meta, number: int | None = None) -> dict[str, str]:
    """Labels of everything that belongs to an update."""
    known = {LABEL_UPDATE: update.name, LABEL_UPDATE_UID: update.uid}
    if number is not None:
        known[LABEL_GENERATION] = str(number)
    return known


def owner_reference(update: Meta) -> dict[str, Any]:
    """Owner reference by which the garbage collector deletes an object with its update."""
    return {
        "apiVersion": API_VERSION,
        "kind": UPDATE_KIND,
        "name": update.name,
        "uid": update.uid,
        "controller": True,
        "blockOwnerDeletion": False,
    }


def is_update(reference: dict[str, Any], update: Meta) -> bool:
    """Whether an owner reference names this update, or an earlier one of the same name."""
    kind, name = reference.get("kind"), reference.get("name")
    return (kind, name) == (UPDATE_KIND, update.name)


def generation(update: Meta, made: CreateGeneration) -> dict[str, Any]:
    """The `ModelGeneration` of a new attempt."""
    metadata: dict[str, Any] = {
        "name": made.name,
        "namespace": update.namespace,
        "labels": labels(update, made.spec.number),
    }
    if made.probe_uid:
        metadata["annotations"] = {ANNOTATION_PROBE: made.probe_uid}
    if made.owned:
        metadata["ownerReferences"] = [owner_reference(update)]
    return {
        "apiVersion": API_VERSION,
        "kind": GENERATION_KIND,
        "metadata": metadata,
        "spec": made.spec.plain(),
    }
