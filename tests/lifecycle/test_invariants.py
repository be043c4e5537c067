"""Whatever happens, in any order: the laws hold after every write of many histories."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    precondition,
    rule,
    run_state_machine_as_test,
)
from lifecycle.answers import SPOILED
from lifecycle.declared import SPEC, TWO_TARGETS
from lifecycle.generation_facts import bakes, live_of
from lifecycle.invariants import Invariants
from lifecycle.world import MONTHS, World, digest

from springtide_api.update.status import Cursor, UpdateStatus
from springtide_operator.lifecycle.state.generations import unknown_value
from springtide_operator.lifecycle.state.observed import ObservedTarget

SCORES = st.sampled_from(
    [
        (0.70, 0.60),  # a gain
        (0.55, 0.66),  # a loss
        (0.61, 0.60),  # undecided where the error is large
        (0.50, 0.50),  # shuffled labels
    ]
)
VERBS = st.sampled_from(["run", "retry", "reject", "quarantine", "release", "unfreeze", "promote"])
KINDS = st.sampled_from(["update", "generations", "jobs", "targets", "canaries"])
TRIGGERS: list[dict[str, object]] = [
    {"onData": {"pollInterval": "1m"}},
    {"onData": {"pollInterval": "1m"}, "cooldown": "2h", "maxRunsPerDay": 2},
    {"schedule": "@hourly"},
    {"schedule": "99 * * * *"},  # the schema allows it
]
CODES = st.sampled_from([1, 3, 4, 5, 42, 137])
METHODS = st.sampled_from(
    [
        {"type": "Full"},
        {"type": "LoRA", "lora": {}},
        {"type": "LoRA", "lora": {"continuation": "Continue"}},
        {"type": "LoRA", "lora": {"continuation": "Continue", "rank": 4}},
        {"type": "LoRA", "lora": {"continuation": "Continue", "rebaseEvery": 2}},
    ]
)
RETENTIONS = st.sampled_from(
    [{}, {"replay": {}}, {"replay": {"ratio": "0.5"}}, {"interpolation": {}}]
)
INT8 = {"quantization": "Int8Dynamic"}
PRUNED = [{"pruning": {"sparsity": share}} for share in ("0.3", "0.5")]
COMPUTES = st.sampled_from(
    [
        {},
        {"gpusPerNode": 1},
        {"gpusPerNode": 1, "gpu": {"resourceName": "nvidia.com/gpu.shared"}},
        {"gpusPerNode": 1, "runtimeClassName": "nvidia"},
    ]
)
LIMITS = st.sampled_from([{}, {}, *({"maxGpuSecondsPerDay": most} for most in (1800, 90_000))])
FORMS = st.sampled_from([{}, *({"optimise": form} for form in (INT8, *PRUNED, INT8 | PRUNED[0]))])


REFUSABLE = [
    *("Deployment ranker", "Deployment reranker", "finalizer", "Deployment ranker-canary"),
    "deletion of Deployment ranker-canary",
]

BAKE: dict[str, Any] = {"bake": {"duration": "20m"}}
VALUE = {"query": 'sum(errors{generation="{{generation}}"})', "max": "0.05"}
ANALYSIS: dict[str, Any] = {
    "prometheus": {"address": "http://prometheus:9090"},
    "metrics": [{"name": "errors", "value": VALUE}],
    "failureLimit": 2,
}
SELECTOR = 'requests{{generation="{{{{generation}}}}",outcome=~"{}"}}'
RATIO = {"bad": SELECTOR.format("error"), "total": SELECTOR.format(".*"), "maxRegression": "0"}
COMPARED = ANALYSIS | {"metrics": [*ANALYSIS["metrics"], {"name": "ratio", "ratio": RATIO}]}
TRAFFIC = {"canary": (2, 100), "live": (18, 900)}
"""Bad and all requests of each side in a minute."""
BAKES: list[dict[str, Any]] = [
    {},
    BAKE,
    {"rollback": {"quarantineWindow": True}},
    {"rollback": {"freezeAfter": 1}},
    {"rollback": {"freezeAfter": 2, "quarantineWindow": True}},
    BAKE | {"rollback": {"automatic": False, "quarantineWindow": True}},
    *(BAKE | {"analysis": ANALYSIS | {"onNoData": word}} for word in ("Wait", "Hold", "Fail")),
    *({"analysis": COMPARED | {"onNoData": word}} for word in ("Wait", "Hold", "Fail")),
    BAKE | {"analysis": COMPARED},
]


CANARY = {"weight": 33, "duration": "5m"}, {"weight": 50, "duration": "10m"}
STRATEGIES: list[dict[str, Any]] = [
    {},
    *(
        {"strategy": {"type": "Canary", "canary": {"steps": list(steps)}}}
        for steps in (CANARY, CANARY[:1], [CANARY[1] | {"minRequests": 1200}])
    ),
]
"""Weights that two pods express."""


def training(method: dict[str, Any], retention: dict[str, Any], **others: object) -> dict[str, Any]:
    """A training that the API server accepts: Continue and interpolation exclude each other."""
    continuing = method.get("lora", {}).get("continuation") == "Continue"
    found = {"method": method, **others}
    if retention and not (continuing and "interpolation" in retention):
        found |= {"retention": retention, "earlyStopping": {}}
    return found


class Life(RuleBasedStateMachine):
    """An update, its data, its Jobs and its Deployments, with users, other clients and failures."""

    def __init__(self) -> None:
        super().__init__()
        self.tokens = 0

    @initialize(
        two=st.booleans(),
        seeded=st.booleans(),
        months=st.sampled_from([0, 1, 2, 3, 3]),
        scores=st.one_of(st.just([(0.70, 0.60)] * 3), st.lists(SCORES, min_size=3, max_size=3)),
        method=METHODS,
        retention=RETENTIONS,
        history=st.sampled_from([{}, {"generations": 2, "rejected": 1}]),
        serving=FORMS,
        bake=st.sampled_from(BAKES),
        strategy=st.sampled_from(STRATEGIES),
        compute=COMPUTES,
        limits=LIMITS,
    )
    def some_history(
        self,
        two: bool,
        seeded: bool,
        months: int,
        scores: list[tuple[float, float]],
        method: dict[str, Any],
        retention: dict[str, Any],
        history: dict[str, int],
        serving: dict[str, Any],
        bake: dict[str, Any],
        strategy: dict[str, Any],
        compute: dict[str, Any],
        limits: dict[str, int],
    ) -> None:
        spec = {**SPEC, **TWO_TARGETS} if two else dict(SPEC)
        trained = training(method, retention, compute=compute, limits=limits)
        spec |= {"training": trained, "history": history, "serving": serving}
        spec["rollout"] = {**spec["rollout"], **strategy}
        self.world = World(spec=spec, seeded=seeded)
        self.world.measured, self.world.per_minute = {"errors": 0.01}, dict(TRAFFIC)
        self.checks = Invariants(self.world)
        for number, score in enumerate(scores[:months]):
            if number == months - 1:  # with a generation to return to, if there are three months
                self.world.edit(rollout={**spec["rollout"], **bake})
            self.a_month_arrives(score, 0.002)
            self.world.rounds(5)
        if not months:
            self.world.edit(rollout={**spec["rollout"], **bake})

    # What happens by itself.

    @rule(score=SCORES, error=st.sampled_from([0.002, 0.02]))
    def a_month_arrives(self, score: tuple[float, float], error: float) -> None:
        if len(self.world.months) + len(self.world.undelivered) == len(MONTHS) - 1:
            return
        month = self.world.next_month()
        self.world.months.append(month)
        self.world.aucs[month] = score
        self.world.error = error

    @precondition(lambda self: self.world.months and len(self.world.undelivered) < 3)
    @rule(score=SCORES)
    def a_month_is_due_and_does_not_come(self, score: tuple[float, float]) -> None:
        if len(self.world.months) + len(self.world.undelivered) == len(MONTHS) - 1:
            return
        month = self.world.next_month()
        self.world.aucs[month] = score
        self.world.undelivered.append(month)

    @precondition(lambda self: self.world.undelivered)
    @rule(data=st.data())
    def a_month_comes_late(self, data: st.DataObject) -> None:
        self.world.deliver_late(data.draw(st.sampled_from(self.world.undelivered)))

    @rule(minutes=st.integers(1, 30))
    def time_passes_and_jobs_succeed(self, minutes: int) -> None:
        self.world.now += timedelta(minutes=minutes)
        self.world.complete_jobs()
        self.settle()

    @rule(rounds=st.integers(1, 6))
    def the_world_turns(self, rounds: int) -> None:
        self.world.rounds(rounds)
        self.settle()

    def settle(self) -> None:
        self.world.settle()
        if not self.world.stalled_watches:
            self.checks.check_at_rest()

    # The operator and its view of the world.

    @rule()
    def the_operator_reconciles_once(self) -> None:
        self.world.step()

    @rule(written=st.integers(0, 3))
    def the_operator_crashes_between_its_writes(self, written: int) -> None:
        self.world.crash_after(written)

    @rule()
    def the_last_plan_is_carried_out_again(self) -> None:
        self.world.repeat()

    @rule()
    def an_operator_decides_on_what_was_before_the_last_writes(self) -> None:
        self.world.decide_on_old_observation()

    @rule(kind=KINDS)
    def a_watch_stalls(self, kind: str) -> None:
        self.world.stall_watch(kind)

    @rule()
    def the_watches_catch_up(self) -> None:
        self.world.resume_watches()

    # Jobs and pods.

    @precondition(lambda self: self.world.jobs)
    @rule(data=st.data(), minutes=st.sampled_from([1, 50, 1500]))
    def a_pod_runs(self, data: st.DataObject, minutes: int) -> None:
        self.world.begin(data.draw(st.sampled_from(sorted(self.world.jobs))))
        self.settle()
        self.world.now += timedelta(minutes=minutes)
        self.settle()

    @precondition(lambda self: self.world.jobs)
    @rule(data=st.data(), suspend=st.booleans())
    def another_controller_suspends_or_resumes_a_job(
        self, data: st.DataObject, suspend: bool
    ) -> None:
        name = data.draw(st.sampled_from(sorted(self.world.jobs)))
        self.world.suspend_by_another(name, suspend=suspend)
        self.settle()

    @precondition(lambda self: self.world.jobs)
    @rule(data=st.data(), code=CODES, disrupted=st.booleans())
    def a_pod_fails(self, data: st.DataObject, code: int, disrupted: bool) -> None:
        name = data.draw(st.sampled_from(sorted(self.world.jobs)))
        if not self.world.jobs[name].succeeded:
            self.world.fail(name, code, disrupted=disrupted, reason="Error")

    @precondition(lambda self: self.world.jobs)
    @rule(data=st.data())
    def a_user_deletes_a_pod(self, data: st.DataObject) -> None:
        """What it was to say is lost; a Job that was not complete fails."""
        name = data.draw(st.sampled_from(sorted(self.world.jobs)))
        job = replace(self.world.jobs[name], pods=(), result=None)
        if not job.succeeded:
            job = replace(job, failed=True, finished=self.world.now, failure="BackoffLimitExceeded")
        self.world.jobs[name] = job

    @precondition(lambda self: self.world.jobs)
    @rule(data=st.data())
    def a_job_is_seen_to_end_before_its_pod(self, data: st.DataObject) -> None:
        name = data.draw(st.sampled_from(sorted(self.world.jobs)))
        if self.world.jobs[name].finished or name not in self.world.runs:
            return
        finished = replace(self.world.jobs[name], succeeded=True, finished=self.world.now)
        self.world.jobs[name] = finished
        self.world.step()
        if name in self.world.jobs:
            self.world.complete_jobs()

    @rule(how=st.sampled_from(SPOILED))
    def the_next_evaluation_hands_back_what_it_should_not(self, how: str) -> None:
        self.world.spoil_next_result = how

    @rule(without_gain=st.booleans())
    def early_stopping_keeps_the_start_or_not(self, without_gain: bool) -> None:
        self.world.without_gain = without_gain

    @precondition(lambda self: self.world.jobs)
    @rule(data=st.data())
    def a_user_deletes_a_job(self, data: st.DataObject) -> None:
        name = data.draw(st.sampled_from(sorted(self.world.jobs)))
        del self.world.jobs[name]

    # Deployments.

    @rule(data=st.data())
    def a_deployment_is_deleted_or_made_again(self, data: st.DataObject) -> None:
        name = self.a_target(data)
        target = self.world.targets[name]
        if target.uid:
            self.world.targets[name] = ObservedTarget(target=target.target)
        else:
            self.world.create_target(name)

    @rule(ready=st.booleans())
    def pods_get_ready_or_not(self, ready: bool) -> None:
        self.world.pods_ready = ready
        self.world.finish_rollouts()

    @rule(
        data=st.data(),
        kind=st.sampled_from(["wiped", "paused", "scaled", "theirs", "taken", "unpulled"]),
    )
    def another_client_changes_a_deployment(self, data: st.DataObject, kind: str) -> None:
        name = self.a_target(data)
        target = self.world.targets[name]
        changes: dict[str, dict[str, object]] = {
            "wiped": {"digest": None, "number": None, "uri": None},
            "paused": {"paused": not target.paused},
            "scaled": {"desired": 0 if target.desired else 2},
            "theirs": {"digest": digest("theirs")},
            "unpulled": {"trouble": "" if target.trouble else "image pull failed: not found"},
            "taken": {"foreign_manager": "" if target.foreign_manager else "helm"},
        }
        if target.uid:
            self.world.targets[name] = replace(target, **changes[kind])
        self.settle()

    @precondition(lambda self: self.world.served)
    @rule(data=st.data(), minutes=st.sampled_from([1, 6, 11]))
    def a_serving_pod_crashes(self, data: st.DataObject, minutes: int) -> None:
        name = self.a_target(data)
        if self.world.targets[name].uid:
            self.world.crash_a_pod(name)
        self.settle()
        self.world.now += timedelta(minutes=minutes)
        self.settle()

    @rule(value=st.sampled_from([0.01, 0.2, None, "refused"]), minutes=st.integers(1, 4))
    def live_traffic_changes(self, value: float | str | None, minutes: int) -> None:
        self.world.measured = {"errors": value}
        for _ in range(minutes):
            self.world.now += timedelta(minutes=1)
            self.settle()

    @precondition(lambda self: bakes(live_of(list(self.world.generations.values()))))
    @rule(how=st.sampled_from(["metric", "pods", "data"]), data=st.data())
    def the_live_generation_breaks_in_its_bake(self, how: str, data: st.DataObject) -> None:
        """Nothing that lasts holds it: the watches report, and the pods fail for long enough."""
        self.world.resume_watches()
        if how == "pods":
            name = self.a_target(data)
            if self.world.targets[name].uid:
                self.world.crash_a_pod(name)
        else:
            self.world.measured = {"errors": 0.2 if how == "metric" else None}
        for _ in range(12 if how == "pods" else 3):
            self.world.now += timedelta(minutes=1)
            self.settle()

    @rule(
        side=st.sampled_from(["canary", "live"]),
        requests=st.sampled_from([(2, 100), (45, 100), (0, 0), (7, 3), "refused", None]),
    )
    def requests_are_answered_otherwise(
        self, side: str, requests: tuple[int, int] | str | None
    ) -> None:
        """At other rates, by none, or with counters that are not there or cannot be asked for."""
        self.world.per_minute.pop(side, None)
        self.world.measured.pop("ratio", None)
        if requests == "refused":
            self.world.measured["ratio"] = requests
        elif requests is not None:
            self.world.per_minute[side] = requests
        self.settle()

    @precondition(lambda self: self.world.canaries)
    @rule(how=st.sampled_from(["requests", "metric", "data"]))
    def live_traffic_shows_that_a_canary_fails(self, how: str) -> None:
        """Or shows nothing, for long enough to decide."""
        self.world.resume_watches()
        self.world.prometheus_answers = True
        rollout = self.world.spec["rollout"]
        self.world.edit(rollout={**rollout, "analysis": COMPARED | {"onNoData": "Fail"}})
        self.settle()
        if how == "requests":
            self.world.per_minute["canary"] = (60, 100)
        else:
            self.world.measured = {"errors": 0.2 if how == "metric" else None}
        for _ in range(4):
            self.world.now += timedelta(minutes=1)
            self.world.finish_rollouts()
            self.settle()

    @rule(answers=st.booleans())
    def prometheus_answers_or_not(self, answers: bool) -> None:
        self.world.prometheus_answers = answers

    @rule()
    def the_operator_restarts(self) -> None:
        self.world.restart_operator()
        self.settle()

    @rule(bake=st.sampled_from(BAKES))
    def the_bake_is_edited(self, bake: dict[str, Any]) -> None:
        rollout = self.world.spec["rollout"]
        kept = {k: rollout[k] for k in ("targets", "deadline", "strategy") if k in rollout}
        self.world.edit(rollout={**kept, **bake})
        self.settle()

    @rule(strategy=st.sampled_from(STRATEGIES))
    def the_strategy_is_edited(self, strategy: dict[str, Any]) -> None:
        rollout = {k: v for k, v in self.world.spec["rollout"].items() if k != "strategy"}
        self.world.edit(rollout={**rollout, **strategy})
        self.settle()

    @precondition(lambda self: self.world.canaries)
    @rule(
        data=st.data(),
        kind=st.sampled_from(["crashed", "recovered", "deleted", "edited", "scaled"]),
        minutes=st.sampled_from([0, 1, 6, 11]),
    )
    def something_happens_to_a_canary(self, data: st.DataObject, kind: str, minutes: int) -> None:
        name = data.draw(st.sampled_from(sorted(self.world.canaries)))
        if kind == "crashed":
            self.world.crash_canaries()
        elif kind == "recovered":
            self.world.canary_pods_ready = True
            self.world.finish_canaries()
        elif kind == "deleted":
            del self.world.canaries[name]
        elif kind == "edited":
            self.world.edit_canary(name)
        else:
            self.world.change_canary(name, desired=3)
        self.settle()
        self.world.now += timedelta(minutes=minutes)
        self.settle()

    @precondition(lambda self: self.world.canaries)
    @rule(how=st.sampled_from(["pods", "request", "pin", "deletion of another"]))
    def a_canary_is_aborted(self, how: str) -> None:
        """By its pods for long enough, by a user, by a pin, or it is created once more."""
        number = next(iter(self.world.canaries.values())).deployment.number
        if how == "pods":
            self.world.crash_canaries()
            for _ in range(12):
                self.world.now += timedelta(minutes=1)
                self.settle()
        elif how == "request":
            self.request(f"rollback.g{number}")
        elif how == "pin" and self.world.update.status.live:
            self.world.pin(self.world.update.status.live.number)
        else:
            self.world.canaries.pop("reranker-canary", None)
        self.settle()

    @precondition(lambda self: self.world.canaries)
    @rule()
    def the_records_of_all_promotions_are_deleted(self) -> None:
        for name, g in list(self.world.generations.items()):
            if g.status.rollout.promoted_at:
                self.world.delete_generation(name)
                self.checks.forget_generation(name)
        self.settle()

    @precondition(lambda self: self.world.canaries)
    @rule(minutes=st.integers(1, 12))
    def a_canary_goes_on(self, minutes: int) -> None:
        for _ in range(minutes):
            self.world.now += timedelta(minutes=1)
            self.world.finish_rollouts()
            self.settle()

    @rule(stale=st.sampled_from([0, 0, 1]))
    def a_user_ends_the_bake(self, stale: int) -> None:
        live = self.world.update.status.live
        self.request(f"promote.g{(live.number if live else 0) + stale}")

    def a_target(self, data: st.DataObject) -> str:
        return data.draw(st.sampled_from(sorted(self.world.targets)))

    # Quota, admission and rights.

    @rule(
        writes=st.sets(st.sampled_from(REFUSABLE)),
        jobs=st.booleans(),
        deletions=st.booleans(),
    )
    def some_writes_are_refused(self, writes: set[str], jobs: bool, deletions: bool) -> None:
        self.world.refusing = dict.fromkeys(writes, "WriteRefused")
        self.world.refuse_jobs = lambda run: jobs
        self.world.refuse_deletions = deletions

    # People.

    @rule(
        rate=st.sampled_from(["1e-5", "2e-5"]),
        margin=st.sampled_from(["0.01", "0.05"]),
        least=st.sampled_from([None, 300]),
        method=METHODS,
        retention=RETENTIONS,
        compute=COMPUTES,
        limits=LIMITS,
    )
    def the_spec_is_edited(
        self,
        rate: str,
        margin: str,
        least: int | None,
        method: dict[str, Any],
        retention: dict[str, Any],
        compute: dict[str, Any],
        limits: dict[str, int],
    ) -> None:
        floor, not_worse = self.world.spec["gate"]["rules"]
        floor = {key: each for key, each in floor.items() if key != "minEntities"}
        floor |= {"minEntities": least} if least else {}
        rules = [floor, {**not_worse, "maxRegression": {"absolute": margin}}]
        hyperparameters = {"learningRate": rate}
        asked = {"hyperparameters": hyperparameters, "compute": compute, "limits": limits}
        edited = training(method, retention, **asked)
        self.world.edit(training=edited, gate={**self.world.spec["gate"], "rules": rules})

    @rule(compute=COMPUTES, limits=LIMITS)
    def gpus_and_their_budget_are_edited(
        self, compute: dict[str, Any], limits: dict[str, int]
    ) -> None:
        self.world.edit(
            training={**self.world.spec["training"], "compute": compute, "limits": limits}
        )
        self.settle()

    @rule(serving=FORMS)
    def the_served_form_is_switched(self, serving: dict[str, Any]) -> None:
        self.world.edit(serving=serving)
        self.settle()

    @rule(approval=st.sampled_from(["Auto", "Manual"]))
    def approval_is_switched(self, approval: str) -> None:
        self.world.edit(gate={**self.world.spec["gate"], "approval": approval})
        self.settle()

    @rule(mode=st.sampled_from(["Enforce", "Observe", "TrainOnly"]))
    def the_mode_is_switched(self, mode: str) -> None:
        self.world.edit(mode=mode)
        self.settle()

    @precondition(lambda self: self.world.generations)
    @rule(data=st.data(), decision=st.sampled_from(["Approved", "Rejected"]), early=st.booleans())
    def a_person_decides_on_a_generation(
        self, data: st.DataObject, decision: str, early: bool
    ) -> None:
        """As the API server admits it, or in the moment in which something else is written."""
        there = self.world.generations.items()
        waiting = [name for name, g in there if g.status.verdict == "Accepted"]
        name = data.draw(st.sampled_from(sorted(waiting or self.world.generations)))
        free = self.world.generations[name].spec.approval is None
        if early and free and not self.world.generations[name].status.rollout.promoted_at:
            self.world.set_approval(name, decision)
        else:
            self.world.decide_on_approval(name, decision)

    @rule(trigger=st.sampled_from(TRIGGERS))
    def the_trigger_is_edited(self, trigger: dict[str, object]) -> None:
        self.world.edit(trigger=trigger)
        self.settle()

    @rule(suspend=st.booleans())
    def the_update_is_suspended_or_not(self, suspend: bool) -> None:
        self.world.edit(suspend=suspend)
        self.settle()

    @rule(data=st.data())
    def a_generation_is_pinned_or_none(self, data: st.DataObject) -> None:
        there = self.world.generations.values()
        known = sorted(g.spec.number for g in there if g.status.rollout.promoted_at)
        self.world.pin(data.draw(st.sampled_from([None, *known, *known, 3, 99])))
        self.settle()

    @rule(cascade=st.booleans())
    def the_update_is_restored_from_git(self, cascade: bool) -> None:
        self.world.recreate(cascade=cascade)
        self.settle()

    @precondition(lambda self: self.world.generations)
    @rule(data=st.data())
    def a_user_deletes_a_generation(self, data: st.DataObject) -> None:
        name = data.draw(st.sampled_from(sorted(self.world.generations)))
        self.world.delete_generation(name)
        self.checks.forget_generation(name)

    @rule(verb=VERBS)
    def a_user_requests(self, verb: str) -> None:
        self.request(verb)

    @rule(stale=st.sampled_from([-1, 0, 0, 1]))
    def a_user_requests_a_rollback(self, stale: int) -> None:
        live = self.world.update.status.live
        self.request(f"rollback.g{max((live.number if live else 0) + stale, 0)}")

    @precondition(lambda self: self.world.generations)
    @rule(data=st.data())
    def a_user_retries_a_rollout(self, data: st.DataObject) -> None:
        numbers = sorted(g.spec.number for g in self.world.generations.values())
        self.request(f"retry.g{data.draw(st.sampled_from(numbers))}")

    def request(self, verb: str) -> None:
        self.tokens += 1
        last = self.world.update.status.last_request
        asked = self.world.update.metadata.annotations.get("springtide.dev/request", "")
        self.checks.records_lost |= asked not in (
            "",
            f"{last.verb}@{last.token}" if last else "",
        )
        self.world.ask(f"{verb}@{self.tokens}")

    @rule()
    def everything_is_put_in_order(self) -> None:
        self.world.resume_watches()
        self.some_writes_are_refused(set(), False, False)
        for name, target in list(self.world.targets.items()):
            if not target.uid:
                self.world.create_target(name)
            target = replace(self.world.targets[name], paused=False, desired=2, foreign_manager="")
            if target.digest == digest("theirs"):
                target = replace(target, digest=None, number=None)
            self.world.targets[name] = target
        self.world.canary_pods_ready = True
        self.world.recover_pods()
        self.world.measured, self.world.prometheus_answers = {"errors": 0.01}, True
        self.world.per_minute = dict(TRAFFIC)
        for name, job in list(self.world.jobs.items()):
            if job.suspended and not job.suspended_by_us:
                self.world.suspend_by_another(name, suspend=False)
        self.world.edit(suspend=False, trigger=TRIGGERS[0], mode="Enforce")
        self.world.pin(None)
        self.world.rounds(6)
        self.checks.check_at_rest()
        self.checks.without_a_pin_the_targets_return_to_live()

    # Other clients.

    @precondition(lambda self: self.made_before())
    @rule(data=st.data(), labelled=st.booleans(), ahead=st.integers(1, 3))
    def another_client_creates_a_generation(
        self, data: st.DataObject, labelled: bool, ahead: int
    ) -> None:
        """As a copy with a gate of its own, which every candidate passes.

        It may name rows that are being deleted: no Job knows what is created after it.
        """
        running = (start for name, start in self.world.runs.items() if name in self.world.jobs)
        self.checks.files_lost |= any(start.run.collect for start in running)
        copied = self.world.generations[data.draw(st.sampled_from(self.made_before()))].spec
        gate = copied.recipe.gate.model_copy(update={"rules": copied.recipe.gate.rules[:1]})
        recipe = copied.recipe.model_copy(update={"gate": gate})
        number = ahead + max(g.spec.number for g in self.world.generations.values())
        spec = copied.model_copy(update={"number": number, "recipe": recipe})
        self.checks.foreign.add(self.world.create_foreign_generation(spec, labelled=labelled))

    def made_before(self) -> list[str]:
        return [g.metadata.name for g in self.checks.ours() if g.spec.origin == "Trained"]

    @precondition(lambda self: self.world.generations)
    @rule(data=st.data(), field=st.sampled_from(["verdict", "outcome", "phase"]))
    def a_newer_operator_writes_a_value_and_is_rolled_back(
        self, data: st.DataObject, field: str
    ) -> None:
        """The word stays for a while: nothing is done to that generation, nothing begins."""
        name = data.draw(st.sampled_from(sorted(self.world.generations)))
        generation = self.world.generations[name]
        if unknown_value(generation):
            return
        self.set_status_values(name, **{field: "Shadowed"})
        changed = self.world.generations[name]
        self.world.settle()
        self.world.rounds(2)
        there = self.world.generations.get(name)
        assert there is None or there.status == changed.status
        self.set_status_values(name, **{field: getattr(generation.status, field)})

    def set_status_values(self, name: str, **words: str) -> None:
        self.world.set_status_values(name, **words)
        if name in self.world.generations:
            made = self.world.generations[name]
            self.checks.known[made.metadata.uid] = made

    @rule()
    def another_client_writes_derived_fields_into_a_status(self) -> None:
        scribbled = UpdateStatus.model_validate(
            {"phase": "Invalid", "progress": {"waitingFor": "me"}, "live": None}
        )
        known = self.world.update.status
        cursor = Cursor(
            quarantined=known.cursor.quarantined,
            pending_rows=7,
            proposed_for_quarantine=["2025-01"],
        )
        changes = {"phase": scribbled.phase, "progress": scribbled.progress, "cursor": cursor}
        status = known.model_copy(update={**changes, "live": None, "previous": None})
        self.world.update = self.world.update.model_copy(update={"status": status})
        for name, g in self.world.generations.items():
            wrong = g.status.model_copy(update={"phase": "Promoted", "conditions": []})
            self.world.generations[name] = g.model_copy(update={"status": wrong})
        self.settle()


FEW = settings(
    max_examples=150,
    stateful_step_count=40,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
)
Life.TestCase.settings = FEW
TestWhateverHappens = Life.TestCase


@pytest.mark.faults
@pytest.mark.timeout(7200)
def test_whatever_happens_in_thousands_of_histories() -> None:
    run_state_machine_as_test(Life, settings=settings(FEW, max_examples=5000))
