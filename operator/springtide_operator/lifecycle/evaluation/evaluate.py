"""Evaluates the candidate beside the live model on its newest holdout.

One evaluation Job is one interim analysis. A holdout that is too small by its counts alone, or that
is suspect, uses none.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from springtide_api.contract import ArtifactRef, EvaluateInput
from springtide_api.generation.status import EvaluationStatus, HoldoutStatus
from springtide_judging.gate import missing_counts
from springtide_judging.interim_analyses import interim_confidence
from springtide_judging.same_weights import same_weights
from springtide_operator.lifecycle.evaluation.verdict import (
    conclude,
    reject_same_weights,
    too_few_entities,
)
from springtide_operator.lifecycle.jobs.failures import fail_generation
from springtide_operator.lifecycle.jobs.run_files import artifact_ref, home, result_name, run_file
from springtide_operator.lifecycle.jobs.stage import (
    StageFailed,
    StageRequest,
    StageSucceeded,
    advance,
    start_attempt,
)
from springtide_operator.lifecycle.jobs.suspension import suspension
from springtide_operator.lifecycle.jobs.training_facts import metrics_of, retained
from springtide_operator.lifecycle.state.plan import Step, WriteGeneration

if TYPE_CHECKING:
    from datetime import datetime

    from springtide_api.contract import RunFile
    from springtide_api.generation.status import StageRun
    from springtide_api.objects import ModelGeneration
    from springtide_operator.lifecycle.state.observation import Observation


def evaluate(seen: Observation, now: datetime) -> Step | None:
    """Evaluate the candidate on its newest holdout, up to a verdict."""
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
    """One interim analysis on the newest holdout, unless none could decide."""
    recipe, holdout = generation.spec.recipe, evaluation.holdouts[-1]
    if same := _same_weights(generation):
        return reject_same_weights(generation, evaluation, same, now)
    if short := missing_counts(
        recipe.gate,
        recipe.evaluation,
        entities=holdout.entities,
        positives=holdout.positives,
        without_baseline=generation.spec.baseline is None,
    ):
        return too_few_entities(generation, evaluation, short, now)
    request = _stage_request(seen, generation, evaluation)
    if not evaluation.job:
        if suspended := suspension(seen, request.title):
            return Step(waiting=suspended)
        earlier = len(evaluation.holdouts) > 1 and evaluation.started_at is not None
        return start_attempt(seen, request, evaluation, evaluation.attempt + (1 if earlier else 0))
    match advance(seen, request, evaluation, now):
        case StageSucceeded(result, run):
            return conclude(seen, generation, _as_evaluation(run), result, now)
        case StageFailed(reason, message, run):
            return fail_generation(_with(generation, run), reason, message, now)
        case Step() as step:
            return step


def _same_weights(generation: ModelGeneration) -> str | None:
    spec, status = generation.spec, generation.status
    assert status.artifact is not None
    return same_weights(
        status.artifact.served_digest,
        spec.baseline.digest if spec.baseline else None,
        recipe=spec.recipe,
        metrics=metrics_of(status.training),
    )


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
        batch_divisor=getattr(record, "batch_divisor", 1),
        pods=spec.recipe.data.window.pods_for(holdout.rows),
        parent_number=int(spec.parent.name.rsplit("-g", 1)[-1]) if spec.parent else None,
        retained=retained(generation.status.training),
        continuation=spec.continuation.message if spec.continuation else "",
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
