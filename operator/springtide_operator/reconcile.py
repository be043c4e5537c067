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

from springtide_api.update_status import UpdateStatus
from springtide_operator.cluster import errors
from springtide_operator.cluster.act import Refused
from springtide_operator.cluster.kinds import UPDATE
from springtide_operator.lifecycle.decide import decide
from springtide_operator.lifecycle.observation import Refusal, Unreadable
from springtide_operator.lifecycle.plan import CreateGeneration, StartJob, subject
from springtide_operator.wakeups import Again, Key

if TYPE_CHECKING:
    from collections.abc import Iterable
    from datetime import datetime

    from springtide_api.objects import Meta
    from springtide_operator.cluster.act import Hands
    from springtide_operator.cluster.clock import ServerClock
    from springtide_operator.cluster.observe import Sight
    from springtide_operator.lifecycle.observation import JobSeen
    from springtide_operator.lifecycle.plan import Action, Announcement, Plan
    from springtide_operator.metrics import Metrics

PROGRESS_SECONDS = 10.0
"""A status in which only the progress differs is written at most this often."""

STATUS_SECONDS = 1.0
"""And any other at most this often, unless it holds new facts: a storm of edits stays outside."""

TURN_SECONDS = 1.0
"""Updates whose turn has come to start a probe start it within so long."""

PODLESS_SECONDS = 10.0
"""Why a Job gets no pod is told by its events alone, and nobody watches those."""

TERMINATING_SECONDS = 300.0

REFUSED_SECONDS = (30.0, 40.0)
"""Bounds of the time after which a refused write is tried again, whatever wakes its update."""

log = structlog.get_logger(__name__)


@dataclass
class _Refusals:
    """What was refused of one update; a changed spec may change what is written."""

    spec_generation: int
    by_subject: dict[str, Refusal] = field(default_factory=dict)


