"""A generation with status values of another version is not changed; nothing starts beside it.

A newer operator wrote them before its installation was rolled back.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from springtide_operator.lifecycle.state.generations import rolling, unknown_value
from springtide_operator.lifecycle.state.plan import Step, Waiting

if TYPE_CHECKING:
    from datetime import datetime

    from springtide_operator.lifecycle.state.observation import Observation


def block_on_unknown_rollout(seen: Observation, now: datetime) -> Step | None:
    """Change no target while another version rolls a generation out."""
    generation = seen.lineage.unknown
    return block_on_unknown_generation(seen, now) if generation and rolling(generation) else None


def block_on_unknown_generation(seen: Observation, now: datetime) -> Step | None:
    """Start nothing beside a generation of another version."""
    generation = seen.lineage.unknown
    if generation is None:
        return None
    message = (
        f"{generation.metadata.name} has {unknown_value(generation)}, which this version of the "
        "operator does not know; install the version that wrote it, or delete the generation"
    )
    return Step(waiting=Waiting("UnknownStatusValue", message, held=True))
