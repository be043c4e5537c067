"""Writes that the API server refused: what they were for, and when they are retried.

Quota, admission, missing rights and a name that is taken are facts like any other. A step is held
while one of its writes is refused. It is retried slowly, and at once when the spec changes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from springtide_operator.lifecycle.state.observed import OWN_KEYS_TAKEN
from springtide_operator.lifecycle.state.plan import Waiting, subject

if TYPE_CHECKING:
    from collections.abc import Iterable
    from datetime import datetime

    from springtide_operator.lifecycle.state.observation import Observation
    from springtide_operator.lifecycle.state.observed import ObservedTarget, Refusal
    from springtide_operator.lifecycle.state.plan import Action, Step


def blocking_refusal(seen: Observation, step: Step, now: datetime) -> Refusal | None:
    """Return the refusal for which a step is held: it is too early to try that write again."""
    found = (seen.refusal(subject(action)) for action in step.actions)
    return next((each for each in found if each and _counts(each) and each.is_pending(now)), None)


def refused_apply(seen: Observation, targets: Iterable[ObservedTarget]) -> Refusal | None:
    """Return the refusal of the apply to one of these targets."""
    found = (seen.refusal(f"Deployment {target.target.target_ref.name}") for target in targets)
    return next((each for each in found if each and _counts(each)), None)


def not_refused(
    seen: Observation, targets: Iterable[ObservedTarget], now: datetime
) -> tuple[ObservedTarget, ...]:
    """Targets that may be applied now: the refusal of one does not block another."""
    return tuple(
        target
        for target in targets
        if (refusal := refused_apply(seen, [target])) is None or not refusal.is_pending(now)
    )


def reported_refusal(seen: Observation, actions: Iterable[Action], now: datetime) -> Refusal | None:
    """Return the refusal that the status reports; one that is due and not needed is dropped."""
    wanted = {subject(action) for action in actions}
    return next(
        (r for r in seen.refusals if _counts(r) and (r.is_pending(now) or r.subject in wanted)),
        None,
    )


def refusal_waiting(refusal: Refusal) -> Waiting:
    """Return that a refused write blocks the step."""
    target = refusal.subject.startswith(("Deployment ", "HTTPRoute ", "Service "))
    return Waiting(
        refusal.reason,
        refusal.message[:1024],
        "Rollout" if target else "",
        blocked=True,
        targets=target,
    )


def _counts(refusal: Refusal) -> bool:
    return refusal.reason != OWN_KEYS_TAKEN
