"""A world without a cluster: it applies plans to facts, finishes Jobs as told, and has a clock.

Tests drive it step by step. It is strict where the real one is: names are unique, a Job is made
once, a status is only what was written.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from itertools import count
from typing import TYPE_CHECKING

from lifecycle.answers import MONTHS as MONTHS
from lifecycle.answers import answer
from lifecycle.answers import digest as digest
from lifecycle.answers import end_of as end_of
from lifecycle.answers import start_of as start_of
from lifecycle.declared import SPEC

from springtide_api.contract import Failure, Result
from springtide_api.names import FINALIZER, LABEL_UPDATE_UID
from springtide_api.objects import IncrementalUpdate, Meta, ModelGeneration
from springtide_api.update_spec import UpdateSpec
from springtide_operator.lifecycle.decide import decide
from springtide_operator.lifecycle.observation import (
    Defaults,
    JobSeen,
    Observation,
    PodSeen,
    TargetSeen,
)
from springtide_operator.lifecycle.plan import (
    AdoptGeneration,
    CreateGeneration,
    DeleteGeneration,
    DeleteJob,
    HoldFinalizer,
    Plan,
    Serve,
    StartJob,
    SuspendJob,
    WriteGeneration,
)

if TYPE_CHECKING:
    from springtide_api.generation import GenerationStatus

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)


@dataclass
class World:
    """One update, its generations, Jobs and one Deployment."""

    spec: dict = field(default_factory=lambda: dict(SPEC))
    now: datetime = NOON
    seeded: bool = True
    """The initial model has no trained head."""

    def __post_init__(self) -> None:
        self.uids = (f"{n:05d}-uid" for n in count(1))
        self.months: list[str] = []
        """Months of data that are there."""
        self.aucs: dict[str, tuple[float, float]] = {}
        """Candidate's and live's AUC on a holdout that ends with this month."""
        self.error = 0.004
        """Half of an interval."""
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
        self.generations: dict[str, ModelGeneration] = {}
        self.jobs: dict[str, JobSeen] = {}
        self.runs: dict[str, StartJob] = {}
        self.job_names_ever: list[str] = []
        self.attempts_recorded: set[str] = set()
        """Names of Jobs whose uid was written to a status: they must never be made again."""
        self.bring_target()
        self.served: list[str] = []
        """Digests that the target was made to carry, in order."""
        self.named_elsewhere: frozenset[str] = frozenset()
        """Digests that a Deployment serves which is a target no more."""
        self.pods_ready = True
        self.events: list[str] = []
        self.plan: Plan | None = None

    def _uid(self) -> str:
        return next(self.uids)

    # What decide sees, and what becomes of its plan.

    def seen(self) -> Observation:
        generations = sorted(self.generations.values(), key=lambda g: g.spec.number)
        return Observation(
            update=self.update,
            generations=tuple(generations),
            jobs=tuple(self.jobs.values()),
            targets=(self.target,),
            named_elsewhere=self.named_elsewhere,
            defaults=Defaults("trainer:1", "http://progress"),
        )

    def step(self) -> Plan:
        """Decide once and carry it out."""
        self.plan = plan = decide(self.seen(), self.now)
        assert plan == decide(self.seen(), self.now), "the same facts must give the same plan"
        for action in plan.actions:
            self._apply(action)
        self.events += [event.reason for event in plan.events]
        if plan.facts or not plan.actions:
            self.update = self.update.model_copy(update={"status": plan.status})
        return plan

    def die(self, written: int) -> None:
        """Decide once and end after so many of the plan's writes, the status never being one."""
        for action in decide(self.seen(), self.now).actions[:written]:
            self._apply(action)

    def settle(self, steps: int = 60) -> Plan:
        """Decide until nothing more is written."""
        for _ in range(steps):
            plan = self.step()
            if not plan.actions and not plan.facts:
                return plan
        raise AssertionError(f"does not settle; the last plan: {self.plan}")

    def _apply(self, action: object) -> None:  # noqa: C901 - one case for each action
        match action:
            case CreateGeneration():
                self._create(action)
            case WriteGeneration(name, status):
                self._write(name, status)
            case AdoptGeneration(name, _):
                self._relabel(name)
            case DeleteGeneration(name, _):
                del self.generations[name]
            case StartJob():
                self._start(action)
            case SuspendJob(name, _, suspend):
                self.jobs[name] = replace(self.jobs[name], suspended=suspend)
            case DeleteJob(name, _):
                del self.jobs[name]
            case Serve():
                self._serve(action)
            case HoldFinalizer(present):
                finalizers = (FINALIZER,) if present else ()
                self._meta(finalizers=finalizers)

    def _meta(self, **changes: object) -> None:
        metadata = self.update.metadata.model_copy(update=changes)
        self.update = self.update.model_copy(update={"metadata": metadata})

    def _create(self, made: CreateGeneration) -> None:
        assert made.name not in self.generations
        annotations = {"springtide.dev/probe": made.probe_uid} if made.probe_uid else {}
        self.generations[made.name] = ModelGeneration(
            metadata=Meta(
                name=made.name,
                namespace="search",
                uid=self._uid(),
                creation_timestamp=self.now,
                labels={LABEL_UPDATE_UID: self.update.metadata.uid},
                annotations=annotations,
            ),
            spec=made.spec,
        )

    def _write(self, name: str, status: GenerationStatus) -> None:
        known = self.generations[name]
        self.generations[name] = known.model_copy(update={"status": status})
        for run in (status.training, status.evaluation):
            if run and run.job_uid:
                self.attempts_recorded.add(run.job)

    def _relabel(self, name: str) -> None:
        known = self.generations[name]
        labels = {LABEL_UPDATE_UID: self.update.metadata.uid}
        metadata = known.metadata.model_copy(update={"labels": labels})
        self.generations[name] = known.model_copy(update={"metadata": metadata})

    def _start(self, start: StartJob) -> None:
        run = start.run
        if run.job in self.jobs:
            return
        assert run.job not in self.attempts_recorded, "one Job for each attempt"
        self.job_names_ever.append(run.job)
        self.runs[run.job] = start
        self.jobs[run.job] = JobSeen(
            name=run.job,
            uid=self._uid(),
            owner_uid=self.update.metadata.uid,
            stage=run.stage,
            number=run.number,
            attempt=run.attempt,
            created=self.now,
            request=start.request,
            trigger=start.trigger,
            cursor=run.probe.cursor if run.probe else None,
            holes=frozenset(run.probe.holes if run.probe else ()),
            spec_generation=self.update.metadata.generation,
        )

    def _serve(self, serve: Serve) -> None:
        changes = {"claimed_by": "shop", "highest_number": serve.highest_number}
        if serve.serving:
            changes |= {"digest": serve.serving.digest, "number": serve.serving.number}
            changes |= {"uri": serve.serving.uri, "updated": 0, "available": 0, "old": 2}
            self.served.append(serve.serving.digest)
        else:
            changes |= {"digest": None, "number": None}
        self.target = replace(self.target, **changes)

    # What happens in the world.

    def bring_target(self) -> None:
        """Make the Deployment, as its owner's manifest has it."""
        target = self.update.spec.rollout.targets[0]
        self.target = TargetSeen(
            target=target, uid=self._uid(), has_container=True, wanted=2, settled=True
        )

    def lose(self, name: str) -> None:
        """Delete a generation by hand; one that was never served may give its number away."""
        gone = self.generations.pop(name)
        number = f"-g{gone.spec.number}-"
        self.attempts_recorded = {job for job in self.attempts_recorded if number not in job}

    def roll_pods(self) -> None:
        """Let the Deployment finish its roll, if its pods get ready at all."""
        if self.pods_ready and self.target.digest:
            self.target = replace(self.target, updated=2, available=2, old=0)

    def run_jobs(self) -> None:
        """Let every Job succeed with the result that the data gives."""
        for name, job in list(self.jobs.items()):
            lost = job.stage == "evaluate" and f"shop-g{job.number}" not in self.generations
            if job.result is None and not job.suspended and not job.failed and not lost:
                self.succeed(name, self._result(self.runs[name]))

    def succeed(self, name: str, result: Result) -> None:
        self.jobs[name] = replace(
            self.jobs[name],
            succeeded=True,
            finished=self.now,
            result=result,
            pods=(PodSeen(f"{name}-x", self._uid(), self.now, exit_code=0),),
        )

    def fail(self, name: str, code: int, *, disrupted: bool = False, reason: str = "") -> None:
        job = self.jobs[name]
        pod = PodSeen(f"{name}-x", self._uid(), self.now, exit_code=code, disrupted=disrupted)
        result = None
        if reason:
            failure = Failure(reason=reason, message=f"because of {reason}")
            result = Result(job=name, stage=job.stage, number=job.number, ok=False, failure=failure)
        self.jobs[name] = replace(job, failed=True, finished=self.now, pods=(pod,), result=result)

    def turn(self, minutes: int = 2) -> Plan:
        """One round of the world: time passes, Jobs and pods finish, the operator decides."""
        self.now += timedelta(minutes=minutes)
        self.run_jobs()
        self.settle()
        self.roll_pods()
        return self.settle()

    def turns(self, rounds: int = 8) -> Plan:
        for _ in range(rounds):
            plan = self.turn()
        return plan

    def ask(self, request: str) -> None:
        self._meta(annotations={"springtide.dev/request": request})

    def edit(self, **spec: object) -> None:
        self.spec = {**self.spec, **spec}
        spec_after = UpdateSpec.model_validate(self.spec)
        metadata = self.update.metadata.model_copy(
            update={"generation": self.update.metadata.generation + 1}
        )
        self.update = self.update.model_copy(update={"spec": spec_after, "metadata": metadata})

    def recreate(self, *, cascade: bool = True) -> None:
        """Delete the update and apply it again; without cascade its Jobs go on, of no owner."""
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

    def generation(self, number: int) -> ModelGeneration:
        return self.generations[f"shop-g{number}"]


def with_generation_one() -> World:
    """A world whose first generation is live after two months of data."""
    world = World()
    world.settle()
    world.months = ["2025-01", "2025-02"]
    world.turns(8)
    return world
