"""One look at one update: observe, decide, act, and when to look again.

Three kinds of failure are kept apart: the environment (back-off), a person must act (said in
status), and bugs (traceback, metric, back-off). Waiting is none of them: it is data of the plan.
"""

from __future__ import annotations

import random
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import structlog

from springtide_api.objects import InvalidObject
from springtide_api.update_status import Phase, UpdateStatus
from springtide_operator.cluster import errors
from springtide_operator.cluster.act import Blocked, JobRefused
from springtide_operator.cluster.kinds import UPDATE
from springtide_operator.lifecycle.decide import decide
from springtide_operator.lifecycle.plan import CreateGeneration, StartJob
from springtide_operator.refusal import refused
from springtide_operator.wakeups import Again, Key

if TYPE_CHECKING:
    from springtide_api.objects import Meta
    from springtide_operator.cluster.act import Hands
    from springtide_operator.cluster.clock import ServerClock
    from springtide_operator.cluster.observe import Sight
    from springtide_operator.lifecycle.observation import JobSeen, Observation
    from springtide_operator.lifecycle.plan import Action, Plan
    from springtide_operator.metrics import Metrics

PROGRESS_SECONDS = 10.0
"""A status in which only the progress differs is written at most this often."""

STATUS_SECONDS = 1.0
"""And any other at most this often, unless it holds new facts: a storm of edits stays outside."""

BLOCKED_SECONDS = 60.0

PODLESS_SECONDS = 10.0
"""Why a Job gets no pod is told by its events alone, and nobody watches those."""

TERMINATING_SECONDS = 300.0

REFUSED_SECONDS = (30.0, 40.0)
"""Bounds of the time after which a refused Job is tried again, whatever wakes its update."""

log = structlog.get_logger(__name__)


@dataclass(frozen=True)
class _Refused:
    """A Job that may not be made; an edited spec may make it another one."""

    job: str
    spec_generation: int
    error: JobRefused
    until: float


