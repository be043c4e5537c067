"""Phases: one word for people for an update and for a generation, derived, never an input."""

from __future__ import annotations

from typing import TYPE_CHECKING

from springtide_operator.lifecycle.evaluation import held
from springtide_operator.lifecycle.lineage import (
    rolling,
    servable,
)
from springtide_operator.lifecycle.pending import QUEUED
from springtide_operator.lifecycle.plan import WriteGeneration
from springtide_operator.lifecycle.references import invalid

if TYPE_CHECKING:
    from collections.abc import Sequence

    from springtide_api.objects import ModelGeneration
    from springtide_api.update_status import Phase
    from springtide_operator.lifecycle.observation import Observation
    from springtide_operator.lifecycle.plan import Action, Waiting


def with_phases(seen: Observation, actions: Sequence[Action]) -> tuple[Action, ...]:
    """The actions, with phase and conditions of every written generation filled in."""
    by_name = {g.metadata.name: g for g in seen.generations}
    return tuple(
        WriteGeneration(a.name, described(seen, by_name[a.name]).status)
        if isinstance(a, WriteGeneration) and a.name in by_name
        else a
        for a in actions
    )


def described(seen: Observation, generation: ModelGeneration) -> ModelGeneration:
    """A generation with its phase in words."""
    phase = _generation_phase(generation)
    status = generation.status.model_copy(update={"phase": phase})
    return generation.model_copy(update={"status": status})


def _generation_phase(generation: ModelGeneration) -> str:
    status = generation.status
    if status.retired:
        return "Retired"
    if status.verdict in {"Rejected", "Failed", "Inconclusive"}:
        return status.verdict
    if servable(generation) or status.rollout.abort_reason:
        return _served_phase(generation)
    if generation.spec.origin == "Imported":
        return "Imported" if status.artifact else "Importing"
    if status.artifact:
        return "Evaluating"
    return "Training" if status.training else "Pending"


def _served_phase(generation: ModelGeneration) -> str:
    rollout = generation.status.rollout
    if rollout.abort_reason:
        return "RolledBack" if rollout.reverted_at else "RollingBack"
    if rollout.promoted_at:
        return "Promoted"
    return "RollingOut" if rollout.step_started_at else "Accepted"


def phase(seen: Observation, waiting: Waiting | None) -> Phase:
    """One word for what an update does now."""
    if invalid(seen.update.spec):
        return "Invalid"
    under_way = seen.lineage.candidate
    if under_way is not None and under_way.status.rollout.abort_reason:
        return "RollingBack"
    if under_way is not None and rolling(under_way):
        return "RollingOut"
    if seen.update.spec.suspend:
        return "Suspended"
    if waiting and waiting.reason in QUEUED:
        return "Queued"
    if under_way is None:
        if seen.lineage.shared_rejection:
            return "Held"
        return "Probing" if waiting and waiting.reason == "Probing" else "Idle"
    return _candidate_phase(seen, under_way)


def _candidate_phase(seen: Observation, under_way: ModelGeneration) -> Phase:
    if servable(under_way):
        return "RollingOut"
    if held(seen, under_way):
        return "Held"
    return "Evaluating" if under_way.status.artifact else "Training"
