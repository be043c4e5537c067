"""A recreated update adopts the generations of its predecessor: no target changes.

Live is the newest promotion, whichever update made it. A run in progress without a verdict fails,
does not count as evaluated, and its Job is deleted; a waiting candidate or a rollout continues.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from springtide_api.names import LABEL_UPDATE_UID
from springtide_operator.lifecycle.jobs.running_time import close_attempt, end_stage
from springtide_operator.lifecycle.state.generations import ORPHANED, unknown_value
from springtide_operator.lifecycle.state.plan import (
    AdoptGeneration,
    DeleteJob,
    Event,
    Step,
    WriteGeneration,
)
from springtide_operator.lifecycle.state.quarantine_records import restored_cursor

if TYPE_CHECKING:
    from datetime import datetime
    from typing import Any

    from springtide_api.generation.status import GenerationStatus, StageRun
    from springtide_api.objects import ModelGeneration
    from springtide_operator.lifecycle.state.observation import Observation
    from springtide_operator.lifecycle.state.plan import Action


def adopt(seen: Observation, now: datetime) -> Step | None:
    """Adopt generations of the same update name with another uid, or of another deletionPolicy."""
    uid, owned = seen.update.metadata.uid, seen.update.spec.deletion_policy == "Delete"
    orphans = [g for g in seen.generations if g.metadata.labels.get(LABEL_UPDATE_UID) != uid]
    kept = (g for g in seen.generations if g not in orphans and _is_owned(seen, g) != owned)
    actions: list[Action] = [AdoptGeneration(g.metadata.name, owned) for g in kept]
    cursor = restored_cursor(seen)
    facts: dict[str, Any] = {"cursor": cursor} if cursor else {}
    if not orphans:
        return Step(actions=tuple(actions), facts=facts) if actions or facts else None
    for generation in orphans:
        name, status = generation.metadata.name, generation.status
        if unknown_value(generation):
            actions.append(AdoptGeneration(name, owned))
            continue
        if changes := _ended(seen, generation, now):
            actions.append(WriteGeneration(name, status.model_copy(update=changes)))
        actions += _orphaned_jobs(seen, generation)
        actions.append(AdoptGeneration(name, owned))
    names = ", ".join(g.metadata.name for g in orphans[-3:])
    message = f"adopted {len(orphans)} generations of the same update name, the last: {names}"
    return Step(
        actions=tuple(actions),
        facts=facts,
        events=(Event("Adopted", message),),
    )


def _is_owned(seen: Observation, generation: ModelGeneration) -> bool:
    """Whether the garbage collector deletes a generation with its update."""
    uid = seen.update.metadata.uid
    return any(each.uid == uid for each in generation.metadata.owner_references)


def _ended(seen: Observation, generation: ModelGeneration, now: datetime) -> dict[str, Any]:
    """Fields of its status that change, as what ran without an update is not known."""
    status = generation.status
    imported = generation.spec.origin == "Imported" and status.artifact
    if status.verdict != "Pending" or imported:
        if status.evaluation is None or not status.evaluation.job:
            return {}
        evaluation = _without_pods(seen, status.evaluation, now)
        return {"evaluation": evaluation.model_copy(update={"job": "", "job_uid": ""})}
    if status.retired_reason:
        return dict(_stages_without_pods(seen, status, now))
    return {
        "verdict": "Failed",
        "reason": ORPHANED,
        "message": "its update was deleted before it had a verdict",
        "verdict_at": now,
        **_stages_without_pods(seen, status, now),
    }


def _stages_without_pods(
    seen: Observation, status: GenerationStatus, now: datetime
) -> dict[str, StageRun]:
    stages = {"training": status.training, "evaluation": status.evaluation}
    return {name: _without_pods(seen, run, now) for name, run in stages.items() if run is not None}


def _without_pods(seen: Observation, run: StageRun, now: datetime) -> StageRun:
    """A stage whose pods were summed up: their time would never end.

    When a pod ended whose Job is gone, while no update existed, is unknown: it is not counted. The
    Job continues after `--cascade=orphan`, and is deleted now.
    """
    job = next((job for job in seen.jobs if run.job_uid and job.uid == run.job_uid), None)
    if job is not None:
        return end_stage(run, job, now)
    ended = run.model_copy(update={"pods": [pod for pod in run.pods if pod.ended_at]})
    return close_attempt(ended, now)


def _orphaned_jobs(seen: Observation, generation: ModelGeneration) -> list[DeleteJob]:
    """Jobs of a generation: after `--cascade=orphan` they continue, and their result is unused.

    Only those whose uid was recorded: other objects with our labels may not be ours.
    """
    runs = (generation.status.training, generation.status.evaluation)
    recorded = {run.job_uid for run in runs if run and run.job_uid}
    left = [job for job in seen.jobs if job.uid in recorded and not job.deleting]
    return [DeleteJob(job.name, job.uid, job.is_job_set) for job in left]
