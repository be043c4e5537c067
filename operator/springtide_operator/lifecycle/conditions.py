"""Conditions of an update: what is true of spec, targets, data and the newest candidate.

`Ready` speaks of the spec and its references, not of the next generation. A transition time stays
while the status stays.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from springtide_api.update_status import Condition
from springtide_operator.lifecycle.references import invalid
from springtide_operator.lifecycle.rollout import available, changed, new_pods
from springtide_operator.lifecycle.targets import in_sync

if TYPE_CHECKING:
    from datetime import datetime

    from springtide_operator.lifecycle.observation import Observation
    from springtide_operator.lifecycle.plan import Waiting

Tri = Literal["True", "False", "Unknown"]
Wanted = tuple[str, Tri, str, str]
"""Type, status, reason, message."""


def conditions(seen: Observation, waiting: Waiting | None, now: datetime) -> list[Condition]:
    """The conditions after a step that left `waiting`."""
    wrong = invalid(seen.update.spec)
    sync = in_sync(seen, now) or changed(seen)
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
    if seen.lineage.live is None:
        message = "the spec is in order; no generation was promoted yet"
        return ("Ready", "True", "AwaitingFirstGeneration", message)
    return ("Ready", "True", "Accepted", "the spec is in order and its references are there")


def _serving(seen: Observation) -> Wanted:
    current = seen.lineage.live
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
            message = f"Deployment {name}: {target.available} of {target.wanted} pods available, "
            message += f"{new_pods(target)} of them of its newest template"
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
