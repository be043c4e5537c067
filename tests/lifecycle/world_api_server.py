"""The API server of the test world: it applies the writes of a plan, strictly.

Names are unique, uids must match, and a status is written only over the observed one.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING

from springtide_api.generation import status_values
from springtide_api.generation.status import GenerationStatus
from springtide_api.names import FINALIZER, LABEL_UPDATE_UID
from springtide_api.objects import Meta, ModelGeneration, OwnerReference
from springtide_api.update.status import UpdateStatus
from springtide_operator.lifecycle.queues.actions import ActivateWorkload, DeactivateWorkload
from springtide_operator.lifecycle.routes.actions import CreateCanaryService, SetRouteWeights
from springtide_operator.lifecycle.state.observed import (
    ObservedCanary,
    ObservedJob,
    Refusal,
)
from springtide_operator.lifecycle.state.plan import (
    AdoptGeneration,
    ApplyCanary,
    CreateGeneration,
    DeleteCanary,
    DeleteGeneration,
    DeleteJob,
    Plan,
    Serve,
    SetFinalizer,
    StartJob,
    SuspendJob,
    WriteGeneration,
    subject,
)
from springtide_operator.lifecycle.state.recipe import probe_digest

if TYPE_CHECKING:
    from springtide_operator.lifecycle.state.observation import Observation
    from springtide_operator.lifecycle.state.plan import Action


class Conflict(Exception):
    """The API server refuses a write: the object was changed since the observation."""


class ApiServer:
    """Applies the actions of a plan to the world."""

    def _refuses(self, action: Action) -> bool:
        name, reason = subject(action), ""
        if isinstance(action, StartJob) and self.refuse_jobs(action.run):
            reason = "JobRefused"
        elif isinstance(action, DeleteJob) and self.refuse_deletions:
            reason = "WriteRefused"
        reason = self.refusing.get(name, reason)
        if not reason:
            return False
        again_at, before = self.now + timedelta(seconds=35), self.refusals.get(name)
        since = before.since if before else self.now
        self.refusals[name] = Refusal(name, reason, f"{name} is refused: quota", again_at, since)
        return True

    def _write_update_status(self, seen: Observation, plan: Plan) -> None:
        if plan.status in (seen.update.status, self.update.status):
            return
        if self.update.metadata.uid != seen.update.metadata.uid or self.is_gone:
            raise Conflict
        if self.update.status != seen.update.status:
            self._observe_own_write("update", "shop")
            raise Conflict
        UpdateStatus.model_validate(plan.status.plain())  # as the API server does
        self.announced += [event.reason for event in plan.status_events]
        self.update = self.update.model_copy(update={"status": plan.status})
        self._observe_own_write("update", "shop")
        self.check()

    def _check_there(self, seen: Observation) -> None:
        """The actuator reads the update live before it writes a Deployment or a route for it."""
        if self.is_gone or self.update.metadata.uid != seen.update.metadata.uid:
            raise Conflict

    def _observe_own_write(self, kind: str, name: str) -> None:
        """Own writes, and the result of a refused one, are observed although the watch stalls."""
        if kind not in self.stalled_watches:
            return
        there = self._kinds()[kind]
        if name in there:
            self.stalled_watches[kind][name] = there[name]
        else:
            self.stalled_watches[kind].pop(name, None)

    def _apply(self, action: Action, seen: Observation | None = None) -> None:  # noqa: C901
        seen = seen or self.seen()
        self.on_action(seen, action)
        match action:
            case CreateGeneration():
                self._create(seen, action)
            case WriteGeneration(name, status):
                self._write(seen, name, status)
            case AdoptGeneration(name, owned):
                self._relabel(seen, name, owned=owned)
            case DeleteGeneration(name, uid):
                self._delete("generations", name, uid)
            case StartJob():
                self._start(seen, action)
            case SuspendJob(name, uid, suspend):
                held = self._of_kind(action)
                if held is None or held.uid != uid or not (suspend or held.suspended_by_us):
                    raise Conflict  # a resume tests the operator's own mark
                self._suspend(name, suspend=suspend, by_us=suspend)
                self._observe_own_write("jobs", name)
            case DeleteJob(name, uid):
                self._of_kind(action)
                self._delete("jobs", name, uid)
            case Serve():
                self._serve(seen, action)
            case ApplyCanary():
                self._check_there(seen)
                if not self._apply_canary(action):
                    raise Conflict
            case DeleteCanary(name, uid):
                self._delete("canaries", name, uid)
            case CreateCanaryService():
                self._create_service(action)
            case SetRouteWeights():
                self._check_there(seen)
                if not self._set_weights(action):
                    raise Conflict
            case DeactivateWorkload():
                if not self._deactivate(action):
                    raise Conflict
            case ActivateWorkload():
                if not self._activate(action):
                    raise Conflict
            case SetFinalizer(present):
                if self.update.metadata.finalizers != seen.update.metadata.finalizers:
                    raise Conflict
                self._check_there(seen)
                self._meta(finalizers=(FINALIZER,) if present else ())
                self._observe_own_write("update", "shop")
        self.check()

    def _of_kind(self, action: SuspendJob | DeleteJob) -> ObservedJob | None:
        """The Job or JobSet of an action; one of the other kind would not be found."""
        held = self.jobs.get(action.name)
        assert held is None or held.is_job_set == action.is_job_set
        assert not (action.is_job_set and self.job_sets.unavailable)
        return held

    def _delete(self, kind: str, name: str, uid: str) -> None:
        there = self._kinds()[kind]
        if name in there and _uid_of(there[name]) == uid:
            if kind == "jobs":
                self._end_pods(name)
            del there[name]
        if kind in self.stalled_watches:
            self.stalled_watches[kind].pop(name, None)

    def _meta(self, **changes: object) -> None:
        metadata = self.update.metadata.model_copy(update=changes)
        self.update = self.update.model_copy(update={"metadata": metadata})

    def _create(self, seen: Observation, made: CreateGeneration) -> None:
        uid = seen.update.metadata.uid
        if made.name in self.generations:
            if self.generations[made.name].metadata.labels.get(LABEL_UPDATE_UID) != uid:
                raise Conflict
            self._observe_own_write("generations", made.name)
            return
        annotations = {"springtide.dev/probe": made.probe_uid} if made.probe_uid else {}
        self.generations[made.name] = ModelGeneration(
            metadata=Meta(
                name=made.name,
                namespace="search",
                uid=self._uid(),
                creation_timestamp=self.now,
                labels={LABEL_UPDATE_UID: uid},
                annotations=annotations,
                owner_references=_owners(seen, owned=made.owned),
            ),
            spec=made.spec,
        )
        self._observe_own_write("generations", made.name)

    def _write(self, seen: Observation, name: str, status: GenerationStatus) -> None:
        known = next((g for g in seen.generations if g.metadata.name == name), None)
        if known is None:
            return
        live = self.generations.get(name)
        if live is None or live.metadata.uid != known.metadata.uid:
            raise Conflict
        if status not in (known.status, live.status):
            GenerationStatus.model_validate(status.plain())  # as the API server does
            assert status.verdict in status_values.VERDICTS
            assert status.phase in status_values.GENERATION_PHASES
            assert status.outcome in status_values.OUTCOMES
            if live.status != known.status:
                self._observe_own_write("generations", name)
                raise Conflict
            self.generations[name] = live.model_copy(update={"status": status})
            self._observe_own_write("generations", name)
        for run in (status.training, status.evaluation):
            if run and run.job_uid:
                self.attempts_recorded.add(run.job)

    def _relabel(self, seen: Observation, name: str, *, owned: bool) -> None:
        live = self.generations.get(name)
        uids = {g.metadata.uid for g in seen.generations}
        if live is None or live.metadata.uid not in uids:
            raise Conflict
        labels = {LABEL_UPDATE_UID: seen.update.metadata.uid}
        changes = {"labels": labels, "owner_references": _owners(seen, owned=owned)}
        metadata = live.metadata.model_copy(update=changes)
        self.generations[name] = live.model_copy(update={"metadata": metadata})
        self._observe_own_write("generations", name)

    def _start(self, seen: Observation, start: StartJob) -> None:
        run, owner = start.run, seen.update.metadata
        if run.job in self.jobs:
            if self.jobs[run.job].owner_uid != owner.uid:
                raise Conflict
            self._observe_own_write("jobs", run.job)
            return
        assert run.job not in self.attempts_recorded, "one Job for each attempt"
        assert start.nodes == 1 or run.stage == "train", "a JobSet is for training"
        assert start.nodes == 1 or not self.job_sets.unavailable
        self.job_names_ever.append(run.job)
        self.runs[run.job] = start
        queue = (start.placement.queue_name if start.placement else None) or ""
        self.jobs[run.job] = ObservedJob(
            name=run.job,
            uid=self._uid(),
            owner_uid=owner.uid,
            stage=run.stage,
            number=run.number,
            attempt=run.attempt,
            created=self.now,
            request=start.request,
            trigger=start.trigger,
            cursor=run.probe.cursor if run.probe else None,
            quarantined=frozenset(run.probe.quarantined if run.probe else ()),
            excluded=frozenset(run.probe.excluded_generations if run.probe else ()),
            probed=probe_digest(run.recipe) if run.probe else "",
            spec_generation=owner.generation,
            nodes=shared.pods if (shared := run.evaluate or run.tokenize) else start.nodes,
            gpus=start.gpus,
            placement=start.placement.digest() if start.placement else "",
            image=start.image,
            queue=queue,
            suspended=bool(queue),
            suspended_at=self.now if queue else None,
        )
        self.probes[self.jobs[run.job].uid] = start.request
        self._observe_own_write("jobs", run.job)

    def _serve(self, seen: Observation, serve: Serve) -> None:
        name = serve.target.target_ref.name
        target = self.targets[name]
        foreign = target.digest is not None and target.digest not in self.served
        self._check_there(seen)
        if target.uid != serve.target_uid:
            raise Conflict
        if not self.as_declared(target, serve.target).has_container:
            raise Conflict  # a container without an image
        if target.claimed_by not in {"", "shop"}:
            raise Conflict  # another field manager has the label
        forced = serve.force_at_version == target.version
        if serve.serving and not forced and (target.foreign_manager or foreign):
            raise Conflict
        changes = {"claimed_by": "shop", "highest_number": serve.highest_number}
        if serve.serving:
            changes |= {"complete": False, "stalled": "", "failing": 0, "trouble": ""}
            changes |= {"digest": serve.serving.digest, "number": serve.serving.number}
            changes |= {"foreign_manager": ""}
            changes |= {"uri": serve.serving.uri, "updated": 0, "available": 0, "old": 2}
            self.served.append(serve.serving.digest)
        else:
            changes |= {"digest": None, "number": None}
        self.targets[name] = replace(target, **changes)
        self._observe_own_write("targets", name)


def _owners(seen: Observation, *, owned: bool) -> tuple[OwnerReference, ...]:
    meta = seen.update.metadata
    return (OwnerReference(kind="IncrementalUpdate", name=meta.name, uid=meta.uid),) * owned


def _uid_of(held: ModelGeneration | ObservedJob | ObservedCanary) -> str:
    if isinstance(held, ObservedCanary):
        return held.deployment.uid
    return held.uid if isinstance(held, ObservedJob) else held.metadata.uid
