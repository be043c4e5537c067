"""When to look for new data: by schedule, by interval, by request; never during a run."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, NamedTuple
from zlib import crc32
from zoneinfo import ZoneInfo

from cronsim import CronSim

from springtide_api.contract import ProbeInput
from springtide_api.names import probe_name
from springtide_api.schema import duration
from springtide_operator.lifecycle.holds import hold
from springtide_operator.lifecycle.lineage import (
    SPEC_CHANGED,
    recipe,
    referenced_rows,
    trainer_image,
)
from springtide_operator.lifecycle.plan import StartJob, Step, Waiting
from springtide_operator.lifecycle.probe_turns import wait_for_turn
from springtide_operator.lifecycle.running import run_file

if TYPE_CHECKING:
    from springtide_api.objects import ModelGeneration
    from springtide_operator.lifecycle.observation import Observation, ObservedJob

DAY = timedelta(days=1)
TURN_FALLBACK = timedelta(minutes=5)
"""An update that waits for its turn is woken when the turn comes; this is for a lost wake-up."""
LONGEST_INTERVAL = timedelta(hours=6)
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
    """When the next look is, and why."""

    at: datetime
    trigger: str
    slot: int


def start_due_probe(seen: Observation, now: datetime) -> Step | None:
    """Start a probe when one is due, or say what is waited for."""
    if seen.update.spec.suspend:
        message = "spec.suspend is true; set it to false to go on"
        return Step(waiting=Waiting("Suspended", message))
    if seen.lineage.candidate is None and (pause := _pause(seen, now)):
        return pause
    nearest = next_probe(seen)
    if nearest is None:
        return Step(waiting=_waiting(seen, "by request only: springtide.dev/request=run@<token>"))
    if nearest.at > now:
        text = f"next look for data at {nearest.at:%Y-%m-%d %H:%M:%S} UTC"
        return Step(waiting=_waiting(seen, text), wake_after=nearest.at - now)
    if waiting := wait_for_turn(seen):
        return Step(waiting=waiting, wake_after=TURN_FALLBACK * (1 + _jitter(seen)))
    start = _start_probe(seen, nearest.slot, nearest.trigger, "", now)
    return Step(actions=(start,), wake_after=timedelta(seconds=5))


def next_probe(seen: Observation) -> Due | None:
    """The nearest look of schedule and interval; None where only requests start runs."""
    known = [
        due for due in (_by_schedule(seen), _by_interval(seen), _after_spec_change(seen)) if due
    ]
    return min(known, default=None)


def consumed(seen: Observation, job: ObservedJob) -> bool:
    """Whether what a probe found is in status. Its uid counts: names come again with requests.

    An earlier version recorded only its name.
    """
    last = seen.update.status.last_probe
    if last is None:
        return False
    return last.job_uid == job.uid if last.job_uid else last.job == job.name


def probe_name_taken(seen: Observation, request: str) -> bool:
    """Whether the name of a look is that of an earlier one, made for the same words, until it goes.

    The request waits so long: the Job is deleted next.
    """
    return any(job.deleting or consumed(seen, job) for job in _probes_for(seen, request))


def probe_now(seen: Observation, request: str, now: datetime) -> tuple[StartJob, ...]:
    """A look that a person asked for; its name follows from the token, so it is made once."""
    if _probes_for(seen, request):
        return ()
    return (_start_probe(seen, crc32(request.encode()), "Request", request, now),)


def _probes_for(seen: Observation, request: str) -> list[ObservedJob]:
    own = (job for job in seen.jobs if job.owner_uid == seen.update.metadata.uid)
    return [job for job in own if job.stage == "probe" and job.request == request]


def probe_again(seen: Observation, job: ObservedJob, now: datetime) -> StartJob:
    """Probe for what another probe was for, with the quarantine as it is now."""
    slot = crc32(f"{job.request} {' '.join(seen.update.status.cursor.quarantined)}".encode())
    return _start_probe(seen, slot, job.trigger, job.request, now)


def _start_probe(
    seen: Observation, slot: int, trigger: str, request: str, now: datetime
) -> StartJob:
    meta = seen.update.metadata
    waiting = seen.lineage.candidate
    snapshot = waiting.spec.recipe if waiting else recipe(seen)
    name = probe_name(meta.name, meta.uid, slot)
    shared = run_file(seen, "probe", snapshot, number=None, job=name, attempt=1)
    asked = ProbeInput(
        now=now,
        cursor=seen.lineage.cursor,
        quarantined=seen.update.status.cursor.quarantined,
        released=[*seen.lineage.released, *(seen.lineage.training_only if waiting else [])],
        candidate_trained_through=_trained_through(waiting),
        referenced=_referenced(seen),
    )
    return StartJob(
        run=shared.model_copy(update={"probe": asked}),
        image=snapshot.training.image or trainer_image(seen),
        trigger=trigger,
        request=request,
    )


def _referenced(seen: Observation) -> list[str]:
    """Folders of frozen rows that generations name, or may soon: answers that were not taken."""
    results = [job.result.probe for job in seen.jobs if job.result and job.result.probe]
    windows = {result.window.manifest for result in results if result.window}
    return sorted({uri.rpartition("/")[2] for uri in windows | referenced_rows(seen.generations)})


def _trained_through(waiting: ModelGeneration | None) -> datetime | None:
    if waiting is None or waiting.spec.data is None or not waiting.spec.data.windows:
        return None
    return waiting.spec.data.windows[-1].to


def _pause(seen: Observation, now: datetime) -> Step | None:
    """Cooldown and the runs of a day; a person's request passes both."""
    trigger = seen.update.spec.trigger
    trained = [g for g in _trained(seen) if g.status.reason != SPEC_CHANGED]
    ends = [end for g in trained if (end := _end(g)) is not None]
    if ends and (left := max(ends) + duration(trigger.cooldown) - now) > timedelta(0):
        message = f"cooldown of {trigger.cooldown} until {now + left:%Y-%m-%d %H:%M:%S} UTC"
        return Step(waiting=Waiting("Cooldown", message), wake_after=left)
    most = trigger.max_runs_per_day
    recent = sorted(
        g.metadata.creation_timestamp for g in trained if now - g.metadata.creation_timestamp < DAY
    )
    if most is not None and len(recent) >= most:
        left = recent[-most] + DAY - now
        message = f"{len(recent)} runs within 24 hours; at most {most} (trigger.maxRunsPerDay)"
        return Step(waiting=Waiting("MaxRunsPerDayReached", message), wake_after=left)
    return None


