"""The verdict as it is written: status, message, event, and what a user may request."""

from __future__ import annotations

from typing import TYPE_CHECKING

from springtide_api.generation.status import EvaluationStatus
from springtide_judging.gate import judge
from springtide_judging.interim_analyses import max_interim_analyses
from springtide_judging.same_weights import SAME_WEIGHTS
from springtide_operator.lifecycle.evaluation.interim_analyses import analyses_elsewhere
from springtide_operator.lifecycle.state.plan import Event, Step, WriteGeneration

if TYPE_CHECKING:
    from datetime import datetime

    from springtide_api.contract import Result
    from springtide_api.generation.status import GenerationStatus, Score
    from springtide_api.objects import ModelGeneration
    from springtide_judging.gate import Judgement
    from springtide_operator.lifecycle.state.observation import Observation


def too_few_entities(
    generation: ModelGeneration, evaluation: EvaluationStatus, short: str, now: datetime
) -> Step:
    """Conclude before scoring: the counts of the holdout are too small for the rules."""
    gate = generation.spec.recipe.gate
    changes = {
        "evaluation": _concluded(evaluation, outcome="TooFewEntities", spent=0),
        "verdict": "Inconclusive",
        "reason": "TooFewEntities",
        "message": f"{short}; waiting for a longer holdout, no interim analysis used",
        "verdict_at": now,
    }
    if gate.on_inconclusive.type == "Reject":
        changes |= {"verdict": "Rejected", "message": f"{short} (gate.onInconclusive is Reject)"}
    elif gate.on_inconclusive.type == "Hold":
        changes |= {"reason": "OnHold", "message": f"{short}; on hold"}
    changes["message"] = str(changes["message"])[:1024]
    return _verdict(generation, generation.status.model_copy(update=changes))


def reject_same_weights(
    generation: ModelGeneration, evaluation: EvaluationStatus, message: str, now: datetime
) -> Step:
    """Conclude before scoring: the candidate has the weights of the live model."""
    changes = {
        "evaluation": _concluded(evaluation, outcome="Decided", spent=0),
        "verdict": "Rejected",
        "reason": SAME_WEIGHTS,
        "message": message[:1024],
        "verdict_at": now,
    }
    return _verdict(generation, generation.status.model_copy(update=changes))


def _concluded(
    evaluation: EvaluationStatus, *, outcome: str, spent: int, judgement: Judgement | None = None
) -> EvaluationStatus:
    holdout = evaluation.holdouts[-1]
    evaluated = holdout.model_copy(
        update={"outcome": outcome, "interim_analyses": holdout.interim_analyses + spent}
    )
    changes: dict[str, object] = {
        "holdouts": [*evaluation.holdouts[:-1], evaluated],
        "interim_analyses": evaluation.interim_analyses + spent,
        "job": "",
        "job_uid": "",
        "failed_attempts": 0,
        "running_seconds": 0,
        "last_failure": "",
    }
    if judgement is not None:
        changes["results"] = judgement.results
        if not judgement.suspect:
            changes["scores"] = list(judgement.scores)
    return evaluation.model_copy(update=changes)


def conclude(
    seen: Observation,
    generation: ModelGeneration,
    evaluation: EvaluationStatus,
    result: Result,
    now: datetime,
) -> Step:
    """Write the verdict that follows from the result of an evaluation."""
    measured, spec = result.evaluate, generation.spec
    if measured is None:
        raise ValueError(f"Job {evaluation.job} reports success without numbers")
    artifact = generation.status.artifact
    judgement = judge(
        spec.recipe.gate,
        spec.recipe.evaluation,
        measured,
        without_baseline=spec.baseline is None,
        live_scores=_live_scores(seen),
        expected_candidate=artifact.served_digest if artifact else "",
        expected_baseline=spec.baseline.digest if spec.baseline else None,
        expected_reference=spec.reference.digest if spec.reference else None,
        expected_holdout=evaluation.holdouts[-1].digest,
        history=bool(spec.data and spec.data.historical),
    )
    elsewhere = analyses_elsewhere(seen, evaluation.holdouts[-1], generation)
    status = _status_after(generation, evaluation, judgement, elsewhere, now)
    recorded = status.evaluation.model_copy(update={"report": measured.report})  # type: ignore[union-attr]
    step = _verdict(generation, status.model_copy(update={"evaluation": recorded}))
    # First: after the verdict there is no further evaluation that would record them.
    remembered = _record_live_scores(seen, judgement)
    return Step(actions=remembered + step.actions, events=step.events)


def _status_after(
    generation: ModelGeneration,
    evaluation: EvaluationStatus,
    judgement: Judgement,
    elsewhere: int,
    now: datetime,
) -> GenerationStatus:
    gate = generation.spec.recipe.gate
    verdict, reason, message = judgement.verdict, judgement.reason, judgement.message
    outcome, spent = "Suspect" if judgement.suspect else "Decided", judgement.interim_analyses
    if verdict == "Inconclusive" and not judgement.suspect:
        outcome = "Inconclusive"
        left = max_interim_analyses(gate) - evaluation.interim_analyses - elsewhere - spent
        match gate.on_inconclusive.type:
            case "Reject":
                verdict, message = "Rejected", f"{message} (gate.onInconclusive is Reject)"
            case _ if not spent:
                message = f"{message}; no interim analysis used; {_waits(left)}"
            case "ExtendHoldout" if left > 0:
                reason = "ExtendHoldout"
                message = f"{message}; {left} interim analyses left on a longer holdout"
            case _:
                reason = "InterimAnalysesUsedUp" if left <= 0 else "OnHold"
                message = f"{message}; {_waits(left)}"
    return generation.status.model_copy(
        update={
            "verdict": verdict,
            "reason": reason,
            "message": message[:1024],
            "verdict_at": now,
            "evaluation": _concluded(evaluation, outcome=outcome, spent=spent, judgement=judgement),
        }
    )


def _waits(left: int) -> str:
    """Why it waits; which requests end a hold is in the condition ActionRequired."""
    return "on hold" if left > 0 else "all interim analyses are used up"


def _verdict(generation: ModelGeneration, status: GenerationStatus) -> Step:
    name = generation.metadata.name
    bad = status.verdict in {"Rejected", "Inconclusive"}
    event = Event(
        reason=status.verdict,
        message=f"{name}: {status.reason}: {status.message}"[:1024],
        type="Warning" if bad else "Normal",
        generation=name,
    )
    return Step(actions=(WriteGeneration(name, status),), events=(event,))


def _live_scores(seen: Observation) -> list[Score]:
    current = seen.lineage.baseline
    known = current.status.evaluation if current else None
    return list(known.scores) if known else []


def _record_live_scores(seen: Observation, judgement: Judgement) -> tuple[WriteGeneration, ...]:
    """Record live's own scores on this holdout: the next holdout is compared with them."""
    current = seen.lineage.baseline
    if current is None or judgement.suspect or not judgement.live_scores_now:
        return ()
    known = current.status.evaluation or EvaluationStatus(job="")
    scored = known.model_copy(update={"scores": list(judgement.live_scores_now)})
    status = current.status.model_copy(update={"evaluation": scored})
    return (WriteGeneration(current.metadata.name, status),)
