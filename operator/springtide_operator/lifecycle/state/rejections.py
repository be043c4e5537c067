"""Rows that are suspected and what is proposed for quarantine.

Those of consecutive rejections, and those of a generation that was rolled back after its promotion.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from springtide_judging.same_weights import SAME_WEIGHTS
from springtide_operator.lifecycle.state.generations import BY_REQUEST

if TYPE_CHECKING:
    from collections.abc import Sequence

    from springtide_api.objects import ModelGeneration
    from springtide_api.update.status import Cursor, UpdateStatus


def shared_rejection(
    generations: Sequence[ModelGeneration], status: UpdateStatus
) -> tuple[ModelGeneration, str] | None:
    """The second of two rejections in a row on a shared training partition, and that partition.

    A candidate with the weights of the live model says nothing about its rows and is left out.
    """
    trained = [g for g in reversed(generations) if g.spec.origin == "Trained"]
    decided = [
        g
        for g in trained
        if g.status.verdict in {"Accepted", "Rejected"} and g.status.reason != SAME_WEIGHTS
    ]
    if len(decided) < 2:
        return None
    newest, before = decided[0], decided[1]
    for each in (newest, before):
        if each.status.verdict != "Rejected" or each.status.reason == BY_REQUEST:
            return None
    quarantined = set(status.cursor.quarantined)
    shared = _training_partitions(newest) & _training_partitions(before) - quarantined
    if not shared or newest.metadata.name in status.acknowledged_holds:
        return None
    return newest, max(shared)


def _training_partitions(generation: ModelGeneration) -> set[str]:
    return set(generation.spec.data.partitions) if generation.spec.data else set()


def rollback_hold_name(generation: ModelGeneration) -> str:
    """The name of the hold after the rollback of a promoted generation."""
    return f"{generation.metadata.name}/rolled-back"


def rolled_back_windows(
    generations: Sequence[ModelGeneration], live: ModelGeneration | None, status: UpdateStatus
) -> tuple[ModelGeneration, ...]:
    """Generations rolled back after their promotion on whose rows no user decided, newest last.

    A later promotion ends the hold, and so does a quarantine of all their rows. One whose metrics
    had no number says nothing about its rows.
    """
    since = live.status.rollout.promoted_at if live else None
    quarantined = set(status.cursor.quarantined)
    found = []
    for generation in generations:
        rollout = generation.status.rollout
        if rollout.promoted_at is None or not rollout.rollback_reason or rollout.failure:
            continue
        if since is not None and rollout.promoted_at < since:
            continue
        if rollback_hold_name(generation) in status.acknowledged_holds:
            continue
        if _training_partitions(generation) - quarantined:
            found.append(generation)
    return tuple(found)


def proposed_quarantine(
    under_way: ModelGeneration | None,
    shared: tuple[ModelGeneration, str] | None,
    rolled_back: Sequence[ModelGeneration],
    cursor: Cursor,
) -> list[str]:
    """Partitions to propose.

    Those of a suspect holdout, else of generations that were rolled back, else that of a shared
    rejection.

    Args:
        under_way: the candidate.
        shared: two rejections in a row, and the newest partition that they share.
        rolled_back: generations rolled back after their promotion.
        cursor: what is in quarantine.
    """
    evaluation = under_way.status.evaluation if under_way else None
    if evaluation and evaluation.holdouts and evaluation.holdouts[-1].outcome == "Suspect":
        before = {p for holdout in evaluation.holdouts[:-1] for p in holdout.partitions}
        newest = [p for p in evaluation.holdouts[-1].partitions if p not in before]
        named = newest or evaluation.holdouts[-1].partitions
        return [p for p in named if p not in cursor.quarantined]
    if rolled_back:
        trained = {name for g in rolled_back for name in _training_partitions(g)}
        return sorted(trained - {*cursor.quarantined})
    return [shared[1]] if under_way is None and shared else []
