"""The metrics of a canary: what they record, what aborts it, and what its step waits for."""

from __future__ import annotations

from typing import TYPE_CHECKING

from springtide_operator.lifecycle.analysis.comparison import requests_of_step
from springtide_operator.lifecycle.analysis.queries import due_queries
from springtide_operator.lifecycle.analysis.recording import record_samples
from springtide_operator.lifecycle.analysis.samples import (
    WITHOUT_DATA,
    failed_metric,
    invalid_metric,
    missing_metric,
    unproven,
)
from springtide_operator.lifecycle.analysis.watched import watched_canary
from springtide_operator.lifecycle.canary.canaries import spec_steps
from springtide_operator.lifecycle.canary.report import short
from springtide_operator.lifecycle.rollout.rollback_decision import decide_rollback
from springtide_operator.lifecycle.state.plan import RECHECK, Step, Waiting

if TYPE_CHECKING:
    from datetime import datetime

    from springtide_operator.lifecycle.analysis.watched import Watched
    from springtide_operator.lifecycle.state.observation import Observation


def watch_canary(seen: Observation, now: datetime) -> Step | None:
    """Record samples of a canary, and abort it where they say so.

    Also while something holds its step: it has its share of the traffic meanwhile. A failure that
    is recorded counts, whatever was measured since.
    """
    about, analysis = watched_canary(seen), seen.update.spec.rollout.analysis
    if about is None or analysis is None:
        return None
    if why := failed_metric(seen, about):
        return decide_rollback(seen, about.generation, why, now)
    if analysis.on_no_data == "Fail" and (why := missing_metric(seen, about)):
        return decide_rollback(seen, about.generation, why, now, {"failure": WITHOUT_DATA})
    return record_samples(seen, about, now)


def wait_for_metrics(seen: Observation, now: datetime) -> Step | None:
    """Wait at the end of a step for metrics that have yet to pass, and for its minRequests.

    A query that is due is answered first: the last requests of the step count, too.
    """
    about = watched_canary(seen)
    if about is None:
        return None
    generation, rollout = about.generation, about.generation.status.rollout
    why, brief = unproven(about), "waits for metrics"
    if missing := _requests_missing(seen, about):
        why, brief = missing
    if not why and due_queries(seen, now):
        why = "the newest samples of its metrics are due"
    if not why:
        return None
    message = (
        f"{generation.metadata.name} serves {rollout.weight} %, and the time of the step has "
        f"ended; it lasts on: {why}"
    )
    waiting = Waiting("Canary", message[:1024], "Rollout", short=short(seen, generation, brief))
    return Step(waiting=waiting, wake_after=RECHECK)


def canary_hold(seen: Observation) -> Waiting | None:
    """Why a user must decide about the queries of a canary."""
    about, analysis = watched_canary(seen), seen.update.spec.rollout.analysis
    if about is None or analysis is None:
        return None
    name, number = about.generation.metadata.name, about.generation.spec.number
    if why := invalid_metric(seen, about):
        return Waiting("QueryFailed", f"{name}: {why}"[:1024], "Rollout", held=True)
    if analysis.on_no_data == "Hold" and (why := missing_metric(seen, about)):
        message = (
            f"{name}: {why}; the step goes on once there is one; or annotate "
            f"springtide.dev/request=rollback.g{number}@<token>"
        )
        return Waiting("NoData", message[:1024], "Rollout", held=True)
    return None


def _requests_missing(seen: Observation, about: Watched) -> tuple[str, str] | None:
    """That the canary has yet to get the requests of its step: why, and in short."""
    position = (about.generation.status.rollout.step or 1) - 1
    least = spec_steps(seen)[position].min_requests
    metric = next((each for each in about.metrics if each.ratio is not None), None)
    if least is None or metric is None:
        return None
    count = requests_of_step(about, metric)
    if count >= least:
        return None
    why = (
        f"the canary has had {count:,} of {least:,} requests by metric {metric.name} "
        f"(rollout.strategy.canary.steps[{position}].minRequests)"
    )
    return why, f"{count}/{least} requests"
