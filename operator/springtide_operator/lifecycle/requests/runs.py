"""Requests about runs and candidates: run, retry, reject."""

from __future__ import annotations

from typing import TYPE_CHECKING

from springtide_judging.interim_analyses import max_interim_analyses
from springtide_operator.lifecycle.evaluation.holds import held, hold_name, is_inconclusive
from springtide_operator.lifecycle.requests.request import Response, acknowledge, busy
from springtide_operator.lifecycle.state.generations import BY_REQUEST, rolling, servable
from springtide_operator.lifecycle.state.plan import WriteGeneration
from springtide_operator.lifecycle.state.rejections import rollback_hold_name
from springtide_operator.lifecycle.training.initial_import import failed_import

if TYPE_CHECKING:
    from datetime import datetime

    from springtide_operator.lifecycle.state.observation import Observation


def run(seen: Observation, now: datetime) -> Response:
    """Start a probe for new data."""
    if why := busy(seen):
        return Response(False, why)
    return Response(True, "a probe for new data starts")


def retry(seen: Observation, now: datetime) -> Response:
    """Evaluate a held candidate again, or start a probe whatever was evaluated before."""
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
            facts=acknowledge(seen, hold_name(under_way)),
        )
    if why := busy(seen):
        return Response(False, why)
    if first := failed_import(seen):
        return Response(True, "importing again", facts=acknowledge(seen, first.metadata.name))
    if back := seen.lineage.rolled_back:
        facts = acknowledge(seen, *map(rollback_hold_name, back))
        return Response(True, "the hold ends; a probe for data starts", facts=facts)
    if shared := seen.lineage.shared_rejection:
        return Response(
            True,
            "the hold ends; a probe for data starts",
            facts=acknowledge(seen, shared[0].metadata.name),
        )
    return Response(
        True, "a probe for data starts; rows that were evaluated before may be evaluated again"
    )


def reject(seen: Observation, now: datetime) -> Response:
    """Reject the candidate, or end a hold without a quarantine."""
    under_way = seen.lineage.candidate
    if under_way is None:
        if shared := seen.lineage.shared_rejection:
            facts = acknowledge(seen, shared[0].metadata.name)
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
