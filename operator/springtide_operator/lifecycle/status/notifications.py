"""Notifications of an update, derived from the recorded facts, not from their change.

So an operator that starts derives again what its predecessor may not have delivered, under the same
ids, by which a receiver can drop what it already has. `ports/outbox.py` chooses which are sent.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from springtide_operator.lifecycle.state.generations import BY_REQUEST
from springtide_operator.lifecycle.state.plan import Notification
from springtide_operator.lifecycle.status.status_events import VERDICTS

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from datetime import datetime

    from springtide_api.objects import Meta, ModelGeneration
    from springtide_api.update.status import Condition, UpdateStatus


def notifications(
    update: Meta, generations: Iterable[ModelGeneration], status: UpdateStatus
) -> tuple[Notification, ...]:
    """Return a notification for each recorded fact that is worth one, the oldest first.

    Args:
        update: metadata of the update.
        generations: all of the update.
        status: of the update.
    """
    common = {
        "namespace": update.namespace,
        "update": update.name,
        "live": status.live.name if status.live else "",
        "previous": status.previous.name if status.previous else "",
    }
    there = tuple(generations)
    found = [each for g in there for each in _of_generation(g, common)]
    found += _action_required(update, there, status, common)
    return tuple(sorted(found, key=lambda each: each.at.timestamp() if each.at else float("inf")))


def _of_generation(generation: ModelGeneration, common: dict[str, str]) -> Iterator[Notification]:
    status, rollout = generation.status, generation.status.rollout
    uid, name = generation.metadata.uid, generation.metadata.name
    about = common | {"generation": name, "verdict": status.verdict, "outcome": status.outcome}
    if status.retired_reason:
        why = {"reason": status.retired_reason, "message": status.message}
        # The rejection of an accepted candidate is recorded without a time.
        untimed = (status.verdict, status.retired_reason) == ("Accepted", BY_REQUEST)
        at = None if untimed else status.verdict_at
        yield Notification(uid, "retired", "retired", at=at, **about, **why)
    elif status.verdict in VERDICTS and status.verdict_at:
        why, at = {"reason": status.reason, "message": status.message}, status.verdict_at
        yield Notification(uid, _fact("verdict", at), "verdict", at=at, **about, **why)
    if at := rollout.promoted_at:
        why = {"reason": "Promoted", "message": f"{name} was promoted"}
        yield Notification(uid, _fact("promoted", at), "promoted", at=at, **about, **why)
    if rollout.rollback_reason:
        why = {"reason": rollout.failure or "RolledBack", "message": rollout.rollback_reason}
        at = rollout.rollback_started_at  # an earlier version did not record it
        fact = _fact("rollbackstarted", at) if at else "rollbackstarted"
        yield Notification(uid, fact, "rollbackstarted", at=at, **about, **why)
    if at := rollout.rolled_back_at:
        why = {"reason": rollout.failure or "RolledBack", "message": rollout.rollback_reason}
        yield Notification(uid, _fact("rolledback", at), "rolledback", at=at, **about, **why)


def _action_required(
    update: Meta,
    generations: Iterable[ModelGeneration],
    status: UpdateStatus,
    common: dict[str, str],
) -> Iterator[Notification]:
    """Why a user must act. Another reason is another notification, another message is none.

    The condition may stay true from one generation to the next, as causes overlap: each of them is
    an occurrence of its own.
    """
    found = next((each for each in status.conditions if each.type == "ActionRequired"), None)
    if found is None or found.status != "True":
        return
    since = _since(found, generations)
    yield Notification(
        update.uid,
        f"{_fact('actionrequired', since)}/{found.reason}",
        "actionrequired",
        at=since,
        generation=status.candidate.name if status.candidate else "",
        reason=found.reason,
        message=found.message,
        **common,
    )


def _since(required: Condition, generations: Iterable[ModelGeneration]) -> datetime:
    """Since when a user must act: not before what ended last for the generation in the message."""
    named = (g for g in generations if _is_named(g.metadata.name, required.message))
    newest = max(named, key=lambda g: g.spec.number, default=None)
    if newest is None:
        return required.last_transition_time
    rollout = newest.status.rollout
    ends = (newest.status.verdict_at, rollout.promoted_at, rollout.rolled_back_at)
    return max([required.last_transition_time, *(end for end in ends if end)])


def _is_named(name: str, message: str) -> bool:
    return re.search(rf"(?<![\w.-]){re.escape(name)}(?![\w-])", message) is not None


def _fact(kind: str, at: datetime) -> str:
    return f"{kind}/{at:%Y-%m-%dT%H:%M:%SZ}"
