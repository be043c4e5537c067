"""When the next probe is due: by schedule, by interval, or after a change of the spec."""

from __future__ import annotations

from datetime import UTC, timedelta
from typing import TYPE_CHECKING, NamedTuple
from zlib import crc32
from zoneinfo import ZoneInfo

from cronsim import CronSim

from springtide_api.names import probe_name
from springtide_api.schema import duration
from springtide_operator.lifecycle.state.generations import SPEC_CHANGED
from springtide_operator.lifecycle.state.recorded_times import is_ahead

if TYPE_CHECKING:
    from datetime import datetime

    from springtide_api.objects import ModelGeneration
    from springtide_operator.lifecycle.state.observation import Observation

DAY = timedelta(days=1)

MAX_INTERVAL = timedelta(hours=6)

MACROS = {
    "@hourly": "0 * * * *",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@weekly": "0 0 * * 0",
    "@monthly": "0 0 1 * *",
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
}


class Due(NamedTuple):
    """When the next probe is due, and why."""

    at: datetime
    trigger: str
    slot: int


def next_probe(seen: Observation) -> Due | None:
    """The next probe by schedule or interval; None where only requests start runs."""
    known = [
        due for due in (_by_schedule(seen), _by_interval(seen), _after_spec_change(seen)) if due
    ]
    return min(known, default=None)


def trained_generations(seen: Observation) -> list[ModelGeneration]:
    """Generations that were trained, not imported."""
    return [g for g in seen.generations if g.spec.origin == "Trained"]


def runs_of_a_day(seen: Observation, now: datetime) -> list[ModelGeneration]:
    """Runs within 24 hours, as trigger.maxRunsPerDay counts them, the oldest first."""
    found = [
        g
        for g in trained_generations(seen)
        if g.status.reason != SPEC_CHANGED
        and now - g.metadata.creation_timestamp < DAY
        and not is_ahead(g.metadata.creation_timestamp, now)
    ]
    return sorted(found, key=lambda g: g.metadata.creation_timestamp)


def _after_spec_change(seen: Observation) -> Due | None:
    """At once where the last run failed before it ran because the spec changed."""
    newest = next(reversed(trained_generations(seen)), None)
    if newest is None or newest.status.reason != SPEC_CHANGED:
        return None
    at, last, meta = newest.status.verdict_at, seen.update.status.last_probe, seen.update.metadata
    if at is None:
        return None
    slot = int(at.timestamp())
    if last and (last.finished_at > at or last.job == probe_name(meta.name, meta.uid, slot)):
        return None
    return Due(min(at, seen.now), newest.spec.trigger or "OnData", slot)


def _by_schedule(seen: Observation) -> Due | None:
    trigger = seen.update.spec.trigger
    if trigger.schedule is None:
        return None
    zone, last = ZoneInfo(trigger.time_zone or "UTC"), seen.update.status.last_probe
    since = min(last_probe_time(seen) or seen.update.metadata.creation_timestamp, seen.now)
    expression = MACROS.get(trigger.schedule, trigger.schedule)
    times = CronSim(expression, since.astimezone(zone))
    at = next(times).astimezone(UTC)
    if last and last.finished_at < at and last.job == _scheduled(seen, at):
        at = next(times).astimezone(UTC)  # the clock that says when it finished is behind
    return Due(at, "Schedule", int(at.timestamp()))


def _scheduled(seen: Observation, at: datetime) -> str:
    """Return the name of the probe of a time of the schedule."""
    return probe_name(seen.update.metadata.name, seen.update.metadata.uid, int(at.timestamp()))


def _by_interval(seen: Observation) -> Due | None:
    trigger, meta = seen.update.spec.trigger, seen.update.metadata
    if trigger.on_data is None:
        return None
    last = last_probe_time(seen)
    if last is None:
        return Due(meta.creation_timestamp, "OnData", int(meta.creation_timestamp.timestamp()))
    interval = duration(trigger.on_data.poll_interval)
    jitter = interval * probe_jitter(seen) / 10
    probe = seen.update.status.last_probe
    failures = probe.failures if probe else 0
    wait = min(interval * 2 ** min(failures, 10), max(MAX_INTERVAL, interval))
    at = last + wait + jitter
    return Due(seen.now if is_ahead(last, seen.now) else at, "OnData", int(at.timestamp()))


def probe_jitter(seen: Observation) -> float:
    """A number from 0 to 1 that differs between updates and never changes."""
    return (crc32(seen.update.metadata.uid.encode()) % 100) / 100


def last_probe_time(seen: Observation) -> datetime | None:
    """When the last probe finished."""
    probe = seen.update.status.last_probe
    return probe.finished_at if probe else None
