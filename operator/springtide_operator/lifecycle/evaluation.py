"""Judging a candidate beside the live model: which holdout, how many looks, and what follows.

A look is one scoring of the candidate on a holdout. Looks share the error of one; a holdout that
counts alone show to be too small, or that is suspect, spends none.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from springtide_api.contract import ArtifactRef, EvaluateInput
from springtide_api.generation import EvaluationStatus, HoldoutStatus, StageRun
from springtide_operator.lifecycle.gate import (
    interim_confidence,
    judge,
    max_interim_analyses,
    missing_counts,
)
from springtide_operator.lifecycle.lineage import (
    analyses_elsewhere,
)
from springtide_operator.lifecycle.plan import Event, Step, WriteGeneration
from springtide_operator.lifecycle.running import (
    StageFailed,
    StageRequest,
    StageSucceeded,
    advance,
    home,
    run_file,
    start_attempt,
)
from springtide_operator.lifecycle.training import artifact_ref, fail, result_name

if TYPE_CHECKING:
    from datetime import datetime

    from springtide_api.contract import Result, RunFile
    from springtide_api.generation import GenerationStatus, Score
    from springtide_api.objects import ModelGeneration
    from springtide_operator.lifecycle.gate import Judgement
    from springtide_operator.lifecycle.observation import Observation

RESOLVED_BY_DATA = frozenset({"ExtendHoldout", "TooFewEntities"})
"""Reasons of an inconclusive verdict that end by themselves, with more data."""


def evaluate(seen: Observation, now: datetime) -> Step | None:
    """Bring the candidate to a verdict on its newest holdout."""
    generation = seen.lineage.candidate
    if generation is None or generation.spec.origin == "Imported":
        return None
    status = generation.status
    if status.artifact is None or status.verdict not in {"Pending", "Inconclusive"}:
        return None
    evaluation = status.evaluation or EvaluationStatus(
        job="", started_at=now, holdouts=[_first_holdout(generation)]
    )
    return None if evaluation.holdouts[-1].outcome else _analyze(seen, generation, evaluation, now)


def _analyze(
    seen: Observation, generation: ModelGeneration, evaluation: EvaluationStatus, now: datetime
) -> Step:
    """One look at the newest holdout, unless counts alone show that it is too small."""
    recipe, holdout = generation.spec.recipe, evaluation.holdouts[-1]
    if short := missing_counts(
        recipe.gate,
        recipe.evaluation,
        entities=holdout.entities,
        positives=holdout.positives,
        without_baseline=generation.spec.baseline is None,
    ):
        return _too_few_entities(generation, evaluation, short, now)
    request = _stage_request(seen, generation, evaluation)
    if not evaluation.job:
        earlier = len(evaluation.holdouts) > 1 and evaluation.started_at is not None
        return start_attempt(seen, request, evaluation, evaluation.attempt + (1 if earlier else 0))
    match advance(seen, request, evaluation, now):
        case StageSucceeded(result, run):
            return _conclude(seen, generation, _as_evaluation(run), result, now)
        case StageFailed(reason, message, run):
            return fail(_with(generation, run), reason, message, now)
        case Step() as step:
            return step


def held(seen: Observation, generation: ModelGeneration) -> bool:
    """Whether an inconclusive candidate waits for a person, not for data."""
    status = generation.status
    if status.verdict != "Inconclusive" or status.reason in RESOLVED_BY_DATA:
        return False
    if status.evaluation is None or hold_name(generation) in seen.update.status.acknowledged_holds:
        return False
    quarantined = set(seen.update.status.cursor.quarantined)
    suspect = status.evaluation.holdouts[-1]
    if not suspect.outcome:
        return False  # it is being judged on the next one
    return not (suspect.outcome == "Suspect" and quarantined & set(suspect.partitions))


def is_inconclusive(generation: ModelGeneration) -> bool:
    """Whether it was judged inconclusive and no look at a newer holdout is under way."""
    evaluation = generation.status.evaluation
    analyzed = evaluation is not None and evaluation.holdouts[-1].outcome != ""
    return generation.status.verdict == "Inconclusive" and analyzed


def hold_name(generation: ModelGeneration) -> str:
    """One hold of one candidate: another holdout, and another look at the same, may hold again."""
    name, evaluation = generation.metadata.name, generation.status.evaluation
    if evaluation is None or not evaluation.holdouts:
        return name
    return f"{name}/{evaluation.attempt}-{evaluation.holdouts[-1].digest[7:15]}"


def _first_holdout(generation: ModelGeneration) -> HoldoutStatus:
    data = generation.spec.data
    assert data and data.digest and data.manifest and data.holdout  # noqa: PT018
    return HoldoutStatus(
        digest=data.digest,
        manifest=data.manifest,
        range=data.holdout,
        partitions=data.holdout_partitions,
        rows=data.holdout_rows,
        entities=data.holdout_entities,
        positives=data.holdout_positives,
    )


def _stage_request(
    seen: Observation, generation: ModelGeneration, evaluation: EvaluationStatus
) -> StageRequest:
    def write(run: StageRun) -> WriteGeneration:
        return WriteGeneration(generation.metadata.name, _with(generation, run).status)

    return StageRequest(
        stage="evaluate",
        title="Evaluate",
        generation=generation,
        run=lambda record: _run_file(seen, generation, evaluation, record),
        write=write,
        gpus=min(1, generation.spec.recipe.training.compute.gpus_per_node),
    )


def _as_evaluation(run: StageRun) -> EvaluationStatus:
    return EvaluationStatus.model_validate(run.model_dump())


def _with(generation: ModelGeneration, run: StageRun) -> ModelGeneration:
    status = generation.status.model_copy(update={"evaluation": _as_evaluation(run)})
    return generation.model_copy(update={"status": status})


def _run_file(
    seen: Observation,
    generation: ModelGeneration,
    evaluation: EvaluationStatus,
    record: StageRun,
) -> RunFile:
    spec, artifact, holdout = generation.spec, generation.status.artifact, evaluation.holdouts[-1]
    assert artifact is not None
    folder = home(seen, spec.recipe)
    asked = EvaluateInput(
        candidate=ArtifactRef(uri=artifact.uri, digest=artifact.served_digest),
        baseline=artifact_ref(folder, spec.baseline.digest) if spec.baseline else None,
        reference=artifact_ref(folder, spec.reference.digest) if spec.reference else None,
        holdout=ArtifactRef(uri=holdout.manifest, digest=holdout.digest),
        historical=list(spec.data.historical) if spec.data else [],
        confidence=interim_confidence(spec.recipe.gate, spec.recipe.evaluation),
        parent_number=int(spec.parent.name.rsplit("-g", 1)[-1]) if spec.parent else None,
    )
    shared = run_file(
        seen, "evaluate", spec.recipe, number=spec.number, job=record.job, attempt=record.attempt
    )
    analysis = len(evaluation.holdouts)
    return shared.model_copy(
        update={
            "evaluate": asked,
            "result": result_name(generation, f"evaluate-{analysis}-{holdout.digest[7:15]}"),
        }
    )


def _too_few_entities(
    generation: ModelGeneration, evaluation: EvaluationStatus, short: str, now: datetime
) -> Step:
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
        changes |= {"reason": "OnHold", "message": f"{short}; {_available_requests(generation)}"}
    changes["message"] = str(changes["message"])[:1024]
    return _verdict(generation, generation.status.model_copy(update=changes))


def _concluded(
    evaluation: EvaluationStatus, *, outcome: str, spent: int, judgement: Judgement | None = None
) -> EvaluationStatus:
    holdout = evaluation.holdouts[-1]
    judged = holdout.model_copy(
        update={"outcome": outcome, "interim_analyses": holdout.interim_analyses + spent}
    )
    changes: dict[str, object] = {
        "holdouts": [*evaluation.holdouts[:-1], judged],
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


def _conclude(
    seen: Observation,
    generation: ModelGeneration,
    evaluation: EvaluationStatus,
    result: Result,
    now: datetime,
) -> Step:
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
    # First: after the verdict nobody would judge, and so remember, again.
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
                message = (
                    f"{message}; no interim analysis used; {_available_requests(generation, left)}"
                )
            case "ExtendHoldout" if left > 0:
                reason = "ExtendHoldout"
                message = f"{message}; {left} interim analyses left on a longer holdout"
            case _:
                reason = "InterimAnalysesUsedUp" if left <= 0 else "OnHold"
                message = f"{message}; {_available_requests(generation, left)}"
    return generation.status.model_copy(
        update={
            "verdict": verdict,
            "reason": reason,
            "message": message[:1024],
            "verdict_at": now,
            "evaluation": _concluded(evaluation, outcome=outcome, spent=spent, judgement=judgement),
        }
    )


def _available_requests(generation: ModelGeneration, left: int = 1) -> str:
    request = "annotate springtide.dev/request"
    if left <= 0:
        return f"all interim analyses are used up; {request}=reject@<token>"
    return f"held; {request}=retry@<token> or reject@<token>"


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
    current = seen.lineage.live
    known = current.status.evaluation if current else None
    return list(known.scores) if known else []


def _record_live_scores(seen: Observation, judgement: Judgement) -> tuple[WriteGeneration, ...]:
    """Keep live's own score on this holdout: the next holdout is held against it."""
    current = seen.lineage.live
    if current is None or judgement.suspect or not judgement.live_scores_now:
        return ()
    known = current.status.evaluation or EvaluationStatus(job="")
    scored = known.model_copy(update={"scores": list(judgement.live_scores_now)})
    status = current.status.model_copy(update={"evaluation": scored})
    return (WriteGeneration(current.metadata.name, status),)