@dataclass
class Reconciler:
    """Looks at updates, one look at a time."""

    sight: Sight
    hands: Hands
    clock: ServerClock
    metrics: Metrics
    resync_seconds: float = 600.0
    _written: dict[Key, float] = field(default_factory=dict)
    _refused: dict[Key, _Refused] = field(default_factory=dict)

    async def __call__(self, key: Key) -> Again:
        """Look at one update; never raises but for cancellation."""
        context = structlog.contextvars.bound_contextvars(namespace=key.namespace, update=key.name)
        with context, self.metrics.reconcile_seconds.time():
            again = await self._guarded(key)
        if again.failed or again.after is None:
            return again
        resync = self.resync_seconds * random.uniform(0.8, 1.2)
        return Again(min(again.after, resync))

    async def _guarded(self, key: Key) -> Again:
        try:
            return await self._look(key)
        except InvalidObject as error:
            message = "; ".join(map(str, error.problems))
            return await self._refuse(key, "InvalidObject", f"{message}; change it")
        except JobRefused as error:
            again = await self._refuse(key, error.reason, error.message, phase="Queued")
            return again if again.failed else Again(self._refused[key].until - time.monotonic())
        except Blocked as error:
            return await self._refuse(key, error.reason, error.message)
        except errors.Terminating as error:
            return self._end(key, error)
        except errors.ApiError as error:
            log.warning("trying again later", error=str(error))
            self.metrics.reconcile_failures.labels("retry").inc()
            return Again(error.retry_after, failed=True, slowest=error.slowest)
        except Exception:
            log.exception("a bug; trying again later")
            self.metrics.reconcile_failures.labels("bug").inc()
            return Again(None, failed=True)

    async def _look(self, key: Key) -> Again:
        seen = await self.sight.observe(*key)
        if seen is None:
            self._written.pop(key, None)
            self._refused.pop(key, None)
            self.metrics.forget(*key)
            self.sight.terminating.discard(key.namespace)
            return Again(None)
        now = self.clock.now()
        plan = decide(seen, now)
        await self._carry_out(seen, plan)
        wait = 0.0
        if plan.facts or not plan.again:
            wait = await self._tell(key, seen, plan)
        if plan.again:
            return Again(0.0)
        later = plan.wake_after.total_seconds() if plan.wake_after else self.resync_seconds
        if any(_podless(job) for job in seen.jobs):
            later = min(later, PODLESS_SECONDS)
        return Again(min(later, wait or later))

    async def _carry_out(self, seen: Observation, plan: Plan) -> None:
        update = seen.update.metadata
        probes = sum(isinstance(a, StartJob) and a.run.stage == "probe" for a in plan.actions)
        self.sight.probes_starting += probes
        try:
            # Said before and after: what is about to be written would not be said again after a
            # crash, and what is about to be made cannot be spoken of before. Events are said once.
            await self._say(update, plan)
            for action in plan.actions:
                log.info("acting", action=type(action).__name__, detail=_brief(action))
                await self._do(update, action)
            await self._say(update, plan)
        finally:
            self.sight.probes_starting -= probes

    async def _do(self, update: Meta, action: Action) -> None:
        """Carry out an action, unless it is known to be refused."""
        makes = isinstance(action, StartJob | CreateGeneration)
        if makes and update.namespace in self.sight.terminating:
            raise errors.Terminating(f"namespace {update.namespace} takes nothing new")
        if isinstance(action, StartJob):
            await self._start(update, action)
        else:
            await self.hands.do(update, action)

    async def _start(self, update: Meta, start: StartJob) -> None:
        """Make a Job, unless it was refused only just: what refuses it does not go so soon."""
        key, job, now = Key(update.namespace, update.name), start.run.job, time.monotonic()
        last = self._refused.get(key)
        same = last and (last.job, last.spec_generation) == (job, update.generation)
        if last and same and now < last.until:
            raise last.error.with_traceback(None)
        try:
            await self.hands.do(update, start)
        except JobRefused as error:
            until = now + random.uniform(*REFUSED_SECONDS)
            self._refused[key] = _Refused(job, update.generation, error, until)
            raise

    async def _say(self, update: Meta, plan: Plan) -> None:
        """Post the plan's Events; where none may be posted, work goes on without them."""
        for said in plan.events:
            if update.namespace in self.sight.terminating:
                return
            try:
                await self.hands.say(update, said)
            except errors.Terminating:
                self.sight.terminating.add(update.namespace)
            except errors.Forbidden as error:
                log.warning("event not posted", reason=said.reason, error=str(error))

    async def _tell(self, key: Key, seen: Observation, plan: Plan) -> float:
        """Write the status; return the seconds until it may be, where it is too early."""
        self._measure(key, seen, plan)
        status = plan.status.plain()
        differs = self.hands.statuses.differs(UPDATE, key, status, UpdateStatus)
        if not differs:
            return 0.0
        pause = PROGRESS_SECONDS if differs == {"progress"} else STATUS_SECONDS
        left = self._written.get(key, float("-inf")) + pause - time.monotonic()
        if left > 0 and not plan.facts:
            return left
        try:
            await self.hands.statuses.write(UPDATE, key, status, UpdateStatus)
        except errors.Conflict as error:
            error.retry_after = STATUS_SECONDS  # whoever writes so often wakes us as often
            raise
        self._written[key] = time.monotonic()
        return 0.0

    async def _refuse(self, key: Key, reason: str, message: str, phase: Phase = "Invalid") -> Again:
        """Say in status what a person must do."""
        log.warning("blocked", reason=reason, message=message)
        raw = self.hands.cache.get(UPDATE, *key)
        if raw is not None:
            status = refused(raw, reason, message, self.clock.now(), phase=phase)
            try:
                await self.hands.statuses.write(UPDATE, key, status.plain(), UpdateStatus)
            except errors.ApiError as error:
                log.warning("status not written", error=str(error))
                return Again(error.retry_after, failed=True, slowest=error.slowest)
        return Again(BLOCKED_SECONDS)

    def _end(self, key: Key, error: errors.Terminating) -> Again:
        """Nothing can be made in a namespace that is being deleted: look once more, then rest."""
        known = key.namespace in self.sight.terminating
        self.sight.terminating.add(key.namespace)
        log.info("namespace is being deleted", error=str(error))
        return Again(TERMINATING_SECONDS if known else 0.0)

    def _measure(self, key: Key, seen: Observation, plan: Plan) -> None:
        status = plan.status
        if status.live is not None:
            self.metrics.live_generation.labels(*key).set(status.live.number)
        if through := status.freshness.served_data_through:
            self.metrics.served_data.labels(*key).set(through.timestamp())
        stalled = any(each.type == "Stalled" for each in status.conditions)
        self.metrics.stalled.labels(*key).set(1 if stalled else 0)


def _podless(job: JobSeen) -> bool:
    return not (job.pods or job.suspended or job.succeeded or job.failed)


def _brief(action: object) -> str:
    """Name what an action is about, in few words for the log."""
    run = getattr(action, "run", None)
    target = getattr(action, "target", None)
    if run is not None:
        return str(run.job)
    if target is not None:
        return str(target.target_ref.name)
    return str(getattr(action, "name", ""))
