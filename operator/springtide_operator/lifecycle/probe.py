"""A look for new data that came back: a run begins, or a waiting candidate gets a longer holdout.

A probe counts once: it is consumed when `status.lastProbe` names it, and deleted only after that.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from springtide_api.generation import (
    Ancestor,
    GenerationData,
    GenerationSpec,
    HoldoutStatus,
    Range,
    UpdateRef,
)
from springtide_api.names import ANNOTATION_PROBE
from springtide_api.update_status import LastProbe
from springtide_operator.lifecycle.attempts import GRACE, format_failure, result_may_arrive
from springtide_operator.lifecycle.evaluation import held
from springtide_operator.lifecycle.gaps import quarantine_gaps
from springtide_operator.lifecycle.gate import max_interim_analyses
from springtide_operator.lifecycle.lineage import (
    analyses_elsewhere,
    evaluated_before,
    probe_digest,
    recipe,
    recipe_hash,
)
from springtide_operator.lifecycle.pending import queued
from springtide_operator.lifecycle.plan import (
    CreateGeneration,
    DeleteJob,
    Event,
    Step,
    Waiting,
    WriteGeneration,
)
from springtide_operator.lifecycle.reference import as_ancestor, reference
from springtide_operator.lifecycle.trigger import consumed

if TYPE_CHECKING:
    from datetime import datetime

    from springtide_api.contract import ProbeOutput, WindowFound
    from springtide_api.objects import ModelGeneration
    from springtide_operator.lifecycle.observation import Observation, ObservedJob

CANNOT_RUN = timedelta(minutes=15)
"""A probe whose pod is known to be kept from running is given up after so long."""

STARTING = timedelta(hours=1)
"""And any whose pod does not run, such as one that pulls a large image."""

MOST_HOLDOUTS = 8
"""Kept of one candidate; beyond, the oldest without an interim analysis is dropped."""


def consume_probe(seen: Observation, now: datetime) -> Step | None:
    """Wait for the probe that is under way, and take what it found."""
    uid = seen.update.metadata.uid
    probes = [j for j in seen.jobs if j.stage == "probe" and j.owner_uid == uid and not j.deleting]
    fresh = [job for job in probes if not consumed(seen, job)]
    if not fresh:
        return None
    # Of two in one second the one that repeats the other knows more of the quarantine.
    job = min(fresh, key=lambda each: (each.created, len(each.quarantined)))
    if (seen.update.spec.suspend or _spec_changed(seen, job)) and seen.lineage.candidate is None:
        return _outdated(job, "the spec", "SpecChanged")
    if job.result is not None and job.result.probe is not None and job.result.ok:
        return _probe_succeeded(seen, job, job.result.probe, now)
    if job.succeeded or job.failed:
        if result_may_arrive(job, now):
            return Step(waiting=Waiting("Probing", "", "Probe"), wake_after=GRACE)
        return _probe_failed(seen, job, now)
    why = job.problem or next((pod.waiting for pod in job.pods if not pod.running), "")
    if never_ran := _pod_never_ran(seen, job, why, now):
        return never_ran
    looking = Waiting("Probing", "", "Probe", short="looking for data")
    waiting = queued(why, "Probe") if why else looking
    return Step(waiting=waiting, wake_after=timedelta(seconds=30))


def _pod_never_ran(seen: Observation, job: ObservedJob, why: str, now: datetime) -> Step | None:
    """Give up a probe whose pod does not run: others wait for its place."""
    if any(pod.running or pod.exit_code is not None for pod in job.pods):
        return None
    patience = CANNOT_RUN if why else STARTING
    if now - max(job.created, job.resumed or job.created) < patience:
        return None
    minutes = round(patience.total_seconds() / 60)
    message = f"no pod of Job {job.name} ran within {minutes} minutes"
    if why:
        message += f": {why[:800]}"
    return _failure(seen, job, "ProbeNeverRan", message, now=now)


def _spec_changed(seen: Observation, job: ObservedJob) -> bool:
    """Whether the spec changed in what this probe depends on, since it began.

    An earlier version recorded only of which generation of the spec it was.
    """
    if job.probed:
        return job.probed != probe_digest(recipe(seen))
    return job.spec_generation != seen.update.metadata.generation


def _outdated(job: ObservedJob, what: str, reason: str) -> Step:
    """Something changed since it began to look: what it found is no window of today."""
    events: tuple[Event, ...] = ()
    if job.request:
        message = f"{what} changed while {job.request} looked for data; ask again with a new token"
        events = (Event(reason, message, "Warning"),)
    return Step(actions=(DeleteJob(job.name, job.uid),), events=events)


def _probe_failed(seen: Observation, job: ObservedJob, now: datetime) -> Step:
    failure = job.result.failure if job.result else None
    reason = failure.reason if failure else "ProbeFailed"
    codes = [pod.exit_code for pod in job.pods if pod.exit_code is not None]
    ended = f"the look for data ended with exit code {codes[0] if codes else '?'}"
    message = format_failure(failure) if failure else job.failure or ended
    return _failure(seen, job, reason, message, now=now)


def _failure(
    seen: Observation, job: ObservedJob, reason: str, message: str, *, now: datetime
) -> Step:
    """Count a probe that found nothing out; the next one of an interval comes later."""
    last = seen.update.status.last_probe
    record = LastProbe(
        finished_at=now,
        job=job.name,
        job_uid=job.uid,
        reason=reason,
        message=message[:1024],
        failures=(last.failures if last else 0) + 1,
    )
    event = Event(reason, message[:1024], "Warning")
    return Step(facts={"last_probe": record}, events=(event,))


def _probe_succeeded(
    seen: Observation, job: ObservedJob, found: ProbeOutput, now: datetime
) -> Step:
    facts: dict[str, Any] = {
        "last_probe": LastProbe(
            finished_at=now,
            job=job.name,
            job_uid=job.uid,
            reason=found.reason,
            message=found.message[:1024],
        ),
        "cursor": seen.update.status.cursor.model_copy(
            update={
                "pending_rows": found.pending_rows,
                "newest_partition": found.newest_partition,
            }
        ),
    }
    if (step := quarantine_gaps(seen, job, found.gaps, facts, now)) is not None:
        return step
    if found.window is None:
        return Step(facts=facts)
    for generation in seen.generations:
        if generation.metadata.annotations.get(ANNOTATION_PROBE) == job.uid:
            # The operator died between making it and writing these facts, maybe long ago.
            return _run_started(seen, generation.metadata.name, found.window, facts)
    if job.quarantined != frozenset(seen.update.status.cursor.quarantined):
        return _outdated(job, "the quarantine", "QuarantineChanged")
    if job.cursor != seen.lineage.cursor:
        return Step(facts=facts)
    waiting = seen.lineage.candidate
    if waiting is None:
        return _start_run(seen, job, found.window, facts)
    return _extend(seen, waiting, job, found.window, facts)


def _extend(
    seen: Observation,
    waiting: ModelGeneration,
    job: ObservedJob,
    window: WindowFound,
    facts: dict[str, Any],
) -> Step:
    """Give the waiting candidate a longer holdout, if it is one and nobody holds it."""
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
    holdout = _holdout(window)
    spent = analyses_elsewhere(seen, holdout, waiting)
    if evaluation.interim_analyses + spent >= max_interim_analyses(waiting.spec.recipe.gate):
        return _no_run(job, facts, "InterimAnalysesUsedUp", _analyses_used_up(window, spent))
    known = evaluation.holdouts
    if len(known) == MOST_HOLDOUTS:
        unspent = next(index for index, each in enumerate(known) if not each.interim_analyses)
        known = [*known[:unspent], *known[unspent + 1 :]]
    longer = evaluation.model_copy(update={"holdouts": [*known, holdout]})
    status = waiting.status.model_copy(update={"evaluation": longer})
    name = waiting.metadata.name
    message = f"{name} is judged on {window.holdout_rows:,} rows, without training again"
    return Step(
        actions=(WriteGeneration(name, status),),
        facts=facts,
        events=(Event("HoldoutExtended", message, generation=name),),
    )


def _holdout(window: WindowFound) -> HoldoutStatus:
    return HoldoutStatus(
        digest=window.digest,
        manifest=window.manifest,
        range=Range(from_=window.holdout_from, to=window.holdout_to),
        partitions=window.holdout_partitions[-366:],
        rows=window.holdout_rows,
        entities=window.holdout_entities,
        positives=window.holdout_positives,
    )


def _released(names: list[str]) -> str:
    return (
        f"{', '.join(names)} was quarantined and released: it may train and never judges; a run "
        "begins once later data judges, or data.window.maxRows lets it be trained"
    )


def _analyses_used_up(window: WindowFound, spent: int) -> str:
    names = ", ".join(window.holdout_partitions[-3:]) or "these rows"
    return (
        f"{spent} interim analyses of the holdout {names} were used by earlier "
        f"candidates; another one on it could pass by chance, so a run waits for the next data"
    )


def _no_run(job: ObservedJob, facts: dict[str, Any], reason: str, message: str) -> Step:
    """Say why no run begins; whoever asked for one is told by an Event, too."""
    last = facts["last_probe"].model_copy(update={"reason": reason, "message": message[:1024]})
    events = (Event(reason, message[:1024]),) if job.request else ()
    return Step(facts={**facts, "last_probe": last}, events=events)


def _start_run(
    seen: Observation, job: ObservedJob, window: WindowFound, facts: dict[str, Any]
) -> Step:
    """Begin a run on a window, unless it was judged before or a hold stands."""
    ancestor = seen.lineage.parent
    retry = job.request.startswith("retry")
    if ancestor is None or ancestor.status.artifact is None or window.to is None:
        return Step(facts=facts)
    if seen.lineage.shared_rejection and not retry:
        return Step(facts=facts)
    if released := sorted({*seen.lineage.training_only} & {*window.holdout_partitions}):
        return _no_run(job, facts, "ReleasedPartitionInHoldout", _released(released))
    spec = _generation_spec(seen, job, window, ancestor)
    before = evaluated_before(
        seen,
        spec.data or GenerationData(),
        spec.recipe_hash,
        ancestor.status.artifact.weights_digest,
    )
    if before is not None and not retry:
        message = (
            f"the same rows, recipe and weights were tried as {before.metadata.name} "
            f"({before.status.verdict}); springtide.dev/request=retry@<token> tries them again"
        )
        return _no_run(job, facts, "AlreadyEvaluated", message)
    spent = analyses_elsewhere(seen, _holdout(window), None)
    if spent >= max_interim_analyses(spec.recipe.gate):
        return _no_run(job, facts, "InterimAnalysesUsedUp", _analyses_used_up(window, spent))
    name = seen.lineage.next_name
    owned = seen.update.spec.deletion_policy == "Delete"
    made = CreateGeneration(name, spec, owned, probe_uid=job.uid)
    return replace(_run_started(seen, name, window, facts), actions=(made,))


def _run_started(seen: Observation, name: str, window: WindowFound, facts: dict[str, Any]) -> Step:
    """Count and announce a run; with the probe's name in the same write, once."""
    counters = seen.update.status.counters
    counted = counters.model_copy(update={"runs": counters.runs + 1})
    message = (
        f"{name} trains on {window.rows:,} rows up to {window.to:%Y-%m-%d %H:%M} UTC and is judged "
        f"on {window.holdout_rows:,} rows after them"
    )
    event = Event("RunStarted", message, generation=name)
    return Step(facts={**facts, "counters": counted}, events=(event,))


