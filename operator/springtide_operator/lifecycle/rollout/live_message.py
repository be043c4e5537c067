"""Where a generation is live, as a sentence for Events and conditions."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

    from springtide_api.objects import ModelGeneration


def live_message(generation: ModelGeneration, deployments: Iterable[str]) -> str:
    """Where a generation is live; without targets, where its weights are and what they are for.

    Args:
        generation: the live one.
        deployments: names of the targets.
    """
    name, artifact = generation.metadata.name, generation.status.artifact
    if names := ", ".join(f"Deployment {each}" for each in deployments):
        return f"{name} is live on {names}"
    uri = artifact.uri if artifact else ""
    return f"{name} is live; {uri} can be model.initial.uri of an update with another task"
