"""What all run files share: the storage folder of the update, artifacts and result names."""

from __future__ import annotations

from typing import TYPE_CHECKING

from springtide_api.contract import ArtifactRef, RunFile
from springtide_operator.lifecycle.state.recipe import with_access

if TYPE_CHECKING:
    from springtide_api.contract import Stage
    from springtide_api.generation.spec import Recipe
    from springtide_api.objects import ModelGeneration
    from springtide_operator.lifecycle.state.observation import Observation


TRACKED = frozenset({"train", "evaluate"})
"""Stages that report to experiment trackers, as the spec says when their pod is created."""


def home(seen: Observation, recipe: Recipe) -> str:
    """Folder of this update in the storage: a path on a claim, a URI in an object store."""
    meta = seen.update.metadata
    root = recipe.storage.uri.removeprefix("file://").rstrip("/")
    return f"{root}/{meta.namespace}/{meta.name}"


def run_file(
    seen: Observation, stage: Stage, recipe: Recipe, *, number: int | None, job: str, attempt: int
) -> RunFile:
    """The part of a run file that all stages share.

    Its recipe names the Secret, service account and claims of the spec as it is now.
    """
    return RunFile(
        stage=stage,
        namespace=seen.update.metadata.namespace,
        update=seen.update.metadata.name,
        number=number,
        attempt=attempt,
        job=job,
        home=home(seen, recipe),
        recipe=with_access(seen, recipe),
        tracking=seen.update.spec.tracking if stage in TRACKED else None,
    )


def result_name(generation: ModelGeneration, stage: str) -> str:
    """Name of the result of a stage: the same for every attempt at this generation.

    The uid distinguishes generations of one number where all were deleted and created again.
    """
    return f"{result_prefix(generation)}-{stage}"


def result_prefix(generation: ModelGeneration) -> str:
    """How the names of all results of a generation begin."""
    return f"g{generation.spec.number}-{generation.metadata.uid[:8]}"


def artifact_ref(folder: str, digest: str) -> ArtifactRef:
    """Weights by content: their folder is named by their digest."""
    uri = f"{uri_of(folder)}/artifacts/{digest.replace(':', '-')}"
    return ArtifactRef(uri=uri, digest=digest)


def uri_of(folder: str) -> str:
    """The URI of a folder that is a path or a URI."""
    return folder if "://" in folder else f"file://{folder}"
