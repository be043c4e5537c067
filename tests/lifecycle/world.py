"""A world without a cluster: it applies plans to facts, finishes Jobs on demand, and has a clock.

Tests drive it step by step. It is strict where the API server is: names are unique, uids must
match, a status is written only over what was seen. Watches may stall; own writes are seen at once.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from itertools import count
from typing import TYPE_CHECKING

from lifecycle.answers import MONTHS as MONTHS
from lifecycle.answers import digest as digest
from lifecycle.answers import end_of as end_of
from lifecycle.answers import start_of as start_of
from lifecycle.declared import SPEC, TWO_TARGETS
from lifecycle.world_api_server import ApiServer, Conflict
from lifecycle.world_canaries import Canaries
from lifecycle.world_changes import Changes
from lifecycle.world_queue import Queue
from lifecycle.world_routes import Routes
from lifecycle.world_storage import Storage
from lifecycle.world_traffic import Answered, Traffic

from springtide_api.objects import IncrementalUpdate, Meta, ModelGeneration
from springtide_api.update.spec import UpdateSpec
from springtide_operator.lifecycle.decide import decide
from springtide_operator.lifecycle.queues.observed import ObservedKind
from springtide_operator.lifecycle.state.generations import rolling
from springtide_operator.lifecycle.state.observation import Observation
from springtide_operator.lifecycle.state.observed import (
    Defaults,
    ObservedCanary,
    ObservedJob,
    ObservedSample,
    ObservedTarget,
    Refusal,
)
from springtide_operator.lifecycle.state.plan import (
    Plan,
    StartJob,
    subject,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from springtide_api.contract import RunFile
    from springtide_api.update.status import Condition
    from springtide_operator.lifecycle.routes.observed import (
        ObservedBudget,
        ObservedRoute,
        ObservedService,
    )
    from springtide_operator.lifecycle.state.plan import Action

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)


@dataclass
class World(ApiServer, Changes, Traffic, Canaries, Routes, Queue):
    """One update, its generations, Jobs and Deployments."""

    spec: dict = field(default_factory=lambda: dict(SPEC))
    now: datetime = NOON
    seeded: bool = True
    """The initial model has no trained head."""

    def __post_init__(self) -> None:
        self.uids = (f"{n:05d}-uid" for n in count(1))
        self.months: list[str] = []
        """Months of data that are there."""
        self.late_rows = 0
        """Rows of a holdout that came after the first ones."""
        self.rows_of_a_month = 1000
        """Rows of a holdout of one month."""
        self.training_rows_of_a_month = 1000
        self.undelivered: list[str] = []
        """Months that were due and did not come."""
        self.exposed: dict[str, set[int]] = {}
        """Generations that served rows of a month."""
        self.image_knows_served_generation = True
        self.aucs: dict[str, tuple[float, float]] = {}
        """Candidate's and live's AUC on a holdout that ends with this month."""
        self.qualities: dict[str, float] = {}
        """AUC that a candidate's weights had at their evaluation, by their digest."""
        self.spoil_next_result = ""
        """How the next evaluation spoils its result, one of SPOILT."""
        self.storage = Storage()
        self.without_gain = False
        """Whether early stopping keeps the weights that a training starts from."""
        self.forms = ["quantization", "pruning"]
        """The fields of spec.serving.optimise that the trainer image knows."""
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
        self.gpus: dict[str, int] = {}
        """GPUs of each of them."""
        self.probes: dict[str, str] = {}
        """The request of each probe that ever ran, by the uid of its Job."""
        self.job_names_ever: list[str] = []
        self.attempts_recorded: set[str] = set()
        """Names of Jobs whose uid was written to a status: they must never be created again."""
        self.targets: dict[str, ObservedTarget] = {}
        self.templates: dict[str, str] = {}
        """Digests of the pod templates in the manifests of the targets' owners."""
        self.containers: dict[str, str] = {}
        """Names of the containers there, where a target's is not as the spec names it."""
        self.carried: dict[str, dict[str, str | None]] = {}
        """Our variables in a container that its owner renamed by an edit."""
        for target in self.update.spec.rollout.targets:
            self.create_target(target.target_ref.name)
        self.canaries: dict[str, ObservedCanary] = {}
        """By the name of the Deployment."""
        self.canary_pods_ready = True
        self.routes: dict[str, ObservedRoute] = {}
        """HTTPRoutes by name."""
        self.routes_changed = False
        """Whether another client changed weights since the operator restored them."""
        self.route_problem = ""
        """Why HTTPRoutes cannot be read."""
        self.install_kueue()
        self.job_sets = ObservedKind()
        """Whether the operator can read JobSets."""
        self.services: dict[str, ObservedService] = {}
        self.budgets: tuple[ObservedBudget, ...] = ()
        self.endpoints_follow = True
        """EndpointSlices follow the pods at once."""
        self.stalled_watches: dict[str, dict] = {}
        """The observed state of kinds with a stalled watch: unchanged except for own writes."""
        self.on_action: Callable[[Observation, Action], None] = lambda seen, action: None
        """Called with every action before it is executed, and its observation."""
        self.check: Callable[[], None] = lambda: None
        """Called after every single write."""
        self.asked: list[str] = []
        """Verbs of requests, in order."""
        self.served: list[str] = []
        """Digests applied to the target, in order."""
        self.digests_elsewhere: frozenset[str] = frozenset()
        """Digests served by Deployments that are no longer targets."""
        self.image = "trainer:1"
        """The trainer image that the installation provides."""
        self.tags: dict[str, str] = {}
        """Digests of images that differ from the digest of their name."""
        self.pods_ready = True
        self.measured: dict[str, float | str | None] = {}
        """What Prometheus has for each metric: a number, nothing, or a refusal of the query."""
        self.answered: list[Answered] = []
        """Requests that live traffic has made."""
        self.per_minute: dict[str, tuple[int, int]] = {}
        """Bad and all requests that a side, canary or live, answers in each minute besides."""
        self.prometheus_answers = True
        self.hub_endpoint = "https://huggingface.co"
        """The hub that the installation provides."""
        self.prometheus_hosts = frozenset({"prometheus:9090", "prometheus.monitoring:9090"})
        self.samples: tuple[ObservedSample, ...] = ()
        self.queried: list[str] = []
        """Queries that were asked, in order."""
        self.refusing: dict[str, str] = {}
        """Reason of the refusal by what is written (`plan.subject`): quota, admission, rights."""
        self.refuse_jobs: Callable[[RunFile], bool] = lambda run: False
        self.refuse_deletions = False
        self.refusals: dict[str, Refusal] = {}
        """Recent refusals, as the operator keeps them."""
        self.events: list[str] = []
        self.event_messages: list[str] = []
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

    def seen(self) -> Observation:
        view = self._kinds() | self.stalled_watches
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
        canaries = tuple(view["canaries"].values())
        readable = [
            job for job in jobs.values() if not (job.is_job_set and self.job_sets.unavailable)
        ]
        return Observation(
            update=update,
            generations=tuple(generations),
            jobs=tuple(readable),
            targets=tuple(
                self.as_declared(view["targets"][each.target_ref.name], each)
                for each in update.spec.rollout.targets
            ),
            removed_targets=tuple(
                view["targets"][each.name]
                for g in generations
                if rolling(g)
                for each in g.status.rollout.targets
                if each.name not in names
            ),
            canaries=canaries,
            routings=self.routings(update, generations, view["routes"], canaries),
            kueue=self.kueue,
            job_sets=self.job_sets,
            workloads=() if self.kueue.unavailable else tuple(view["workloads"].values()),
            digests_elsewhere=self.digests_elsewhere,
            defaults=Defaults(
                self.image,
                "http://progress",
                prometheus_hosts=self.prometheus_hosts,
                hub_endpoint=self.hub_endpoint,
            ),
            refusals=tuple(self.refusals.values()),
            samples=self.samples,
        )

    def _kinds(self) -> dict[str, dict]:
        return {
            "update": {"shop": self.update},
            "generations": self.generations,
            "jobs": self.jobs,
            "targets": self.targets,
            "canaries": self.canaries,
            "routes": self.routes,
            "workloads": self.workloads,
        }

    def _recorded(self, generations: list[ModelGeneration]) -> set[str]:
        runs = [(g.status.training, g.status.evaluation) for g in generations]
        return {run.job for pair in runs for run in pair if run and run.job_uid}

    def stall_watch(self, kind: str) -> None:
        """Stall the watch of a kind."""
        self.stalled_watches.setdefault(kind, dict(self._kinds()[kind]))

    def resume_watches(self) -> None:
        self.stalled_watches = {}

    def step(self) -> Plan:
        """Decide once and carry it out; about an update that is gone, nothing is decided."""
        if self.is_gone:
            self.plan = Plan((), (), self.update.status, wake_after=None)
            return self.plan
        seen = replace(self.seen(), now=self.now)
        self.plan = plan = decide(seen, self.now)
        assert plan == decide(seen, self.now), "the same facts must give the same plan"
        if not self.execute(seen, plan):
            assert self.stalled_watches, f"the world is as it was seen, and refuses {plan.actions}"
        return plan

    def execute(self, seen: Observation, plan: Plan) -> bool:
        """Execute a plan up to the first refused write; return whether none was refused."""
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
            self.event_messages += [event.message for event in plan.events]
            if plan.facts or not plan.actions:
                self._write_update_status(seen, plan)
        except Conflict:
            return False
        return True

    def repeat(self) -> None:
        """Execute the last plan again, whatever happened since."""
        if self.last is not None and not self.is_gone:
            self.execute(*self.last)

    def decide_on_old_observation(self) -> None:
        """Decide on the observation before the last writes, as a second operator would."""
        if self.last is not None and not self.is_gone:
            last = self.last
            old = replace(last[0], now=self.now)
            self.execute(old, decide(old, self.now))
            self.last = last

    def crash_after(self, written: int) -> None:
        """Decide once and stop after this many writes of the plan, before the status."""
        if self.is_gone:
            return
        seen = replace(self.seen(), now=self.now)
        for action in decide(seen, self.now).actions[:written]:
            if self._refuses(action):
                return
            try:
                self._apply(action, seen)
            except Conflict:
                return

    def settle(self, steps: int = 60) -> Plan:
        """Decide until nothing more is written."""
        for _ in range(steps):
            before = self.stalled_watches and {
                kind: dict(held) for kind, held in self._kinds().items()
            }
            plan = self.step()
            if self.measure(plan):
                continue
            if not plan.actions and not plan.facts:
                return plan
            if before and self._kinds() == before:
                return plan  # refused, or done already: it waits for its watches
        raise AssertionError(f"does not settle; the last plan: {self.plan}")

    def round(self, minutes: int = 2) -> Plan:
        """One round of the world: time passes, Jobs and pods finish, the operator decides."""
        self.now += timedelta(minutes=minutes)
        self.complete_jobs()
        self.settle()
        self.finish_rollouts()
        return self.settle()

    def rounds(self, rounds: int = 8) -> Plan:
        for _ in range(rounds):
            plan = self.round()
        return plan

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
    world.rounds(8)
    return world


