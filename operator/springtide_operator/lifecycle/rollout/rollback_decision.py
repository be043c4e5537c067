"""The decision to roll a generation back, written before any target changes.

From then on the generation is neither live nor parent: `previous` is live again, and `roll_back`
moves the targets. What was trained from it, and what has its weights, retires.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from springtide_operator.lifecycle.rollout.rollout_status import with_rollout
from springtide_operator.lifecycle.state.generations import (
    finished,
    rolled_back_parent,
    rolling,
    unknown_value,
)
from springtide_operator.lifecycle.state.plan import Event, Step, WriteGeneration

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

    from springtide_api.objects import ModelGeneration
    from springtide_operator.lifecycle.state.observation import Observation


PARENT_ROLLED_BACK = "ParentRolledBack"


def rollback_target(seen: Observation, generation: ModelGeneration) -> ModelGeneration | None:
    """The generation that is live once this one is rolled back; None: there is none."""
    name, artifact = generation.metadata.name, generation.status.artifact
    digest = artifact.served_digest if artifact else None
    return next(
        (
            g
            for g in seen.lineage.promoted
            if g.metadata.name != name
            and g.status.artifact
            and g.status.artifact.served_digest != digest
        ),
        None,
    )


def decide_rollback(
    seen: Observation,
    generation: ModelGeneration,
    reason: str,
    now: datetime,
    facts: Mapping[str, object] | None = None,
) -> Step:
    """Write the decision, with its reason, then retire the candidates trained from it.

    Args:
        seen: the update.
        generation: what is rolled back.
        reason: why.
        now: the moment.
        facts: other fields of its `status.rollout` that belong to the decision.
    """
    name, why = generation.metadata.name, reason[:1024]
    retired = [retired_generation(g, *_after(generation), now) for g in _children(seen, generation)]
    changes = {"rollback_reason": why, "rollback_started_at": now, **(facts or {})}
    event = Event("RollbackStarted", f"{name}: {why}"[:1024], "Warning", generation=name)
    return Step(
        actions=(with_rollout(generation, changes), *(a for s in retired for a in s.actions)),
        events=(event, *(e for s in retired for e in s.events)),
    )


def _after(parent: ModelGeneration) -> tuple[str, str]:
    """Reason and message of a generation that retires with its parent."""
    return PARENT_ROLLED_BACK, f"its parent {parent.metadata.name} was rolled back"


def _children(seen: Observation, parent: ModelGeneration) -> list[ModelGeneration]:
    """Candidates whose parent it is; one that rolls out is rolled back by itself."""
    return [
        g
        for g in seen.generations
        if g.spec.parent
        and g.spec.parent.name == parent.metadata.name
        and not (finished(g) or rolling(g) or unknown_value(g))
    ]


def retired_generation(
    generation: ModelGeneration, reason: str, message: str, now: datetime
) -> Step:
    """Retire a candidate.

    Args:
        generation: the candidate.
        reason: one word.
        message: why.
        now: the moment.
    """
    name = generation.metadata.name
    status = generation.status.model_copy(
        update={"retired_reason": reason, "message": message[:1024], "verdict_at": now}
    )
    event = Event("Retired", f"{name}: {message}"[:1024], generation=name)
    return Step(actions=(WriteGeneration(name, status),), events=(event,))


def retire_after_rollback(seen: Observation, now: datetime) -> Step | None:
    """Retire every unfinished generation whose parent or whose weights were rolled back."""
    for generation in seen.generations:
        rollout = generation.status.rollout
        if finished(generation) or unknown_value(generation) or rollout.rollback_reason:
            continue
        if parent := rolled_back_parent(generation, seen.generations):
            reason, why = _after(parent)
        elif before := _rolled_back_weights(seen, generation):
            reason = "WeightsRolledBack"
            why = f"it has the weights of {before}, which was rolled back, and is never served"
        else:
            continue
        if rolling(generation):
            return decide_rollback(seen, generation, why, now)
        return retired_generation(generation, reason, why, now)
    return None


def _rolled_back_weights(seen: Observation, generation: ModelGeneration) -> str:
    """The name of a generation with the same weights that was rolled back, if there is one."""
    artifact = generation.status.artifact
    if artifact is None or artifact.served_digest not in seen.lineage.barred:
        return ""
    return next(
        (
            g.metadata.name
            for g in seen.generations
            if g.status.rollout.rollback_reason
            and g.status.artifact
            and g.status.artifact.served_digest == artifact.served_digest
        ),
        "",
    )
