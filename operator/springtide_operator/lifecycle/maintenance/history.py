"""Deletes generations beyond the history limits, their weights first.

Nothing is deleted that still counts for the next run, and no weights that anything still refers to.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from springtide_api.contract import CollectInput
from springtide_api.names import job_name
from springtide_operator.lifecycle.evaluation.freeze import counted_rollbacks
from springtide_operator.lifecycle.evaluation.regression_reference import as_ancestor, reference
from springtide_operator.lifecycle.jobs.gpu_seconds import used_within_a_day
from springtide_operator.lifecycle.jobs.run_files import (
    artifact_ref,
    home,
    result_name,
    run_file,
    uri_of,
)
from springtide_operator.lifecycle.jobs.suspension import pin_waiting
from springtide_operator.lifecycle.maintenance.unreferenced import unreferenced
from springtide_operator.lifecycle.probing.schedule import runs_of_a_day
from springtide_operator.lifecycle.state.generations import (
    finished,
    referenced_artifacts,
    referenced_buffers,
    referenced_rows,
    unknown_value,
)
from springtide_operator.lifecycle.state.plan import (
    DeleteGeneration,
    StartJob,
    Step,
    WriteGeneration,
)
from springtide_operator.lifecycle.state.quarantine_records import preserve_record
from springtide_operator.lifecycle.state.recipe import recipe, trainer_image

if TYPE_CHECKING:
    from datetime import datetime

    from springtide_api.objects import ModelGeneration
    from springtide_operator.lifecycle.state.observation import Observation

MAX_STILL_NEEDED = 10
"""Runs that are kept beyond the history because of their holdouts."""


def prune_history(seen: Observation, now: datetime) -> Step | None:
    """Delete the oldest generation beyond the history, its weights first."""
    generation = _prunable(seen, now)
    if generation is None or pin_waiting(seen):
        return None
    if carried := preserve_record(seen, generation, now):
        return Step(actions=carried)
    folders = _folders(seen, generation)
    meta, number = seen.update.metadata, generation.spec.number
    name = job_name(meta.name, meta.uid, number, "collect", 1)
    job = seen.job(name)
    if folders and not (job and job.succeeded):
        if job is not None:
            return None  # in progress, or failed and retried soon
        made_from = generation.spec.recipe
        data = made_from.data.model_copy(update={"volume": None})  # its claim may be gone
        asked_of = made_from.model_copy(update={"data": data})
        shared = run_file(seen, "collect", asked_of, number=number, job=name, attempt=1)
        collect = CollectInput(delete=folders, unreferenced=unreferenced(seen, generation, now))
        asked = shared.model_copy(
            update={"collect": collect, "result": result_name(generation, "collect")}
        )
        image = trainer_image(seen)  # the image of that time may no longer exist
        mark = _mark(generation, now)  # first: a rollback must not return to it
        return Step(actions=(*mark, StartJob(run=asked, image=image)))
    return Step(actions=(DeleteGeneration(generation.metadata.name, generation.metadata.uid),))


def _mark(generation: ModelGeneration, now: datetime) -> tuple[WriteGeneration, ...]:
    """Record that the files of a generation are being deleted."""
    if generation.status.files_deleted_at:
        return ()
    status = generation.status.model_copy(update={"files_deleted_at": now})
    return (WriteGeneration(generation.metadata.name, status),)


def _prunable(seen: Observation, now: datetime) -> ModelGeneration | None:
    history = seen.update.spec.history
    promoted = seen.lineage.promoted
    highest = max((g.spec.number for g in seen.generations), default=-1)
    kept = {g.metadata.name for g in promoted[:2]} | _referred_to(seen) | _pinned(seen)
    if most := seen.update.spec.trigger.max_runs_per_day:
        kept |= {g.metadata.name for g in runs_of_a_day(seen, now)[-most:]}
    if seen.update.spec.rollout.rollback.freeze_after is not None:
        kept |= {g.metadata.name for g in counted_rollbacks(seen)}
        unfrozen = [g for g in seen.generations if g.status.unfrozen_at]
        # Without it, earlier rollbacks would count again.
        kept |= {g.metadata.name for g in unfrozen[-1:]}
    served = seen.digests_elsewhere.union(*(target.named for target in seen.targets))
    over = [g for g in seen.generations if g.status.files_deleted_at]
    over += promoted[max(history.generations, 2) :]
    names = {g.metadata.name for g in (*promoted, *over)}
    others = [
        g
        for g in reversed(seen.generations)
        if g.metadata.name not in names and g.spec.origin == "Trained" and finished(g)
    ]
    over += [g for g in others[history.rejected :] if g not in _still_needed(seen, others)]
    for generation in sorted(over, key=lambda g: g.spec.number):
        if generation.spec.number == highest or generation.metadata.name in kept:
            continue
        if unknown_value(generation):
            continue
        if _own_artifacts(seen, generation) & served or _counts_for_the_budget(
            seen, generation, now
        ):
            continue
        return generation
    return None


def _counts_for_the_budget(seen: Observation, generation: ModelGeneration, now: datetime) -> bool:
    """Whether its GPU seconds are part of those that limits.maxGpuSecondsPerDay allows."""
    limited = seen.update.spec.training.limits.max_gpu_seconds_per_day is not None
    return limited and used_within_a_day([generation], now) > 0


def _own_artifacts(seen: Observation, generation: ModelGeneration) -> set[str]:
    """Digests of weights, their served form, adapters and their bases that only this one names."""
    others = (g for g in seen.generations if g.metadata.name != generation.metadata.name)
    return referenced_artifacts([generation]) - referenced_artifacts(others)


def _referred_to(seen: Observation) -> set[str]:
    """Generations that maxCumulativeRegression of this or the next candidate compares with."""
    under_way = seen.lineage.candidate
    pinned = under_way.spec.reference if under_way else None
    known = [pinned, as_ancestor(reference(seen, recipe(seen)))]
    return {each.name for each in known if each}


def _pinned(seen: Observation) -> set[str]:
    """The generation that the targets serve because of a pin, and until they are back on live."""
    before = seen.update.status.pinned
    return {before.name} if before else set()


def _still_needed(seen: Observation, others: list[ModelGeneration]) -> list[ModelGeneration]:
    """Runs whose interim analyses or rejection still count for the next one.

    Args:
        seen: the update.
        others: finished runs that were never promoted, the newest first.
    """
    trained_through = seen.lineage.cursor
    counting = []
    for generation in others:
        data = generation.spec.data
        if data is None or data.holdout is None:
            continue
        if trained_through is None or data.holdout.to > trained_through:
            counting.append(generation)
    return counting[:MAX_STILL_NEEDED]


def _folders(seen: Observation, generation: ModelGeneration) -> list[str]:
    """Folders that only this generation names."""
    folder = home(seen, generation.spec.recipe)
    others = [g for g in seen.generations if g.metadata.name != generation.metadata.name]
    own: list[str] = []
    artifact, data = generation.status.artifact, generation.spec.data
    for digest in sorted(_own_artifacts(seen, generation)):
        served = artifact is not None and digest == artifact.served_digest
        uri = artifact.uri if artifact and served else artifact_ref(folder, digest).uri
        own.append(uri.removeprefix("file://"))
    if artifact and artifact.buffer and artifact.buffer.uri not in referenced_buffers(others):
        buffer = artifact.buffer.uri.removeprefix("file://")
        own += [buffer] if buffer.startswith(f"{folder}/buffers/") else []
    if data and data.manifest and data.manifest not in referenced_rows(others):
        rows = data.manifest.removeprefix("file://")
        own += [rows] if rows.startswith(f"{folder}/data/") else []
    if generation.spec.origin == "Trained":
        own.append(f"{folder}/checkpoints/g{generation.spec.number}")
    return [*own, *_reports(seen, generation, folder)]


def _reports(seen: Observation, generation: ModelGeneration, folder: str) -> list[str]:
    """Reports of every evaluation attempt: a report has the name of its Job.

    The recorded one may have the name of a Job of an earlier update of this name.
    """
    evaluation, meta = generation.status.evaluation, seen.update.metadata
    if evaluation is None or generation.spec.origin == "Imported":
        return []
    jobs = [
        job_name(meta.name, meta.uid, generation.spec.number, "evaluate", attempt)
        for attempt in range(1, evaluation.attempt + 1)
    ]
    place, _, recorded = (evaluation.report or "").rpartition("/")
    if recorded and place == f"{uri_of(folder)}/reports" and recorded not in jobs:
        jobs.append(recorded)
    return [f"{folder}/reports/{job}" for job in jobs]
