"""Facts about generations, derived independently of the operator's code."""

from __future__ import annotations

from typing import TYPE_CHECKING

from springtide_api.generation import status_values

if TYPE_CHECKING:
    from datetime import datetime

    from springtide_api.objects import IncrementalUpdate, ModelGeneration


WAITS_FOR_DATA = {"ExtendHoldout", "TooFewEntities"}
ENDS_A_HOLD = {"quarantine", "retry", "reject"}
NOT_EVALUATED = {"Orphaned", "SpecChanged"}


def accepted(g: ModelGeneration) -> bool:
    """Whether its weights may ever be served: Accepted, or imported with a head."""
    if g.spec.origin == "Imported":
        trained = g.status.artifact and g.status.artifact.head == "Trained"
        return bool(trained) and g.status.verdict == "Imported"
    return g.status.verdict == "Accepted"


def in_progress(g: ModelGeneration) -> bool:
    """Whether something may still happen to it by itself."""
    status = g.status
    if status.rollout.rollback_reason:
        return status.rollout.rolled_back_at is None
    if (
        status.rollout.promoted_at
        or status.retired_reason
        or status.verdict in {"Rejected", "Failed"}
    ):
        return False
    return not (status.artifact and status.artifact.head == "Seeded")


def most_analyses(g: ModelGeneration) -> int:
    """How many interim analyses it may have: one where an inconclusive one rejects it."""
    asked = g.spec.recipe.gate.on_inconclusive
    if asked.type == "Reject":
        return 1
    return asked.extend_holdout.max_interim_analyses if asked.extend_holdout else 3


def of_another_version(g: ModelGeneration) -> bool:
    """Whether something may still happen to it, by an operator that knows its words."""
    return in_progress(g) and not (
        g.status.verdict in status_values.VERDICTS
        and g.status.outcome in status_values.OUTCOMES
        and g.status.phase in status_values.GENERATION_PHASES
    )


def held(g: ModelGeneration) -> bool:
    """Whether it waits for a user."""
    evaluation, status = g.status.evaluation, g.status
    if status.verdict != "Inconclusive" or status.retired_reason or status.reason in WAITS_FOR_DATA:
        return False
    return evaluation is not None and evaluation.holdouts[-1].outcome != ""


def promotions(generations: list[ModelGeneration]) -> list[ModelGeneration]:
    """Those that were promoted and not rolled back, and that may be served."""
    back = {
        digest_of(g)
        for g in generations
        if g.status.rollout.rollback_reason and not g.status.rollout.failure
    }
    return [
        g
        for g in generations
        if g.status.rollout.promoted_at
        and not g.status.rollout.rollback_reason
        and not g.status.files_deleted_at
        and digest_of(g) not in back
    ]


def live_of(generations: list[ModelGeneration]) -> ModelGeneration | None:
    """The newest promotion that was not rolled back, and that may be served."""
    promoted = promotions(generations)
    return max(promoted, key=lambda g: (g.status.rollout.promoted_at, g.spec.number), default=None)


def bakes(g: ModelGeneration | None) -> bool:
    """Whether it is watched after its promotion, and that has not ended."""
    rollout = g.status.rollout if g else None
    return bool(rollout and rollout.bake_until and not rollout.baked_at)


def pinned_of(
    update: IncrementalUpdate, generations: list[ModelGeneration]
) -> ModelGeneration | None:
    """The generation that is pinned; while that is not possible, the one that was before."""
    pin, before = update.spec.rollout.pin, update.status.pinned
    if pin is None or update.spec.mode != "Enforce":
        return None
    wanted = [pin.generation, before.number if before else -1]
    possible = {g.spec.number: g for g in promotions(generations)}
    return next((possible[number] for number in wanted if number in possible), None)


def digest_of(g: ModelGeneration) -> str:
    """The digest that is served; empty without an artifact."""
    return g.status.artifact.served_digest if g.status.artifact else ""


def last_written(g: ModelGeneration) -> tuple[datetime, int]:
    """When the record of the quarantine in a generation was written."""
    times = (each.released_at or each.quarantined_at for each in g.status.quarantine_records)
    return max(times), g.spec.number


def through(current: ModelGeneration | None, initial: datetime | None) -> datetime | None:
    return current.status.trained_through if current else initial


def failed_import(generations: list[ModelGeneration], acknowledged: list[str]) -> bool:
    """Whether there are no weights to begin with, and a user must request another import."""
    imports = [g for g in generations if g.spec.origin == "Imported"]
    if live_of(generations) or not imports or any(g.status.artifact for g in imports):
        return False
    newest = max(imports, key=lambda g: g.spec.number)
    failed = newest.status.verdict == "Failed" and newest.status.reason not in NOT_EVALUATED
    return failed and newest.metadata.name not in acknowledged
