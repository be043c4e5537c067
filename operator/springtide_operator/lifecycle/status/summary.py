"""The status of an update, derived from the facts and the step just decided.

A phase is for users and never an input. Conditions keep their transition time while their status
stays.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from springtide_api.schema import is_digest
from springtide_api.update.status import (
    Freshness,
    GenerationRef,
    HistoryEntry,
    LastRun,
    Progress,
    TargetStatus,
)
from springtide_operator.lifecycle.bake.report import bake_progress
from springtide_operator.lifecycle.evaluation.modes import REASONS
from springtide_operator.lifecycle.jobs.gpu_seconds import (
    gpu_seconds,
    shown_until,
    used_within_a_day,
)
from springtide_operator.lifecycle.rollout.availability import new_pods
from springtide_operator.lifecycle.state.generations import SPEC_CHANGED, rollback_outcome
from springtide_operator.lifecycle.status.conditions import condition, conditions
from springtide_operator.lifecycle.status.counters import totals
from springtide_operator.lifecycle.status.generation_status import outcome
from springtide_operator.lifecycle.status.phases import phase

if TYPE_CHECKING:
    from datetime import datetime

    from springtide_api.objects import ModelGeneration
    from springtide_api.update.status import Cursor, UpdateStatus
    from springtide_operator.lifecycle.state.observation import InvalidUpdate, Observation
    from springtide_operator.lifecycle.state.observed import ObservedTarget
    from springtide_operator.lifecycle.state.plan import Step, Waiting
    from springtide_operator.lifecycle.status.conditions import Wanted

HISTORY = 20


def summarise(seen: Observation, step: Step, now: datetime) -> UpdateStatus:
    """The update's status after this step."""
    old = seen.update.status
    under_way, current = seen.lineage.candidate, seen.lineage.live
    served = _served(seen)
    waiting = step.waiting
    return old.model_copy(
        update={
            "observed_generation": seen.update.metadata.generation,
            "phase": phase(seen, waiting),
            "conditions": conditions(seen, step, now),
            "live": _ref(current, "promoted_at"),
            "previous": _ref(seen.lineage.previous, "promoted_at"),
            "candidate": _candidate(under_way),
            "cursor": _cursor(seen),
            "acknowledged_holds": _acknowledged(seen),
            "freshness": Freshness(
                served_data_through=served.status.trained_through if served else None
            ),
            "last_run": _last_run(seen),
            "consecutive_failures": _failures(seen),
            "progress": _progress(seen, _shown(seen, waiting, now)),
            "targets": [_target(seen, target) for target in seen.targets],
            "gpu_seconds_last_day": _gpu_seconds_last_day(seen, now),
            "counters": totals(seen),
            "history": [_entry(seen, g) for g in _listed(seen)],
        }
    )


def invalid_status(seen: InvalidUpdate, now: datetime) -> UpdateStatus:
    """The status of an invalid update: unchanged except for phase, progress and what is wrong."""
    message = f"{'; '.join(seen.problems)[:900]}; {seen.remedy}"
    old, generation = seen.status, seen.metadata.generation
    changed: tuple[Wanted, ...] = (
        ("Ready", "False", "InvalidObject", message),
        ("ActionRequired", "True", "InvalidObject", message),
        ("Stalled", "True", "InvalidObject", message),
    )
    kept = [each for each in old.conditions if each.type not in {c[0] for c in changed}]
    return old.model_copy(
        update={
            "observed_generation": generation,
            "phase": "Invalid",
            "progress": Progress(waiting_for=message[:1024], summary="InvalidObject"),
            "conditions": [*(condition(old, each, generation, now) for each in changed), *kept],
        }
    )


def _ref(generation: ModelGeneration | None, since: str) -> GenerationRef | None:
    if generation is None:
        return None
    artifact = generation.status.artifact
    return GenerationRef(
        name=generation.metadata.name,
        number=generation.spec.number,
        digest=artifact.served_digest if artifact else None,
        since=getattr(generation.status.rollout, since),
    )


def _served(seen: Observation) -> ModelGeneration | None:
    """The generation that is served: the pinned one until the targets are back on live."""
    before = seen.update.status.pinned
    named = (g for g in seen.generations if before and g.metadata.name == before.name)
    return next(named, None) or seen.lineage.served


def _candidate(generation: ModelGeneration | None) -> GenerationRef | None:
    ref = _ref(generation, "step_started_at")
    if ref is None or generation is None:
        return None
    return ref.model_copy(update={"since": generation.metadata.creation_timestamp})


def _cursor(seen: Observation) -> Cursor:
    return seen.update.status.cursor.model_copy(
        update={
            "trained_through": seen.lineage.cursor,
            "proposed_for_quarantine": list(seen.lineage.proposed_for_quarantine[:16]),
            "released": list(seen.lineage.training_only),
        }
    )


def _acknowledged(seen: Observation) -> list[str]:
    """The holds that a user ended, of generations that are there.

    One that is deleted may leave its name to another, whose hold no user has seen.
    """
    there = {g.metadata.name for g in seen.generations}
    return [
        each for each in seen.update.status.acknowledged_holds if each.partition("/")[0] in there
    ]


