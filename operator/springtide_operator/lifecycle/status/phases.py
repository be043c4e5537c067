"""The phase of an update: one word for users, derived, never an input."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from springtide_operator.lifecycle.checks.spec_validation import invalid_spec
from springtide_operator.lifecycle.evaluation.approval import AWAITING, awaits_approval
from springtide_operator.lifecycle.evaluation.freeze import frozen
from springtide_operator.lifecycle.evaluation.holds import held, is_inconclusive
from springtide_operator.lifecycle.evaluation.modes import writes_targets
from springtide_operator.lifecycle.evaluation.rollback_hold import rollback_hold
from springtide_operator.lifecycle.jobs.gpu_budget import BUDGET_USED_UP
from springtide_operator.lifecycle.jobs.pod_waiting import JOB_REFUSED, QUEUED
from springtide_operator.lifecycle.state.generations import rolling, servable

if TYPE_CHECKING:
    from springtide_api.objects import ModelGeneration
    from springtide_operator.lifecycle.state.observation import Observation
    from springtide_operator.lifecycle.state.plan import Waiting

Phase = Literal[
    "Idle",
    "Probing",
    "Queued",
    "Importing",
    "Training",
    "Evaluating",
    "AwaitingApproval",
    "RollingOut",
    "Baking",
    "RollingBack",
    "Pinned",
    "Suspended",
    "OnHold",
    "Frozen",
    "Invalid",
]


def phase(seen: Observation, waiting: Waiting | None) -> Phase:
    """One word for what an update does now."""
    if invalid_spec(seen.update.spec):
        return "Invalid"
    return _serving_phase(seen) or _run_phase(seen, waiting)


def _serving_phase(seen: Observation) -> Phase | None:
    """The phase where a pin, a rollout or a rollback decides on what is served."""
    under_way = seen.lineage.candidate
    if seen.lineage.pinned is not None:
        return "Pinned"
    if under_way is not None and under_way.status.rollout.rollback_reason:
        return "RollingBack"
    returning = seen.lineage.returning and writes_targets(seen)
    if returning or (under_way is not None and rolling(under_way)):
        return "RollingOut"
    return None


def _run_phase(seen: Observation, waiting: Waiting | None) -> Phase:
    under_way = seen.lineage.candidate
    if seen.update.spec.suspend:
        return "Suspended"
    if waiting and waiting.reason == JOB_REFUSED:
        return "Queued"
    if waiting and waiting.reason in {*QUEUED, BUDGET_USED_UP} and waiting.stage:
        return "Queued"
    if under_way is None:
        return _phase_between_runs(seen, waiting)
    return _candidate_phase(seen, under_way, waiting)


def _phase_between_runs(seen: Observation, waiting: Waiting | None) -> Phase:
    if frozen(seen):
        return "Frozen"
    if seen.lineage.shared_rejection or rollback_hold(seen):
        return "OnHold"
    if seen.lineage.baking:
        return "Baking"
    return "Probing" if waiting and waiting.reason == "Probing" else "Idle"


def _candidate_phase(
    seen: Observation, under_way: ModelGeneration, waiting: Waiting | None
) -> Phase:
    if servable(under_way):
        if frozen(seen):
            return "Frozen"
        if awaits_approval(seen, under_way):
            return AWAITING
        return "Baking" if seen.lineage.baking else "RollingOut"
    if held(seen, under_way):
        return "OnHold"
    if is_inconclusive(under_way):
        return "Probing" if waiting and waiting.reason == "Probing" else "Idle"
    if under_way.spec.origin == "Imported":
        return "Importing"
    return "Evaluating" if under_way.status.artifact else "Training"
