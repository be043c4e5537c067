"""How many interim analyses a candidate has, and the confidence of each.

All interim analyses of a candidate share one error probability.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from springtide_api.update.gate import Evaluation, Gate

MAX_INTERIM_ANALYSES = 3


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
