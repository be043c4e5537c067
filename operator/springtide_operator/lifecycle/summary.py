"""What people read: status and phases, derived anew from the facts and the step just decided.

A phase is a word for people and never an input. Conditions keep their transition time while their
status stays.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from springtide_api.update_status import (
    Condition,
    Cursor,
    Freshness,
    GenerationRef,
    HistoryEntry,
    LastRun,
    Phase,
    Progress,
    TargetStatus,
    UpdateStatus,
)
from springtide_operator.lifecycle.evaluation import held
from springtide_operator.lifecycle.lineage import (
    candidate,
    cursor,
    live,
    promoted,
    proposed,
    rolling,
    servable,
    shared_rejection,
)
from springtide_operator.lifecycle.plan import Announcement, Waiting, WriteGeneration
from springtide_operator.lifecycle.references import invalid
from springtide_operator.lifecycle.rollout import available
from springtide_operator.lifecycle.targets import in_sync

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from springtide_api.objects import ModelGeneration
    from springtide_operator.lifecycle.observation import Observation, TargetSeen
    from springtide_operator.lifecycle.plan import Action, Step

HISTORY = 20
Tri = Literal["True", "False", "Unknown"]


def summarise(seen: Observation, step: Step, now: datetime) -> UpdateStatus:
    """The update's status after this step."""
    old = seen.update.status
    under_way, current = candidate(seen), live(seen)
    went_live = promoted(seen)
    waiting = step.waiting
    return old.model_copy(
        update={
            "observed_generation": seen.update.metadata.generation,
            "phase": _phase(seen, waiting),
            "conditions": _conditions(seen, waiting, now),
            "live": _ref(current, "promoted_at"),
            "previous": _ref(went_live[1] if len(went_live) > 1 else None, "promoted_at"),
            "candidate": _candidate(under_way),
            "cursor": _cursor(seen),
            "freshness": Freshness(
                served_data_through=current.status.trained_through if current else None
            ),
            "last_run": _last_run(seen),
            "consecutive_failures": _failures(seen),
            "progress": _progress(seen, waiting),
            "targets": [_target(seen, target) for target in seen.targets],
            "counters": _counters(seen),
            "history": [_entry(g) for g in reversed(seen.generations)][:HISTORY],
        }
    )


def announcements(old: UpdateStatus, new: UpdateStatus) -> tuple[Announcement, ...]:
    """Events for what a person must know and no step said: a stall or a conflict that began."""
    before = {(c.type, c.status, c.reason) for c in old.conditions}
    return tuple(
        Announcement(c.reason, c.message, "Warning")
        for c in new.conditions
        if (c.type == "Stalled" or (c.type == "TargetsInSync" and c.status == "False"))
        and (c.type, c.status, c.reason) not in before
        and not (c.type == "TargetsInSync" and any(x.type == "Stalled" for x in new.conditions))
    )


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
    if status.rollout.abort_reason:
        return "RolledBack" if status.rollout.reverted_at else "RollingBack"
    if status.rollout.promoted_at:
        return "Live"
    if status.retired:
        return "Retired"
    if status.verdict in {"Rejected", "Failed", "Inconclusive"}:
        return status.verdict
    if rolling(generation):
        return "RollingOut"
    if servable(generation):
        return "Accepted"
    if generation.spec.origin == "Imported":
        return "Imported" if status.artifact else "Importing"
    if status.artifact:
        return "Evaluating"
    return "Training" if status.training else "Pending"


def _phase(seen: Observation, waiting: Waiting | None) -> Phase:
    if invalid(seen.update.spec):
        return "Invalid"
    under_way = candidate(seen)
    if under_way is not None and under_way.status.rollout.abort_reason:
        return "RollingBack"
    if under_way is not None and rolling(under_way):
        return "RollingOut"
    if seen.update.spec.suspend:
        return "Suspended"
    if waiting and waiting.reason == "Pending":
        return "Queued"
    if under_way is None:
        if shared_rejection(seen):
            return "Held"
        return "Probing" if waiting and waiting.reason == "Probing" else "Idle"
    return _candidate_phase(seen, under_way)


def _candidate_phase(seen: Observation, under_way: ModelGeneration) -> Phase:
    if servable(under_way):
        return "RollingOut"
    if held(seen, under_way):
        return "Held"
    return "Evaluating" if under_way.status.artifact else "Training"


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


def _candidate(generation: ModelGeneration | None) -> GenerationRef | None:
    ref = _ref(generation, "step_started_at")
    if ref is None or generation is None:
        return None
    return ref.model_copy(update={"since": generation.metadata.creation_timestamp})


def _cursor(seen: Observation) -> Cursor:
    return seen.update.status.cursor.model_copy(
        update={"trained_through": cursor(seen), "proposed": proposed(seen)}
    )


def _last_run(seen: Observation) -> LastRun | None:
    trained = [g for g in seen.generations if g.spec.origin == "Trained"]
    newest = trained[-1] if trained else (seen.generations[-1] if seen.generations else None)
    if newest is None:
        return None
    status = newest.status
    message = status.rollout.abort_reason or status.message
    return LastRun(
        generation=newest.metadata.name,
        trigger=newest.spec.trigger,
        verdict=status.verdict,
        reason="RolledBack" if status.rollout.abort_reason else (status.retired or status.reason),
        message=message,
        manifest_digest=newest.spec.data.digest if newest.spec.data else None,
    )


def _failures(seen: Observation) -> int:
    count = 0
    for generation in reversed(seen.generations):
        if generation.status.verdict == "Failed":
            count += 1
        elif generation.status.verdict != "Pending":
            break
    return count


