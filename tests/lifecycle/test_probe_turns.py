"""Who may start a probe: caps over the cluster and a namespace, fair turns, and a last patience."""

from dataclasses import replace
from datetime import timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from lifecycle.world import World

from springtide_operator.lifecycle.decide import decide
from springtide_operator.lifecycle.probing.probe_turns import probes_in_turn
from springtide_operator.lifecycle.state.observed import ObservedPod, ProbeCounts

NO_CLAIM = "no node fits: 0/3 nodes are available: pod has unbound immediate PersistentVolumeClaims"


def due_world() -> World:
    """A world in which a probe is due."""
    world = World()
    world.edit(trigger={"onData": {"pollInterval": "1m"}})
    world.settle()
    world.complete_jobs()
    world.settle()
    world.complete_jobs()
    world.settle()
    world.now += timedelta(hours=1)
    return world


def test_namespaces_take_turns_the_one_with_the_fewest_probes_first() -> None:
    waiting = {"large": ["a", "b", "c", "d"], "small": ["x"], "new": ["n"]}
    assert probes_in_turn(4, {"large": 2}, waiting, most=5) == [
        ("small", "x"),
        ("new", "n"),
        ("large", "a"),
        ("large", "b"),
    ]
    assert probes_in_turn(9, {"large": 2}, waiting, most=3) == [
        ("small", "x"),
        ("new", "n"),
        ("large", "a"),
    ]


@settings(deadline=None)
@given(
    st.integers(0, 12),
    st.dictionaries(st.sampled_from("abcd"), st.integers(0, 6)),
    st.dictionaries(st.sampled_from("abcd"), st.lists(st.integers(0, 30), unique=True)),
    st.integers(1, 5),
)
def test_turns_fill_all_slots_and_leave_no_namespace_more_than_one_behind(
    free: int, held: dict, waiting: dict, most: int
) -> None:
    names = {space: [str(each) for each in each_of] for space, each_of in waiting.items()}
    come = probes_in_turn(free, held, names, most=most)
    room = sum(min(len(each), max(0, most - held.get(space, 0))) for space, each in names.items())
    assert len(come) == len(set(come)) == min(free, room)
    after = {space: held.get(space, 0) + sum(c[0] == space for c in come) for space in names}
    for space, each in names.items():
        mine = [name for namespace, name in come if namespace == space]
        assert mine == each[: len(mine)], "the longest waiting first"
        left_out = len(mine) < len(each) and after[space] < most
        served = [n for n, count in after.items() if count > held.get(n, 0)]
        assert not left_out or all(after[n] <= after[space] + 1 for n in served)


@pytest.mark.survives(
    "Operator",
    "the limit of probes in the cluster is reached",
    "`TooManyProbes` with the numbers, until it is the update's turn",
)
@pytest.mark.parametrize(
    ("probes", "said"),
    [
        (ProbeCounts(running=10), "10 probes run in the cluster; at most 10 do"),
        (
            ProbeCounts(running=3, namespace=5),
            "5 probes of namespace search run or wait for their pods; at most 5 do",
        ),
        (
            ProbeCounts(running=8, ahead=2),
            "2 more probes may run in the cluster; 2 updates come first",
        ),
    ],
)
def test_an_update_waits_for_its_turn_and_reports_why(probes: ProbeCounts, said: str) -> None:
    world = due_world()
    plan = decide(replace(world.seen(), probes=probes), world.now)
    assert plan.actions == ()
    assert plan.waits_for_turn
    assert plan.status.progress.summary == "TooManyProbes"
    assert plan.status.progress.waiting_for == said


def test_an_update_whose_turn_it_is_starts_its_probe() -> None:
    world = due_world()
    free = ProbeCounts(running=8, namespace=4, ahead=1)
    plan = decide(replace(world.seen(), probes=free), world.now)
    assert [action.run.stage for action in plan.actions] == ["probe"]
    assert not plan.waits_for_turn


def test_a_probe_by_request_waits_for_no_turn() -> None:
    world = due_world()
    world.ask("run@1")
    plan = decide(replace(world.seen(), probes=ProbeCounts(running=10, namespace=5)), world.now)
    assert [action.run.stage for action in plan.actions] == ["probe"]


def test_a_probe_that_ran_out_of_memory_says_so_and_what_helps() -> None:
    world = due_world()
    world.settle()
    (name,) = world.jobs
    pod = ObservedPod(f"{name}-x", "pod-uid", world.now, exit_code=137, out_of_memory=True)
    failed = {"failed": True, "finished": world.now, "failure": "BackoffLimitExceeded: its limit"}
    world.jobs[name] = replace(world.jobs[name], pods=(pod,), **failed)
    world.settle()
    last = world.update.status.last_probe
    assert last.reason == "OutOfMemory"
    assert last.message.startswith(f"pod {name}-x ran out of memory; a probe has 2 GiB")


@pytest.mark.survives(
    "Data",
    "the claim of a probe is never bound",
    "the probe is given up after 15 minutes with the scheduler's message, and repeated later",
)
def test_a_probe_that_cannot_run_fails_and_is_retried_later() -> None:
    world = due_world()
    world.settle()
    (name,) = world.jobs
    pod = ObservedPod(f"{name}-x", "pod-uid", world.now, waiting=NO_CLAIM)
    world.jobs[name] = replace(world.jobs[name], pods=(pod,))
    world.now += timedelta(minutes=14)
    world.settle()
    assert name in world.jobs
    world.now += timedelta(minutes=1)
    plan = world.settle()
    assert name not in world.jobs
    last = world.update.status.last_probe
    assert last.reason == "ProbeNeverRan"
    assert last.failures == 1
    assert last.message == f"no pod of Job {name} ran within 15 minutes: {NO_CLAIM}"
    assert "ProbeNeverRan" in world.events
    assert plan.wake_after < timedelta(minutes=5)


def test_a_probe_that_starts_slowly_for_an_unknown_reason_has_an_hour() -> None:
    world = due_world()
    world.settle()
    (name,) = world.jobs
    world.jobs[name] = replace(world.jobs[name], pods=(ObservedPod("p", "u", world.now),))
    world.now += timedelta(minutes=59)
    world.settle()
    assert name in world.jobs
    world.now += timedelta(minutes=1)
    world.settle()
    assert name not in world.jobs


def test_a_running_probe_fails_only_by_its_own_deadline() -> None:
    world = due_world()
    world.settle()
    (name,) = world.jobs
    pod = ObservedPod("p", "u", world.now, scheduled=True, running=True)
    world.jobs[name] = replace(world.jobs[name], pods=(pod,))
    world.now += timedelta(hours=5)
    world.settle()
    assert name in world.jobs
