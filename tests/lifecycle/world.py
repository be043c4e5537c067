"""A world without a cluster: it applies plans to facts, finishes Jobs as told, and has a clock.

Tests drive it step by step. It is strict where the API server is: names are unique, uids must
match, a status is written only over what was seen. Watches may stall; own writes are seen at once.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from itertools import count
from typing import TYPE_CHECKING

from lifecycle.answers import MONTHS as MONTHS
from lifecycle.answers import answer, spoilt
from lifecycle.answers import digest as digest
from lifecycle.answers import end_of as end_of
from lifecycle.answers import start_of as start_of
from lifecycle.declared import SPEC, TWO_TARGETS

from springtide_api import words
from springtide_api.contract import Failure, Result
from springtide_api.generation import GenerationStatus
from springtide_api.names import FINALIZER, LABEL_UPDATE_UID
from springtide_api.objects import IncrementalUpdate, Meta, ModelGeneration
from springtide_api.update_spec import UpdateSpec
from springtide_api.update_status import UpdateStatus
from springtide_operator.lifecycle.decide import decide
from springtide_operator.lifecycle.state.generations import rolling
from springtide_operator.lifecycle.state.observation import Observation
from springtide_operator.lifecycle.state.observed import (
    Defaults,
    ObservedJob,
    ObservedPod,
    ObservedTarget,
    Refusal,
)
from springtide_operator.lifecycle.state.plan import (
    AdoptGeneration,
    CreateGeneration,
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
    from collections.abc import Callable

    from springtide_api.contract import RunFile
    from springtide_api.generation import GenerationSpec
    from springtide_api.update_status import Condition
    from springtide_operator.lifecycle.state.plan import Action

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)


class Stale(Exception):
    """The API server refuses a write: what was seen is not what is there."""


@dataclass
class World:
    """One update, its generations, Jobs and Deployments."""

    spec: dict = field(default_factory=lambda: dict(SPEC))
    now: datetime = NOON
    seeded: bool = True
    """The initial model has no trained head."""

    def __post_init__(self) -> None:
        self.uids = (f"{n:05d}-uid" for n in count(1))
        self.months: list[str] = []
        """Months of data that are there."""
        self.undelivered: list[str] = []
        """Months that were due and did not come."""
        self.aucs: dict[str, tuple[float, float]] = {}
        """Candidate's and live's AUC on a holdout that ends with this month."""
        self.qualities: dict[str, float] = {}
        """AUC that a candidate's weights had when they were judged, by their digest."""
        self.lie = ""
        """How the next evaluation spoils its result, one of SPOILT."""
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
        self.jobs: dict[str, ObservedJob] = {}
        self.runs: dict[str, StartJob] = {}
        self.ran: dict[str, tuple[str, datetime, datetime | None]] = {}
        """Every pod that ever ran, by uid: its Job, when it began, when it ended."""
        self.probes: dict[str, str] = {}
        """What a person asked for with each probe that ever ran, by the uid of its Job."""
        self.job_names_ever: list[str] = []
        self.attempts_recorded: set[str] = set()
        """Names of Jobs whose uid was written to a status: they must never be made again."""
        self.targets: dict[str, ObservedTarget] = {}
        for target in self.update.spec.rollout.targets:
            self.bring_target(target.target_ref.name)
        self.late: dict[str, dict] = {}
        """What is seen of a kind whose watch stalls: all of it as it was, own writes apart."""
        self.witness: Callable[[Observation, Action], None] = lambda seen, action: None
        """Told of every action before it is carried out, with what it was decided on."""
        self.check: Callable[[], None] = lambda: None
        """Called after every single write."""
        self.asked: list[str] = []
        """Verbs of a person, in order."""
        self.served: list[str] = []
        """Digests that the target was made to carry, in order."""
        self.digests_elsewhere: frozenset[str] = frozenset()
        """Digests that a Deployment serves which is a target no more."""
        self.image = "trainer:1"
        """The trainer image that the installation provides."""
        self.tags: dict[str, str] = {}
        """What another digest than its name's an image stands for."""
        self.pods_ready = True
        self.refusing: dict[str, str] = {}
        """Reason of the refusal by what is written (`plan.subject`): quota, admission, rights."""
        self.refuse_jobs: Callable[[RunFile], bool] = lambda run: False
        self.refuse_deletions = False
        self.refusals: dict[str, Refusal] = {}
        """What was refused lately, as the operator remembers it."""
        self.events: list[str] = []
        self.announced: list[str] = []
        """Reasons of Events of the update that follow from its status, in order."""
        self.plan: Plan | None = None
        self.last: tuple[Observation, Plan] | None = None
        """The last plan with writes, and what it was decided on."""

    @property
    def target(self) -> ObservedTarget:
        return self.targets["ranker"]

    @target.setter
    def target(self, target: ObservedTarget) -> None:
        self.targets["ranker"] = target

    def _uid(self) -> str:
        return next(self.uids)

    # What decide sees, and what becomes of its plan.

    def seen(self) -> Observation:
        view = self._kinds() | self.late
        known = dict(view["generations"])
        for job in view["jobs"].values():  # read live, as the real one does
            name = f"shop-g{job.number}"
            if name in self.generations and job.owner_uid == view["update"]["shop"].metadata.uid:
                known.setdefault(name, self.generations[name])
        generations = sorted(known.values(), key=lambda g: g.spec.number)
        jobs = dict(view["jobs"])
        for name in self._recorded(generations) & self.jobs.keys():
            jobs.setdefault(name, self.jobs[name])  # read live, as the real one does
        update = view["update"]["shop"]
        names = [target.target_ref.name for target in update.spec.rollout.targets]
        return Observation(
            update=update,
            generations=tuple(generations),
            jobs=tuple(jobs.values()),
            targets=tuple(view["targets"][name] for name in names),
            removed_targets=tuple(
                view["targets"][each.name]
                for g in generations
                if rolling(g)
                for each in g.status.rollout.targets
                if each.name not in names
            ),
            digests_elsewhere=self.digests_elsewhere,
            defaults=Defaults(self.image, "http://progress"),
            refusals=tuple(self.refusals.values()),
        )

    def _kinds(self) -> dict[str, dict]:
        return {
            "update": {"shop": self.update},
            "generations": self.generations,
            "jobs": self.jobs,
            "targets": self.targets,
        }

    def _recorded(self, generations: list[ModelGeneration]) -> set[str]:
        runs = [(g.status.training, g.status.evaluation) for g in generations]
        return {run.job for pair in runs for run in pair if run and run.job_uid}

    def stall(self, kind: str) -> None:
        """Let the watch of a kind fall behind."""
        self.late.setdefault(kind, dict(self._kinds()[kind]))

    def catch_up(self) -> None:
        self.late = {}

    def step(self) -> Plan:
        """Decide once and carry it out."""
        seen = self.seen()
        self.plan = plan = decide(seen, self.now)
        assert plan == decide(seen, self.now), "the same facts must give the same plan"
        if not self.carry_out(seen, plan):
            assert self.late, f"the world is as it was seen, and refuses {plan.actions}"
        return plan

    def carry_out(self, seen: Observation, plan: Plan) -> bool:
        """Carry a plan out up to the first write that is refused; tell whether none was."""
        if plan.requeue:
            self.last = seen, plan
        try:
            for action in plan.actions:
                if self._refuses(action):
                    return True
                self._apply(action, seen)
            done = set(map(subject, plan.actions))
            waiting = {k: r for k, r in self.refusals.items() if r.is_pending(self.now)}
            self.refusals = {k: r for k, r in waiting.items() if k not in done}
            self.events += [event.reason for event in plan.events]
            if plan.facts or not plan.actions:
                self._tell(seen, plan)
        except Stale:
            return False
        return True

    def _refuses(self, action: Action) -> bool:
        name, reason = subject(action), ""
        if isinstance(action, StartJob) and self.refuse_jobs(action.run):
            reason = "JobRefused"
        elif isinstance(action, DeleteJob) and self.refuse_deletions:
            reason = "WriteRefused"
        reason = self.refusing.get(name, reason)
        if not reason:
            return False
        again_at = self.now + timedelta(seconds=35)
        self.refusals[name] = Refusal(name, reason, f"{name} is refused: quota", again_at)
        return True

    def repeat(self) -> None:
        """Carry the last plan out once more, whatever happened since."""
        if self.last is not None:
            self.carry_out(*self.last)

    def be_late(self) -> None:
        """Decide on what was seen before the last writes, as a second operator would."""
        if self.last is not None:
            last = self.last
            self.carry_out(last[0], decide(last[0], self.now))
            self.last = last

    def _tell(self, seen: Observation, plan: Plan) -> None:
        if plan.status in (seen.update.status, self.update.status):
            return
        if self.update.metadata.uid != seen.update.metadata.uid:
            raise Stale
        if self.update.status != seen.update.status:
            self._follow("update", "shop")
            raise Stale
        UpdateStatus.model_validate(plan.status.plain())  # as the API server does
        self.announced += [event.reason for event in plan.status_events]
        self.update = self.update.model_copy(update={"status": plan.status})
        self._follow("update", "shop")
        self.check()

    def _follow(self, kind: str, name: str) -> None:
        """Own writes, and what a refused one brought back, are seen though the watch stalls."""
        if kind not in self.late:
            return
        there = self._kinds()[kind]
        if name in there:
            self.late[kind][name] = there[name]
        else:
            self.late[kind].pop(name, None)

    def die(self, written: int) -> None:
        """Decide once and end after so many of the plan's writes, the status never being one."""
        seen = self.seen()
        for action in decide(seen, self.now).actions[:written]:
            if self._refuses(action):
                return
            try:
                self._apply(action, seen)
            except Stale:
                return

    def settle(self, steps: int = 60) -> Plan:
        """Decide until nothing more is written."""
        for _ in range(steps):
            before = self.late and {kind: dict(held) for kind, held in self._kinds().items()}
            plan = self.step()
            if not plan.actions and not plan.facts:
                return plan
            if before and self._kinds() == before:
                return plan  # refused, or done already: it waits for its watches
        raise AssertionError(f"does not settle; the last plan: {self.plan}")

    def _apply(self, action: Action, seen: Observation | None = None) -> None:  # noqa: C901
        seen = seen or self.seen()
        self.witness(seen, action)
        match action:
            case CreateGeneration():
                self._create(seen, action)
            case WriteGeneration(name, status):
                self._write(seen, name, status)
            case AdoptGeneration(name, _):
                self._relabel(seen, name)
            case DeleteGeneration(name, uid):
                self._delete("generations", name, uid)
            case StartJob():
                self._start(seen, action)
            case SuspendJob(name, uid, suspend):
                if name not in self.jobs or self.jobs[name].uid != uid:
                    raise Stale
                self._suspend(name, suspend=suspend, by_us=suspend)
                self._follow("jobs", name)
            case DeleteJob(name, uid):
                self._delete("jobs", name, uid)
            case Serve():
                self._serve(seen, action)
            case SetFinalizer(present):
                if self.update.metadata.finalizers != seen.update.metadata.finalizers:
                    raise Stale
                self._meta(finalizers=(FINALIZER,) if present else ())
                self._follow("update", "shop")
        self.check()

    def _delete(self, kind: str, name: str, uid: str) -> None:
        there = self._kinds()[kind]
        if name in there and _uid_of(there[name]) == uid:
            if kind == "jobs":
                self._end_pods(name)
            del there[name]
        if kind in self.late:
            self.late[kind].pop(name, None)

    def _meta(self, **changes: object) -> None:
        metadata = self.update.metadata.model_copy(update=changes)
        self.update = self.update.model_copy(update={"metadata": metadata})

    def _create(self, seen: Observation, made: CreateGeneration) -> None:
        uid = seen.update.metadata.uid
        if made.name in self.generations:
            if self.generations[made.name].metadata.labels.get(LABEL_UPDATE_UID) != uid:
                raise Stale
            self._follow("generations", made.name)
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
            ),
            spec=made.spec,
        )
        self._follow("generations", made.name)

    def _write(self, seen: Observation, name: str, status: GenerationStatus) -> None:
        known = next((g for g in seen.generations if g.metadata.name == name), None)
        if known is None:
            return
        live = self.generations.get(name)
        if live is None or live.metadata.uid != known.metadata.uid:
            raise Stale
        if status not in (known.status, live.status):
            GenerationStatus.model_validate(status.plain())  # as the API server does
            assert status.verdict in words.VERDICTS
            assert status.phase in words.GENERATION_PHASES
            assert status.outcome in words.OUTCOMES
            if live.status != known.status:
                self._follow("generations", name)
                raise Stale
            self.generations[name] = live.model_copy(update={"status": status})
            self._follow("generations", name)
        for run in (status.training, status.evaluation):
            if run and run.job_uid:
                self.attempts_recorded.add(run.job)

    def _relabel(self, seen: Observation, name: str) -> None:
        live = self.generations.get(name)
        uids = {g.metadata.uid for g in seen.generations}
        if live is None or live.metadata.uid not in uids:
            raise Stale
        labels = {LABEL_UPDATE_UID: seen.update.metadata.uid}
        metadata = live.metadata.model_copy(update={"labels": labels})
        self.generations[name] = live.model_copy(update={"metadata": metadata})
        self._follow("generations", name)

    def _start(self, seen: Observation, start: StartJob) -> None:
        run, owner = start.run, seen.update.metadata
        if run.job in self.jobs:
            if self.jobs[run.job].owner_uid != owner.uid:
                raise Stale
            self._follow("jobs", run.job)
            return
        assert run.job not in self.attempts_recorded, "one Job for each attempt"
        self.job_names_ever.append(run.job)
        self.runs[run.job] = start
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
            probed=probe_digest(run.recipe) if run.probe else "",
            spec_generation=owner.generation,
            gpus=start.gpus,
            image=start.image,
        )
        self.probes[self.jobs[run.job].uid] = start.request
        self._follow("jobs", run.job)

    def _serve(self, seen: Observation, serve: Serve) -> None:
        name = serve.target.target_ref.name
        target = self.targets[name]
        foreign = target.digest is not None and target.digest not in self.served
        if target.uid != serve.target_uid:
            raise Stale
        if serve.serving and (target.foreign_manager or foreign):
            raise Stale
        changes = {"claimed_by": "shop", "highest_number": serve.highest_number}
        if serve.serving:
            changes |= {"complete": False, "stalled": ""}
            changes |= {"digest": serve.serving.digest, "number": serve.serving.number}
            changes |= {"uri": serve.serving.uri, "updated": 0, "available": 0, "old": 2}
            self.served.append(serve.serving.digest)
        else:
            changes |= {"digest": None, "number": None}
        self.targets[name] = replace(target, **changes)
        self._follow("targets", name)

    # What happens in the world.

    def bring_target(self, name: str = "ranker") -> None:
        """Make the Deployment, as its owner's manifest has it."""
        targets = self.update.spec.rollout.targets
        target = next(each for each in targets if each.target_ref.name == name)
        self.targets[name] = ObservedTarget(
            target=target, uid=self._uid(), has_container=True, desired=2, settled=True
        )

    def become(self, name: str, **words: str) -> None:
        """Let another version of the operator write words into a generation's status."""
        if known := self.generations.get(name):
            status = known.status.model_copy(update=words)
            self.generations[name] = known.model_copy(update={"status": status})

    def lose(self, name: str) -> None:
        """Delete a generation by hand; one that was never served may give its number away."""
        gone = self.generations.pop(name)
        number = f"-g{gone.spec.number}-"
        self.attempts_recorded = {job for job in self.attempts_recorded if number not in job}

    def forge(self, spec: GenerationSpec, *, labelled: bool) -> str:
        """Make a generation as a stranger may, with our label or without; return its name."""
        name = f"shop-g{spec.number}"
        labels = {LABEL_UPDATE_UID: self.update.metadata.uid} if labelled else {}
        meta = {"name": name, "namespace": "search", "uid": self._uid(), "labels": labels}
        metadata = Meta(**meta, creation_timestamp=self.now)
        self.generations[name] = ModelGeneration(metadata=metadata, spec=spec)
        return name

    def roll_pods(self) -> None:
        """Let the Deployments finish their roll, if their pods get ready at all."""
        for name, target in self.targets.items():
            if self.pods_ready and target.digest:
                self.targets[name] = replace(target, updated=2, available=2, old=0, complete=True)

    def run_jobs(self) -> None:
        """Let every Job succeed with the result that the data gives."""
        for name, job in list(self.jobs.items()):
            lost = job.stage == "evaluate" and f"shop-g{job.number}" not in self.generations
            if job.result is None and not job.suspended and not job.failed and not lost:
                result: Result | None = self._result(self.runs[name])
                if job.stage == "evaluate" and self.lie:
                    result, self.lie = spoilt(result, self.lie), ""
                self.succeed(name, result)

    def begin(self, name: str) -> None:
        """Let the pod of a Job run, from now on."""
        job = self.jobs[name]
        if any(pod.running for pod in job.pods) or job.suspended or job.finished:
            return
        pod = replace(self._pod(name), running=True)
        self.ran[pod.uid] = (name, self.now, None)
        self.jobs[name] = replace(job, pods=(pod,))

    def suspend_by_another(self, name: str, *, suspend: bool = True) -> None:
        """Another controller, such as Kueue, suspends a Job or resumes it."""
        self._suspend(name, suspend=suspend, by_us=suspend and self.jobs[name].suspended_by_us)

    def _suspend(self, name: str, *, suspend: bool, by_us: bool) -> None:
        """Suspend a Job, which takes its pods away, or let it go on."""
        since = self.now if suspend else None
        if suspend:
            self._end_pods(name)
        pods = () if suspend else self.jobs[name].pods
        changes = {"suspended": suspend, "suspended_at": since, "suspended_by_us": by_us}
        self.jobs[name] = replace(self.jobs[name], pods=pods, **changes)

    def _end_pods(self, name: str) -> None:
        for uid, (job, began, ended) in self.ran.items():
            if job == name and ended is None:
                self.ran[uid] = (job, began, self.now)

    def _pod(self, name: str) -> ObservedPod:
        image = self.jobs[name].image
        known = self.tags.get(image, digest(image))
        times = {"created": self.now, "started": self.now}
        return ObservedPod(f"{name}-x", self._uid(), **times, image_digest=known)

    def _ended(self, name: str, **says: object) -> ObservedPod:
        """The pod of a Job at its end; one that was not seen to run ran for no time."""
        runs = [pod for pod in self.jobs[name].pods if pod.running]
        pod = runs[0] if runs else self._pod(name)
        self._end_pods(name)
        return replace(pod, running=False, waiting="", ended=self.now, **says)

    def succeed(self, name: str, result: Result | None) -> None:
        pod = self._ended(name, exit_code=0)
        self.jobs[name] = replace(
            self.jobs[name], succeeded=True, finished=self.now, result=result, pods=(pod,)
        )

    def fail(self, name: str, code: int, *, disrupted: bool = False, reason: str = "") -> None:
        job = self.jobs[name]
        pod = self._ended(name, exit_code=code, disrupted=disrupted)
        result = None
        if reason:
            failure = Failure(reason=reason, message=f"because of {reason}")
            result = Result(job=name, stage=job.stage, number=job.number, ok=False, failure=failure)
        self.jobs[name] = replace(job, failed=True, finished=self.now, pods=(pod,), result=result)

    def next_month(self) -> str:
        """The month that is due next."""
        return MONTHS[len(self.months) + len(self.undelivered)]

    def deliver_late(self, month: str) -> None:
        """Bring a month that was due before others that are there."""
        self.undelivered = [m for m in self.undelivered if m != month]
        self.months = sorted([*self.months, month])

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
        self.asked.append(request.partition("@")[0])
        self._meta(annotations={"springtide.dev/request": request})

    def edit(self, **spec: object) -> None:
        self.spec = {**self.spec, **spec}
        spec_after = UpdateSpec.model_validate(self.spec)
        metadata = self.update.metadata.model_copy(
            update={"generation": self.update.metadata.generation + 1}
        )
        self.update = self.update.model_copy(update={"spec": spec_after, "metadata": metadata})
        self.refusals = {}

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

    def condition(self, kind: str) -> Condition | None:
        """A condition of the update; None where it is not there."""
        return next((c for c in self.update.status.conditions if c.type == kind), None)

    def generation(self, number: int) -> ModelGeneration:
        return self.generations[f"shop-g{number}"]


def with_generation_one() -> World:
    """A world whose first generation is live after two months of data."""
    world = World()
    world.settle()
    world.months = ["2025-01", "2025-02"]
    world.turns(8)
    return world


def two_targets_on_generation_one() -> World:
    """A world with two targets whose first generation is live."""
    world = World(spec={**SPEC, **TWO_TARGETS})
    world.settle()
    world.months = ["2025-01", "2025-02"]
    world.turns(8)
    return world


def _uid_of(held: ModelGeneration | ObservedJob) -> str:
    return held.uid if isinstance(held, ObservedJob) else held.metadata.uid
