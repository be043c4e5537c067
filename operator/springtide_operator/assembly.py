"""Assembles the operator: its tasks, the order of their start, and how they end.

It is independent of the process around it, so that tests run it, and stop it, in process.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from datetime import timedelta
from typing import TYPE_CHECKING

import structlog
from prometheus_client.aiohttp import make_aiohttp_handler

from springtide_operator.cluster.api import errors
from springtide_operator.cluster.api.claims import Claims
from springtide_operator.cluster.api.client import Client
from springtide_operator.cluster.api.clock import ServerClock
from springtide_operator.cluster.api.kinds import JOB, JOB_SET, UPDATE
from springtide_operator.cluster.api.lease import Lease
from springtide_operator.cluster.api.limits import Limits
from springtide_operator.cluster.reading.live_reader import LiveReader
from springtide_operator.cluster.reading.observer import Observer
from springtide_operator.cluster.reading.token_reviews import TokenReviews
from springtide_operator.cluster.watching.sessions import Sessions
from springtide_operator.cluster.watching.shard import Shard
from springtide_operator.cluster.watching.watches import auditors, by_label, new_cache, reflectors
from springtide_operator.cluster.writing.actuator import Actuator
from springtide_operator.cluster.writing.events import Events
from springtide_operator.cluster.writing.status_writer import StatusWriter
from springtide_operator.health import Health, LoopMonitor
from springtide_operator.lifecycle.state.observed import Defaults
from springtide_operator.metrics import Metrics
from springtide_operator.ports.notifier import Notifier
from springtide_operator.ports.outbox import Outbox
from springtide_operator.ports.progress import ProgressReports, ProgressServer, ReviewUnavailable
from springtide_operator.ports.prometheus import Prometheus
from springtide_operator.ports.sampling import Sampling
from springtide_operator.reconcile import Reconciler
from springtide_operator.work_queue import NamespacedName, RateLimitingQueue, WorkQueue

if TYPE_CHECKING:
    from collections.abc import Coroutine
    from typing import Any

    from springtide_operator.cluster.api.connection import Connection
    from springtide_operator.cluster.watching.auditor import Auditor
    from springtide_operator.cluster.watching.reflector import Reflector
    from springtide_operator.cluster.watching.watch_health import WatchHealth
    from springtide_operator.settings import Settings

DRAIN_SECONDS = 4.0
RELEASE_SECONDS = 2.0

MARGIN_SECONDS = 2.0
"""After the timeout of a write, until the API server has dropped it."""

TOGETHER_SECONDS = 0.05
"""Changes within this time, such as those of a Job and its pod, cause one reconcile."""

log = structlog.get_logger(__name__)


class _ProgressTokenReviews(TokenReviews):
    """Reviews tokens; a failed review does not make the token invalid."""

    async def review(self, token: str) -> tuple[str, str, str] | None:
        try:
            return await super().review(token)
        except errors.ApiError as error:
            raise ReviewUnavailable from error


class Operator:
    """One operator on one connection. `start` it, `stop` it; `ended` resolves when it failed."""

    def __init__(self, settings: Settings, connection: Connection) -> None:
        self.settings = settings
        self.metrics = Metrics()
        self.clock = ServerClock(time.monotonic)
        self.client = self._client(
            connection, settings.client_qps, settings.client_burst, in_flight=20
        )
        self.lease = Lease(
            self._client(connection, 10, 20, in_flight=2),
            settings.lease_namespace,
            settings.lease_name,
            settings.identity,
            seconds=settings.lease_seconds,
        )
        self.client.guard = self._guard
        self.cache = new_cache()
        self.shard = self._shard(connection) if settings.namespace_selector else None
        self.reports = ProgressReports()
        self.sampling = Sampling(Prometheus(settings.prometheus_hosts), self.clock.now, self._wake)
        self.loop_monitor = LoopMonitor()
        self.notifier = self._notifier()
        self._tasks: list[asyncio.Task[None]] = []
        self.ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.work_queue = WorkQueue(
            self._reconciler(), RateLimitingQueue(), workers=settings.workers
        )
        to_watch = self.client, self.cache, settings.namespace, self._wake
        self.reflectors, self.auditors = reflectors(*to_watch), auditors(*to_watch)
        by_plural = {each.kind.plural: each for each in self.auditors}
        self.sessions = Sessions(connection, self.clock, by_plural, self._counted)
        self.working = asyncio.Event()
        """Set once the Lease is held and every kind was listed."""
        token_reviews = _ProgressTokenReviews(
            self._client(connection, 5, 10, in_flight=4), self.cache
        )
        self.progress_server = ProgressServer(
            token_reviews, self.reports, self.clock.now, self._wake_of_job
        )
        self._register()

    async def start(self) -> None:
        """Wait for the Lease, fill the cache, then work."""
        self._spawn(self.loop_monitor.run(), "loop monitor")
        await self.lease.acquire()
        self._spawn(self.lease.keep(), "lease")
        if self.shard is not None:
            self._spawn(self.shard.reflector.run(), "Reflector namespaces")
            await self.shard.begin()
        for each in self._sources():
            self._spawn(each.run(), f"{type(each).__name__} {each.kind.plural}")
        while not self.cache.listed:
            await asyncio.sleep(0.02)
        if self.shard is not None:
            self._spawn(self.shard.run(), "shard")
            self._spawn(self.shard.audit(), "claims")
        if self.notifier is not None:
            self._spawn(self.notifier.run(), "notifier")
        self._spawn(self.work_queue.run(), "work queue")
        self.working.set()
        log.info("working", **self.scope())

    def begin(self) -> asyncio.Task[None]:
        """Start in a task of its own: the wait for the Lease may be long."""
        task = asyncio.create_task(self.start(), name="start")
        task.add_done_callback(self._started)
        return task

    async def discoverable(self) -> None:
        """Wait until discovery lists our kinds: it lags behind, and kopf asks it only once."""
        plurals = {each.kind.plural for each in self.auditors}
        while True:
            with contextlib.suppress(errors.ApiError):
                if plurals <= await self.client.served(UPDATE.group, UPDATE.version):
                    return
            await asyncio.sleep(1.0)

    async def stop(self) -> None:
        """Accept nothing new, let running work finish for a moment, and release the Lease."""
        for task in self._tasks:
            if task.get_name() != "lease":
                task.cancel()
        await self.work_queue.drain(DRAIN_SECONDS)
        await self._gather()
        await self.sampling.close()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(RELEASE_SECONDS):
                await self.lease.release()

    async def drop(self) -> None:
        """End at once, as a crash would: nothing more is written, the Lease stays."""
        await self._gather()
        await self.work_queue.drain(0)
        await self.sampling.close()

    def health(self) -> Health:
        """Return the health of the operator."""
        return Health(
            silence={kind: each.age() for kind, each in self._watch_healths().items()},
            unreachable={kind: each.last_error for kind, each in self._watch_healths().items()},
            depth=self.work_queue.depth(),
            oldest=self.work_queue.oldest(),
            lag=self.loop_monitor.lag(),
        )

    def scope(self) -> dict[str, Any]:
        """Return what is watched: a namespace, those of a selector, or all."""
        if self.shard is None:
            return {"watched": self.settings.namespace or "all"}
        return self.shard.scope()

    def metrics_handler(self) -> Any:
        """Return the web handler of /metrics."""
        return make_aiohttp_handler(registry=self.metrics.registry)

    def _guard(self, path: str) -> None:
        """Refuse a write without a fresh Lease, or in a namespace that is not served."""
        self.lease.guard()
        if self.shard is not None:
            self.shard.guard(path)

    def _serves(self, namespace: str) -> bool:
        return self.shard is None or self.shard.serves(namespace)

    def _shard(self, connection: Connection) -> Shard:
        claiming = self._client(
            connection, self.settings.client_qps, self.settings.client_burst, in_flight=10
        )
        claiming.guard = lambda path: self.lease.guard()
        return Shard(
            self.client,
            Claims(claiming, self.lease),
            self.settings.namespace_selector,
            self.cache,
            self._wake,
            drain_seconds=self.client.timeout + MARGIN_SECONDS,
        )

    def _client(self, connection: Connection, qps: float, burst: int, *, in_flight: int) -> Client:
        limits = Limits(per_second=qps, burst=burst, in_flight=in_flight, monotonic=time.monotonic)
        return Client(connection, self.clock, limits, count=self._counted)

    def _reconciler(self) -> Reconciler:
        settings = self.settings
        live_reader = LiveReader(self.client)
        defaults = Defaults(
            settings.trainer_image,
            settings.progress_url,
            max_probes=settings.max_probes,
            max_probes_per_namespace=settings.max_probes_per_namespace,
            prometheus_hosts=settings.prometheus_hosts,
            hub_endpoint=settings.hub_endpoint,
        )
        status_writer = StatusWriter(self.client, self.cache, self._count_status)
        actuator = Actuator(
            client=self.client,
            cache=self.cache,
            live_reader=live_reader,
            events=Events(self.client, "springtide"),
            status_writer=status_writer,
            progress_url=settings.progress_url,
            hub_endpoint=settings.hub_endpoint,
            pods=settings.job_pods,
        )
        observer = Observer(
            self.cache,
            live_reader,
            self.reports,
            self.sampling,
            defaults,
            terminating={},
            serves=self._serves,
        )
        return Reconciler(
            observer,
            actuator,
            self.clock,
            self.metrics,
            self.sampling,
            settings.resync_seconds,
            self.notifier.outbox if self.notifier is not None else None,
        )

    def _notifier(self) -> Notifier | None:
        """Return what sends notifications; None where the installation names no sink."""
        sink, metrics = self.settings.sink, self.metrics
        if not sink.url:
            return None
        outbox = Outbox(
            timedelta(seconds=sink.repeat_seconds),
            lambda reason: metrics.notifications.dropped.labels(reason).inc(),
        )
        notifier = Notifier(
            sink,
            outbox,
            count_delivered=metrics.notifications.delivered.inc,
            count_failed=lambda reason: metrics.notifications.failures.labels(reason).inc(),
        )
        text = "Notifications that wait to be delivered."
        metrics.gauge("springtide_notifications_waiting", text, notifier.waiting)
        return notifier

    def _register(self) -> None:
        gauge = self.metrics.gauge
        gauge("springtide_queue_depth", "Updates that wait for a worker.", self.work_queue.depth)
        gauge(
            "springtide_queue_oldest_seconds",
            "Seconds that the oldest update has waited.",
            self.work_queue.oldest,
        )
        gauge(
            "springtide_loop_lag_seconds",
            "Delay of the event loop in seconds.",
            self.loop_monitor.lag,
        )
        text = "1 while the API server refuses or does not answer reads of a kind or a Lease."
        gauge("springtide_degraded", text, self._degraded)
        self.metrics.watched(self.settings.namespace, self.settings.namespace_selector)
        if (shard := self.shard) is not None:
            text = "Namespaces that match the selector and are served."
            gauge("springtide_namespaces_served", text, lambda: shard.served)
            text = "Namespaces that match the selector and that another release holds."
            gauge("springtide_namespaces_held_elsewhere", text, lambda: len(shard.elsewhere))
        ages = {kind: each.age for kind, each in self._watch_healths().items()}
        text = "Seconds since the API server last answered about a kind."
        self.metrics.gauges("springtide_watch_age_seconds", text, ages)

    def _degraded(self) -> float:
        contacts = self._watch_healths().values()
        claims = self.shard is not None and self.shard.failing
        unread = any(each.last_error for each in contacts)
        return 1.0 if self.lease.last_error or unread or claims else 0.0

    def _sources(self) -> list[Auditor | Reflector]:
        return [*self.auditors, *self.reflectors]

    def _all_sources(self) -> list[Auditor | Reflector]:
        namespaces = [self.shard.reflector] if self.shard is not None else []
        return [*self._sources(), *namespaces]

    def _watch_healths(self) -> dict[str, WatchHealth]:
        return {each.kind.plural: each.watch_health for each in self._all_sources()}

    def _counted(self, verb: str, status: int) -> None:
        self.metrics.requests.labels(verb, str(status)).inc()

    def _count_status(self, kind: str) -> None:
        self.metrics.status_writes.labels(kind).inc()

    def _wake(self, namespace: str, name: str) -> None:
        self.work_queue.add(NamespacedName(namespace, name), after=TOGETHER_SECONDS)

    def _wake_of_job(self, namespace: str, job: str) -> None:
        raw = self.cache.get(JOB, namespace, job) or self.cache.get(JOB_SET, namespace, job)
        if raw is not None:
            self._wake(namespace, by_label(raw))

    def _spawn(self, work: Coroutine[Any, Any, None], name: str) -> None:
        task = asyncio.create_task(work, name=name)
        task.add_done_callback(self._task_ended)
        self._tasks.append(task)

    def _started(self, task: asyncio.Task[None]) -> None:
        """A start that fails ends the operator, too: nothing else would notice."""
        if not task.cancelled() and task.exception() is not None:
            self._task_ended(task)

    def _task_ended(self, task: asyncio.Task[None]) -> None:
        """A task that ends by itself ends the operator: the Lease is lost, or it has a bug."""
        if task.cancelled() or self.ended.done():
            return
        error = task.exception()
        log.error("part ended", part=task.get_name(), error=str(error), exc_info=error)
        self.ended.set_exception(error or RuntimeError(f"{task.get_name()} ended"))

    async def _gather(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._tasks.clear()
