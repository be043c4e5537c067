"""Starts a run on a window of data, unless the same run was evaluated before."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from springtide_api.generation.spec import (
    Ancestor,
    GenerationData,
    GenerationSpec,
    Range,
    UpdateRef,
)
from springtide_judging.interim_analyses import max_interim_analyses
from springtide_operator.lifecycle.evaluation.freeze import frozen
from springtide_operator.lifecycle.evaluation.interim_analyses import analyses_elsewhere
from springtide_operator.lifecycle.evaluation.modes import TRAINED_ONLY
from springtide_operator.lifecycle.evaluation.regression_reference import as_ancestor, reference
from springtide_operator.lifecycle.probing.holdout_extension import (
    analyses_used_up,
    holdout_status,
    no_run,
)
from springtide_operator.lifecycle.state.generations import (
    ORPHANED,
    SPEC_CHANGED,
    rollback_outcome,
)
from springtide_operator.lifecycle.state.plan import CreateGeneration, Event, Step
from springtide_operator.lifecycle.state.recipe import (
    continuation,
    excluded_generations,
    parent_buffer,
    parent_fisher,
    recipe,
    recipe_hash,
)

if TYPE_CHECKING:
    from typing import Any

    from springtide_api.contract import WindowFound
    from springtide_api.generation.continuation import Continuation
    from springtide_api.generation.spec import Recipe
    from springtide_api.objects import ModelGeneration
    from springtide_operator.lifecycle.state.observation import Observation
    from springtide_operator.lifecycle.state.observed import ObservedJob


def evaluated_before(
    seen: Observation, data: GenerationData, made_by: str, parent_digest: str
) -> ModelGeneration | None:
    """The generation of the same rows, recipe and weights, if one was evaluated before."""
    for generation in seen.generations:
        spec, status = generation.spec, generation.status
        if spec.data is None or spec.parent is None or status.reason in {ORPHANED, SPEC_CHANGED}:
            continue
        same = (spec.data.digest, spec.recipe_hash, spec.parent.digest)
        if same == (data.digest, made_by, parent_digest) and not _retry_may_differ(
            seen, generation
        ):
            return generation
    return None


def _retry_may_differ(seen: Observation, generation: ModelGeneration) -> bool:
    """Whether it ended without evidence, for a cause that has changed since."""
    status, made_from = generation.status, generation.spec.recipe
    if status.evaluation and status.evaluation.interim_analyses:
        return False
    if status.verdict == "Pending":
        trained_only = status.retired_reason == TRAINED_ONLY
        now_judged = trained_only and seen.update.spec.mode != "TrainOnly"
        return now_judged or status.retired_reason == "PartitionQuarantined"
    return status.verdict == "Failed" and _run_environment(made_from) != _run_environment(
        recipe(seen)
    )


def _run_environment(made_from: Recipe) -> tuple[object, ...]:
    """What may fail a run independently of its rows: hardware, limits, image, claims, identity."""
    training, data = made_from.training, made_from.data
    identity = data.secret_name, data.service_account_name
    reached_by = made_from.storage.volume, data.volume, *identity
    return (training.compute, training.limits, training.image, *reached_by)


def _released_message(names: list[str]) -> str:
    return (
        f"{', '.join(names)} was quarantined and released: it is used for training and never as a "
        "holdout; a run starts once the holdout is later data, or data.window.maxRows ends before"
    )


def _already_evaluated(before: ModelGeneration, *, spent: int) -> str:
    """What became of the same run, and what is possible: a retry needs an interim analysis."""
    status = before.status
    rolled_back = rollback_outcome(before) if status.rollout.rollback_reason else ""
    possible = "springtide.dev/request=retry@<token> runs them again"
    if rolled_back == "RolledBack":
        possible += ", and equal weights are not served again"
    if spent:
        possible = (
            f"{spent} interim analyses of their holdout were used, and none is left, so a run "
            "waits for the next data"
        )
    return (
        f"the same rows, recipe and weights were used by {before.metadata.name} "
        f"({rolled_back or status.retired_reason or status.verdict}); {possible}"
    )


def start_run(
    seen: Observation, job: ObservedJob, window: WindowFound, facts: dict[str, Any]
) -> Step:
    """Start a run on a window, unless it was evaluated before or a hold prevents it."""
    ancestor = seen.lineage.parent
    retry = job.request.startswith("retry")
    if ancestor is None or ancestor.status.artifact is None or window.to is None:
        return Step(facts=facts)
    held = seen.lineage.shared_rejection or seen.lineage.rolled_back
    if frozen(seen) or (held and not retry):
        return Step(facts=facts)
    if released := sorted({*seen.lineage.training_only} & {*window.holdout_partitions}):
        return no_run(job, facts, "ReleasedPartitionInHoldout", _released_message(released))
    spec = _generation_spec(seen, job, window, ancestor)
    before = evaluated_before(
        seen,
        spec.data or GenerationData(),
        spec.recipe_hash,
        ancestor.status.artifact.weights_digest,
    )
    spent = analyses_elsewhere(seen, holdout_status(window), None)
    used_up = spent >= max_interim_analyses(spec.recipe.gate)
    if before is not None and not retry:
        message = _already_evaluated(before, spent=spent if used_up else 0)
        return no_run(job, facts, "AlreadyEvaluated", message)
    if used_up:
        return no_run(job, facts, "InterimAnalysesUsedUp", analyses_used_up(window, spent))
    name = seen.lineage.next_name
    owned = seen.update.spec.deletion_policy == "Delete"
    made = CreateGeneration(name, spec, owned, probe_uid=job.uid)
    started = run_started(seen, name, window, facts, continuing=spec.continuation)
    return replace(started, actions=(made,))


def run_started(
    seen: Observation,
    name: str,
    window: WindowFound,
    facts: dict[str, Any],
    *,
    continuing: Continuation | None,
) -> Step:
    """Count and report a run; in the same write as the probe's name, so once."""
    counters = seen.update.status.counters
    counted = counters.model_copy(update={"runs": counters.runs + 1})
    known = f"{window.rows - window.unlabelled_rows:,} rows"
    if window.unlabelled_rows:
        known += f" and those of {window.unlabelled_rows:,} without a label that its parent labels"
    message = (
        f"{name} trains on {known} up to {window.to:%Y-%m-%d %H:%M} UTC and is "
        f"evaluated on {window.holdout_rows:,} rows after them"
    )
    if window.excluded_rows:
        message += f"; left out: {window.excluded_rows:,} rows served before a rollback"
    if continuing is not None:
        message = f"{message}; it {continuing.message}"[:1024]
    event = Event("RunStarted", message, generation=name)
    return Step(facts={**facts, "counters": counted}, events=(event,))


