"""From facts to plan: an ordered list of stages; the first that returns a step counts.

Pure: the same observation and moment give the same plan. The order is the life of an update, the
latest stage first, so that what was started is finished before something new starts.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from springtide_operator.lifecycle.analysis.queries import due_queries, query_wake
from springtide_operator.lifecycle.analysis.recording import newest_samples
from springtide_operator.lifecycle.bake.report import bake_wake
from springtide_operator.lifecycle.bake.watch import watch_bake
from springtide_operator.lifecycle.canary.report import canary_weight
from springtide_operator.lifecycle.checks.preconditions import check_preconditions
from springtide_operator.lifecycle.checks.version_skew import (
    block_on_unknown_generation,
    block_on_unknown_rollout,
)
from springtide_operator.lifecycle.evaluation.approval import awaits_approval
from springtide_operator.lifecycle.evaluation.evaluate import evaluate
from springtide_operator.lifecycle.evaluation.modes import writes_targets
from springtide_operator.lifecycle.evaluation.rollback_hold import quarantine_rolled_back
from springtide_operator.lifecycle.maintenance.adoption import adopt
from springtide_operator.lifecycle.maintenance.deletion import ensure_finalizer, finalize
from springtide_operator.lifecycle.maintenance.finished_jobs import delete_finished_jobs
from springtide_operator.lifecycle.maintenance.history import prune_history
from springtide_operator.lifecycle.maintenance.retirement import retire
from springtide_operator.lifecycle.probing.probe_result import consume_probe
from springtide_operator.lifecycle.probing.trigger import start_due_probe
from springtide_operator.lifecycle.requests.handling import handle_request, record_request
from springtide_operator.lifecycle.rollout.pin import serve_pinned
from springtide_operator.lifecycle.rollout.restore import restore_targets
from springtide_operator.lifecycle.rollout.roll_out import roll_out
from springtide_operator.lifecycle.rollout.target_facts import next_reapply
from springtide_operator.lifecycle.state.observation import InvalidUpdate
from springtide_operator.lifecycle.state.plan import (
    RECHECK,
    TOO_MANY_PROBES,
    Plan,
    SetFinalizer,
    Step,
    WriteGeneration,
)
from springtide_operator.lifecycle.state.refusals import blocking_refusal, refusal_waiting
from springtide_operator.lifecycle.status.generation_status import describe_generations
from springtide_operator.lifecycle.status.notifications import notifications
from springtide_operator.lifecycle.status.status_events import status_events
from springtide_operator.lifecycle.status.summary import invalid_status, summarise
from springtide_operator.lifecycle.steps.metrics import watch_canary
from springtide_operator.lifecycle.steps.removal import remove_canaries
from springtide_operator.lifecycle.steps.stages import continue_canary
from springtide_operator.lifecycle.traffic.withdrawal import drain_wake
from springtide_operator.lifecycle.training.initial_import import import_initial
from springtide_operator.lifecycle.training.train import train
from springtide_operator.lifecycle.warm.hold_back import hold_back
from springtide_operator.lifecycle.warm.keep import keep_warm
from springtide_operator.lifecycle.warm.report import held_back, warm_pods, warm_pods_missing
from springtide_operator.lifecycle.warm.shift import shift_to_warm
from springtide_operator.lifecycle.warm.standby import standby
from springtide_operator.lifecycle.warm.wake import warm_wake

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime, timedelta

    from springtide_operator.lifecycle.state.observation import Observation

STAGES: tuple[Callable[[Observation, datetime], Step | None], ...] = (
    finalize,
    record_request,  # before anything writes history
    adopt,  # before any import or run: live is the newest promotion of any update of this name
    handle_request,
    shift_to_warm,  # a rollback of what bakes: before anything else is written
    retire,
    delete_finished_jobs,  # a result is in status by now
    remove_canaries,  # before targets go back, and before a promotion
    block_on_unknown_rollout,
    serve_pinned,  # without a finalizer: a deleted update leaves the targets on what is pinned
    ensure_finalizer,  # before the first apply of a rollout, and after its end
    watch_bake,  # before the next rollout, which waits for its end
    hold_back,  # before pods are replaced, which get no requests then
    keep_warm,
    watch_canary,
    continue_canary,
    roll_out,
    restore_targets,
    quarantine_rolled_back,  # before a run could be trained on these rows again
    evaluate,
    train,
    block_on_unknown_generation,
    check_preconditions,  # from here on something new would start
    import_initial,
    consume_probe,
    prune_history,
    start_due_probe,
)


SERVING = frozenset(
    {
        shift_to_warm,
        remove_canaries,
        block_on_unknown_rollout,
        serve_pinned,
        ensure_finalizer,
        watch_bake,
        hold_back,
        keep_warm,
        watch_canary,
        continue_canary,
        roll_out,
        restore_targets,
    }
)
"""Stages that do not wait for a refused deletion: they alone change what is served."""

FINISHING = SERVING | {
    retire,
    delete_finished_jobs,
    evaluate,
    train,
    block_on_unknown_generation,
    check_preconditions,
    consume_probe,
}
"""Stages that do not wait for the refused Job of a request: they finish what was started, and may
free the quota that refuses it."""

CONTINUE = {adopt: SERVING, delete_finished_jobs: SERVING, handle_request: FINISHING}
"""Stages whose refused writes do not block all later stages: which ones continue."""

OPTIONAL = frozenset(
    {
        shift_to_warm,
        remove_canaries,
        serve_pinned,
        hold_back,
        keep_warm,
        restore_targets,
        prune_history,
    }
)
"""Stages that no other waits for: a refused write of them does not block the next stage."""


def decide(seen: Observation | InvalidUpdate, now: datetime) -> Plan:
    """Decide what happens next to one update."""
    if isinstance(seen, InvalidUpdate):
        status = invalid_status(seen, now)
        events = status_events(seen.status, status)
        recorded = notifications(seen.metadata, (), status)
        return Plan((), (), status, RECHECK, status_events=events, notifications=recorded)
    seen = replace(seen, now=now)
    step = _next_step(seen, now)
    after = _applied(seen, step)
    under_way = after.lineage.candidate
    status = summarise(after, step, now)
    return Plan(
        actions=describe_generations(seen, after, step.actions, now),
        events=step.events,
        status=status,
        status_events=status_events(seen.update.status, status, after.generations),
        notifications=notifications(seen.update.metadata, after.generations, status),
        wake_after=_wake_after(after, step, now),
        queries=due_queries(after, now),
        samples=newest_samples(after),
        canary_weight=canary_weight(after),
        warm_pods=warm_pods(after),
        warm_pods_missing=warm_pods_missing(after),
        holdback_weight=held_back(after),
        facts=bool(step.facts),
        waits_for_turn=step.waiting is not None and step.waiting.reason == TOO_MANY_PROBES,
        awaits_approval=under_way is not None and awaits_approval(after, under_way),
    )


def _next_step(seen: Observation, now: datetime) -> Step:
    """The step of the first stage that has one; held, where one of its writes is refused."""
    refusal_held, open_now = None, frozenset(STAGES)
    for stage in STAGES:
        if stage not in open_now or (step := stage(seen, now)) is None:
            continue
        refusal = blocking_refusal(seen, step, now)
        if refusal is None:
            idle = refusal_held and stage not in SERVING and not (step.actions or step.facts)
            return (
                replace(step, waiting=refusal_waiting(refusal_held))
                if refusal_held and idle
                else step
            )
        if stage in CONTINUE:
            refusal_held, open_now = refusal_held or refusal, open_now & CONTINUE[stage]
        elif not _is_optional(seen, stage, step):
            return Step(waiting=refusal_waiting(refusal), wake_after=refusal.again_at - now)
    return Step(waiting=refusal_waiting(refusal_held)) if refusal_held else Step()


def _is_optional(
    seen: Observation, stage: Callable[[Observation, datetime], Step | None], step: Step
) -> bool:
    """Whether a refused write of a stage does not block the next one.

    Neither a rollback nor a bake with pods of the previous generation waits for the finalizer, and
    nothing waits for its removal: a bake would not be watched.
    """
    if stage is not ensure_finalizer:
        return stage in OPTIONAL
    under_way = seen.lineage.candidate
    back = under_way is not None and bool(under_way.status.rollout.rollback_reason)
    return back or standby(seen) is not None or SetFinalizer(present=False) in step.actions


def _wake_after(seen: Observation, step: Step, now: datetime) -> timedelta | None:
    """When to decide again: as the step, the bake or a query says, or when a write is due again."""
    due = [each.again_at - now for each in seen.refusals if each.is_pending(now)]
    wakes = (
        *(step.wake_after, bake_wake(seen, now), query_wake(seen, now), drain_wake(seen, now)),
        *(warm_wake(seen, now),),
    )
    own = [each for each in wakes if each is not None]
    if (again := next_reapply(seen)) and writes_targets(seen):
        own.append(again - now)
    return min([*due, *own], default=None)


def _applied(seen: Observation, step: Step) -> Observation:
    """The observation as it will be once the step's own status writes are done."""
    if not step.actions and not step.facts:
        return seen
    written = {a.name: a.status for a in step.actions if isinstance(a, WriteGeneration)}
    generations = tuple(
        g.model_copy(update={"status": written[g.metadata.name]})
        if g.metadata.name in written
        else g
        for g in seen.generations
    )
    status = seen.update.status.model_copy(update=dict(step.facts))
    update = seen.update.model_copy(update={"status": status})
    return replace(seen, update=update, generations=generations)
