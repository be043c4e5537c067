"""The generation that `maxCumulativeRegression` compares with: small losses must not add up.

Each generation may be worse than the one before it by a margin. The reference stays the same
meanwhile, and changes only to a generation that was proven better than the one before.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from springtide_api.generation.spec import Ancestor
from springtide_judging.regression_reference import reference_number

if TYPE_CHECKING:
    from springtide_api.generation.spec import Recipe
    from springtide_api.generation.status import RuleResult
    from springtide_api.objects import ModelGeneration
    from springtide_operator.lifecycle.state.observation import Observation


def reference(seen: Observation, made_from: Recipe) -> ModelGeneration | None:
    """Return the promoted generation that a new candidate is compared with.

    Where none was promoted, because of spec.mode, the baseline.

    Args:
        seen: The update.
        made_from: Says which rules ask for it, and whether it is pinned.

    Returns:
        The pinned generation; else the newest that was proven better than live by each metric of
        such a rule; else the oldest that is known. None where no rule asks, nothing is live, or
        the pinned one was never promoted.
    """
    baseline = seen.lineage.baseline
    known = seen.lineage.promoted or ((baseline,) if baseline else ())
    promoted = {g.spec.number: g for g in known if g.status.artifact}
    results = {number: _results(generation) for number, generation in promoted.items()}
    number = reference_number(made_from.gate, made_from.evaluation, results)
    return None if number is None else promoted[number]


def as_ancestor(generation: ModelGeneration | None) -> Ancestor | None:
    """Name a generation by the form in which it is served, for a comparison with it."""
    if generation is None or generation.status.artifact is None:
        return None
    digest = generation.status.artifact.served_digest
    return Ancestor(name=generation.metadata.name, digest=digest)


def _results(generation: ModelGeneration) -> list[RuleResult]:
    evaluation = generation.status.evaluation
    return list(evaluation.results) if evaluation else []
