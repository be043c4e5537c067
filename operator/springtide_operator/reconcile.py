"""One reconcile of one update: observe, decide, act, and when to reconcile again.

Three kinds of failure are kept apart: the environment (back-off), refused writes (part of the next
observation, so that `decide` reports them), and bugs (traceback, metric, back-off). Waiting is none
of them: it is data of the plan.
"""

from __future__ import annotations

import random
import time
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import TYPE_CHECKING

import structlog

from springtide_api.update.status import UpdateStatus
from springtide_operator.cluster.api import errors
from springtide_operator.cluster.api.kinds import UPDATE
from springtide_operator.cluster.writing.refused import Refused
from springtide_operator.lifecycle.decide import decide
from springtide_operator.lifecycle.state.observation import InvalidUpdate
from springtide_operator.lifecycle.state.observed import Refusal
from springtide_operator.lifecycle.state.plan import CreateGeneration, StartJob, subject
from springtide_operator.work_queue import NamespacedName, ReconcileResult

if TYPE_CHECKING:
    from collections.abc import Iterable
    from datetime import datetime

    from springtide_api.objects import Meta
    from springtide_operator.cluster.api.clock import ServerClock
    from springtide_operator.cluster.reading.observer import Observer
    from springtide_operator.cluster.writing.actuator import Actuator
    from springtide_operator.lifecycle.state.observed import ObservedJob
    from springtide_operator.lifecycle.state.plan import Action, Event, Plan
    from springtide_operator.metrics import Metrics
    from springtide_operator.ports.outbox import Outbox
    from springtide_operator.ports.sampling import Sampling

PROGRESS_SECONDS = 10.0
"""A status in which only the progress differs is written at most this often."""

STATUS_SECONDS = 1.0
"""Any other status at most this often, unless it has new facts: a storm of edits is damped."""

TURN_SECONDS = 1.0
"""Updates whose turn has come start their probe within this time."""

NO_POD_SECONDS = 10.0
"""Only the events of a Job report why it has no pod, and events are not watched."""

TERMINATING_SECONDS = 300.0

REFUSED_SECONDS = (30.0, 40.0)
"""Bounds of the time after which a refused write is retried, whatever wakes its update."""

log = structlog.get_logger(__name__)


@dataclass
class _Refusals:
    """What was refused of one update; a changed spec may change what is written."""

    spec_generation: int
    by_subject: dict[str, Refusal] = field(default_factory=dict)


