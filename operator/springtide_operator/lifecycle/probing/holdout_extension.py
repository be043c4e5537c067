"""Gives a candidate that waits for data a longer holdout, without training again."""

from __future__ import annotations

from typing import TYPE_CHECKING

from springtide_api.generation.spec import Range
from springtide_api.generation.status import HoldoutStatus
from springtide_judging.interim_analyses import max_interim_analyses
from springtide_operator.lifecycle.evaluation.holds import held
from springtide_operator.lifecycle.evaluation.interim_analyses import analyses_elsewhere
from springtide_operator.lifecycle.state.plan import Event, Step, WriteGeneration

if TYPE_CHECKING:
    from typing import Any

    from springtide_api.contract import WindowFound
    from springtide_api.objects import ModelGeneration
    from springtide_operator.lifecycle.state.observation import Observation
    from springtide_operator.lifecycle.state.observed import ObservedJob

MAX_HOLDOUTS = 8
"""Kept of one candidate; beyond, the oldest without an interim analysis is dropped."""


def extend_holdout(
    seen: Observation,
    waiting: ModelGeneration,
    job: ObservedJob,
    window: WindowFound,
    facts: dict[str, Any],
) -> Step:
    """Give the waiting candidate a longer holdout, unless it is on hold."""
    evaluation = waiting.status.evaluation
    if waiting.status.verdict != "Inconclusive" or evaluation is None or held(seen, waiting):
        return Step(facts=facts)
    same = (window.holdout_partitions[-366:], window.holdout_rows)
    repeated = any((holdout.partitions, holdout.rows) == same for holdout in evaluation.holdouts)
    if window.to is not None or (repeated and not job.request.startswith("retry")):
        return Step(facts=facts)
    if evaluation.holdouts[-1].outcome == "":
        return Step(facts=facts)
    if any(name in window.holdout_partitions for name in seen.lineage.training_only):
        return Step(facts=facts)
    holdout = holdout_status(window)
    spent = analyses_elsewhere(seen, holdout, waiting)
    if evaluation.interim_analyses + spent >= max_interim_analyses(waiting.spec.recipe.gate):
        return no_run(job, facts, "InterimAnalysesUsedUp", analyses_used_up(window, spent))
    known = evaluation.holdouts
    if len(known) == MAX_HOLDOUTS:
        unspent = next(index for index, each in enumerate(known) if not each.interim_analyses)
        known = [*known[:unspent], *known[unspent + 1 :]]
    longer = evaluation.model_copy(update={"holdouts": [*known, holdout]})
    status = waiting.status.model_copy(update={"evaluation": longer})
    name = waiting.metadata.name
    message = f"{name} is evaluated on {window.holdout_rows:,} rows, without training again"
    return Step(
        actions=(WriteGeneration(name, status),),
        facts=facts,
        events=(Event("HoldoutExtended", message, generation=name),),
    )


def holdout_status(window: WindowFound) -> HoldoutStatus:
    """The holdout of a window, not analyzed yet."""
    return HoldoutStatus(
        digest=window.digest,
        manifest=window.manifest,
        range=Range(from_=window.holdout_from, to=window.holdout_to),
        partitions=window.holdout_partitions[-366:],
        rows=window.holdout_rows,
        entities=window.holdout_entities,
        positives=window.holdout_positives,
    )


def analyses_used_up(window: WindowFound, spent: int) -> str:
    """Why no run or analysis starts: the interim analyses of its holdout are used up."""
    names = ", ".join(window.holdout_partitions[-3:]) or "these rows"
    return (
        f"{spent} interim analyses of the holdout {names} were used by earlier "
        f"candidates; another one on it could pass by chance, so a run waits for the next data"
    )


def no_run(job: ObservedJob, facts: dict[str, Any], reason: str, message: str) -> Step:
    """Record why no run starts; for a requested run an Event says so too."""
    last = facts["last_probe"].model_copy(update={"reason": reason, "message": message[:1024]})
    events = (Event(reason, message[:1024]),) if job.request else ()
    return Step(facts={**facts, "last_probe": last}, events=events)
