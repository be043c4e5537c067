"""The generation whose metrics are queried now."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from springtide_operator.lifecycle.rollout.availability import not_serving
from springtide_operator.lifecycle.state.plan import LIVE_ROLE

if TYPE_CHECKING:
    from datetime import datetime

    from springtide_api.objects import ModelGeneration
    from springtide_operator.lifecycle.state.observation import Observation


@dataclass(frozen=True)
class Watched:
    """A generation that serves live traffic, and whose metrics decide on it."""

    generation: ModelGeneration
    role: str
    """Value of the label springtide.dev/role on its pods."""
    began: datetime | None
    """Its samples count from then on."""


def watched(seen: Observation) -> Watched | None:
    """The generation whose metrics are queried now; None: there is none."""
    generation = seen.lineage.baking
    if generation is None:
        return None
    rollout = generation.status.rollout
    return Watched(generation, LIVE_ROLE, rollout.bake_started_at or rollout.promoted_at)


def is_unserved(seen: Observation, generation: ModelGeneration) -> bool:
    """Whether no target runs it, as another client set its variables: nothing is measured."""
    return len(not_serving(generation, seen.targets)) == len(seen.targets)
