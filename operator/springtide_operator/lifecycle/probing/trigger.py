"""Starts a probe for new data when one is due; never during a run."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

from springtide_api.schema import duration
from springtide_operator.lifecycle.evaluation.holds import hold
from springtide_operator.lifecycle.evaluation.modes import writes_targets
from springtide_operator.lifecycle.jobs.gpu_budget import budget_used_up
from springtide_operator.lifecycle.jobs.suspension import suspension
from springtide_operator.lifecycle.probing.probe_job import start_probe
from springtide_operator.lifecycle.probing.probe_turns import wait_for_turn
from springtide_operator.lifecycle.probing.schedule import (
    DAY,
    next_probe,
    probe_jitter,
    runs_of_a_day,
    trained_generations,
)
from springtide_operator.lifecycle.state.generations import SPEC_CHANGED
from springtide_operator.lifecycle.state.paused_targets import paused_at_rest
from springtide_operator.lifecycle.state.plan import Step, Waiting
from springtide_operator.lifecycle.state.recorded_times import is_ahead

if TYPE_CHECKING:
    from datetime import datetime

    from springtide_api.objects import ModelGeneration
    from springtide_operator.lifecycle.state.observation import Observation

TURN_FALLBACK = timedelta(minutes=5)
"""A waiting update is woken when its turn comes; this covers a lost wake-up."""


def start_due_probe(seen: Observation, now: datetime) -> Step | None:
    """Start a probe when one is due, or return what the update waits for."""
    if suspended := suspension(seen):
        return Step(waiting=suspended)
    if seen.lineage.candidate is None and (pause := _pause(seen, now)):
        return pause
    nearest = next_probe(seen)
    if nearest is None:
        return Step(waiting=_waiting(seen, "by request only: springtide.dev/request=run@<token>"))
    if nearest.at > now:
        text = f"next probe at {nearest.at:%Y-%m-%d %H:%M:%S} UTC"
        return Step(waiting=_waiting(seen, text), wake_after=nearest.at - now)
    if waiting := wait_for_turn(seen):
        return Step(waiting=waiting, wake_after=TURN_FALLBACK * (1 + probe_jitter(seen)))
    start = start_probe(seen, nearest.slot, nearest.trigger, "", now)
    return Step(actions=(start,), wake_after=timedelta(seconds=5))


def _pause(seen: Observation, now: datetime) -> Step | None:
    """Cooldown, runs and GPU seconds per day; a probe by request of a user ignores them."""
    trigger = seen.update.spec.trigger
    trained = [g for g in trained_generations(seen) if g.status.reason != SPEC_CHANGED]
    ends = [end for g in trained if (end := _end(g)) is not None and not is_ahead(end, now)]
    if ends and (left := max(ends) + duration(trigger.cooldown) - now) > timedelta(0):
        message = f"cooldown of {trigger.cooldown} until {now + left:%Y-%m-%d %H:%M:%S} UTC"
        return Step(waiting=Waiting("Cooldown", message), wake_after=left)
    most, recent = trigger.max_runs_per_day, runs_of_a_day(seen, now)
    if most is not None and len(recent) >= most:
        left = recent[-most].metadata.creation_timestamp + DAY - now
        message = (
            f"{len(recent)} runs within 24 hours; at most {most} (trigger.maxRunsPerDay); "
            f"another may start at {now + left:%Y-%m-%d %H:%M:%S} UTC"
        )
        return Step(waiting=Waiting("MaxRunsPerDayReached", message), wake_after=left)
    if seen.update.spec.training.compute.gpus_per_node:
        return budget_used_up(seen, now)
    return None


def _end(generation: ModelGeneration) -> datetime | None:
    status = generation.status
    known = (status.rollout.promoted_at, status.rollout.rolled_back_at, status.verdict_at)
    return max((moment for moment in known if moment), default=None)


def _waiting(seen: Observation, otherwise: str) -> Waiting:
    """What the update waits for, the most important reason first."""
    if held := hold(seen) or (paused_at_rest(seen) if writes_targets(seen) else None):
        return held
    waiting = seen.lineage.candidate
    probe = seen.update.status.last_probe
    if waiting is not None:
        status, name = waiting.status, waiting.metadata.name
        message = f"{name} waits for more data; {otherwise}; {status.message}"
        return Waiting(status.reason, message[:1024], "Evaluate", short="waiting for data")
    if probe and probe.reason != "WindowReady":
        return Waiting(probe.reason, f"{probe.message}; {otherwise}"[:1024], short=probe.reason)
    return Waiting("NewData", otherwise, short="waiting for data")
