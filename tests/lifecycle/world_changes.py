"""What users, controllers and data do to the test world."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import TYPE_CHECKING

from lifecycle.answers import MONTHS, answer, digest, spoiled

from springtide_api.contract import Failure, Result
from springtide_api.generation.spec import Approval
from springtide_api.names import LABEL_UPDATE_UID
from springtide_api.objects import IncrementalUpdate, Meta, ModelGeneration
from springtide_api.update.rollout import Target
from springtide_api.update.spec import UpdateSpec
from springtide_operator.lifecycle.state.observed import (
    ObservedPod,
    ObservedTarget,
)

if TYPE_CHECKING:
    from datetime import datetime

    from springtide_api.generation.spec import GenerationSpec
    from springtide_operator.lifecycle.state.plan import (
        StartJob,
    )


def _number_of(job: str) -> int:
    found = re.search(r"-g(\d+)-", job)
    assert found, job
    return int(found[1])


class Changes:
    """Changes of the world that are not the operator's."""

    def create_target(self, name: str = "ranker") -> None:
        """Create the Deployment from its owner's manifest."""
        targets = self.update.spec.rollout.targets
        target = next(each for each in targets if each.target_ref.name == name)
        there = self.containers.get(name, target.container)
        known = {"has_container": True, "containers": (there,), "desired": 2}
        known |= {"settled": True, "version": "1"}
        template = self.templates.get(name)
        self.targets[name] = ObservedTarget(target, self._uid(), template=template, **known)

    def change_template(self, name: str, template: str, by: str = "kubectl-edit") -> None:
        """Let the owner change the pod template: new pods start, and old ones stay until then."""
        self.templates[name], target = template, self.targets[name]
        if target.uid and target.template != template:
            changes = {"template": template, "changed_by": by, "trouble": "", "stalled": ""}
            pods = {"complete": not target.desired, "updated": 0, "failing": 0, "ready": None}
            changes |= {**pods, "old": target.desired}
            self.targets[name] = replace(target, **changes)

    def rename_container(self, name: str, to: str, template: str, *, edits: bool = False) -> None:
        """Let the owner name the container otherwise: nothing is read of it then.

        By a new manifest it loses our variables; who edits it carries them along, as his own.
        """
        self.containers[name], target = to, self.targets[name]
        if target.uid and target.containers != (to,):
            has = {"containers": (to,), "digest": None, "uri": None, "foreign_manager": ""}
            carried = self.carried.pop(name, {})
            if edits and target.digest:
                edited = {"foreign_manager": "kubectl-edit"}
                self.carried[name] = {"digest": target.digest, "uri": target.uri} | edited
            elif edits:
                has |= carried
            self.targets[name] = replace(target, **has)
        self.change_template(name, template)

    def claim_by_another(self, name: str, *, serves: bool) -> None:
        """Let another update claim a Deployment, by its label alone or by serving on it."""
        changes: dict[str, object] = {"claimed_by": "other"}
        if serves:
            changes |= {"digest": digest("of another update"), "number": 7}
            changes |= {"uri": "file:///models/other", "foreign_manager": "springtide-other"}
        self.targets[name] = replace(self.targets[name], **changes)

    def free_claim(self, name: str, *, fields: bool) -> None:
        """Let a user remove the label of another update, and its variables where it set some."""
        target = self.targets[name]
        if target.claimed_by == "other":
            gone = {"digest": None, "number": None, "uri": None, "foreign_manager": ""}
            changes = gone if fields and target.foreign_manager else {}
            self.targets[name] = replace(target, claimed_by="", **changes)

    def as_declared(self, target: ObservedTarget, declared: Target) -> ObservedTarget:
        """A Deployment as it is read for a target of the spec."""
        there = target.containers or (declared.container,)
        has_container = target.has_container and declared.container in there
        return replace(target, target=declared, has_container=has_container)

    def create_target_of(self, declared: dict, *, desired: int = 2) -> None:
        """Create a Deployment that is not a target yet."""
        target, uid = Target.model_validate(declared), self._uid()
        known = {"has_container": True, "desired": desired, "settled": True, "version": "1"}
        self.targets[target.target_ref.name] = ObservedTarget(target=target, uid=uid, **known)

    def set_status_values(self, name: str, **words: str) -> None:
        """Let another version of the operator write values into a generation's status."""
        if known := self.generations.get(name):
            status = known.status.model_copy(update=words)
            self.generations[name] = known.model_copy(update={"status": status})

    def delete_generation(self, name: str) -> None:
        """Delete a generation as a user; numbers above those that remain may be used again."""
        del self.generations[name]
        highest = max((g.spec.number for g in self.generations.values()), default=-1)
        self.attempts_recorded = {
            job for job in self.attempts_recorded if _number_of(job) <= highest
        }

    def create_foreign_generation(self, spec: GenerationSpec, *, labelled: bool) -> str:
        """Create a generation as another client, with our label or without; return its name."""
        name = f"shop-g{spec.number}"
        labels = {LABEL_UPDATE_UID: self.update.metadata.uid} if labelled else {}
        meta = {"name": name, "namespace": "search", "uid": self._uid(), "labels": labels}
        metadata = Meta(**meta, creation_timestamp=self.now)
        self.generations[name] = ModelGeneration(metadata=metadata, spec=spec)
        return name

    def finish_rollouts(self) -> None:
        """Let the Deployments finish their rollout, if their pods get ready at all."""
        self.finish_canaries()
        for name, target in self.targets.items():
            if self.pods_ready and target.digest:
                pods = target.desired or 2
                done = {"updated": pods, "available": pods, "old": 0, "complete": True}
                well = {"failing": 0, "ready": None, "trouble": ""}
                self.targets[name] = replace(target, **done, **well)

    def complete_jobs(self) -> None:
        """Let every Job succeed with the result that the data gives; Kueue admits before."""
        self.run_kueue()
        for name, job in list(self.jobs.items()):
            lost = job.stage == "evaluate" and f"shop-g{job.number}" not in self.generations
            if job.result is None and not job.suspended and not job.failed and not lost:
                result: Result | None = self._result(self.runs[name])
                if job.stage == "evaluate" and self.spoil_next_result:
                    result, self.spoil_next_result = spoiled(result, self.spoil_next_result), ""
                self.succeed(name, result)

    def begin(self, name: str) -> None:
        """Let the pods of a Job run, from now on."""
        job = self.jobs[name]
        if any(pod.running for pod in job.pods) or job.suspended or job.finished:
            return
        over = [pod for pod in job.pods if pod.exit_code == 0]
        nodes = set(range(job.nodes)) - {pod.index for pod in over}
        pods = [replace(self._pod(name, node), running=True) for node in sorted(nodes)]
        for pod in pods:
            self.ran[pod.uid] = (name, self.now, None)
            self.gpus[pod.uid] = job.gpus
        self.jobs[name] = replace(job, pods=(*over, *pods))

    def suspend_by_another(self, name: str, *, suspend: bool = True) -> None:
        """Another controller, such as Kueue, suspends a Job or resumes it, unless it is so."""
        if self.jobs[name].suspended == suspend:
            return
        self._suspend(name, suspend=suspend, by_us=suspend and self.jobs[name].suspended_by_us)

    def _suspend(self, name: str, *, suspend: bool, by_us: bool) -> None:
        """Suspend a Job, which deletes its pods that have not ended well, or resume it."""
        since, pods = self.now if suspend else None, self.jobs[name].pods
        if suspend:
            self._end_pods(name)
            pods = tuple(pod for pod in pods if pod.exit_code == 0)
        changes = {"suspended": suspend, "suspended_at": since, "suspended_by_us": by_us}
        if not suspend:
            self._set_unseen_ends(name, self.now)
            changes["resumed"] = self.now
        self.jobs[name] = replace(self.jobs[name], pods=pods, **changes)

    def delete_job(self, name: str) -> None:
        """A user deletes a Job; pods whose end was not recorded count until that is seen."""
        self._set_unseen_ends(name, None)
        del self.jobs[name]

    def _set_unseen_ends(self, name: str, until: datetime | None) -> None:
        """Set until when the pods of a Job count whose end was not recorded; None: until seen."""
        stages = [(g.status.training, g.status.evaluation) for g in self.generations.values()]
        recorded = (pod for pair in stages for run in filter(None, pair) for pod in run.pods)
        for uid in (pod.uid for pod in recorded if pod.ended_at is None):
            if uid in self.ran and self.ran[uid][0] == name:
                self.ran[uid] = (*self.ran[uid][:2], until)

    def _end_pods(self, name: str) -> None:
        for uid, (job, began, ended) in self.ran.items():
            if job == name and ended is None:
                self.ran[uid] = (job, began, self.now)

    def _pod(self, name: str, node: int = 0) -> ObservedPod:
        image = self.jobs[name].image
        known = self.tags.get(image, digest(image))
        times = {"created": self.now, "started": self.now}
        return ObservedPod(
            f"{name}-x{node or ''}", self._uid(), **times, index=node, image_digest=known
        )

    def _finished_pods(self, name: str, **says: object) -> tuple[ObservedPod, ...]:
        """The pods of a Job at its end; one that was not seen to run ran for no time."""
        job = self.jobs[name]
        runs = [pod for pod in job.pods if pod.running]
        over = [pod for pod in job.pods if pod.ended and runs]
        pods = runs or [self._pod(name, node) for node in range(job.nodes)]
        self._end_pods(name)
        end = {"running": False, "waiting": "", "ended": self.now}
        return (*over, *(replace(pod, **end, **says) for pod in pods))

    def end_first_pod(self, name: str) -> None:
        """The pod of the first node ends with the result, if it runs; the others run on."""
        job, result = self.jobs[name], self._result(self.runs[name])
        first, *others = job.pods or [self._pod(name)]
        if not first.running or first.index:
            return
        self.ran[first.uid] = (*self.ran[first.uid][:2], self.now)
        self.storage.finish(self.runs[name].run, result, self.now)
        ended = replace(first, running=False, ended=self.now, exit_code=0)
        self.jobs[name] = replace(job, pods=(ended, *others), result=result)

    def succeed(self, name: str, result: Result | None) -> None:
        pods = self._finished_pods(name, exit_code=0)
        if name in self.runs:
            self.storage.finish(self.runs[name].run, result, self.now)
        self.jobs[name] = replace(
            self.jobs[name], succeeded=True, finished=self.now, result=result, pods=pods
        )

    def fail(
        self, name: str, code: int, *, disrupted: bool = False, reason: str = "", node: int = 0
    ) -> None:
        """The pod of a node fails; those of the others lose it."""
        job = self.jobs[name]
        pods = tuple(
            replace(pod, exit_code=code, disrupted=disrupted) if pod.index == node else pod
            for pod in self._finished_pods(name, exit_code=1)
        )
        result = None
        if reason:
            failure = Failure(reason=reason, message=f"because of {reason}")
            result = Result(job=name, stage=job.stage, number=job.number, ok=False, failure=failure)
        self.jobs[name] = replace(job, failed=True, finished=self.now, pods=pods, result=result)

    def next_month(self) -> str:
        """The month that is due next."""
        return MONTHS[len(self.months) + len(self.undelivered)]

    def served_in(self, month: str) -> set[int]:
        """Return the generations that served rows of a month: what ran when it was first read."""
        run = [*self.targets.values(), *(each.deployment for each in self.canaries.values())]
        numbers = {each.number for each in run if each.number is not None}
        return self.exposed.setdefault(month, numbers)

    def deliver_late(self, month: str) -> None:
        """Bring a month that was due before others that are there."""
        self.undelivered = [m for m in self.undelivered if m != month]
        self.months = sorted([*self.months, month])

    def ask(self, request: str) -> None:
        self.asked.append(request.partition("@")[0])
        self._meta(annotations={"springtide.dev/request": request})

    def decide_on_approval(self, name: str, decision: str, reason: str = "") -> bool:
        """Set spec.approval as a person, where the API server accepts it; return whether it did."""
        known = self.generations[name]
        status, rollout = known.status, known.status.rollout
        if known.spec.approval or status.verdict != "Accepted":
            return False
        if status.retired_reason or rollout.step_started_at:
            return False
        self.set_approval(name, decision, reason)
        return True

    def set_approval(self, name: str, decision: str, reason: str = "") -> None:
        """Set spec.approval whatever the status is, as in a generation that is restored."""
        known, approval = self.generations[name], Approval(decision=decision, reason=reason)
        spec = known.spec.model_copy(update={"approval": approval})
        self.generations[name] = known.model_copy(update={"spec": spec})

    def edit(self, **spec: object) -> None:
        self.spec = {**self.spec, **spec}
        spec_after = UpdateSpec.model_validate(self.spec)
        metadata = self.update.metadata.model_copy(
            update={"generation": self.update.metadata.generation + 1}
        )
        self.update = self.update.model_copy(update={"spec": spec_after, "metadata": metadata})
        self.refusals = {}

    def pin(self, number: int | None) -> None:
        """Set `spec.rollout.pin`, or remove it."""
        rollout = {k: v for k, v in self.spec["rollout"].items() if k != "pin"}
        self.edit(rollout=rollout | ({} if number is None else {"pin": {"generation": number}}))

    def delete(self) -> None:
        """Delete the update: it is gone at once, or when the operator removes its finalizer."""
        self._meta(deletion_timestamp=self.now)

    @property
    def is_gone(self) -> bool:
        """Whether the update was deleted, and no finalizer holds it."""
        metadata = self.update.metadata
        return metadata.deletion_timestamp is not None and not metadata.finalizers

    def recreate(self, *, cascade: bool = True) -> None:
        """Delete the update and apply it again; without cascade its Jobs continue unowned."""
        left = {} if cascade else self.jobs
        self.jobs = {name: replace(job, owner_uid="") for name, job in left.items()}
        self.update = IncrementalUpdate(
            metadata=Meta(
                name="shop",
                namespace="search",
                uid=self._uid(),
                generation=1,
                creation_timestamp=self.now,
            ),
            spec=UpdateSpec.model_validate(self.spec),
        )

    def _result(self, start: StartJob) -> Result:
        return answer(self, start)