def two_targets_on_generation_one() -> World:
    """A world with two targets whose first generation is live."""
    world = World(spec={**SPEC, **TWO_TARGETS})
    world.settle()
    world.months = ["2025-01", "2025-02"]
    world.rounds(8)
    return world


def target_removed_during_a_rollout() -> World:
    """Generation 2 is on ranker and reranker, not ready; reranker was removed from the spec."""
    world = two_targets_on_generation_one()
    world.months.append("2025-03")
    world.pods_ready = False
    while world.targets["reranker"].number != 2:
        world.round()
    rollout = world.spec["rollout"]
    world.edit(rollout={**rollout, "targets": rollout["targets"][:1]})
    return world


def after_promotions(count: int, **history: int) -> World:
    world = World()
    world.edit(history=history)
    world.settle()
    world.months = MONTHS[:2]
    world.rounds(8)
    for month in MONTHS[2 : count + 1]:
        world.months = [*world.months, month]
        world.rounds(8)
    return world


def stuck_in_a_rollout() -> World:
    """A world whose second generation rolls out, and whose new pods do not get ready."""
    world = World()
    world.target = replace(world.target, template=digest("owner's"))
    world.settle()
    world.months = ["2025-01", "2025-02"]
    world.rounds(8)
    world.pods_ready = False
    world.months.append("2025-03")
    while world.target.number != 2:
        world.round()
    return world
