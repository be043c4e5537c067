"""What a bake shows to users: progress, what they must decide, and when to decide again."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

from springtide_operator.lifecycle.analysis.samples import (
    invalid_metric,
    missing_metric,
    unproven,
)
from springtide_operator.lifecycle.analysis.watched import is_unserved, watched_in_bake
from springtide_operator.lifecycle.bake.pods import pod_wake
from springtide_operator.lifecycle.bake.watch import failure, may_roll_back
from springtide_operator.lifecycle.rollout.rollback_decision import rollback_target
from springtide_operator.lifecycle.state.plan import RECHECK, Waiting
from springtide_operator.lifecycle.warm.report import held_back, share_words, standby_words

if TYPE_CHECKING:
    from datetime import datetime

    from springtide_api.objects import ModelGeneration
    from springtide_operator.lifecycle.state.observation import Observation

BAKE_FAILED = "BakeFailed"

_DAY = timedelta(days=1)


def bake_wake(seen: Observation, now: datetime) -> timedelta | None:
    """When the bake is due: its end, or the deadline of pods that fail."""
    generation = seen.lineage.baking
    if generation is None:
        return None
    until = generation.status.rollout.bake_until
    due = [until - now] if until and until > now else []
    if (pods := pod_wake(seen, generation, now)) is not None:
        due.append(pods if pods > timedelta(0) else RECHECK)
    return min(due, default=None)


def bake_progress(seen: Observation, now: datetime) -> Waiting | None:
    """What the bake waits for; None: there is none."""
    about = watched_in_bake(seen)
    if about is None:
        return None
    generation = about.generation
    until, name = generation.status.rollout.bake_until or now, generation.metadata.name
    # A time, not a remaining time: each change of it would be one more write of the status.
    moment = f"{until:%H:%M} UTC" if until - now < _DAY else f"{until:%Y-%m-%d %H:%M} UTC"
    if now < until:
        message, short = f"{name} bakes until {moment} (rollout.bake)", f"baking until {moment}"
    else:
        message = f"{name} bakes since its time ended at {moment} (rollout.bake)"
        short = "baking"
    if about.baseline and (share := held_back(seen)):
        short += f", {share} % on g{about.baseline.generation.spec.number}"
    why = unproven(about)
    if is_unserved(seen, generation):
        why = "no target runs it"
    for each in filter(None, (why, share_words(seen), standby_words(seen))):
        message += f"; {each}"
    return Waiting("Baking", message[:1024], "Rollout", short=short)


def bake_hold(seen: Observation, now: datetime) -> Waiting | None:
    """Why a user must decide about the generation that bakes, or about its queries."""
    about = watched_in_bake(seen)
    if about is None:
        return None
    generation = about.generation
    name = generation.metadata.name
    if why := failure(seen, about, now):
        if may_roll_back(seen, generation):
            return None
        message = f"{name} fails its bake: {_requests(seen, generation)}; {why}"
        return Waiting(BAKE_FAILED, message[:1024], "Rollout", held=True)
    if why := invalid_metric(seen, about):
        return Waiting("QueryFailed", f"{name}: {why}"[:1024], "Rollout", held=True)
    analysis = seen.update.spec.rollout.analysis
    if analysis and analysis.on_no_data == "Hold" and (why := missing_metric(seen, about)):
        message = f"{name}: {why}; {_requests(seen, generation)}"
        return Waiting("NoData", message[:1024], "Rollout", held=True)
    return None


def _requests(seen: Observation, generation: ModelGeneration) -> str:
    """The requests that end it."""
    number = generation.spec.number
    promote = f"promote.g{number}@<token> to end the bake"
    if rollback_target(seen, generation) is None:
        return (
            "there is no earlier generation to return to, so it keeps serving; annotate "
            f"springtide.dev/request={promote}"
        )
    return f"annotate springtide.dev/request=rollback.g{number}@<token>, or {promote}"
