"""Phase, outcome and conditions of each generation, derived from the facts.

A verdict is about the evidence, an outcome about what became of the generation. Both are for users
and never an input; a generation whose derived fields are outdated is written again.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from springtide_api.names import LABEL_UPDATE_UID
from springtide_api.update.status import Condition
from springtide_operator.lifecycle.evaluation.approval import AWAITING, awaits_approval
from springtide_operator.lifecycle.evaluation.holds import is_inconclusive
from springtide_operator.lifecycle.evaluation.modes import is_parent_only
from springtide_operator.lifecycle.jobs.gpu_seconds import gpu_seconds
from springtide_operator.lifecycle.jobs.running_time import end_stage
from springtide_operator.lifecycle.state.generations import (
    finished,
    rollback_outcome,
    servable,
    unknown_value,
)
from springtide_operator.lifecycle.state.plan import DeleteGeneration, WriteGeneration

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from springtide_api.generation.status import GenerationStatus, StageRun
    from springtide_api.objects import ModelGeneration
    from springtide_operator.lifecycle.state.observation import Observation
    from springtide_operator.lifecycle.state.plan import Action

DECIDED = frozenset({"Accepted", "Rejected", "Inconclusive"})

Fact = tuple[str, Literal["True", "False", "Unknown"], str, str]
"""Type, status, reason and message of a condition."""


def describe_generations(
    before: Observation, after: Observation, actions: Sequence[Action], now: datetime
) -> tuple[Action, ...]:
    """Add phase, outcome and conditions to every status write, and write outdated ones.

    Args:
        before: what was seen.
        after: the same with the step's own status writes.
        actions: of the step. Those on a generation of another version are left out.
        now: the moment.
    """
    fields = {g.metadata.name: _described(after, g, now) for g in after.generations}
    written = {a.name for a in actions if isinstance(a, WriteGeneration)}
    unknown = {g.metadata.name for g in before.generations if unknown_value(g)}
    own = tuple(
        WriteGeneration(a.name, fields[a.name])
        if isinstance(a, WriteGeneration) and a.name in fields
        else a
        for a in actions
        if not (isinstance(a, WriteGeneration | DeleteGeneration) and a.name in unknown)
    )
    meta = before.update.metadata
    if meta.deletion_timestamp is not None or before.namespace_terminating:
        return own
    stale = (
        WriteGeneration(g.metadata.name, fields[g.metadata.name])
        for g in before.generations
        if g.metadata.name not in written | unknown
        and g.metadata.labels.get(LABEL_UPDATE_UID) == meta.uid
        and fields[g.metadata.name] != g.status
        and g.status.phase != "Pending"
    )
    return (*own, *stale)


def outcome(seen: Observation, generation: ModelGeneration) -> str:
    """The outcome of a generation, in one word; empty while it is open."""
    status = generation.status
    if status.rollout.rollback_reason:
        return rollback_outcome(generation) if status.rollout.rolled_back_at else ""
    if status.rollout.promoted_at:
        current = seen.lineage.live
        is_live = current is not None and current.metadata.name == generation.metadata.name
        return "Live" if is_live else "Superseded"
    if status.retired_reason:
        return "Retired"
    if status.verdict == "Inconclusive":
        return "Inconclusive" if is_inconclusive(generation) else ""
    return status.verdict if status.verdict in {"Rejected", "Failed"} else ""


def _described(seen: Observation, generation: ModelGeneration, now: datetime) -> GenerationStatus:
    status = generation.status
    outcome_ = outcome(seen, generation)
    fields: dict[str, object] = {
        **_ended_stages(seen, generation, now),
        "phase": _phase(seen, generation),
        "outcome": outcome_,
        "conditions": [
            _condition(generation, fact, now) for fact in _facts(generation, outcome_) if fact
        ],
    }
    if not all(getattr(status, name) == word for name, word in fields.items()):
        status = status.model_copy(update=fields)
    used = gpu_seconds(generation.model_copy(update={"status": status}))
    return status if status.gpu_seconds == used else status.model_copy(update={"gpu_seconds": used})


def _ended_stages(
    seen: Observation, generation: ModelGeneration, now: datetime
) -> dict[str, StageRun]:
    """Stages that ended while pods were running: a person or a rollback ended the generation.

    Their Jobs are deleted next, and with them the record of how long the pods ran.
    """
    status = generation.status
    if not (finished(generation) or status.verdict in {"Rejected", "Failed"}):
        return {}
    stages = {"training": status.training, "evaluation": status.evaluation}
    return {
        name: end_stage(run, seen.job(run.job), now)
        for name, run in stages.items()
        if run is not None and run.pods
    }


def _condition(generation: ModelGeneration, fact: Fact, now: datetime) -> Condition:
    kind, state, reason, message = fact
    old = next((c for c in generation.status.conditions if c.type == kind), None)
    if old and (old.status, old.reason, old.message) == (state, reason, message[:1024]):
        return old
    return Condition(
        type=kind,
        status=state,
        reason=reason,
        message=message[:1024],
        observed_generation=generation.metadata.generation,
        last_transition_time=old.last_transition_time if old and old.status == state else now,
    )


def _facts(generation: ModelGeneration, outcome_: str) -> tuple[Fact, ...]:
    if generation.spec.origin == "Imported":
        return (_trained(generation), _live(generation, outcome_))
    return (
        _trained(generation),
        _evaluated(generation),
        _accepted(generation),
        _live(generation, outcome_),
    )


def _trained(generation: ModelGeneration) -> Fact:
    status, imported = generation.status, generation.spec.origin == "Imported"
    if status.artifact is not None:
        return ("Trained", "True", "Imported" if imported else "Trained", status.artifact.uri)
    if status.verdict == "Failed":
        return ("Trained", "False", status.reason or "Failed", status.message)
    return ("Trained", "False", "Pending", "")


def _evaluated(generation: ModelGeneration) -> Fact:
    status = generation.status
    if status.verdict in DECIDED and status.evaluation is not None:
        return ("Evaluated", "True", "Evaluated", status.evaluation.report or "")
    return ("Evaluated", "False", "Pending" if status.verdict == "Pending" else status.verdict, "")


def _accepted(generation: ModelGeneration) -> Fact:
    status = generation.status
    if status.verdict == "Accepted":
        return ("Accepted", "True", status.reason or status.verdict, status.message)
    reason = status.verdict if status.verdict == "Pending" else (status.reason or status.verdict)
    return ("Accepted", "False", reason, status.message)


def _live(generation: ModelGeneration, outcome_: str) -> Fact:
    if outcome_ == "Live":
        return ("Live", "True", "Promoted", "")
    rollout = generation.status.rollout
    back = rollout.promoted_at is not None and rollout.rollback_reason
    reason = outcome_ or ("RollingBack" if back else "NotPromoted")
    return ("Live", "False", reason, rollout.rollback_reason)


def _phase(seen: Observation, generation: ModelGeneration) -> str:
    status = generation.status
    if awaits_approval(seen, generation):
        return AWAITING
    if is_parent_only(seen, generation):
        return "Imported"
    if status.retired_reason:
        return "Retired"
    if status.verdict in {"Rejected", "Failed", "Inconclusive"}:
        return status.verdict
    if servable(generation) or status.rollout.rollback_reason:
        return _served_phase(generation)
    if generation.spec.origin == "Imported":
        return "Imported" if status.artifact else "Importing"
    if status.artifact:
        return "Evaluating"
    return "Training" if status.training else "Pending"


def _served_phase(generation: ModelGeneration) -> str:
    rollout = generation.status.rollout
    if rollout.rollback_reason:
        return rollback_outcome(generation) if rollout.rolled_back_at else "RollingBack"
    if rollout.promoted_at:
        return "Promoted"
    return "RollingOut" if rollout.step_started_at else "Accepted"
