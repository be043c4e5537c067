"""Builds the observation of one update: the update with all that belongs to it, read once."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Protocol

from pydantic import ValidationError

from springtide_api.names import ANNOTATION_DIGEST, LABEL_GENERATION, canary_name, generation_name
from springtide_api.objects import InvalidObject, Meta, parse_generation, parse_update
from springtide_api.update.rollout import Target, TargetEnv, TargetRef
from springtide_api.update.status import UpdateStatus
from springtide_operator.cluster.api.kinds import DEPLOYMENT, GENERATION, JOB, POD, UPDATE
from springtide_operator.cluster.api.objects import controller_uid, owned_by, true_conditions, whole
from springtide_operator.cluster.reading.job_set_reader import JobSetReader, is_of_job_set
from springtide_operator.cluster.reading.observed_jobs import (
    lacks_pods,
    observed_job,
    observed_pod,
    why_no_pod,
)
from springtide_operator.cluster.reading.observed_targets import (
    claim_names,
    not_copied,
    observed_canary,
    observed_target,
    selector,
)
from springtide_operator.cluster.reading.probe_slots import ProbeSlots
from springtide_operator.cluster.reading.routing_reader import RoutingReader
from springtide_operator.cluster.reading.workload_reader import WorkloadReader
from springtide_operator.cluster.watching.watches import LABEL_JOB
from springtide_operator.lifecycle.state.generations import rolling
from springtide_operator.lifecycle.state.needed_reads import (
    needs_canaries,
    needs_replica_sets,
    needs_services,
    routed_targets,
)
from springtide_operator.lifecycle.state.observation import InvalidUpdate, Observation
from springtide_operator.manifests.canary import is_canary

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from datetime import datetime

    from springtide_api.generation.status import StageRun
    from springtide_api.objects import IncrementalUpdate, ModelGeneration
    from springtide_operator.cluster.api.kinds import Raw
    from springtide_operator.cluster.reading.live_reader import LiveReader
    from springtide_operator.cluster.watching.cache import Cache
    from springtide_operator.lifecycle.routes.observed import ObservedRouting
    from springtide_operator.lifecycle.state.observed import (
        Defaults,
        ObservedCanary,
        ObservedJob,
        ObservedProgress,
        ObservedSample,
        ObservedTarget,
    )


class InvalidGeneration(InvalidObject):
    """A generation is invalid: its spec cannot be changed, and its status is the operator's."""


class ProgressSource(Protocol):
    """The progress that trainers reported."""

    def of(self, namespace: str, job: str) -> ObservedProgress | None:
        """Return the last report of a Job."""


class SampleSource(Protocol):
    """The samples of metrics."""

    def of(self, namespace: str, update: str) -> tuple[ObservedSample, ...]:
        """Return the newest samples of an update."""