@dataclass
class Reconciler:
    """Reconciles updates."""

    observer: Observer
    actuator: Actuator
    clock: ServerClock
    metrics: Metrics
    sampling: Sampling
    resync_seconds: float = 600.0
    outbox: Outbox | None = None
    """None: notifications are sent nowhere."""
    _written: dict[NamespacedName, float] = field(default_factory=dict)
    _refusals: dict[NamespacedName, _Refusals] = field(default_factory=dict)

    async def __call__(self, key: NamespacedName) -> ReconcileResult:
        """Reconcile one update; raises only on cancellation."""
        context = structlog.contextvars.bound_contextvars(namespace=key.namespace, update=key.name)
        with context, self.metrics.reconcile_seconds.time():
            result = await self._reconcile_guarded(key)
        # Every event that frees a probe slot wakes its update, and so comes through here.
        other_keys = {
            NamespacedName(*place): random.uniform(0, TURN_SECONDS)
            for place in self.observer.probe_slots.next()
        }
        if result.failed or result.requeue_after is None:
            return replace(result, other_keys=other_keys)
        resync = self.resync_seconds * random.uniform(0.8, 1.2)
        return ReconcileResult(min(result.requeue_after, resync), other_keys=other_keys)

    async def _reconcile_guarded(self, key: NamespacedName) -> ReconcileResult:
        try:
            return await self._reconcile(key)
        except errors.Terminating as error:
            return self._namespace_terminating(key, error)
        except errors.ApiError as error:
            log.warning("retrying later", error=str(error))
            self.metrics.reconcile_failures.labels("retry").inc()
            return ReconcileResult(error.retry_after, failed=True, max_backoff=error.max_backoff)
        except Exception:
            log.exception("unexpected error; retrying later")
            self.metrics.reconcile_failures.labels("bug").inc()
            self.observer.probe_slots.wait(*key, waits=False)  # or others would wait for its turn
            return ReconcileResult(None, failed=True)

    async def _reconcile(self, key: NamespacedName) -> ReconcileResult:
        seen = await self.observer.observe(*key)
        if seen is None:
            self.observer.probe_slots.wait(*key, waits=False)
            self._written.pop(key, None)
            self._refusals.pop(key, None)
            self.metrics.updates.remove(*key)
            self.sampling.remove(*key)
            if self.outbox is not None:
                self.outbox.forget(key)
            self.observer.terminating.pop(key.namespace, None)
            return ReconcileResult(None)
        now = self.clock.now()
        if not isinstance(seen, InvalidUpdate):
            seen = replace(seen, refusals=self._current_refusals(key, seen.update.metadata))
        plan = decide(seen, now)
        self.observer.probe_slots.wait(*key, waits=plan.waits_for_turn)
        self.sampling.start(*key, plan.queries)
        metadata = seen.metadata if isinstance(seen, InvalidUpdate) else seen.update.metadata
        if not await self._execute_plan(key, metadata, plan):
            return ReconcileResult(0.0)
        self._drop_resolved_refusals(key, plan, now)
        wait = None
        if plan.facts or not plan.requeue:
            wait = await self._write_status(key, metadata, plan)
        if plan.requeue:
            return ReconcileResult(0.0)
        later = plan.wake_after.total_seconds() if plan.wake_after else self.resync_seconds
        if not isinstance(seen, InvalidUpdate) and any(_has_no_pod(job) for job in seen.jobs):
            later = min(later, NO_POD_SECONDS)
        return ReconcileResult(later if wait is None else min(later, wait))

    def _current_refusals(self, key: NamespacedName, update: Meta) -> tuple[Refusal, ...]:
        known = self._refusals.get(key)
        if known is not None and known.spec_generation != update.generation:
            self._refusals.pop(key)
            return ()
        return tuple(known.by_subject.values()) if known else ()

    def _drop_resolved_refusals(self, key: NamespacedName, plan: Plan, now: datetime) -> None:
        """Drop refusals that are due: their writes succeeded now, or are no longer needed."""
        if known := self._refusals.get(key):
            waiting = {
                each.subject: each for each in known.by_subject.values() if each.is_pending(now)
            }
            done = set(map(subject, plan.actions))
            known.by_subject = {name: r for name, r in waiting.items() if name not in done}
            if not known.by_subject:
                self._refusals.pop(key)

    async def _execute_plan(self, key: NamespacedName, update: Meta, plan: Plan) -> bool:
        """Execute the plan up to the first refused write; return whether none was refused."""
        probes = sum(isinstance(a, StartJob) and a.run.stage == "probe" for a in plan.actions)
        self.observer.probe_slots.start(key.namespace, probes)
        try:
            # Posted before and after: an Event of a write would be lost by a crash after the write,
            # and one about an object that is created now has to wait. Each Event is posted once.
            await self._post_events(update, plan.events)
            for action in plan.actions:
                log.info("acting", action=type(action).__name__, detail=_describe(action))
                try:
                    await self._execute(update, action)
                except Refused as error:
                    self._record_refusal(key, update, action, error)
                    return False
            await self._post_events(update, plan.events)
            return True
        finally:
            self.observer.probe_slots.start(key.namespace, -probes)

    async def _execute(self, update: Meta, action: Action) -> None:
        """Carry out an action, unless it is known to be refused."""
        makes = isinstance(action, StartJob | CreateGeneration)
        if makes and update.namespace in self.observer.terminating:
            raise errors.Terminating(f"namespace {update.namespace} accepts nothing new")
        await self.actuator.execute(update, action)

    def _record_refusal(
        self, key: NamespacedName, update: Meta, action: Action, error: Refused
    ) -> None:
        """Keep a refusal for the next decision: its cause does not end soon."""
        log.warning("refused", action=type(action).__name__, reason=error.reason, error=str(error))
        self.metrics.refused_writes.labels(error.reason).inc()
        pause = timedelta(seconds=random.uniform(*REFUSED_SECONDS))
        name = subject(action)
        known = self._refusals.setdefault(key, _Refusals(update.generation))
        before, now = known.by_subject.get(name), self.clock.now()
        since = before.since if before else now
        made = Refusal(name, error.reason, error.message, now + pause, since)
        known.by_subject[name] = made

    async def _post_events(self, update: Meta, events: Iterable[Event]) -> None:
        """Post Events; where that is refused, continue without them."""
        for event in events:
            if update.namespace in self.observer.terminating:
                return
            try:
                await self.actuator.post_event(update, event)
            except errors.Terminating:
                self.observer.terminating.setdefault(update.namespace, self.clock.now())
            except (errors.Forbidden, errors.WebhookFailed) as error:
                log.warning("event not posted", reason=event.reason, error=str(error))

    async def _write_status(self, key: NamespacedName, update: Meta, plan: Plan) -> float | None:
        """Write the status; return in how many seconds to reconcile again because of it.

        It may be too early, or another client has changed the update meanwhile.
        """
        self.metrics.updates.show(*key, plan=plan)
        status = plan.status.plain()
        differs = self.actuator.status_writer.differs(UPDATE, key, status, UpdateStatus)
        if not differs:
            self._notify(key, plan)
            return None
        pause = PROGRESS_SECONDS if differs == {"progress"} else STATUS_SECONDS
        left = self._written.get(key, float("-inf")) + pause - time.monotonic()
        if left > 0 and not plan.facts:
            return left
        await self._post_events(update, plan.status_events)
        try:
            changed = await self.actuator.status_writer.write(UPDATE, key, status, UpdateStatus)
        except errors.Conflict as error:
            error.retry_after = (
                STATUS_SECONDS  # a client that writes this often wakes the update as often
            )
            raise
        self._written[key] = time.monotonic()
        self._notify(key, plan)
        return 0.0 if changed else None

    def _notify(self, key: NamespacedName, plan: Plan) -> None:
        """Queue notifications, once all that they follow from is written; it takes no time."""
        if self.outbox is not None:
            self.outbox.offer(key, plan.notifications, self.clock.now())

    def _namespace_terminating(
        self, key: NamespacedName, error: errors.Terminating
    ) -> ReconcileResult:
        """In a namespace that is being deleted, reconcile once more, then wait."""
        known = key.namespace in self.observer.terminating
        self.observer.terminating.setdefault(key.namespace, self.clock.now())
        log.info("namespace is being deleted", error=str(error))
        return ReconcileResult(TERMINATING_SECONDS if known else 0.0)


def _has_no_pod(job: ObservedJob) -> bool:
    return not (job.pods or job.suspended or job.succeeded or job.failed)


def _describe(action: object) -> str:
    """Return the subject of an action for the log."""
    run = getattr(action, "run", None)
    target = getattr(action, "target", None)
    if run is not None:
        return str(run.job)
    name = getattr(action, "name", "")
    return str(target.target_ref.name if target is not None and not name else name)
