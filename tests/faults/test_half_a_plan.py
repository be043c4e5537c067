"""A plan of which only the first actions were carried out, and what the next operator does.

No cluster: the fake world of the lifecycle tests, with an operator that ends after some actions.
"""

import asyncio
from dataclasses import replace
from datetime import timedelta

import pytest
from lifecycle.world import World

from springtide_operator.lifecycle.decide import decide
from springtide_operator.lifecycle.state.plan import CreateGeneration, WriteGeneration
from springtide_operator.work_queue import (
    NamespacedName,
    RateLimitingQueue,
    ReconcileResult,
    WorkQueue,
)

PAUSE = timedelta(minutes=1)


def with_generation_one():
    world = World()
    world.settle()
    world.months = ["2025-01", "2025-02"]
    world.rounds(8)
    return world


def step_until(world, kind):
    """Step up to the first plan with such an action; die in the middle of it, right after one."""
    for _ in range(60):
        world.complete_jobs()
        plan = decide(world.seen(), world.now)
        if any(isinstance(action, kind) for action in plan.actions):
            world._apply(plan.actions[0])
            return plan
        world.step()
        world.now += PAUSE
    raise AssertionError(f"no plan holds a {kind.__name__}")


@pytest.mark.survives(
    "Operator",
    "is ended when a run was just created",
    "the run is counted once",
)
def test_a_run_is_counted_once_although_the_operator_ended_when_it_started():
    world = with_generation_one()
    world.months.append("2025-03")
    world.ask("run@1")
    step_until(world, CreateGeneration)
    world.rounds(8)
    assert world.update.status.counters.runs == 2
    assert world.update.status.live.number == 2


@pytest.mark.survives(
    "Operator",
    "is ended when the generation of a retry was just created",
    "the retry creates no second one",
)
def test_a_retry_creates_one_generation_although_the_operator_ended_when_it_started():
    world = with_generation_one()
    world.edit(trigger={})
    world.months.append("2025-03")
    world.aucs["2025-03"] = (0.55, 0.66)
    world.ask("run@1")
    world.rounds(8)
    assert world.generation(2).status.verdict == "Rejected"
    world.ask("retry@2")
    step_until(world, CreateGeneration)
    world.rounds(8)
    assert world.generation(3).status.verdict == "Rejected"
    assert sorted(world.generations) == ["shop-g0", "shop-g1", "shop-g2", "shop-g3"]


@pytest.mark.survives(
    "Operator",
    "is ended when a verdict was just written",
    "the scores of the live model are recorded all the same",
)
def test_the_scores_of_live_are_recorded_although_the_operator_ended_at_the_verdict():
    world = with_generation_one()
    world.months.append("2025-03")
    world.aucs["2025-03"] = (0.55, 0.66)
    for _ in range(60):
        world.complete_jobs()
        plan = decide(world.seen(), world.now)
        written = [each for each in plan.actions if isinstance(each, WriteGeneration)]
        if any(each.status.verdict == "Rejected" for each in written):
            break
        world.step()
        world.finish_rollouts()
        world.now += PAUSE
    world._apply(plan.actions[0])
    world.rounds(4)
    assert world.generation(2).status.verdict == "Rejected"
    (score,) = world.generation(1).status.evaluation.scores
    assert float(score.value) == 0.66


@pytest.mark.survives(
    "API server",
    "reports the end of a Job before that of its pod",
    "the result is waited for; no further attempt",
)
@pytest.mark.parametrize("stage", ["import", "probe", "train", "evaluate"])
def test_the_result_is_waited_for_where_a_job_is_seen_to_end_before_its_pod(stage):
    world = World()
    world.months = ["2025-01", "2025-02"]
    for _ in range(60):
        late = [name for name, job in world.jobs.items() if job.stage == stage]
        if late:
            break
        world.complete_jobs()
        world.step()
        world.now += PAUSE
    (name,) = late
    result = world._result(world.runs[name])
    world.succeed(name, result)
    (pod,) = world.jobs[name].pods
    ended = world.jobs[name]
    world.jobs[name] = replace(ended, result=None, pods=(replace(pod, exit_code=None),))
    world.settle()
    assert name in world.jobs
    world.jobs[name] = ended
    world.rounds(8)
    assert not {"ProbeFailed", "ResultMissing"} & set(world.events)
    assert not any(each.endswith(f"-{stage}-2") for each in world.job_names_ever)
    assert world.update.status.live.number == 1


@pytest.mark.parametrize("turns", range(6))
async def test_the_queue_ends_although_a_wake_up_arrives_at_the_same_time(turns):
    async def work(key):
        return ReconcileResult(None)

    work_queue = WorkQueue(work, RateLimitingQueue(), workers=1)
    work_queue.add(NamespacedName("search", "later"), after=60)
    running = asyncio.create_task(work_queue.run())
    await asyncio.sleep(0.01)
    work_queue.add(NamespacedName("search", "shop"))
    for _ in range(turns):
        await asyncio.sleep(0)
    running.cancel()
    done, _ = await asyncio.wait({running}, timeout=60)
    assert running in done
