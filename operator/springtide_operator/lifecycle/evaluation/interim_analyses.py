"""How many interim analyses a candidate has, and how many were used on the same rows.

All interim analyses of a candidate share one error probability.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from springtide_api.generation.status import HoldoutStatus
    from springtide_api.objects import ModelGeneration
    from springtide_api.update.gate import Evaluation, Gate
    from springtide_operator.lifecycle.state.observation import Observation

MAX_INTERIM_ANALYSES = 3


def analyses_elsewhere(
    seen: Observation, holdout: HoldoutStatus, at: ModelGeneration | None
) -> int:
    """Interim analyses that other generations used on a holdout, whatever their training rows."""
    spent = 0
    for generation in seen.generations:
        evaluation = generation.status.evaluation
        if evaluation is None or (at and generation.metadata.name == at.metadata.name):
            continue
        spent += sum(
            each.interim_analyses for each in evaluation.holdouts if _same_rows(each, holdout)
        )
    return spent


def _same_rows(one: HoldoutStatus, other: HoldoutStatus) -> bool:
    same = (one.partitions, one.rows, one.range) == (other.partitions, other.rows, other.range)
    return same or one.digest == other.digest


def interim_confidence(gate: Gate, evaluation: Evaluation) -> float:
    """Return the one-sided confidence of one interim analysis: all of them share one error."""
    confidence = float(evaluation.bootstrap.confidence)
    return 1.0 - (1.0 - confidence) / max_interim_analyses(gate)


def max_interim_analyses(gate: Gate) -> int:
    """Return how often a candidate may be scored: once where an inconclusive result rejects.

    A candidate on hold may be analyzed again by request; that shares the same error.
    """
    if gate.on_inconclusive.type == "Reject":
        return 1
    extend = gate.on_inconclusive.extend_holdout
    return extend.max_interim_analyses if extend else MAX_INTERIM_ANALYSES
