"""Invariants of the gate: what follows if it does not decide, and what small losses add up from."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lifecycle.generation_facts import WAITS_FOR_DATA, held, most_analyses, promotions

if TYPE_CHECKING:
    from springtide_api.contract import EvaluateOutput
    from springtide_api.generation.spec import GenerationSpec
    from springtide_api.generation.status import EvaluationStatus
    from springtide_api.objects import ModelGeneration
    from springtide_operator.lifecycle.state.observation import Observation


class GateInvariants:
    """Checks verdicts as they are written."""

    def an_inconclusive_analysis_ends_as_the_gate_says(
        self, old: ModelGeneration, new: ModelGeneration
    ) -> None:
        """By the gate of its recipe, also where too few entities decide nothing."""
        before, after, status = old.status.evaluation, new.status.evaluation, new.status
        if after is None or not after.holdouts:
            return
        if before and before.holdouts and before.holdouts[-1].outcome:
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

    def the_reference_is_the_pinned_one_or_the_last_that_was_proven_better(
        self, seen: Observation, spec: GenerationSpec
    ) -> None:
        """Without one that was proven better, the oldest; before any promotion, the baseline."""
        rules = [rule for rule in spec.recipe.gate.rules if rule.max_cumulative_regression]
        known = {g.metadata.name: g for g in promotions(list(seen.generations))}
        newest = sorted(known.values(), key=_promoted, reverse=True)
        if not newest and spec.baseline:
            newest = [g for g in seen.generations if g.metadata.name == spec.baseline.name]
        pinned = spec.recipe.evaluation.reference
        if not rules or not newest:
            assert spec.reference is None
            return
        if pinned and pinned.generation is not None:
            found = [g for g in newest if g.spec.number == pinned.generation]
        else:
            metrics = {rule.metric for rule in rules}
            found = [*(g for g in newest if metrics <= _proven(g)), newest[-1]]
        if not found:
            assert spec.reference is None
            return
        named = spec.reference.name, spec.reference.digest
        assert named == (found[0].metadata.name, found[0].status.artifact.served_digest)

    def superiority_is_what_was_measured(
        self, output: EvaluateOutput, evaluation: EvaluationStatus
    ) -> None:
        """Of an accepted generation, which may be the reference of later ones."""
        lows = {row[0]: row[8] for row in output.rules}
        for result in evaluation.results:
            low = lows.get(result.rule)
            assert result.superior == (low is not None and low > 0)


def _promoted(g: ModelGeneration) -> tuple[object, int]:
    return g.status.rollout.promoted_at, g.spec.number


def _proven(g: ModelGeneration) -> set[str]:
    results = g.status.evaluation.results if g.status.evaluation else []
    return {result.metric for result in results if result.superior}
