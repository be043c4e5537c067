"""Starts nothing new while the spec, Kueue, JobSet, a target or a refused apply needs a user."""

from __future__ import annotations

from typing import TYPE_CHECKING

from springtide_operator.lifecycle.checks.spec_validation import invalid_spec
from springtide_operator.lifecycle.evaluation.modes import writes_targets
from springtide_operator.lifecycle.jobs.queueing import job_sets_problem, kueue_problem
from springtide_operator.lifecycle.rollout.pin import pin_not_possible
from springtide_operator.lifecycle.rollout.target_problems import targets_problem
from springtide_operator.lifecycle.state.plan import RECHECK, Step, Waiting
from springtide_operator.lifecycle.state.refusals import refusal_waiting, refused_apply

if TYPE_CHECKING:
    from datetime import datetime

    from springtide_operator.lifecycle.state.observation import Observation


def check_preconditions(seen: Observation, now: datetime) -> Step | None:
    """Start nothing new while the spec is invalid, a kind is missing or a target has a problem."""
    own = invalid_spec(seen.update.spec) or pin_not_possible(seen)
    why = own or kueue_problem(seen) or job_sets_problem(seen) or _targets_blocker(seen, now)
    return Step(waiting=why, wake_after=RECHECK) if why else None


def _targets_blocker(seen: Observation, now: datetime) -> Waiting | None:
    """Why the targets cannot take another generation; where spec.mode writes none, nothing.

    A refused apply that is due was needed no longer, or an earlier stage would repeat it.
    """
    if not writes_targets(seen):
        return None
    if why := targets_problem(seen):
        return why
    refusal = refused_apply(seen, seen.targets)
    return refusal_waiting(refusal) if refusal and refusal.is_pending(now) else None
