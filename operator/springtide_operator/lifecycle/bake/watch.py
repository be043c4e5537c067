"""The bake of the live generation: samples are recorded, pods are watched, then it ends or fails.

A step only where something is written: training and probing go on meanwhile.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from springtide_operator.lifecycle.analysis.queries import due_queries
from springtide_operator.lifecycle.analysis.recording import record_samples
from springtide_operator.lifecycle.analysis.samples import (
    WITHOUT_DATA,
    failed_metric,
    missing_metric,
    unproven,
)
from springtide_operator.lifecycle.analysis.watched import is_unserved, watched_in_bake
from springtide_operator.lifecycle.bake.pods import pod_facts, pod_failure
from springtide_operator.lifecycle.evaluation.modes import writes_targets
from springtide_operator.lifecycle.rollout.bake_start import bake_facts
from springtide_operator.lifecycle.rollout.rollback_decision import (
    decide_rollback,
    rollback_target,
)
from springtide_operator.lifecycle.rollout.rollout_status import with_rollout
from springtide_operator.lifecycle.state.plan import Event, Step
from springtide_operator.lifecycle.state.recorded_times import is_ahead

if TYPE_CHECKING:
    from datetime import datetime

    from springtide_api.objects import ModelGeneration
    from springtide_operator.lifecycle.analysis.watched import Watched
    from springtide_operator.lifecycle.state.observation import Observation


def watch_bake(seen: Observation, now: datetime) -> Step | None:
    """Write what the bake shows, and its end."""
    about = watched_in_bake(seen)
    if about is None:
        return None
    generation = about.generation
    if seen.update.spec.rollout.bake is None:
        return _end(generation, "spec.rollout.bake was removed", now)
    if _starts_ahead(generation, now):
        return Step(actions=(with_rollout(generation, bake_facts(seen, now)),))
    # A failure that is recorded counts, whatever was measured since.
    if not (metric_failure(seen, about) and may_roll_back(seen, generation)):
        if recorded := record_samples(seen, about, now):
            return recorded
        if facts := pod_facts(seen, generation, now):
            return Step(actions=(with_rollout(generation, facts),))
    why = failure(seen, about, now)
    if why and may_roll_back(seen, generation):
        own = own_failure(seen, about, now)
        facts = {} if own else {"failure": WITHOUT_DATA}
        return decide_rollback(seen, generation, why, now, facts)
    return _end_if_due(seen, about, why, now)


def _starts_ahead(generation: ModelGeneration, now: datetime) -> bool:
    """Whether the clock was set back since the start: the bake would last that much longer."""
    began = generation.status.rollout.bake_started_at
    return began is not None and is_ahead(began, now)


def failure(seen: Observation, about: Watched, now: datetime) -> str:
    """Why the bake failed; empty while it did not."""
    return own_failure(seen, about, now) or metric_failure(seen, about)


def metric_failure(seen: Observation, about: Watched) -> str:
    """Why the recorded samples fail the bake; empty while they do not."""
    why, analysis = failed_metric(seen, about), seen.update.spec.rollout.analysis
    if not why and analysis and analysis.on_no_data == "Fail":
        why = missing_metric(seen, about)
    return why


def own_failure(seen: Observation, about: Watched, now: datetime) -> str:
    """Why the generation itself failed its bake: by a metric or its pods, not for missing data."""
    return failed_metric(seen, about) or pod_failure(seen, about.generation, now)


def may_roll_back(seen: Observation, generation: ModelGeneration) -> bool:
    """Whether a failure rolls back at once: it is not left to a user, and there is a target."""
    automatic = seen.update.spec.rollout.rollback.automatic and writes_targets(seen)
    return automatic and rollback_target(seen, generation) is not None


def _end_if_due(seen: Observation, about: Watched, why: str, now: datetime) -> Step | None:
    """End the bake when its time is over, unless a metric or a user has yet to decide.

    Without an earlier generation nothing is withdrawn: the next generation is the fix. A query that
    is due is answered first: the newest sample may be of long ago, where no operator ran meanwhile.
    """
    generation = about.generation
    until = generation.status.rollout.bake_until
    if until is None or now < until or is_unserved(seen, generation):
        return None
    if why and rollback_target(seen, generation) is None:
        return _end(generation, f"there is no earlier generation to return to; {why}", now)
    if why or unproven(about) or generation.status.rollout.unavailable_since:
        return None
    if due_queries(seen, now):
        return None
    return _end(generation, "", now)


def end_bake(now: datetime) -> dict[str, object]:
    """What the end of a bake writes to `status.rollout`."""
    return {"baked_at": now, "unavailable_since": None, "recovered_at": None}


def _end(generation: ModelGeneration, why: str, now: datetime) -> Step:
    name = generation.metadata.name
    message = f"{name}: the bake ended" + (f": {why}" if why else " without a failure")
    event = Event("BakeEnded", message[:1024], "Warning" if why else "Normal", generation=name)
    return Step(actions=(with_rollout(generation, end_bake(now)),), events=(event,))
