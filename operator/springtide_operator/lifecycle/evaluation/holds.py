"""Holds: what waits for a decision by a user, and the requests that end it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from springtide_judging.interim_analyses import max_interim_analyses
from springtide_operator.lifecycle.evaluation.approval import approval_waiting, awaits_approval
from springtide_operator.lifecycle.evaluation.freeze import freeze
from springtide_operator.lifecycle.evaluation.interim_analyses import analyses_elsewhere
from springtide_operator.lifecycle.evaluation.rollback_hold import rollback_hold
from springtide_operator.lifecycle.jobs.suspension import resumes_once
from springtide_operator.lifecycle.state.plan import Waiting
from springtide_operator.lifecycle.state.quarantine_records import MAX_QUARANTINED

if TYPE_CHECKING:
    from springtide_api.objects import ModelGeneration
    from springtide_operator.lifecycle.state.observation import Observation

RESOLVED_BY_DATA = frozenset({"ExtendHoldout", "TooFewEntities"})
"""Reasons of an inconclusive verdict that more data resolves without a user."""

QUARANTINE_FULL = "QuarantineFull"
"""Reason of a probe that found more partitions to quarantine than a status holds."""


def held(seen: Observation, generation: ModelGeneration) -> bool:
    """Whether an inconclusive candidate waits for a user, not for data."""
    status = generation.status
    if status.verdict != "Inconclusive" or status.reason in RESOLVED_BY_DATA:
        return False
    if status.evaluation is None or hold_name(generation) in seen.update.status.acknowledged_holds:
        return False
    quarantined = set(seen.update.status.cursor.quarantined)
    suspect = status.evaluation.holdouts[-1]
    if not suspect.outcome:
        return False  # its evaluation on the next one is in progress
    return not (suspect.outcome == "Suspect" and quarantined & set(suspect.partitions))


def is_inconclusive(generation: ModelGeneration) -> bool:
    """Whether its verdict is inconclusive and no analysis on a newer holdout is in progress."""
    evaluation = generation.status.evaluation
    analyzed = evaluation is not None and evaluation.holdouts[-1].outcome != ""
    return generation.status.verdict == "Inconclusive" and analyzed


def hold_name(generation: ModelGeneration) -> str:
    """The name of one hold: another holdout, or another analysis on the same, is another hold."""
    name, evaluation = generation.metadata.name, generation.status.evaluation
    if evaluation is None or not evaluation.holdouts:
        return name
    return f"{name}/{evaluation.attempt}-{evaluation.holdouts[-1].digest[7:15]}"


def hold(seen: Observation) -> Waiting | None:
    """Why nothing continues before a user decides.

    A candidate that waits for approval or is held, the rollback of a promoted generation, two
    rejections in a row, or more partitions missing than can be quarantined.
    """
    waiting, probe = seen.lineage.candidate, seen.update.status.last_probe
    if stopped := freeze(seen):
        return stopped
    if waiting is not None and awaits_approval(seen, waiting):
        return approval_waiting(seen, waiting)
    if waiting is not None and held(seen, waiting):
        status = waiting.status
        retry = "" if _used_up(waiting) else "retry@<token> to evaluate again"
        name, requests = waiting.metadata.name, _requests(seen, retry)
        message = f"{name} is on hold: {requests}; {status.message}"[:1024]
        short = f"held: {status.reason}"
        return Waiting(status.reason, message, "Evaluate", short=short, held=True)
    if after_rollback := rollback_hold(seen):
        return after_rollback
    if waiting is None and (shared := seen.lineage.shared_rejection):
        message = (
            f"{shared[0].metadata.name} is the second rejection in a row that was trained on "
            f"{shared[1]}; no third run starts: {_requests_after(seen, shared[0])}"
        )
        return Waiting("RejectedTwice", message, short="held: RejectedTwice", held=True)
    if probe is not None and probe.reason == QUARANTINE_FULL:
        return Waiting(probe.reason, probe.message, short=probe.reason, held=True)
    return None


def _requests_after(seen: Observation, rejected: ModelGeneration) -> str:
    """The requests after two rejections; where no run could start on the same rows, no retry."""
    evaluation = rejected.status.evaluation
    spent = analyses_elsewhere(seen, evaluation.holdouts[-1], None) if evaluation else 0
    most = max_interim_analyses(seen.update.spec.gate)
    if spent < most:
        return _requests(seen, "retry@<token> to train again")
    return (
        f"{_requests(seen, '', ' to train on the next data')}; {spent} of {most} interim analyses "
        "of its holdout are used up"
    )


def _requests(seen: Observation, retry: str, for_what: str = "") -> str:
    """The requests that end a hold, without those that would be refused.

    Args:
        seen: the update.
        retry: the request for a retry; empty where it would have no effect.
        for_what: what follows a `reject`.
    """
    named, quarantined = seen.lineage.proposed_for_quarantine, seen.update.status.cursor.quarantined
    requests, later = [f"reject@<token>{for_what}"], ""
    if retry and (condition := resumes_once(seen)):
        later = f"; {retry} once {condition}"
    elif retry:
        requests.insert(0, retry)
    if named and len({*named, *quarantined}) <= MAX_QUARANTINED:
        requests.insert(0, f"quarantine@<token> to leave {', '.join(named)} out")
    return f"annotate springtide.dev/request={', or '.join(requests)}{later}"


def _used_up(candidate: ModelGeneration) -> bool:
    status, most = candidate.status, max_interim_analyses(candidate.spec.recipe.gate)
    spent = status.evaluation.interim_analyses if status.evaluation else 0
    return status.reason == "InterimAnalysesUsedUp" or spent >= most