@dataclass
class Reconciler:
    """Looks at updates, one look at a time."""

    sight: Sight
    hands: Hands
    clock: ServerClock
    metrics: Metrics
    resync_seconds: float = 600.0
    _written: dict[Key, float] = field(default_factory=dict)
    _refusals: dict[Key, _Refusals] = field(default_factory=dict)

    async def __call__(self, key: Key) -> Again:
        """Look at one update; never raises but for cancellation."""
        context = structlog.contextvars.bound_contextvars(namespace=key.namespace, update=key.name)
        with context, self.metrics.reconcile_seconds.time():
            again = await self._guarded(key)
        # Whatever frees the place of a probe wakes its update, and so comes by here.
        others = {
            Key(*place): random.uniform(0, TURN_SECONDS) for place in self.sight.probes.next()
        }
        if again.failed or again.after is None:
            return replace(again, others=others)
        resync = self.resync_seconds * random.uniform(0.8, 1.2)
        return Again(min(again.after, resync), others=others)

    async def _guarded(self, key: Key) -> Again:
        try:
            return await self._look(key)
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
            self.sight.probes.wait(*key, waits=False)
            self._written.pop(key, None)
            self._refusals.pop(key, None)
            self.metrics.forget(*key)
            self.sight.terminating.discard(key.namespace)
            return Again(None)
        now = self.clock.now()
        if not isinstance(seen, Unreadable):
            seen = replace(seen, refusals=self._known_refusals(key, seen.update.metadata))
        plan = decide(seen, now)
        self.sight.probes.wait(*key, waits=plan.waits_for_turn)
        metadata = seen.metadata if isinstance(seen, Unreadable) else seen.update.metadata
        if not await self._carry_out(key, metadata, plan):
            return Again(0.0)
        self._drop_unwanted(key, plan, now)
        wait = 0.0
        if plan.facts or not plan.again:
            wait = await self._tell(key, metadata, plan)
        if plan.again:
            return Again(0.0)
        later = plan.wake_after.total_seconds() if plan.wake_after else self.resync_seconds
        if not isinstance(seen, Unreadable) and any(_podless(job) for job in seen.jobs):
            later = min(later, PODLESS_SECONDS)
        return Again(min(later, wait or later))

    def _known_refusals(self, key: Key, update: Meta) -> tuple[Refusal, ...]:
        known = self._refusals.get(key)
        if known is not None and known.spec_generation != update.generation:
            self._refusals.pop(key)
            return ()
        return tuple(known.by_subject.values()) if known else ()

    def _drop_unwanted(self, key: Key, plan: Plan, now: datetime) -> None:
        """Forget refusals that are due: their writes were done now, or are not wanted any more."""
        if known := self._refusals.get(key):
            waiting = {each.subject: each for each in known.by_subject.values() if each.waits(now)}
            done = set(map(subject, plan.actions))
            known.by_subject = {name: r for name, r in waiting.items() if name not in done}
            if not known.by_subject:
                self._refusals.pop(key)

    async def _carry_out(self, key: Key, update: Meta, plan: Plan) -> bool:
        """Write what the plan says, up to the first write that is refused; whether none was."""
        probes = sum(isinstance(a, StartJob) and a.run.stage == "probe" for a in plan.actions)
        self.sight.probes.start(key.namespace, probes)
        try:
            # Said before and after: what is about to be written would not be said again after a
            # crash, and what is about to be made cannot be spoken of before. Events are said once.
            await self._say(update, plan.events)
            for action in plan.actions:
                log.info("acting", action=type(action).__name__, detail=_brief(action))
                try:
                    await self._do(update, action)
                except Refused as error:
                    self._remember(key, update, action, error)
                    return False
            await self._say(update, plan.events)
            return True
        finally:
            self.sight.probes.start(key.namespace, -probes)

    async def _do(self, update: Meta, action: Action) -> None:
        """Carry out an action, unless it is known to be refused."""
        makes = isinstance(action, StartJob | CreateGeneration)
        if makes and update.namespace in self.sight.terminating:
            raise errors.Terminating(f"namespace {update.namespace} takes nothing new")
        await self.hands.do(update, action)

    def _remember(self, key: Key, update: Meta, action: Action, error: Refused) -> None:
        """Keep a refusal for the next decision: what refuses a write does not go so soon."""
        log.warning("refused", action=type(action).__name__, reason=error.reason, error=str(error))
        self.metrics.refused_writes.labels(error.reason).inc()
        pause = timedelta(seconds=random.uniform(*REFUSED_SECONDS))
        name = subject(action)
        made = Refusal(name, error.reason, error.message, self.clock.now() + pause)
        known = self._refusals.setdefault(key, _Refusals(update.generation))
        known.by_subject[name] = made

    async def _say(self, update: Meta, events: Iterable[Announcement]) -> None:
        """Post Events; where none may be posted, work goes on without them."""
        for said in events:
            if update.namespace in self.sight.terminating:
                return
            try:
                await self.hands.say(update, said)
            except errors.Terminating:
                self.sight.terminating.add(update.namespace)
            except errors.Forbidden as error:
                log.warning("event not posted", reason=said.reason, error=str(error))

    async def _tell(self, key: Key, update: Meta, plan: Plan) -> float:
        """Write the status; return the seconds until it may be, where it is too early."""
        self._measure(key, plan)
        status = plan.status.plain()
        differs = self.hands.statuses.differs(UPDATE, key, status, UpdateStatus)
        if not differs:
            return 0.0
        pause = PROGRESS_SECONDS if differs == {"progress"} else STATUS_SECONDS
        left = self._written.get(key, float("-inf")) + pause - time.monotonic()
        if left > 0 and not plan.facts:
            return left
        await self._say(update, plan.announcements)
        try:
            await self.hands.statuses.write(UPDATE, key, status, UpdateStatus)
        except errors.Conflict as error:
            error.retry_after = STATUS_SECONDS  # whoever writes so often wakes us as often
            raise
        self._written[key] = time.monotonic()
        return 0.0

    def _end(self, key: Key, error: errors.Terminating) -> Again:
        """Nothing can be made in a namespace that is being deleted: look once more, then rest."""
        known = key.namespace in self.sight.terminating
        self.sight.terminating.add(key.namespace)
        log.info("namespace is being deleted", error=str(error))
        return Again(TERMINATING_SECONDS if known else 0.0)

    def _measure(self, key: Key, plan: Plan) -> None:
        status = plan.status
        if status.live is not None:
            self.metrics.live_generation.labels(*key).set(status.live.number)
        if through := status.freshness.served_data_through:
            self.metrics.served_data.labels(*key).set(through.timestamp())
        true = {each.type for each in status.conditions if each.status == "True"}
        self.metrics.stalled.labels(*key).set(1 if "Stalled" in true else 0)
        self.metrics.action_required.labels(*key).set(1 if "ActionRequired" in true else 0)
        self.metrics.rollbacks.labels(*key).set(status.counters.rolled_back)


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
