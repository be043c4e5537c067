"""What a person asked for: the annotation `springtide.dev/request: <verb>@<token>`, answered once.

Which verb does what in which phase is the table VERBS. A token found on an update without history
is recorded and not run: a manifest from Git must not repeat an old wish.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from springtide_api.names import ANNOTATION_REQUEST
from springtide_api.update_status import LastRequest
from springtide_operator.lifecycle.evaluation import held, hold_name, waits
from springtide_operator.lifecycle.gate import max_interim_analyses
from springtide_operator.lifecycle.initial import failed_import
from springtide_operator.lifecycle.lineage import (
    BY_REQUEST,
    rolling,
    servable,
    unknown_word,
)
from springtide_operator.lifecycle.plan import Announcement, Step, WriteGeneration
from springtide_operator.lifecycle.quarantine import MOST, recorded
from springtide_operator.lifecycle.trigger import probe_now, still_taken

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from datetime import datetime

    from springtide_operator.lifecycle.observation import Observation
    from springtide_operator.lifecycle.plan import Action

LOOKING = frozenset({"run", "retry"})
"""Verbs that look for data at once."""


@dataclass(frozen=True)
class Answer:
    """What became of a request."""

    accepted: bool
    message: str
    actions: tuple[Action, ...] = ()
    facts: Mapping[str, Any] | None = None


def record(seen: Observation, now: datetime) -> Step | None:
    """Note, and do not run, a request that an update without history came with."""
    asked = _asked(seen)
    if asked is None or seen.update.status.observed_generation:
        return None
    verb, token = asked
    message = "found on an update without history; set a new token to run it"
    request = LastRequest(token=token, verb=verb, result="Recorded", message=message)
    return Step(facts={"last_request": request})


def answer(seen: Observation, now: datetime) -> Step | None:
    """Answer a request that was not answered before."""
    asked = _asked(seen)
    if asked is None:
        return None
    verb, token = asked
    if verb in LOOKING and still_taken(seen, f"{verb}@{token}"):
        return None  # made again: its name is free once the Job of the first is deleted
    said = _said(seen, verb, token, now)
    result = "Accepted" if said.accepted else "Refused"
    request = LastRequest(token=token, verb=verb, result=result, message=said.message[:1024])
    event = Announcement(
        reason=f"Request{result}",
        message=f"{verb}@{token}: {said.message}",
        type="Normal" if said.accepted else "Warning",
    )
    facts = {"last_request": request, **(said.facts or {})}
    return Step(actions=said.actions, facts=facts, events=(event,))


def _asked(seen: Observation) -> tuple[str, str] | None:
    """Return verb and token of a request that was not answered before."""
    text = seen.update.metadata.annotations.get(ANNOTATION_REQUEST, "")
    if not text:
        return None
    verb, _, token = text.partition("@")
    asked = verb[:128], token[:128]
    last = seen.update.status.last_request
    return None if last and (last.verb, last.token) == asked else asked


def _said(seen: Observation, verb: str, token: str, now: datetime) -> Answer:
    if not token:
        return Answer(False, f"write it as <verb>@<token>, such as {verb or 'run'}@1")
    if verb not in VERBS:
        return Answer(False, f"unknown verb {verb!r}; use one of {', '.join(VERBS)}")
    if verb in LOOKING and seen.update.spec.suspend:
        return Answer(False, "spec.suspend is true; set it to false first")
    said = VERBS[verb](seen, now)
    if verb in LOOKING and said.accepted:
        step = probe_now(seen, f"{verb}@{token}", now)
        said = replace(said, actions=(*said.actions, *step))
    return said


def _run(seen: Observation, now: datetime) -> Answer:
    if why := _busy(seen):
        return Answer(False, why)
    return Answer(True, "looking for new data now")


def _retry(seen: Observation, now: datetime) -> Answer:
    under_way = seen.lineage.candidate
    if under_way is not None and waits(under_way):
        name, evaluation = under_way.metadata.name, under_way.status.evaluation
        most = max_interim_analyses(under_way.spec.recipe.gate)
        if evaluation and evaluation.interim_analyses >= most:
            return Answer(
                False, f"{name}: {most} of {most} interim analyses are used up; use reject"
            )
        if not held(seen, under_way):
            return Answer(False, f"{name} waits for data, not for a person; use run")
        return Answer(
            True,
            f"{name} is judged again on what is then its holdout",
            facts=_lift(seen, hold_name(under_way)),
        )
    if why := _busy(seen):
        return Answer(False, why)
    if first := failed_import(seen):
        return Answer(True, "importing again", facts=_lift(seen, first.metadata.name))
    if shared := seen.lineage.shared_rejection:
        return Answer(
            True,
            "the hold ends; looking for data now",
            facts=_lift(seen, shared[0].metadata.name),
        )
    return Answer(True, "looking for data now; rows that were judged before may be judged again")


def _reject(seen: Observation, now: datetime) -> Answer:
    under_way = seen.lineage.candidate
    if under_way is None:
        if shared := seen.lineage.shared_rejection:
            facts = _lift(seen, shared[0].metadata.name)
            return Answer(True, "the hold is ended without a quarantine", facts=facts)
        return Answer(False, "there is no candidate to reject")
    name = under_way.metadata.name
    if rolling(under_way):
        return Answer(False, f"{name} is rolling out; its roll finishes or goes back by itself")
    if under_way.spec.origin == "Imported":
        return Answer(False, f"{name} is the initial model; delete the update instead")
    message = "rejected by request"
    changes = {"verdict": "Rejected", "reason": BY_REQUEST, "message": message, "verdict_at": now}
    if servable(under_way):  # the evidence, and so its verdict, stays what it is
        changes = {"retired": BY_REQUEST, "message": message}
    status = under_way.status.model_copy(update=changes)
    return Answer(True, f"{name} is rejected", actions=(WriteGeneration(name, status),))


def _quarantine(seen: Observation, now: datetime) -> Answer:
    cursor, wanted = seen.update.status.cursor, seen.lineage.proposed_for_quarantine
    if not wanted:
        return Answer(
            False, "no partition is proposed (status.cursor.proposedForQuarantine is empty)"
        )
    quarantined = sorted({*cursor.quarantined, *wanted})
    if len(quarantined) > MOST:
        message = (
            f"{len(quarantined)} partitions would be quarantined ({len(cursor.quarantined)} are), "
            f"and at most {MOST} can be; release some with release@<token> first"
        )
        return Answer(False, message)
    facts = {"cursor": cursor.model_copy(update={"quarantined": quarantined})}
    message = f"quarantined: {', '.join(wanted)}"
    return Answer(
        True, message, recorded(seen, quarantined, seen.lineage.never_judging, now), facts
    )


def _release(seen: Observation, now: datetime) -> Answer:
    cursor = seen.update.status.cursor
    if not cursor.quarantined:
        return Answer(False, "nothing is quarantined (status.cursor.quarantined is empty)")
    if why := _busy(seen):
        return Answer(False, why)
    joining = sorted({*seen.lineage.never_judging, *cursor.quarantined})
    if len(joining) > MOST:
        message = (
            f"{len(joining)} partitions would be released and not trained on yet, and at most "
            f"{MOST} can be; wait until a generation that was trained on them is live"
        )
        return Answer(False, message)
    facts = {"cursor": cursor.model_copy(update={"quarantined": [], "released": joining})}
    message = f"released: {', '.join(cursor.quarantined)}; their rows join the next window"
    return Answer(True, message, recorded(seen, [], joining, now), facts)


def _busy(seen: Observation) -> str:
    """Why no other run can start now."""
    if unknown := seen.lineage.unknown:
        return f"{unknown.metadata.name} has {unknown_word(unknown)}, a word of another version"
    under_way = seen.lineage.candidate
    if under_way is None or waits(under_way):
        return ""
    return f"{under_way.metadata.name} is under way; wait for its end or use reject"


def _lift(seen: Observation, hold: str) -> dict[str, Any]:
    return {"acknowledged_holds": [*seen.update.status.acknowledged_holds, hold][-16:]}


VERBS: dict[str, Callable[[Observation, datetime], Answer]] = {
    "run": _run,
    "retry": _retry,
    "reject": _reject,
    "quarantine": _quarantine,
    "release": _release,
}
