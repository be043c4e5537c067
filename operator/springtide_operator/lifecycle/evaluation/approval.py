"""Approval: an accepted generation waits for a person where gate.approval of the update is Manual.

The spec of the update decides, not the recipe of the generation: approval concerns what is served
from now on, not the evidence. So a change concerns a generation that waits, and repeats no run.
A generation with a new model of documents always waits: no index has vectors of it before a person
has made one, whatever the spec says by then.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Final

from springtide_operator.lifecycle.state.generations import servable
from springtide_operator.lifecycle.state.plan import Waiting

if TYPE_CHECKING:
    from springtide_api.objects import ModelGeneration
    from springtide_operator.lifecycle.state.observation import Observation

AWAITING: Final = "AwaitingApproval"
BY_APPROVER = "RejectedByApprover"


def awaits_approval(seen: Observation, generation: ModelGeneration) -> bool:
    """Whether an accepted generation waits for the decision of a person.

    An imported one needs none. A rollout that has started continues, whatever is changed then.
    """
    spec = seen.update.spec
    asked = spec.gate.approval == "Manual" or needs_index(generation)
    if (
        not asked
        or spec.mode != "Enforce"
        or generation.spec.origin == "Imported"
        or not servable(generation)
    ):
        return False
    started = generation.status.rollout.step_started_at is not None
    return not started and generation.spec.approval is None


def needs_index(generation: ModelGeneration) -> bool:
    """Whether its vectors of documents are others than those of the generation before it."""
    embedding = generation.spec.recipe.model.embedding
    trained = embedding is not None and embedding.train_tower == "Both"
    return trained and generation.spec.origin == "Trained"


def rejection(generation: ModelGeneration) -> str:
    """Why a person rejected a generation, as a message; empty without one, or if imported."""
    approval = generation.spec.approval
    if approval is None or approval.decision != "Rejected" or generation.spec.origin != "Trained":
        return ""
    return f"rejected by an approver: {approval.reason or 'no reason given'}"


def approved(generation: ModelGeneration) -> str:
    """That a person approved a generation, as the end of a message; empty without one."""
    approval = generation.spec.approval
    if approval is None or approval.decision != "Approved":
        return ""
    return f"; approved: {approval.reason or 'no reason given'}"


def approval_waiting(seen: Observation, generation: ModelGeneration) -> Waiting:
    """That a generation waits for approval, with the command that gives it."""
    name, namespace = generation.metadata.name, seen.update.metadata.namespace
    patch = json.dumps({"spec": {"approval": {"decision": "Approved", "reason": ""}}})
    why = "gate.approval is Manual"
    if needs_index(generation):
        why = "trainTower is Both: first make an index of documents by its vectors, beside the live"
    message = (
        f"{name} was accepted and waits for approval ({why}): kubectl --namespace"
        f" {namespace} patch mg/{name} --type merge --patch '{patch}', or Rejected, and a reason; "
        f"{generation.status.message}"
    )
    return Waiting(AWAITING, message[:1024], "Rollout", held=True)
