"""Imports the initial model as generation 0, once."""

from __future__ import annotations

from typing import TYPE_CHECKING

from springtide_api.generation.spec import GenerationSpec, UpdateRef
from springtide_api.schema import hub_repository
from springtide_operator.lifecycle.evaluation.freeze import frozen
from springtide_operator.lifecycle.state.generations import ORPHANED, SPEC_CHANGED
from springtide_operator.lifecycle.state.plan import CreateGeneration, Step, Waiting
from springtide_operator.lifecycle.state.recipe import recipe, recipe_hash

if TYPE_CHECKING:
    from datetime import datetime

    from springtide_api.objects import ModelGeneration
    from springtide_operator.lifecycle.state.observation import Observation

NO_HUB = (
    "spec.model.initial.uri names a model of a hub, but this installation uses none; set "
    "operator.hubEndpoint of the chart, or copy the model to a claim or an object store and create "
    "the update with its URI there"
)


def import_initial(seen: Observation, now: datetime) -> Step | None:
    """Create generation 0 of an update that has no weights yet."""
    if seen.lineage.live or _has_weights(seen) or seen.lineage.candidate:
        return None
    if failed := failed_import(seen):
        resume = ", set spec.suspend to false" if seen.update.spec.suspend else ""
        request = "unfreeze@<token>, then retry" if frozen(seen) else "retry@<token>"
        message = (
            f"{failed.metadata.name} failed; fix the cause{resume} and annotate "
            f"springtide.dev/request={request}; {failed.status.message}"
        )
        return Step(waiting=Waiting("ImportFailed", message[:1024], "Import", blocked=True))
    if seen.update.spec.suspend:
        message = "spec.suspend is true; set it to false to start"
        return Step(waiting=Waiting("Suspended", message, "Import"))
    spec = seen.update.spec
    if hub_repository(spec.model.initial.uri) and not seen.defaults.hub_endpoint:
        return Step(waiting=Waiting("HubNotAllowed", NO_HUB, "Import", blocked=True))
    snapshot = recipe(seen)
    made = GenerationSpec(
        update_ref=UpdateRef(name=seen.update.metadata.name),
        number=seen.lineage.next_number,
        origin="Imported",
        initial=spec.model.initial,
        recipe=snapshot,
        recipe_hash=recipe_hash(snapshot),
    )
    owned = spec.deletion_policy == "Delete"
    return Step(actions=(CreateGeneration(seen.lineage.next_name, made, owned),))


def failed_import(seen: Observation) -> ModelGeneration | None:
    """The failed import, where no retry was requested."""
    first = seen.lineage.initial
    if first is None or first.status.verdict != "Failed" or seen.lineage.live:
        return None
    if first.status.reason == SPEC_CHANGED:
        return None
    if first.status.reason == ORPHANED:
        return None  # the import is valid: its update was deleted and created again
    return None if first.metadata.name in seen.update.status.acknowledged_holds else first


def _has_weights(seen: Observation) -> bool:
    first = seen.lineage.initial
    return first is not None and first.status.verdict != "Failed"
