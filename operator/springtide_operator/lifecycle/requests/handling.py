"""Requests of users: the annotation `springtide.dev/request: <verb>@<token>`, handled once.

VERBS and GENERATION_VERBS define what each verb does; those of the second table name a generation.
A token found on an update without history is recorded and not run: a manifest from Git must not
repeat an old request.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from springtide_api.names import ANNOTATION_REQUEST
from springtide_api.update.status import LastRequest
from springtide_operator.lifecycle.evaluation.freeze import frozen
from springtide_operator.lifecycle.probing.probe_job import probe_name_taken, probe_now
from springtide_operator.lifecycle.requests.freezes import unfreeze
from springtide_operator.lifecycle.requests.partitions import quarantine, release
from springtide_operator.lifecycle.requests.promotions import promote
from springtide_operator.lifecycle.requests.request import Request, Response
from springtide_operator.lifecycle.requests.rollbacks import rollback
from springtide_operator.lifecycle.requests.rollout_retries import retry_rollout
from springtide_operator.lifecycle.requests.runs import reject, retry, run
from springtide_operator.lifecycle.state.plan import Event, Step

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

    from springtide_operator.lifecycle.state.observation import Observation

VERBS: dict[str, Callable[[Observation, datetime], Response]] = {
    "run": run,
    "retry": retry,
    "reject": reject,
    "quarantine": quarantine,
    "release": release,
    "unfreeze": unfreeze,
}

GENERATION_VERBS: dict[str, Callable[[Observation, Request, datetime], Response]] = {
    "promote": promote,
    "retry": retry_rollout,
    "rollback": rollback,
}
"""Verbs that name a generation, as in `rollback.g6`: a stale or missing number is refused."""

PROBING_VERBS = frozenset({"run", "retry"})
"""Verbs that start a probe at once."""


def record_request(seen: Observation, now: datetime) -> Step | None:
    """Record, and do not run, a request on an update without history."""
    request = _new_request(seen)
    if request is None or seen.update.status.observed_generation:
        return None
    message = "found on an update without history; set a new token to run it"
    return Step(facts={"last_request": _record(request, "Recorded", message)})


def handle_request(seen: Observation, now: datetime) -> Step | None:
    """Handle a request that was not handled before."""
    request = _new_request(seen)
    if request is None:
        return None
    if request.word in PROBING_VERBS and probe_name_taken(seen, str(request)):
        return None  # repeated: its name is free once the Job of the first is deleted
    response = _respond(seen, request, now)
    result = "Accepted" if response.accepted else "Refused"
    event = Event(
        reason=f"Request{result}",
        message=f"{request}: {response.message}",
        type="Normal" if response.accepted else "Warning",
    )
    facts = {
        "last_request": _record(request, result, response.message),
        **(response.facts or {}),
    }
    return Step(actions=response.actions, facts=facts, events=(event, *response.events))


def _record(request: Request, result: str, message: str) -> LastRequest:
    return LastRequest(
        token=request.token, verb=request.word, result=result, message=message[:1024]
    )


def _new_request(seen: Observation) -> Request | None:
    """Return a request that was not handled before."""
    text = seen.update.metadata.annotations.get(ANNOTATION_REQUEST, "")
    if not text:
        return None
    request = Request.parse(text)
    last = seen.update.status.last_request
    same = last is not None and (last.verb, last.token) == (request.word, request.token)
    return None if same else request


def _respond(seen: Observation, request: Request, now: datetime) -> Response:
    if not request.token:
        return Response(False, f"write it as <verb>@<token>, such as {request.word or 'run'}@1")
    if request.word in VERBS:
        return _plain(seen, request, now)
    if request.verb in GENERATION_VERBS:
        return GENERATION_VERBS[request.verb](seen, request, now)
    known = [*VERBS, *(f"{verb}.g<number>" for verb in GENERATION_VERBS)]
    return Response(False, f"unknown verb {request.word!r}; use one of {', '.join(known)}")


def _plain(seen: Observation, request: Request, now: datetime) -> Response:
    probes = request.word in PROBING_VERBS
    if probes and (why := _suspended(seen)):
        return Response(False, why)
    if probes and frozen(seen):
        return Response(False, "the update is frozen; request unfreeze first")
    response = VERBS[request.word](seen, now)
    if probes and response.accepted:
        started = probe_now(seen, str(request), now)
        response = replace(response, actions=(*response.actions, *started))
    return response


def _suspended(seen: Observation) -> str:
    """Why no probe starts by request now."""
    if seen.update.spec.suspend:
        return "spec.suspend is true; set it to false first"
    pin = seen.update.spec.rollout.pin
    if pin is None:
        return ""
    return f"spec.rollout.pin is set (generation {pin.generation}); remove it first"
