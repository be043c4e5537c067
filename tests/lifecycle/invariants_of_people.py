"""Invariants of what people decide: nothing is served that a person must approve and did not."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from springtide_api.objects import IncrementalUpdate, ModelGeneration
    from springtide_operator.lifecycle.state.observation import Observation
    from springtide_operator.lifecycle.state.plan import Serve, WriteGeneration


class PeopleInvariants:
    """Checks approvals."""

    def only_an_approval_is_added_to_a_spec(
        self, old: ModelGeneration, new: ModelGeneration
    ) -> None:
        before, after = old.spec, new.spec
        assert before.approval in (None, after.approval)
        assert after.model_copy(update={"approval": before.approval}) == before

    def a_rollout_starts_only_once_it_is_approved(
        self, seen: Observation, write: WriteGeneration
    ) -> None:
        before = next((g for g in seen.generations if g.metadata.name == write.name), None)
        if before is None or before.status.rollout.step_started_at:
            return
        if write.status.rollout.step_started_at:
            assert not awaits(seen.update, before)
            assert decision(before) != "Rejected"

    def nothing_rejected_is_applied(self, seen: Observation, serve: Serve) -> None:
        number = serve.serving.number if serve.serving else None
        for g in seen.generations:
            assert g.spec.number != number or decision(g) != "Rejected"


def decision(g: ModelGeneration) -> str:
    return g.spec.approval.decision if g.spec.approval else ""


def awaits(update: IncrementalUpdate, g: ModelGeneration) -> bool:
    """Whether a person must decide on a generation before it may be rolled out."""
    started = g.status.rollout.step_started_at is not None
    accepted = g.status.verdict == "Accepted" and not g.status.retired_reason
    manual = update.spec.gate.approval == "Manual"
    return manual and accepted and not started and not decision(g)
