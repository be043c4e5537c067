"""Which promoted generation `maxCumulativeRegression` compares with."""

from __future__ import annotations

from typing import TYPE_CHECKING

from springtide_judging.bounds import cumulative

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from springtide_api.generation.status import RuleResult
    from springtide_api.update.gate import Evaluation, Gate


def reference_number(
    gate: Gate, evaluation: Evaluation, promoted: Mapping[int, Sequence[RuleResult]]
) -> int | None:
    """Return the number of the generation that a new candidate is compared with.

    Args:
        gate: Its rules say whether there is one.
        evaluation: Says whether it is pinned.
        promoted: The results of each promoted generation by its number, the newest promotion first.

    Returns:
        The pinned generation; else the newest that was proven better than live by each metric of
        such a rule; else the oldest. None where no rule asks, nothing was promoted, or the pinned
        one never was.
    """
    asked = {(rule.metric, rule.dataset) for rule in gate.rules if cumulative(rule)}
    if not asked or not promoted:
        return None
    pinned = evaluation.reference.generation if evaluation.reference else None
    if pinned is not None:
        return pinned if pinned in promoted else None
    return next((number for number, won in promoted.items() if asked <= _won(won)), [*promoted][-1])


def _won(results: Sequence[RuleResult]) -> set[tuple[str, str]]:
    """List metrics and datasets by which it was proven better than the live model then."""
    return {(result.metric, result.dataset) for result in results if result.superior}
