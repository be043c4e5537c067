"""Invariants of a gate that does not decide: what becomes of the candidate."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lifecycle.generation_facts import WAITS_FOR_DATA, held, most_analyses

if TYPE_CHECKING:
    from springtide_api.objects import ModelGeneration


class GateInvariants:
    """Checks verdicts as they are written."""

    def an_inconclusive_analysis_ends_as_the_gate_says(
        self, old: ModelGeneration, new: ModelGeneration
    ) -> None:
        """By the gate of its recipe, also where too few entities decide nothing."""
        before, after, status = old.status.evaluation, new.status.evaluation, new.status
        if after is None or (before and before.holdouts[-1].outcome):
            return
        if after.holdouts[-1].outcome not in {"Inconclusive", "TooFewEntities"}:
            return
        asked = new.spec.recipe.gate.on_inconclusive.type
        assert status.verdict == ("Rejected" if asked == "Reject" else "Inconclusive")
        if asked == "Hold":
            assert held(new)
        if status.reason in WAITS_FOR_DATA and asked != "Reject":
            assert asked == "ExtendHoldout"
            assert after.interim_analyses < most_analyses(new)