@dataclass
class Observer:
    """Observes updates: from the cache where a watch covers an object, else by a live read."""

    cache: Cache
    live_reader: LiveReader
    progress: ProgressSource
    samples: SampleSource
    defaults: Defaults
    terminating: dict[str, datetime]
    """Namespaces that refused a write because they are being deleted, and when they first did."""
    serves: Callable[[str], bool] = lambda namespace: True
    """Whether a namespace is ours and was listed completely."""
    probe_slots: ProbeSlots = field(init=False)

    def __post_init__(self) -> None:
        self.probe_slots = ProbeSlots(self.cache, self.defaults, self.live_reader.client.clock.now)

    async def observe(self, namespace: str, name: str) -> Observation | InvalidUpdate | None:
        """Observe one update. None: it does not exist, or is not ours.

        Raises:
            ApiError: a live read failed.
        """
        raw = self.cache.get(UPDATE, namespace, name)
        if raw is None or not self.serves(namespace):
            return None
        try:
            return await self._observe(raw, namespace, name)
        except InvalidObject as error:
            return _unreadable(raw, error)

    async def _observe(self, raw: Raw, namespace: str, name: str) -> Observation:
        update = self.cache.parsed(UPDATE, raw, parse_update)
        await self._read_unknown_generations(update)
        held = self.cache.of_update(GENERATION, namespace, name)
        parsed = map(self._generation, held)
        generations = tuple(sorted(parsed, key=lambda generation: generation.spec.number))
        job_sets = JobSetReader(self.cache, self.live_reader)
        before = job_sets.kind()
        jobs = await self._jobs(update, generations)
        readable = before.throughout(job_sets.kind())
        older = needs_replica_sets(update, generations)
        targets = await asyncio.gather(
            *(self._target(update, target, older=older) for target in update.spec.rollout.targets)
        )
        canaries = await self._canaries(update, generations)
        left = await asyncio.gather(
            *(
                self._target(update, each, older=older)
                for each in _removed_targets(update, generations)
            )
        )
        workloads = WorkloadReader(self.cache)
        reports = {job.name: self.progress.of(namespace, job.name) for job in jobs}
        return Observation(
            update=update,
            generations=generations,
            jobs=jobs,
            targets=tuple(targets),
            canaries=tuple(canaries),
            kueue=workloads.kueue(),
            job_sets=readable,
            workloads=workloads.of(jobs),
            digests_elsewhere=await self._named_elsewhere(update, older=older),
            defaults=self.defaults,
            removed_targets=tuple(left),
            routings=await self._routings(update, generations, canaries),
            progress={job: report for job, report in reports.items() if report is not None},
            samples=self.samples.of(namespace, name),
            probes=self.probe_slots.seen(namespace, name),
            namespace_terminating=self._is_terminating(update.metadata),
        )

    def _generation(self, raw: Raw) -> ModelGeneration:
        """Parse a generation.

        Raises:
            InvalidGeneration: it is invalid; the problems name it.
        """
        try:
            return self.cache.parsed(GENERATION, raw, parse_generation)
        except InvalidObject as error:
            of = f"ModelGeneration {raw['metadata']['name']}: "
            named = (replace(each, field=of + each.field) for each in error.problems)
            raise InvalidGeneration(tuple(named)) from error

    def _is_terminating(self, update: Meta) -> bool:
        """Whether its namespace is being deleted; a newer update is in another of the same name."""
        since = self.terminating.get(update.namespace)
        if since is not None and update.creation_timestamp >= since:
            del self.terminating[update.namespace]
            return False
        return since is not None

    async def _routings(
        self,
        update: IncrementalUpdate,
        generations: tuple[ModelGeneration, ...],
        canaries: Sequence[ObservedCanary],
    ) -> dict[str, ObservedRouting]:
        namespace, needed = update.metadata.namespace, needs_services(update, generations)
        read = RoutingReader(self.cache, self.live_reader).read
        found = {}
        for target in routed_targets(update, generations, canaries):
            name = target.target_ref.name
            deployment = self.cache.get(DEPLOYMENT, namespace, name)
            if deployment is None:
                deployment = await self.live_reader.deployment(namespace, name)
            found[name] = await read(namespace, target, deployment, services=needed)
        return found

    async def _read_unknown_generations(self, update: IncrementalUpdate) -> None:
        """Read the generation of a Job live where the watch reported none.

        A Job whose generation is gone is deleted: only the API server itself can confirm that.
        """
        namespace, name = update.metadata.namespace, update.metadata.name
        held = self.cache.of_update(JOB, namespace, name)
        own = [raw for raw in held if controller_uid(raw) == update.metadata.uid]
        labels = [raw["metadata"].get("labels") or {} for raw in own]
        numbers = {whole(each.get(LABEL_GENERATION)) for each in labels}
        for number in numbers - {None}:
            wanted = generation_name(name, number or 0)
            if self.cache.get(GENERATION, namespace, wanted) is None:
                raw = await self.live_reader.generation(namespace, wanted)
                if raw is not None:
                    self.cache.insert(GENERATION, raw)

    async def _jobs(
        self, update: IncrementalUpdate, generations: Iterable[ModelGeneration]
    ) -> tuple[ObservedJob, ...]:
        namespace, name = update.metadata.namespace, update.metadata.name
        held = [raw for raw in self.cache.of_update(JOB, namespace, name) if not is_of_job_set(raw)]
        recorded, in_sets = _recorded(generations)
        missing = recorded - {raw["metadata"]["name"] for raw in held}
        # The watch of generations may be ahead of that of Jobs: a recorded Job counts as gone only
        # where the API server itself says so.
        live = await asyncio.gather(
            *(self.live_reader.job(namespace, job) for job in sorted(missing))
        )
        found = [raw for raw in live if raw is not None]
        pods = defaultdict(list)
        for pod in self.cache.of_update(POD, namespace, name):
            labels = pod["metadata"].get("labels") or {}
            pods[labels.get(LABEL_JOB, "")].append(pod)
        own = [await self._job(raw, pods[raw["metadata"]["name"]]) for raw in held + found]
        job_sets = JobSetReader(self.cache, self.live_reader)
        return (*own, *await job_sets.of_update(namespace, name, in_sets))

    async def _job(self, raw: Raw, pods: list[Raw]) -> ObservedJob:
        metadata = raw["metadata"]
        own = owned_by(metadata["uid"], pods)
        wanted = int(raw["spec"].get("completions") or 1)
        if _has_finished(raw) and _lack(own, several=wanted > 1):
            # The watch of Jobs may be ahead of that of pods: a result counts as lost only where
            # the API server itself knows none.
            labels = f"{LABEL_JOB}={metadata['name']}"
            own = owned_by(
                metadata["uid"], await self.live_reader.pods(metadata["namespace"], labels)
            )
        problem = ""
        if lacks_pods(raw, own):
            events = await self.live_reader.events(metadata["namespace"], metadata["uid"])
            problem = why_no_pod(events)
        return observed_job(raw, own, problem)

    async def _target(
        self, update: IncrementalUpdate, target: Target, *, older: bool
    ) -> ObservedTarget:
        namespace, name = update.metadata.namespace, target.target_ref.name
        raw = self.cache.get(DEPLOYMENT, namespace, name)
        if raw is None:
            raw = await self.live_reader.deployment(namespace, name)
        replica_sets: list[Raw] = []
        pods: list[Raw] = []
        if raw is not None and (older or _lags(raw)):
            _, *replica_sets = await self._versions(raw)
            if _lags(raw):
                pods = await self._newest_pods(namespace, selector(raw), replica_sets)
        found = observed_target(
            target, raw, update.metadata.name, replica_sets=replica_sets, pods=pods
        )
        if raw is None or update.spec.rollout.strategy.canary is None:
            return found
        mounted = [await self.live_reader.claim(namespace, each) for each in claim_names(raw)]
        return replace(found, not_copied=not_copied(raw, filter(None, mounted)))

    async def _canaries(
        self, update: IncrementalUpdate, generations: Sequence[ModelGeneration]
    ) -> list[ObservedCanary]:
        """Read our canaries, and where one is wanted what else has its name."""
        namespace, own = update.metadata.namespace, update.metadata.name
        by_name = {canary_name(t.target_ref.name): t for t in update.spec.rollout.targets}
        held = {each["metadata"]["name"]: each for each in self._labelled_canaries(update)}
        if needs_canaries(update, generations):
            for name in by_name.keys() - held.keys():
                raw = self.cache.get(DEPLOYMENT, namespace, name)
                if raw is None:
                    raw = await self.live_reader.deployment(namespace, name)
                if raw is not None:
                    held[name] = raw
        found = []
        for name, raw in sorted(held.items()):
            of = by_name.get(name)
            container = raw["spec"]["template"]["spec"]["containers"][0]["name"]
            target = Target(
                target_ref=TargetRef(name=name),
                container=of.container if of else container,
                env=of.env if of else TargetEnv(),
            )
            seen = await self._target(update, target, older=False)
            if seen.uid:
                found.append(observed_canary(of.target_ref.name if of else "", seen, raw, own))
        return found

    def _labelled_canaries(self, update: IncrementalUpdate) -> list[Raw]:
        namespace, name = update.metadata.namespace, update.metadata.name
        held = self.cache.of_update(DEPLOYMENT, namespace, name)
        return [raw for raw in held if is_canary(raw, name)]

    async def _named_elsewhere(self, update: IncrementalUpdate, *, older: bool) -> frozenset[str]:
        namespace, name = update.metadata.namespace, update.metadata.name
        targets = {target.target_ref.name for target in update.spec.rollout.targets}
        templates = []
        for raw in self.cache.of_update(DEPLOYMENT, namespace, name):
            if raw["metadata"]["name"] not in targets:
                versions = await self._versions(raw) if older else [raw]
                templates += [each["spec"]["template"] for each in versions]
        annotations = (each["metadata"].get("annotations") or {} for each in templates)
        return frozenset(filter(None, (each.get(ANNOTATION_DIGEST) for each in annotations)))

    async def _versions(self, deployment: Raw) -> list[Raw]:
        """Return a Deployment and its ReplicaSets."""
        metadata, labels = deployment["metadata"], selector(deployment)
        if not labels:
            return [deployment]
        # The newest ReplicaSet is there before the Deployment names its revision.
        revision = metadata["uid"], _revision(deployment)
        found = await self.live_reader.replica_sets(metadata["namespace"], labels, revision)
        return [deployment, *owned_by(metadata["uid"], found)]

    async def _newest_pods(self, namespace: str, labels: str, replica_sets: list[Raw]) -> list[Raw]:
        newest = max(replica_sets, key=_revision, default=None)
        if newest is None:
            return []
        pods = await self.live_reader.pods(namespace, labels)
        return owned_by(newest["metadata"]["uid"], pods)


