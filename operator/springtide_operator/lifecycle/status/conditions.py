"""Conditions of an update: what is true of spec, targets, data and the newest candidate.

`Ready` is about the spec and its references, not about the next generation. A transition time stays
while the status stays.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from springtide_api.generation import status_values
from springtide_api.names import canary_name
from springtide_api.update.status import Condition
from springtide_operator.lifecycle.bake.report import bake_hold
from springtide_operator.lifecycle.canary.gateway import shifted
from springtide_operator.lifecycle.checks.prometheus_host import host_not_allowed
from springtide_operator.lifecycle.checks.spec_validation import invalid_spec
from springtide_operator.lifecycle.evaluation.freeze import frozen
from springtide_operator.lifecycle.evaluation.holds import hold
from springtide_operator.lifecycle.evaluation.modes import REASONS, writes_targets
from springtide_operator.lifecycle.jobs.queueing import kueue_problem
from springtide_operator.lifecycle.jobs.suspension import resumes_once
from springtide_operator.lifecycle.rollout.availability import available, new_pods
from springtide_operator.lifecycle.rollout.live_message import live_message
from springtide_operator.lifecycle.rollout.pin import pin_not_possible
from springtide_operator.lifecycle.rollout.target_facts import deleted_generation
from springtide_operator.lifecycle.rollout.target_problems import conflict, targets_problem
from springtide_operator.lifecycle.state.generations import rollback_outcome, rolling
from springtide_operator.lifecycle.state.paused_targets import paused_at_rest
from springtide_operator.lifecycle.state.refusals import refusal_waiting, reported_refusal
from springtide_operator.lifecycle.steps.holds import live_deleted
from springtide_operator.lifecycle.steps.metrics import canary_hold
from springtide_operator.lifecycle.warm.report import standby_hold

if TYPE_CHECKING:
    from datetime import datetime

    from springtide_api.objects import ModelGeneration
    from springtide_api.update.status import LastProbe, UpdateStatus
    from springtide_operator.lifecycle.state.observation import Observation
    from springtide_operator.lifecycle.state.observed import ObservedTarget
    from springtide_operator.lifecycle.state.plan import Step, Waiting

Tri = Literal["True", "False", "Unknown"]

NO_LIVE = "NoLiveGeneration"

NEVER_PROMOTED = "nothing was promoted yet"

NO_TARGETS = "NoTargets"

Wanted = tuple[str, Tri, str, str]
"""Type, status, reason, message."""


def conditions(seen: Observation, step: Step, now: datetime) -> list[Condition]:
    """The conditions after a step: they report what blocked it."""
    refusal = reported_refusal(seen, step.actions, now)
    refused = refusal_waiting(refusal) if refusal else None
    written, waiting = writes_targets(seen), step.waiting
    problem, rest = (targets_problem(seen), paused_at_rest(seen)) if written else (None, None)
    invalid, pinned = invalid_spec(seen.update.spec), pin_not_possible(seen)
    holds = (
        *(bake_hold(seen, now), canary_hold(seen), hold(seen), host_not_allowed(seen)),
        standby_hold(seen),
    )
    lost, unqueued = live_deleted(seen), kueue_problem(seen)
    causes = (invalid, pinned, lost, unqueued, refused, problem, waiting, *holds, rest)
    found = [each for each in causes if each]
    stop = next((each for each in found if each.blocked), None)
    action_required = stop or next((each for each in found if each.held), None)
    wanted = [
        _ready(seen, stop),
        _serving(seen),
        _data_ready(seen),
        _accepted(seen),
        _in_sync(seen, next((each for each in found if each.targets), None))
        if written
        else _not_written(seen),
        _action_required(action_required),
    ]
    if stop:
        wanted.append(("Stalled", "True", stop.reason, stop.message))
    status, generation = seen.update.status, seen.update.metadata.generation
    return [condition(status, each, generation, now) for each in wanted if each]


def condition(old: UpdateStatus, wanted: Wanted, generation: int, now: datetime) -> Condition:
    """A condition; its transition time stays while its status stays.

    Args:
        old: the status as it is.
        wanted: type, status, reason and message.
        generation: metadata.generation that it is about.
        now: the moment.
    """
    kind, status, reason, message = wanted
    before = next((c for c in old.conditions if c.type == kind), None)
    return Condition(
        type=kind,
        status=status,
        reason=reason,
        message=message[:1024],
        observed_generation=generation,
        last_transition_time=(
            before.last_transition_time if before and before.status == status else now
        ),
    )


def _action_required(action_required: Waiting | None) -> Wanted:
    if action_required is None:
        return ("ActionRequired", "False", "NoActionRequired", "")
    return ("ActionRequired", "True", action_required.reason, action_required.message)


def _ready(seen: Observation, stop: Waiting | None) -> Wanted:
    if stop:
        return ("Ready", "False", stop.reason, stop.message)
    if seen.lineage.live is None:
        why = _why_none_is_live(seen)
        reason = "AwaitingFirstGeneration" if why == NEVER_PROMOTED else NO_LIVE
        return ("Ready", "True", reason, f"the spec is valid; {why}")
    return (
        "Ready",
        "True",
        "Accepted",
        "the spec is valid and the objects that it refers to exist",
    )


def _serving(seen: Observation) -> Wanted:
    current, live = seen.lineage.served, seen.lineage.live
    if current is None or live is None or current.status.artifact is None:
        mode = seen.update.spec.mode
        why = "" if mode == "Enforce" else f"; spec.mode is {mode}"
        return ("Serving", "False", NO_LIVE, f"{_why_none_is_live(seen)}{why}")
    if not seen.targets:
        message = f"rollout.targets is [], so nothing serves: {live_message(live, ())}"
        return ("Serving", "Unknown", NO_TARGETS, message)
    found = [each for each in (_limited(seen, current, target) for target in seen.targets) if each]
    if found:
        return next((each for each in found if each[1] == "False"), found[0])
    message = f"every target serves {current.metadata.name}"
    if seen.lineage.pinned is None:
        return ("Serving", "True", "Available", message)
    live_too = "the live generation" if current is live else f"live is {live.metadata.name}"
    return ("Serving", "True", "Pinned", f"{message}, which is pinned; {live_too}")


def _why_none_is_live(seen: Observation) -> str:
    """Why there is no live generation, and what to do where a user deleted its record."""
    promoted = [g for g in seen.generations if g.status.rollout.promoted_at]
    if back := next((g for g in promoted if rolling(g)), None):
        name = back.metadata.name
        return f"{name} is rolled back, and no earlier generation is left; the targets keep it"
    gone = [target for target in seen.targets if deleted_generation(seen, target)]
    if gone and (found := conflict(seen, gone)):
        return found.message
    if promoted or seen.update.status.counters.promoted:
        return (
            "no generation that was promoted is left; restore it from a backup, or wait for a run"
        )
    return NEVER_PROMOTED


def _limited(seen: Observation, current: ModelGeneration, target: ObservedTarget) -> Wanted | None:
    """The condition Serving by one target; None where all its pods serve `current`."""
    name, rolls, on_live = target.target.target_ref.name, seen.lineage.rolls, _runs(current, target)
    if rolls and shifted(rolls.status.rollout, name):
        message = f"Deployment {canary_name(name)} serves the requests of Deployment {name}; the "
        message += f"rollback of {rolls.metadata.name} is not finished"
        return ("Serving", "True", "RollingBack", message)
    if not (on_live or (rolls and _runs(rolls, target))):
        message = f"Deployment {name} does not run {current.metadata.name}"
        return ("Serving", "False", "GenerationMismatch", message)
    if not target.available:
        return ("Serving", "False", "NotAvailable", f"Deployment {name} has no available pod")
    back = bool(rolls and rolls.status.rollout.rollback_reason)
    if rolls and (not on_live or (back and not available(target))):
        # No numbers: each change of them would be one more write of the status.
        what, reason = ("rollback", "RollingBack") if back else ("rollout", "RollingOut")
        message = f"Deployment {name} has available pods; the {what} of {rolls.metadata.name} "
        return ("Serving", "True", reason, f"{message}is not finished")
    if not available(target):
        message = f"Deployment {name}: {target.available} of {target.desired} pods available, "
        message += f"{new_pods(target)} of them of its newest template"
        return ("Serving", "True", "PartiallyAvailable", message)
    return None


def _runs(generation: ModelGeneration, target: ObservedTarget) -> bool:
    artifact = generation.status.artifact
    return artifact is not None and target.digest == artifact.served_digest


def _data_ready(seen: Observation) -> Wanted:
    probe = seen.update.status.last_probe
    if probe is None:
        return ("DataReady", "Unknown", "NotProbed", "no probe has finished yet")
    if probe.failures:
        return ("DataReady", "False", probe.reason, probe.message)
    ready = probe.reason == "WindowReady"
    return ("DataReady", "True" if ready else "False", probe.reason, _acceptable(seen, probe))


def _acceptable(seen: Observation, probe: LastProbe) -> str:
    """The message of the last probe, without a request that would be refused now."""
    message, request, _ = probe.message.partition("; springtide.dev/request=")
    if not request:
        return message
    if seen.lineage.candidate or seen.lineage.unknown:
        return f"{message}; another run is in progress"
    if frozen(seen):
        return f"{message}; the update is frozen"
    if condition := resumes_once(seen):
        return f"{probe.message} once {condition}"
    return probe.message


def _accepted(seen: Observation) -> Wanted | None:
    trained = [g for g in seen.generations if g.spec.origin == "Trained"]
    decided = [g for g in trained if g.status.verdict != "Pending" or _ended_by_mode(g)]
    if not decided:
        return None
    status, name = decided[-1].status, decided[-1].metadata.name
    if status.rollout.rollback_reason:
        reason = rollback_outcome(decided[-1]) if status.rollout.rolled_back_at else "RollingBack"
        return ("LastRunSucceeded", "False", reason, f"{name}: {status.rollout.rollback_reason}")
    if status.verdict not in status_values.VERDICTS:
        message = f"{name} has verdict {status.verdict!r}, which this version of the operator does "
        return ("LastRunSucceeded", "Unknown", "UnknownStatusValue", f"{message}not know")
    accepted = status.verdict == "Accepted" and not status.retired_reason
    accepted |= _ended_by_mode(decided[-1])
    reason = status.retired_reason or status.verdict
    truth: Tri = "True" if accepted else "False"
    return ("LastRunSucceeded", truth, reason, f"{name}: {status.message}")


def _ended_by_mode(generation: ModelGeneration) -> bool:
    """Whether a run did all that spec.mode asks for, and ended without a rollout for this alone."""
    status = generation.status
    return status.retired_reason in REASONS.values() and status.verdict in {"Accepted", "Pending"}


def _not_written(seen: Observation) -> Wanted:
    """That spec.mode writes no target, and what would stand in the way of a rollout."""
    mode, problem = seen.update.spec.mode, targets_problem(seen)
    message = f"spec.mode is {mode}: no target is changed"
    if problem:
        message = f"{message}; with Enforce: {problem.message}"
    return ("TargetsInSync", "Unknown", REASONS[mode], message)


def _in_sync(seen: Observation, sync: Waiting | None) -> Wanted:
    if not seen.targets:
        message = "rollout.targets is []: nothing is applied, and a promotion changes no Deployment"
        return ("TargetsInSync", "True", NO_TARGETS, message)
    if sync is None:
        return ("TargetsInSync", "True", "InSync", "every target runs what was applied")
    return ("TargetsInSync", "False", sync.reason, sync.message)
