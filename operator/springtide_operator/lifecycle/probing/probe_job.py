"""The Job of a probe: its name, its input, and whether its result is in status."""

from __future__ import annotations

from typing import TYPE_CHECKING
from zlib import crc32

from springtide_api.contract import ProbeInput
from springtide_api.names import probe_name
from springtide_operator.lifecycle.jobs.run_files import result_prefix, run_file
from springtide_operator.lifecycle.state.generations import (
    finished,
    referenced_rows,
    unknown_value,
)
from springtide_operator.lifecycle.state.plan import StartJob
from springtide_operator.lifecycle.state.recipe import (
    excluded_generations,
    recipe,
    trainer_image,
)

if TYPE_CHECKING:
    from datetime import datetime

    from springtide_api.generation.spec import Recipe
    from springtide_api.objects import ModelGeneration
    from springtide_operator.lifecycle.state.observation import Observation
    from springtide_operator.lifecycle.state.observed import ObservedJob


def consumed(seen: Observation, job: ObservedJob) -> bool:
    """Whether the result of a probe is in status. Its uid counts: requests repeat names.

    An earlier version recorded only its name.
    """
    last = seen.update.status.last_probe
    if last is None:
        return False
    return last.job_uid == job.uid if last.job_uid else last.job == job.name


def probe_name_taken(seen: Observation, request: str) -> bool:
    """Whether an earlier probe for the same request still has the name.

    The request waits until then: that Job is deleted next.
    """
    return any(job.deleting or consumed(seen, job) for job in _probes_for(seen, request))


def probe_now(seen: Observation, request: str, now: datetime) -> tuple[StartJob, ...]:
    """A probe by request; its name is derived from the token, so it is created once."""
    if _probes_for(seen, request):
        return ()
    return (start_probe(seen, crc32(request.encode()), "Request", request, now),)


def _probes_for(seen: Observation, request: str) -> list[ObservedJob]:
    own = (job for job in seen.jobs if job.owner_uid == seen.update.metadata.uid)
    return [job for job in own if job.stage == "probe" and job.request == request]


def probe_again(seen: Observation, job: ObservedJob, now: datetime) -> StartJob:
    """Repeat a probe, with the current quarantine."""
    slot = crc32(f"{job.request} {' '.join(seen.update.status.cursor.quarantined)}".encode())
    return start_probe(seen, slot, job.trigger, job.request, now)


def start_probe(
    seen: Observation, slot: int, trigger: str, request: str, now: datetime
) -> StartJob:
    """The Job of a probe, for the waiting candidate or for the spec as it is."""
    meta = seen.update.metadata
    waiting, snapshot = seen.lineage.candidate, probed_recipe(seen)
    name = probe_name(meta.name, meta.uid, slot)
    shared = run_file(seen, "probe", snapshot, number=None, job=name, attempt=1)
    asked = ProbeInput(
        now=now,
        cursor=seen.lineage.cursor,
        quarantined=seen.update.status.cursor.quarantined,
        released=[*seen.lineage.released, *(seen.lineage.training_only if waiting else [])],
        excluded_generations=list(excluded_generations(seen, snapshot)),
        candidate_trained_through=_trained_through(waiting),
        referenced=_referenced_folders(seen),
        generations=[result_prefix(each) for each in seen.generations],
        unfinished=[
            result_prefix(each)
            for each in seen.generations
            if unknown_value(each) or not finished(each)
        ],
    )
    return StartJob(
        run=shared.model_copy(update={"probe": asked}),
        image=snapshot.training.image or trainer_image(seen),
        trigger=trigger,
        request=request,
    )


def probed_recipe(seen: Observation) -> Recipe:
    """The recipe of a probe: that of the waiting candidate, else that of the spec.

    Its pod is the one that the spec requires now: an image of that time may no longer exist.
    """
    waiting, now = seen.lineage.candidate, recipe(seen)
    if waiting is None:
        return now
    pod = {"image": now.training.image, "compute": now.training.compute}
    snapshot = waiting.spec.recipe
    return snapshot.model_copy(update={"training": snapshot.training.model_copy(update=pod)})


def _referenced_folders(seen: Observation) -> list[str]:
    """Folders of frozen rows that generations refer to, or may soon: results not consumed yet."""
    results = [job.result.probe for job in seen.jobs if job.result and job.result.probe]
    windows = {result.window.manifest for result in results if result.window}
    return sorted({uri.rpartition("/")[2] for uri in windows | referenced_rows(seen.generations)})


def _trained_through(waiting: ModelGeneration | None) -> datetime | None:
    if waiting is None or waiting.spec.data is None or not waiting.spec.data.windows:
        return None
    return waiting.spec.data.windows[-1].to
