"""How many interim analyses other generations used on the same rows."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from springtide_api.generation.spec import Range
    from springtide_api.generation.status import HoldoutStatus
    from springtide_api.objects import ModelGeneration
    from springtide_operator.lifecycle.state.observation import Observation


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
    """Whether two holdouts are of the same time in the same partitions, or have the same rows.

    A late row, or another filter, makes other rows of the same evidence.
    """
    same = one.partitions == other.partitions and _overlap(one.range, other.range)
    return same or one.digest == other.digest


def _overlap(one: Range, other: Range) -> bool:
    ends = one.to, other.to
    return all(
        begin is None or begin < end
        for begin, end in zip((other.from_, one.from_), ends, strict=True)
    )
