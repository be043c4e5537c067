"""Whatever Kueue does, in any order: no write war, no counted preemption, no lost run."""

from __future__ import annotations

from datetime import timedelta

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import initialize, precondition, rule
from lifecycle.declared import SPEC
from lifecycle.history import OperatorHistory
from lifecycle.invariants import Invariants
from lifecycle.world import MONTHS, World
from lifecycle.world_queue import MISSING

from springtide_operator.lifecycle.queues.observed import ObservedKind

MINUTES = st.sampled_from([1, 10, 50, 600])
QUEUES = st.sampled_from(["gpus", "gpus", "gpus", "other", None])
PLACES = st.sampled_from([0, 0, 1, 2])
LIMITS = st.sampled_from([None, None, 1800, 7200])
NODES = st.sampled_from([1, 2])
TIMEOUTS = st.sampled_from([None, None, "2h"])


class QueueLife(OperatorHistory):
    """An update in a queue with generation 1 live; Kueue admits, preempts and deactivates."""

    watches = ("update", "generations", "jobs", "workloads")

    @initialize(most=LIMITS, timeout=TIMEOUTS, admits=PLACES, nodes=NODES)
    def a_generation_is_live(
        self, most: int | None, timeout: str | None, admits: int, nodes: int
    ) -> None:
        self.world = World(spec={**SPEC, "history": {"generations": 2, "rejected": 3}})
        self.checks, self.failures = Invariants(self.world), 0
        self.world.settle()
        self.world.months = [*MONTHS[:2]]
        self.world.rounds(8)
        self.compute_is_edited("gpus", most, timeout, nodes)
        self.world.queue_admits = admits
        self.a_run_begins()

    def a_run_begins(self) -> None:
        """Up to a Job in the queue, where it may have one."""
        self.a_month_arrives()
        for _ in range(5):
            self.time_passes(1)

    def settle(self) -> None:
        """Operator and Kueue act in turns."""
        self.world.settle()
        self.world.run_kueue()
        self.world.settle()
        self.checks.no_attempt_is_counted_for_the_queue(self.failures)
        if not self.world.stalled_watches:
            self.checks.check_at_rest()

    def in_a_queue(self) -> list[str]:
        there = self.world.jobs.items()
        known = {held.job_uid for held in self.world.workloads.values()}
        return sorted(name for name, job in there if job.uid in known and not job.finished)

    @precondition(lambda self: len(self.world.months) < len(MONTHS) - 1)
    @rule()
    def a_month_arrives(self) -> None:
        self.world.months.append(self.world.next_month())

    @rule(minutes=MINUTES)
    def time_passes(self, minutes: int) -> None:
        """Kueue acts; Jobs of other stages end meanwhile."""
        self.world.now += timedelta(minutes=minutes)
        for name, job in list(self.world.jobs.items()):
            if job.stage in {"probe", "collect"} and not job.finished:
                self.world.succeed(name, self.world._result(self.world.runs[name]))
        self.settle()
        self.world.finish_rollouts()
        self.settle()

    @rule(admits=PLACES)
    def the_quota_changes(self, admits: int) -> None:
        self.world.queue_admits = admits
        self.settle()

    @rule(runs=st.sampled_from([True, True, False]))
    def kueue_stops_or_starts_to_act(self, runs: bool) -> None:
        self.world.kueue_runs = runs

    @rule(installed=st.sampled_from([True, True, False]))
    def kueue_is_removed_or_installed(self, installed: bool) -> None:
        self.world.kueue = ObservedKind() if installed else MISSING
        self.settle()

    @precondition(lambda self: self.in_a_queue())
    @rule(data=st.data(), minutes=MINUTES, end=st.sampled_from(["succeeds", "fails", "runs on"]))
    def a_pod_runs(self, data: st.DataObject, minutes: int, end: str) -> None:
        world, name = self.world, data.draw(st.sampled_from(self.in_a_queue()))
        world.begin(name)
        self.settle()
        world.now += timedelta(minutes=minutes)
        self.settle()
        if name not in world.jobs or world.jobs[name].finished or world.jobs[name].suspended:
            return
        if end == "succeeds":
            world.succeed(name, world._result(world.runs[name]))
        elif end == "fails":
            self.failures += 1
            world.fail(name, 137)
        self.settle()

    @precondition(lambda self: self.in_a_queue())
    @rule(data=st.data(), what=st.sampled_from(["preempts", "deactivates", "refuses"]))
    def kueue_takes_the_place_of_a_job(self, data: st.DataObject, what: str) -> None:
        world, name = self.world, data.draw(st.sampled_from(self.in_a_queue()))
        if what == "preempts":
            world.preempt(name)
        elif what == "deactivates":
            world.deactivate_by_kueue(name)
        elif not world.workload(name).condition("QuotaReserved"):
            world.refuse_admission(name, "Inadmissible", "LocalQueue gpus doesn't exist")
        self.settle()

    @precondition(lambda self: self.in_a_queue())
    @rule(data=st.data())
    def a_user_activates_a_workload(self, data: st.DataObject) -> None:
        self.world.activate_by_user(data.draw(st.sampled_from(self.in_a_queue())))
        self.settle()

    @precondition(lambda self: self.in_a_queue())
    @rule(data=st.data())
    def a_workload_is_deleted_and_created_again(self, data: st.DataObject) -> None:
        """Its Job is suspended meanwhile, and what was noted on it is gone."""
        name = data.draw(st.sampled_from(self.in_a_queue()))
        del self.world.workloads[f"job-{name}"]
        self.world.suspend_by_another(name)
        self.settle()

    @precondition(lambda self: self.in_a_queue())
    @rule(data=st.data())
    def a_user_deletes_a_job(self, data: st.DataObject) -> None:
        name = data.draw(st.sampled_from(self.in_a_queue()))
        self.failures += 1
        if "jobs" in self.world.stalled_watches:
            there = self.world.generations.values()
            self.checks.unseen |= {g.metadata.name for g in there if f"-g{g.spec.number}-" in name}
        self.world._end_pods(name)
        del self.world.jobs[name]
        self.settle()

    @rule(suspend=st.booleans())
    def the_update_is_suspended_or_not(self, suspend: bool) -> None:
        self.world.edit(suspend=suspend)
        self.settle()

    @precondition(lambda self: self.in_a_queue())
    @rule(minutes=MINUTES, pin=st.booleans())
    def the_update_is_held_for_a_while(self, minutes: int, pin: bool) -> None:
        for on in (True, False):
            if pin:
                self.world.pin(1 if on else None)
            else:
                self.world.edit(suspend=on)
            self.settle()
            self.world.now += timedelta(minutes=minutes)
            self.settle()

    @rule(number=st.sampled_from([1, None]))
    def a_generation_is_pinned_or_not(self, number: int | None) -> None:
        self.world.pin(number)
        self.settle()

    @rule(queue=QUEUES, most=LIMITS, timeout=TIMEOUTS, nodes=NODES)
    def compute_is_edited(
        self, queue: str | None, most: int | None, timeout: str | None, nodes: int
    ) -> None:
        limits = {"activeDeadline": "60h"} | ({"maxGpuSecondsPerDay": most} if most else {})
        compute: dict[str, object] = {"gpusPerNode": 1, "nodes": nodes}
        compute |= {"queueName": queue} if queue else {}
        compute |= {"pendingTimeout": timeout} if timeout else {}
        self.world.edit(training={"compute": compute, "limits": limits})
        self.settle()

    @rule(verb=st.sampled_from(["run", "retry", "reject"]))
    def a_user_requests(self, verb: str) -> None:
        self.tokens += 1
        self.world.ask(f"{verb}@{self.tokens}")
        self.settle()

    @rule()
    def everything_is_put_in_order(self) -> None:
        """A run goes on to its end, whatever Kueue and users did before."""
        world = self.world
        world.resume_watches()
        world.kueue, world.kueue_runs, world.queue_admits = ObservedKind(), True, 9
        self.compute_is_edited("gpus", None, None, 1)
        self.the_update_is_suspended_or_not(False)
        self.a_generation_is_pinned_or_not(None)
        for name in self.in_a_queue():
            world.activate_by_user(name)
        self.settle()
        world.rounds(9)
        self.settle()
        assert not [job for job in world.jobs.values() if job.queue and not job.finished]
        if len(world.months) < len(MONTHS) - 1:
            self.a_run_begins()


FEW = settings(
    max_examples=60,
    stateful_step_count=40,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
)
QueueLife.TestCase.settings = FEW
TestWhateverKueueDoes = QueueLife.TestCase
