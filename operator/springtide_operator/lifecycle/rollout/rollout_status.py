"""Writes `status.rollout` of a generation."""

from __future__ import annotations

from typing import TYPE_CHECKING

from springtide_operator.lifecycle.state.plan import WriteGeneration

if TYPE_CHECKING:
    from collections.abc import Mapping

    from springtide_api.generation.rollout import RolloutStatus
    from springtide_api.objects import ModelGeneration


def with_rollout(generation: ModelGeneration, changes: Mapping[str, object]) -> WriteGeneration:
    """Change `status.rollout` of a generation."""
    rollout: RolloutStatus = generation.status.rollout.model_copy(update=changes)
    status = generation.status.model_copy(update={"rollout": rollout})
    return WriteGeneration(generation.metadata.name, status)