def _progress(seen: Observation, waiting: Waiting | None) -> Progress:
    under_way = candidate(seen)
    stage = waiting.stage if waiting else ""
    run = None
    if under_way is not None:
        status = under_way.status
        run = status.evaluation if status.artifact else status.training
    reported = seen.progress.get(run.job) if run else None
    percent = reported.percent if reported else None
    eta = reported.eta_seconds if reported else None
    return Progress(
        stage=stage,
        percent=percent,
        eta_seconds=eta,
        waiting_for=waiting.message if waiting else "",
        summary=_short(waiting, percent, eta),
    )


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


def _target(seen: Observation, target: TargetSeen) -> TargetStatus:
    name = target.target.target_ref.name
    known = next((t for t in seen.update.status.targets if t.name == name), None)
    return TargetStatus(
        name=name,
        generation=target.number if target.digest else None,
        digest=target.digest,
        available=target.available,
        wanted=target.wanted,
        message=target.trouble,
        reapplied=known.reapplied if known else [],
    )


def _counters(seen: Observation) -> object:
    counters = seen.update.status.counters
    tally = [g.status.verdict for g in seen.generations if g.spec.origin == "Trained"]
    went_live = sum(1 for g in promoted(seen) if g.spec.origin == "Trained")
    gpu = sum(g.status.training.gpu_seconds for g in seen.generations if g.status.training)
    return counters.model_copy(
        update={
            "promoted": max(counters.promoted, went_live),
            "rejected": max(counters.rejected, tally.count("Rejected")),
            "failed": max(counters.failed, tally.count("Failed")),
            "gpu_seconds": max(counters.gpu_seconds, gpu),
        }
    )


def _entry(generation: ModelGeneration) -> HistoryEntry:
    status, data = generation.status, generation.spec.data
    return HistoryEntry(
        number=generation.spec.number,
        verdict=status.verdict,
        reason=status.retired or status.reason,
        data_through=data.windows[-1].to if data and data.windows else status.trained_through,
        finished=status.rollout.promoted_at or status.verdict_at,
    )


def _conditions(seen: Observation, waiting: Waiting | None, now: datetime) -> list[Condition]:
    wrong = invalid(seen.update.spec)
    sync = in_sync(seen, now)
    stop = wrong or (sync if sync and sync.blocked else None)
    if stop is None and waiting and waiting.blocked:
        stop = waiting
    wanted = [
        _ready(seen, stop),
        _serving(seen),
        _data_ready(seen),
        _accepted(seen),
        _in_sync(sync),
    ]
    if stop:
        wanted.append(("Stalled", "True", stop.reason, stop.message))
    return [_condition(seen, each, now) for each in wanted if each]


Wanted = tuple[str, Tri, str, str]


def _condition(seen: Observation, wanted: Wanted, now: datetime) -> Condition:
    kind, status, reason, message = wanted
    old = next((c for c in seen.update.status.conditions if c.type == kind), None)
    since = old.last_transition_time if old and old.status == status else now
    return Condition(
        type=kind,
        status=status,
        reason=reason,
        message=message[:1024],
        observed_generation=seen.update.metadata.generation,
        last_transition_time=since,
    )


def _ready(seen: Observation, stop: Waiting | None) -> Wanted:
    if stop:
        return ("Ready", "False", stop.reason, stop.message)
    if live(seen) is None:
        message = "the spec is in order; no generation was promoted yet"
        return ("Ready", "True", "AwaitingFirstGeneration", message)
    return ("Ready", "True", "Accepted", "the spec is in order and its references are there")


def _serving(seen: Observation) -> Wanted:
    current = live(seen)
    if current is None or current.status.artifact is None:
        return ("Serving", "False", "NoGeneration", "nothing was promoted yet")
    digest = current.status.artifact.served_digest
    for target in seen.targets:
        name = target.target.target_ref.name
        if target.digest != digest:
            message = f"Deployment {name} does not carry {current.metadata.name}"
            return ("Serving", "False", "OtherGeneration", message)
        if not target.available:
            return ("Serving", "False", "NotAvailable", f"Deployment {name} has no available pod")
        if not available(target):
            message = f"Deployment {name}: {target.available} of {target.wanted} pods available"
            return ("Serving", "True", "PartlyAvailable", message)
    name = current.metadata.name
    return ("Serving", "True", "Available", f"every target serves {name}")


def _data_ready(seen: Observation) -> Wanted:
    probe = seen.update.status.last_probe
    if probe is None:
        return ("DataReady", "Unknown", "NotLooked", "no look for data has ended yet")
    if probe.failures:
        return ("DataReady", "False", probe.reason, probe.message)
    ready = probe.reason == "WindowReady"
    return ("DataReady", "True" if ready else "False", probe.reason, probe.message)


def _accepted(seen: Observation) -> Wanted | None:
    trained = [g for g in seen.generations if g.spec.origin == "Trained"]
    judged = [g for g in trained if g.status.verdict != "Pending"]
    if not judged:
        return None
    newest = judged[-1]
    accepted = newest.status.verdict in {"Blessed", "Bootstrapped"}
    accepted = accepted and not newest.status.rollout.abort_reason and not newest.status.retired
    message = newest.status.rollout.abort_reason or newest.status.message
    reason = newest.status.retired or newest.status.verdict
    name = newest.metadata.name
    return ("LastCandidateAccepted", "True" if accepted else "False", reason, f"{name}: {message}")


def _in_sync(sync: Waiting | None) -> Wanted:
    if sync is None:
        return ("TargetsInSync", "True", "InSync", "targets carry what we applied")
    return ("TargetsInSync", "False", sync.reason, sync.message)
