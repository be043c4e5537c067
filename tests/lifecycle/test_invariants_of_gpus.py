"""Whatever happens to Jobs with a GPU, in any order: no second is lost, none is counted twice."""

from __future__ import annotations

from datetime import timedelta

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import initialize, precondition, rule
from lifecycle.declared import SPEC
from lifecycle.history import OperatorHistory
from lifecycle.invariants import Invariants
from lifecycle.world import MONTHS, World

MINUTES = st.sampled_from([1, 10, 50, 600, 1500])
GPUS = st.sampled_from([1, 2, 1, 0])
NODES = st.sampled_from([1, 1, 2])
LIMITS = st.sampled_from([1800, 1800, 7200, 90_000])
ENDS = [
    *("succeeds", "succeeds before those of other nodes", "fails", "is disrupted", "runs on"),
    *("is deleted", "is rejected"),
]


class GpuLife(OperatorHistory):
    """An update with a budget and generation 1 live; its Jobs run, end and are repeated.

    Most histories begin with a budget that the training of generation 2 has used up.
    """

    watches = ("update", "generations", "jobs")

    @initialize(
        gpus=st.integers(1, 2),
        nodes=NODES,
        scoring=NODES,
        tokenizing=NODES,
        most=LIMITS,
        kept=st.sampled_from([0, 5]),
        disrupted=st.booleans(),
    )
    def a_generation_is_live(
        self,
        gpus: int,
        nodes: int,
        scoring: int,
        tokenizing: int,
        most: int,
        kept: int,
        disrupted: bool,
    ) -> None:
        data = {**SPEC["data"], "window": {"rowsPerShard": 1000}}
        history = {"generations": 2, "rejected": kept}
        self.world = World(spec={**SPEC, "data": data, "history": history})
        self.world.rows_of_a_month = 1000 * scoring
        self.world.training_rows_of_a_month = 1000 * tokenizing
        self.checks = Invariants(self.world)
        self.world.settle()
        self.world.months = [*MONTHS[:2]]
        self.world.rounds(8)
        self.the_budget_is_edited(most, gpus, nodes)
        self.a_month_arrives()
        for _ in range(5):
            self.time_passes(1)
        (name,) = self.with_a_gpu()
        self.world.begin(name)
        self.settle()
        self.world.now += timedelta(hours=1)
        if disrupted:
            self.world.fail(name, 143, disrupted=True)
        else:
            self.world.succeed(name, self.world._result(self.world.runs[name]))
        self.settle()

    @precondition(lambda self: len(self.world.months) < len(MONTHS) - 1)
    @rule()
    def a_month_arrives(self) -> None:
        self.world.months.append(self.world.next_month())

    @rule(minutes=MINUTES)
    def time_passes(self, minutes: int) -> None:
        """Jobs without a GPU end meanwhile."""
        self.world.now += timedelta(minutes=minutes)
        for name, job in list(self.world.jobs.items()):
            if not (job.gpus or job.finished or job.suspended):
                self.world.succeed(name, self.world._result(self.world.runs[name]))
        self.settle()
        self.world.finish_rollouts()
        self.settle()

    @precondition(lambda self: self.with_a_gpu())
    @rule(data=st.data(), minutes=MINUTES, end=st.sampled_from(ENDS))
    def a_pod_runs(self, data: st.DataObject, minutes: int, end: str) -> None:
        world, name = self.world, data.draw(st.sampled_from(self.with_a_gpu()))
        world.begin(name)
        self.settle()
        world.now += timedelta(minutes=minutes)
        self.settle()
        if name not in world.jobs or world.jobs[name].finished:
            return
        if end == "succeeds" and not world.jobs[name].suspended:
            world.succeed(name, world._result(world.runs[name]))
        elif end == "succeeds before those of other nodes":
            world.end_first_pod(name)
        elif end in {"fails", "is disrupted"}:
            world.fail(name, 137, disrupted=end == "is disrupted")
        elif end == "is deleted":
            world._end_pods(name)
            del world.jobs[name]
        elif end == "is rejected":
            self.request("reject")
        self.settle()

    def with_a_gpu(self) -> list[str]:
        there = self.world.jobs.items()
        return sorted(name for name, job in there if job.gpus and not job.finished)

    @precondition(lambda self: self.with_a_gpu())
    @rule(data=st.data(), suspend=st.booleans())
    def another_controller_suspends_or_resumes_a_job(
        self, data: st.DataObject, suspend: bool
    ) -> None:
        name = data.draw(st.sampled_from(self.with_a_gpu()))
        self.world.suspend_by_another(name, suspend=suspend)
        self.settle()

    @rule(suspend=st.booleans())
    def the_update_is_suspended_or_not(self, suspend: bool) -> None:
        self.world.edit(suspend=suspend)
        self.settle()

    @rule(
        most=st.one_of(LIMITS, LIMITS, st.none()), gpus=st.sampled_from([1, 2, 1, 0]), nodes=NODES
    )
    def the_budget_is_edited(self, most: int | None, gpus: int, nodes: int) -> None:
        limits = {"activeDeadline": "60h"} | ({"maxGpuSecondsPerDay": most} if most else {})
        compute = {"gpusPerNode": gpus, "nodes": nodes}
        self.world.edit(training={"compute": compute, "limits": limits})
        self.settle()

    @rule(verb=st.sampled_from(["run", "retry", "reject"]))
    def a_user_requests(self, verb: str) -> None:
        self.request(verb)
        self.settle()

    @rule(cascade=st.booleans())
    def the_update_is_restored_from_git(self, cascade: bool) -> None:
        self.world.recreate(cascade=cascade)
        self.settle()

    @rule(back=st.sampled_from([1, 30]))
    def the_clock_is_set_back(self, back: int) -> None:
        """Not while a pod runs: what it ran would be negative in the world, too."""
        if all(ended for _, _, ended in self.world.ran.values()):
            self.world.now -= timedelta(hours=back)
            self.checks.clock_was_set_back = True
            self.settle()


FEW = settings(
    max_examples=40,
    stateful_step_count=40,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
)
GpuLife.TestCase.settings = FEW
TestWhateverHappensToGpus = GpuLife.TestCase