def _unreadable(raw: Raw, error: InvalidObject) -> InvalidUpdate:
    try:
        status = UpdateStatus.model_validate(raw.get("status") or {})
    except ValidationError:
        status = UpdateStatus()
    metadata, problems = Meta.model_validate(raw["metadata"]), tuple(map(str, error.problems))
    if isinstance(error, InvalidGeneration):
        remedy = "install the version of the operator that wrote it, or delete the generation"
        return InvalidUpdate(metadata, status, problems, remedy)
    return InvalidUpdate(metadata, status, problems)


def _removed_targets(
    update: IncrementalUpdate, generations: Iterable[ModelGeneration]
) -> list[Target]:
    """Targets of a rollout in progress that the spec no longer names."""
    named = {target.target_ref.name for target in update.spec.rollout.targets}
    recorded = (each for g in generations if rolling(g) for each in g.status.rollout.targets)
    return [each.declared() for each in recorded if each.name not in named]


def _recorded(generations: Iterable[ModelGeneration]) -> tuple[set[str], set[str]]:
    """Names of the Jobs, and of the JobSets, that were created and whose outcome still counts."""
    runs: list[StageRun | None] = []
    on_nodes: list[StageRun | None] = []
    for generation in generations:
        status, spec = generation.status, generation.spec
        if status.verdict in {"Pending", "Inconclusive"} and not status.retired_reason:
            runs.append(status.evaluation)
            several = spec.origin == "Trained" and spec.recipe.training.compute.nodes > 1
            if status.artifact is None:
                (on_nodes if several else runs).append(status.training)
    return _created(runs), _created(on_nodes)


def _created(runs: Iterable[StageRun | None]) -> set[str]:
    return {run.job for run in runs if run is not None and run.job_uid}


def _lack(pods: list[Raw], *, several: bool) -> bool:
    """Whether the end of a pod is missing; of a Job with one pod at a time, of all of them."""
    missing = [observed_pod(pod).exit_code is None for pod in pods]
    return any(missing) or not pods if several else all(missing)


def _has_finished(raw: Raw) -> bool:
    return any(each["type"] in ("Complete", "Failed") for each in true_conditions(raw))


def _lags(raw: Raw) -> bool:
    return bool((raw.get("status") or {}).get("unavailableReplicas"))


def _revision(raw: Raw) -> int:
    annotations = raw["metadata"].get("annotations") or {}
    return whole(annotations.get("deployment.kubernetes.io/revision")) or 0
