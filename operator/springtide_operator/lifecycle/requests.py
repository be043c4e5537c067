"""Requests of users: the annotation `springtide.dev/request: <verb>@<token>`, handled once.

The table VERBS defines what each verb does in each phase. A token found on an update without
history is recorded and not run: a manifest from Git must not repeat an old request.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from springtide_api.names import ANNOTATION_REQUEST
from springtide_api.update.status import LastRequest
from springtide_judging.interim_analyses import max_interim_analyses
from springtide_operator.lifecycle.evaluation.holds import held, hold_name, is_inconclusive
from springtide_operator.lifecycle.probing.probe_job import probe_name_taken, probe_now
from springtide_operator.lifecycle.state.generations import (
    BY_REQUEST,
    rolling,
    servable,
    unknown_value,
)
from springtide_operator.lifecycle.state.plan import Event, Step, WriteGeneration
from springtide_operator.lifecycle.state.quarantine_records import MAX_QUARANTINED, write_record
from springtide_operator.lifecycle.training.initial_import import failed_import

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from datetime import datetime

    from springtide_operator.lifecycle.state.observation import Observation
    from springtide_operator.lifecycle.state.plan import Action

PROBING_VERBS = frozenset({"run", "retry"})
"""Verbs that start a probe at once."""


@dataclass(frozen=True)
class Response:
    """The result of a request."""

    accepted: bool
    message: str
    actions: tuple[Action, ...] = ()
    facts: Mapping[str, Any] | None = None


def record_request(seen: Observation, now: datetime) -> Step | None:
    """Record, and do not run, a request on an update without history."""
    requested = _new_request(seen)
    if requested is None or seen.update.status.observed_generation:
        return None
    verb, token = requested
    message = "found on an update without history; set a new token to run it"
    request = LastRequest(token=token, verb=verb, result="Recorded", message=message)
    return Step(facts={"last_request": request})


def handle_request(seen: Observation, now: datetime) -> Step | None:
    """Handle a request that was not handled before."""
    requested = _new_request(seen)
    if requested is None:
        return None
    verb, token = requested
    if verb in PROBING_VERBS and probe_name_taken(seen, f"{verb}@{token}"):
        return None  # repeated: its name is free once the Job of the first is deleted
    response = _respond(seen, verb, token, now)
    result = "Accepted" if response.accepted else "Refused"
    request = LastRequest(token=token, verb=verb, result=result, message=response.message[:1024])
    event = Event(
        reason=f"Request{result}",
        message=f"{verb}@{token}: {response.message}",
        type="Normal" if response.accepted else "Warning",
    )
    facts = {"last_request": request, **(response.facts or {})}
    return Step(actions=response.actions, facts=facts, events=(event,))


def _new_request(seen: Observation) -> tuple[str, str] | None:
    """Return verb and token of a request that was not handled before."""
    text = seen.update.metadata.annotations.get(ANNOTATION_REQUEST, "")
    if not text:
        return None
    verb, _, token = text.partition("@")
    requested = verb[:128], token[:128]
    last = seen.update.status.last_request
    return None if last and (last.verb, last.token) == requested else requested


def _respond(seen: Observation, verb: str, token: str, now: datetime) -> Response:
    if not token:
        return Response(False, f"write it as <verb>@<token>, such as {verb or 'run'}@1")
    if verb not in VERBS:
        return Response(False, f"unknown verb {verb!r}; use one of {', '.join(VERBS)}")
    if verb in PROBING_VERBS and seen.update.spec.suspend:
        return Response(False, "spec.suspend is true; set it to false first")
    response = VERBS[verb](seen, now)
    if verb in PROBING_VERBS and response.accepted:
        step = probe_now(seen, f"{verb}@{token}", now)
        response = replace(response, actions=(*response.actions, *step))
    return response


def _run(seen: Observation, now: datetime) -> Response:
    if why := _busy(seen):
        return Response(False, why)
    return Response(True, "a probe for new data starts")


def _retry(seen: Observation, now: datetime) -> Response:
    under_way = seen.lineage.candidate
    if under_way is not None and is_inconclusive(under_way):
        name, evaluation = under_way.metadata.name, under_way.status.evaluation
        most = max_interim_analyses(under_way.spec.recipe.gate)
        if evaluation and evaluation.interim_analyses >= most:
            return Response(
                False, f"{name}: {most} of {most} interim analyses are used up; use reject"
            )
        if not held(seen, under_way):
            return Response(False, f"{name} waits for data, not for a user; use run")
        return Response(
            True,
            f"{name} is evaluated again on its newest holdout",
            facts=_acknowledge(seen, hold_name(under_way)),
        )
    if why := _busy(seen):
        return Response(False, why)
    if first := failed_import(seen):
        return Response(True, "importing again", facts=_acknowledge(seen, first.metadata.name))
    if shared := seen.lineage.shared_rejection:
        return Response(
            True,
            "the hold ends; a probe for data starts",
            facts=_acknowledge(seen, shared[0].metadata.name),
        )
    return Response(
        True, "a probe for data starts; rows that were evaluated before may be evaluated again"
    )


def _reject(seen: Observation, now: datetime) -> Response:
    under_way = seen.lineage.candidate
    if under_way is None:
        if shared := seen.lineage.shared_rejection:
            facts = _acknowledge(seen, shared[0].metadata.name)
            return Response(True, "the hold ends without a quarantine", facts=facts)
        return Response(False, "there is no candidate to reject")
    name = under_way.metadata.name
    if rolling(under_way):
        return Response(
            False, f"{name} is rolling out; the rollout completes or is rolled back automatically"
        )
    if under_way.spec.origin == "Imported":
        return Response(False, f"{name} is the initial model; delete the update instead")
    message = "rejected by request"
    changes = {"verdict": "Rejected", "reason": BY_REQUEST, "message": message, "verdict_at": now}
    if servable(under_way):  # its verdict is about the evidence, and stays
        changes = {"retired_reason": BY_REQUEST, "message": message}
    status = under_way.status.model_copy(update=changes)
    return Response(True, f"{name} is rejected", actions=(WriteGeneration(name, status),))


def _quarantine(seen: Observation, now: datetime) -> Response:
    cursor, wanted = seen.update.status.cursor, seen.lineage.proposed_for_quarantine
    if not wanted:
        return Response(
            False, "no partition is proposed (status.cursor.proposedForQuarantine is empty)"
        )
    quarantined = sorted({*cursor.quarantined, *wanted})
    if len(quarantined) > MAX_QUARANTINED:
        room = cursor.quarantined and len(wanted) <= MAX_QUARANTINED
        message = (
            f"{len(quarantined)} partitions would be quarantined ({len(cursor.quarantined)} are), "
            f"and at most {MAX_QUARANTINED} can be; use {'release first' if room else 'reject'}"
        )
        return Response(False, message)
    facts = {"cursor": cursor.model_copy(update={"quarantined": quarantined})}
    message = f"quarantined: {', '.join(wanted)}"
    return Response(
        True, message, write_record(seen, quarantined, seen.lineage.training_only, now), facts
    )


def _release(seen: Observation, now: datetime) -> Response:
    cursor = seen.update.status.cursor
    if not cursor.quarantined:
        return Response(False, "nothing is quarantined (status.cursor.quarantined is empty)")
    if why := _busy(seen):
        return Response(False, why)
    joining = sorted({*seen.lineage.training_only, *cursor.quarantined})
    if len(joining) > MAX_QUARANTINED:
        message = (
            f"{len(joining)} partitions would be released and not trained on yet, and at most "
            f"{MAX_QUARANTINED} can be; wait until a generation that was trained on them is live"
        )
        return Response(False, message)
    facts = {"cursor": cursor.model_copy(update={"quarantined": [], "released": joining})}
    message = f"released: {', '.join(cursor.quarantined)}; their rows join the next window"
    return Response(True, message, write_record(seen, [], joining, now), facts)


def _busy(seen: Observation) -> str:
    """Why no other run can start now."""
    if unknown := seen.lineage.unknown:
        return f"{unknown.metadata.name} has {unknown_value(unknown)}, a value of another version"
    under_way = seen.lineage.candidate
    if under_way is None or is_inconclusive(under_way):
        return ""
    name = under_way.metadata.name
    if rolling(under_way):
        return f"{name} is rolling out; wait for its end"
    if under_way.spec.origin == "Imported":
        return f"{name} is the initial model and in progress; wait for its end"
    return f"{name} is in progress; wait for its end or use reject"


def _acknowledge(seen: Observation, hold: str) -> dict[str, Any]:
    return {"acknowledged_holds": [*seen.update.status.acknowledged_holds, hold][-16:]}


VERBS: dict[str, Callable[[Observation, datetime], Response]] = {
    "run": _run,
    "retry": _retry,
    "reject": _reject,
    "quarantine": _quarantine,
    "release": _release,
}