def _last_run(seen: Observation) -> LastRun | None:
    trained = [g for g in seen.generations if g.spec.origin == "Trained"]
    newest = trained[-1] if trained else (seen.generations[-1] if seen.generations else None)
    if newest is None:
        return None
    status = newest.status
    message = status.rollout.rollback_reason or status.message
    return LastRun(
        generation=newest.metadata.name,
        trigger=newest.spec.trigger,
        verdict=status.verdict,
        outcome=outcome(seen, newest),
        summary=f"{_result(seen, newest)} g{newest.spec.number}",
        reason=rollback_outcome(newest)
        if status.rollout.rollback_reason
        else (status.retired_reason or status.reason),
        message=message,
        manifest_digest=newest.spec.data.digest if newest.spec.data else None,
    )


def _result(seen: Observation, generation: ModelGeneration) -> str:
    """The result of a run in one word: its outcome, else its verdict.

    Where spec.mode ended it without a rollout, the verdict says more, or that it was trained.
    """
    status = generation.status
    if status.retired_reason not in REASONS.values():
        return outcome(seen, generation) or status.verdict
    return "Trained" if status.verdict == "Pending" else status.verdict


def _failures(seen: Observation) -> int:
    count = 0
    for generation in reversed(seen.generations):
        if generation.status.reason == SPEC_CHANGED:
            continue
        if generation.status.verdict == "Failed":
            count += 1
        elif generation.status.verdict != "Pending":
            break
    return count


def _progress(seen: Observation, waiting: Waiting | None) -> Progress:
    under_way = seen.lineage.candidate
    stage = waiting.stage if waiting else ""
    run = None
    if under_way is not None:
        status = under_way.status
        run = status.evaluation if status.artifact else status.training
    reported, job = (seen.progress.get(run.job), seen.job(run.job)) if run else (None, None)
    if reported and job and job.resumed and reported.at < job.resumed:
        reported = None  # a queue let the Job run again, and its new pods have not reported yet
    percent = reported.percent if reported else None
    eta = reported.eta_seconds if reported else None
    return Progress(
        stage=stage,
        percent=percent,
        eta_seconds=eta,
        waiting_for=waiting.message[:1024] if waiting else "",
        summary=_short(waiting, percent, eta),
    )


def _shown(seen: Observation, waiting: Waiting | None, now: datetime) -> Waiting | None:
    """What the progress shows: while nothing else is in progress or wrong, the bake."""
    if seen.lineage.candidate or (waiting and (waiting.blocked or waiting.held)):
        return waiting
    return bake_progress(seen, now) or waiting


def _short(waiting: Waiting | None, percent: int | None, eta: int | None) -> str:
    if percent is not None and waiting and waiting.reason == "Running":
        left = f", {_human(eta)} left" if eta is not None else ""
        return f"{waiting.stage} {percent}%{left}"
    if waiting is None:
        return ""
    if waiting.reason == "Running":
        return f"{waiting.stage} starting"
    return (waiting.short or waiting.reason)[:128]


def _human(seconds: int) -> str:
    if seconds < 120:
        return f"{seconds}s"
    return f"{seconds // 60}m" if seconds < 7200 else f"{seconds // 3600}h"


def _gpu_seconds_last_day(seen: Observation, now: datetime) -> int:
    return int(used_within_a_day(seen.generations, shown_until(seen.generations, now)))


def _target(seen: Observation, target: ObservedTarget) -> TargetStatus:
    name = target.target.target_ref.name
    known = next((t for t in seen.update.status.targets if t.name == name), None)
    return TargetStatus(
        name=name,
        generation=target.number if target.digest else None,
        digest=target.digest if is_digest(target.digest) else None,
        available=new_pods(target),
        desired=target.desired,
        message=target.trouble,
        reapplied_at=known.reapplied_at if known else [],
    )


def _listed(seen: Observation) -> list[ModelGeneration]:
    """The generations of the history, the newest first.

    Those that are served, that roll out or that were promoted last are always among them: their
    outcome may change, and counters and Events follow from the history.
    """
    promoted = [g for g in seen.generations if g.status.rollout.promoted_at]
    last = max(promoted, key=lambda g: g.status.rollout.promoted_at or seen.now, default=None)
    always = (seen.lineage.live, seen.lineage.previous, seen.lineage.rolls, last)
    shown = {g.spec.number for g in always if g}
    others = [g.spec.number for g in reversed(seen.generations) if g.spec.number not in shown]
    shown |= {*others[: HISTORY - len(shown)]}
    return [g for g in reversed(seen.generations) if g.spec.number in shown]


def _entry(seen: Observation, generation: ModelGeneration) -> HistoryEntry:
    status, data = generation.status, generation.spec.data
    known, number = seen.update.status.history, generation.spec.number
    before = next((entry for entry in known if entry.number == number), None)
    return HistoryEntry(
        number=number,
        verdict=status.verdict,
        outcome=outcome(seen, generation),
        reason=(
            rollback_outcome(generation)
            if status.rollout.rollback_reason
            else (status.retired_reason or status.reason)
        ),
        trained_through=data.windows[-1].to if data and data.windows else status.trained_through,
        finished_at=status.rollout.promoted_at or status.verdict_at,
        gpu_seconds=max(gpu_seconds(generation), (before and before.gpu_seconds) or 0),
    )