def _generation_spec(
    seen: Observation, job: ObservedJob, window: WindowFound, ancestor: ModelGeneration
) -> GenerationSpec:
    snapshot, image = recipe(seen), None
    if job.image == snapshot.training.image:
        image = next((pod.image_digest for pod in job.pods if pod.image_digest), None)
    current = seen.lineage.live
    assert ancestor.status.artifact is not None
    origin = Ancestor(name=ancestor.metadata.name, digest=ancestor.status.artifact.weights_digest)
    return GenerationSpec(
        update_ref=UpdateRef(name=seen.update.metadata.name),
        number=seen.lineage.next_number,
        origin="Trained",
        trigger=job.trigger if job.trigger in {"Schedule", "OnData", "Request"} else "",
        parent=origin,
        baseline=origin if current else None,
        reference=as_ancestor(reference(seen, snapshot)) if current else None,
        data=_data(seen, window, ancestor),
        recipe=snapshot,
        image_digest=image,
        recipe_hash=recipe_hash(snapshot, image),
    )


def _data(seen: Observation, window: WindowFound, ancestor: ModelGeneration) -> GenerationData:
    assert window.to is not None
    return GenerationData(
        windows=[Range(from_=window.from_, to=window.to)],
        partitions=window.partitions[-512:],
        quarantined=seen.update.status.cursor.quarantined,
        holdout=Range(from_=window.holdout_from, to=window.holdout_to),
        holdout_partitions=window.holdout_partitions[-366:],
        manifest=window.manifest,
        digest=window.digest,
        rows=window.rows,
        holdout_rows=window.holdout_rows,
        holdout_entities=window.holdout_entities,
        holdout_positives=window.holdout_positives,
        reserved_rows=window.reserved_rows,
        historical=_shards(ancestor),
    )


def _shards(ancestor: ModelGeneration) -> list[str]:
    """Historical shards of the lineage: frozen at promotion, first used by the next generation."""
    data = ancestor.spec.data
    if data is None or not ancestor.status.rollout.promoted_at:
        return []
    own = [data.manifest] if data.manifest and data.reserved_rows else []
    return [*data.historical, *own][-64:]