def _end(generation: ModelGeneration) -> datetime | None:
    status = generation.status
    known = (status.rollout.promoted_at, status.rollout.rolled_back_at, status.verdict_at)
    return max((moment for moment in known if moment), default=None)


def _trained(seen: Observation) -> list[ModelGeneration]:
    return [g for g in seen.generations if g.spec.origin == "Trained"]


def _after_spec_change(seen: Observation) -> Due | None:
    """At once where the last run was given up before it ran, because the spec changed."""
    newest = next(reversed(_trained(seen)), None)
    if newest is None or newest.status.reason != SPEC_CHANGED:
        return None
    at, last, meta = newest.status.verdict_at, seen.update.status.last_probe, seen.update.metadata
    if at is None:
        return None
    slot = int(at.timestamp())
    if last and (last.finished_at > at or last.job == probe_name(meta.name, meta.uid, slot)):
        return None
    return Due(at, newest.spec.trigger or "OnData", slot)


def _by_schedule(seen: Observation) -> Due | None:
    trigger = seen.update.spec.trigger
    if trigger.schedule is None:
        return None
    zone = ZoneInfo(trigger.time_zone or "UTC")
    since = _last(seen) or seen.update.metadata.creation_timestamp
    expression = MACROS.get(trigger.schedule, trigger.schedule)
    at = next(CronSim(expression, since.astimezone(zone))).astimezone(UTC)
    return Due(at, "Schedule", int(at.timestamp()))


def _by_interval(seen: Observation) -> Due | None:
    trigger, meta = seen.update.spec.trigger, seen.update.metadata
    if trigger.on_data is None:
        return None
    last = _last(seen)
    if last is None:
        return Due(meta.creation_timestamp, "OnData", int(meta.creation_timestamp.timestamp()))
    interval = duration(trigger.on_data.poll_interval)
    jitter = interval * _jitter(seen) / 10
    probe = seen.update.status.last_probe
    failures = probe.failures if probe else 0
    wait = min(interval * 2 ** min(failures, 10), max(LONGEST_INTERVAL, interval))
    at = last + wait + jitter
    return Due(at, "OnData", int(at.timestamp()))


def _jitter(seen: Observation) -> float:
    """A number from 0 to 1 that differs between updates and stays."""
    return (crc32(seen.update.metadata.uid.encode()) % 100) / 100


def _last(seen: Observation) -> datetime | None:
    probe = seen.update.status.last_probe
    return probe.finished_at if probe else None


def _waiting(seen: Observation, otherwise: str) -> Waiting:
    """What is waited for, in the order of what a person would want to know first."""
    if held := hold(seen):
        return held
    waiting = seen.lineage.candidate
    probe = seen.update.status.last_probe
    if waiting is not None:
        status, name = waiting.status, waiting.metadata.name
        message = f"{name}: {status.message}; {otherwise}"
        return Waiting(status.reason, message[:1024], "Evaluate", short="more data")
    if probe and probe.reason != "WindowReady":
        return Waiting(probe.reason, f"{probe.message}; {otherwise}"[:1024], short=probe.reason)
    return Waiting("NewData", otherwise, short="new data")