def _generation_spec(
    seen: Observation, job: ObservedJob, window: WindowFound, ancestor: ModelGeneration
) -> GenerationSpec:
    snapshot, image = recipe(seen), None
    if job.image == snapshot.training.image:
        image = next((pod.image_digest for pod in job.pods if pod.image_digest), None)
    current = seen.lineage.baseline
    assert ancestor.status.artifact is not None
    origin = Ancestor(name=ancestor.metadata.name, digest=ancestor.status.artifact.weights_digest)
    return GenerationSpec(
        update_ref=UpdateRef(name=seen.update.metadata.name),
        number=seen.lineage.next_number,
        origin="Trained",
        trigger=job.trigger if job.trigger in {"Schedule", "OnData", "Request"} else "",
        parent=origin,
        baseline=as_ancestor(current),
        reference=as_ancestor(reference(seen, snapshot)) if current else None,
        data=_data(seen, snapshot, window, ancestor),
        continuation=continuation(seen, snapshot),
        recipe=snapshot,
        image_digest=image,
        recipe_hash=recipe_hash(snapshot, image),
    )


def _data(
    seen: Observation, made_from: Recipe, window: WindowFound, ancestor: ModelGeneration
) -> GenerationData:
    assert window.to is not None
    return GenerationData(
        windows=[Range(from_=window.from_, to=window.to)],
        partitions=window.partitions[-512:],
        quarantined=seen.update.status.cursor.quarantined,
        excluded_generations=list(excluded_generations(seen, made_from)),
        excluded_rows=window.excluded_rows or 0,
        holdout=Range(from_=window.holdout_from, to=window.holdout_to),
        holdout_partitions=window.holdout_partitions[-366:],
        manifest=window.manifest,
        digest=window.digest,
        rows=window.rows,
        unlabelled_rows=window.unlabelled_rows,
        holdout_rows=window.holdout_rows,
        holdout_entities=window.holdout_entities,
        holdout_positives=window.holdout_positives,
        reserved_rows=window.reserved_rows,
        historical=_shards(ancestor),
        buffer=parent_buffer(seen),
        fisher=parent_fisher(seen),
    )


def _shards(ancestor: ModelGeneration) -> list[str]:
    """Historical shards of the lineage: frozen at promotion, first used by the next generation."""
    data = ancestor.spec.data
    if data is None or not ancestor.status.rollout.promoted_at:
        return []
    own = [data.manifest] if data.manifest and data.reserved_rows else []
    return [*data.historical, *own][-64:]
