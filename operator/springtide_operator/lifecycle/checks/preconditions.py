"""Starts nothing new while the spec, a target or a refused apply needs a user."""

from __future__ import annotations

from typing import TYPE_CHECKING

from springtide_operator.lifecycle.checks.spec_validation import invalid_spec
from springtide_operator.lifecycle.rollout.target_problems import targets_problem
from springtide_operator.lifecycle.state.plan import RECHECK, Step
from springtide_operator.lifecycle.state.refusals import refusal_waiting, refused_apply

if TYPE_CHECKING:
    from datetime import datetime

    from springtide_operator.lifecycle.state.observation import Observation


def check_preconditions(seen: Observation, now: datetime) -> Step | None:
    """Start nothing new while the spec is invalid or a target has a problem."""
    refusal = refused_apply(seen, seen.targets)
    refused = refusal_waiting(refusal) if refusal else None
    why = invalid_spec(seen.update.spec) or targets_problem(seen) or refused
    return Step(waiting=why, wake_after=RECHECK) if why else None
