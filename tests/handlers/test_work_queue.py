"""The queue: every wish is met once, no key twice at a time, no namespace starves another."""

import asyncio

from hypothesis import given
from hypothesis import strategies as st

from springtide_operator.work_queue import (
    NamespacedName,
    RateLimitingQueue,
    ReconcileResult,
    WorkQueue,
)

A, B, C = NamespacedName("n", "a"), NamespacedName("n", "b"), NamespacedName("m", "c")


def queue(**options):
    return RateLimitingQueue(jitter=lambda low, high: high, **options)


def test_requests_for_one_key_become_one_run():
    waiting = queue()
    for _ in range(5):
        waiting.add(A, now=0)
    assert waiting.pop(0) == A
    assert waiting.pop(0) is None


def test_a_request_during_a_run_causes_one_more_run_after_it():
    waiting = queue()
    waiting.add(A, now=0)
    waiting.pop(0)
    waiting.add(A, now=1)
    waiting.add(A, now=1)
    assert waiting.pop(1) is None
    waiting.done(A, 2, requeue_after=None)
    assert waiting.pop(2) == A
    waiting.done(A, 3, requeue_after=None)
    assert waiting.next_due(3) is None


def test_of_several_requests_the_earliest_counts():
    waiting = queue()
    waiting.add(A, now=0, after=60)
    waiting.add(A, now=0, after=5)
    waiting.add(A, now=0, after=30)
    assert waiting.pop(4.9) is None
    assert waiting.pop(5) == A
    waiting.done(A, 6, requeue_after=None)
    assert waiting.pop(100) is None


def test_namespaces_take_turns_whatever_they_request():
    waiting = queue()
    for number in range(100):
        waiting.add(NamespacedName("greedy", f"u{number}"), now=0)
    waiting.add(NamespacedName("modest", "u"), now=0)
    assert "modest" in {waiting.pop(0).namespace for _ in range(2)}


def test_failures_back_off_up_to_five_minutes_and_a_success_resets_them():
    waiting, now, waits = queue(), 0.0, []
    waiting.add(A, now=0)
    for _ in range(11):
        assert waiting.pop(now) == A
        waits.append(waiting.failed(A, now))
        now += waits[-1]
    assert waits == [1, 2, 4, 8, 16, 32, 64, 128, 256, 300, 300]
    assert waiting.pop(now) == A
    waiting.done(A, now, requeue_after=0)
    assert waiting.pop(now) == A
    assert waiting.failed(A, now) == 1


def test_the_retry_after_of_the_server_is_honoured():
    waiting = queue()
    waiting.add(A, now=0)
    waiting.pop(0)
    assert waiting.failed(A, 0, retry_after=30) == 31
    waiting.add(A, now=1)  # an event
    assert waiting.pop(29.9) is None
    assert waiting.pop(30) == A
    waiting.done(A, 30, requeue_after=None)
    waiting.add(A, now=30.1)
    assert waiting.pop(30.2) == A


def test_a_failure_that_may_end_at_any_moment_is_retried_soon():
    waiting, now = queue(), 0.0
    waiting.add(A, now=0)
    for _ in range(8):
        assert waiting.pop(now) == A
        last = waiting.failed(A, now, max_backoff=15)
        now += last
    assert last == 15


def test_a_storm_on_one_key_runs_it_once_a_second_after_a_burst():
    waiting, runs, now = queue(interval=1.0, burst=5), 0, 0.0
    while now < 60:
        waiting.add(A, now=now)
        if waiting.pop(now) == A:
            runs += 1
            waiting.done(A, now, requeue_after=None if runs < 0 else 3600)
        now += 0.02
    assert 60 <= runs <= 66


class Model:
    """What must hold of the queue: who runs, and who has a wish that was not met."""

    def __init__(self):
        self.queue, self.now = queue(), 0.0
        self.running, self.requested = set(), set()

    def add(self, key, after):
        self.queue.add(key, self.now, after=after)
        self.requested.add(key)

    def pop(self, *_):
        key = self.queue.pop(self.now)
        assert key not in self.running
        if key is not None:
            self.running.add(key)
            self.requested.discard(key)
        return key

    def finish(self, key, requeue_after):
        if key in self.running:
            self.running.discard(key)
            self.queue.done(key, self.now, requeue_after=requeue_after)
            self.requested |= {key} if requeue_after is not None else set()

    def fail(self, key, retry_after):
        if key in self.running:
            self.running.discard(key)
            self.queue.failed(key, self.now, retry_after=retry_after)
            self.requested.add(key)

    def wait(self, _, seconds):
        self.now += seconds


keys = st.sampled_from([A, B, C])
steps = st.one_of(
    st.tuples(st.just(Model.add), keys, st.floats(0, 20)),
    st.tuples(st.just(Model.pop), st.none(), st.none()),
    st.tuples(st.just(Model.finish), keys, st.one_of(st.none(), st.floats(0, 20))),
    st.tuples(st.just(Model.fail), keys, st.floats(0, 5)),
    st.tuples(st.just(Model.wait), st.none(), st.floats(0, 10)),
)


@given(st.lists(steps, max_size=60))
def test_no_request_is_lost_and_no_key_runs_twice_at_a_time(history):
    model = Model()
    for step, key, number in history:
        step(model, key, number)
    for key in tuple(model.running):
        model.finish(key, None)
    while (due := model.queue.next_due(model.now)) is not None:
        model.now += max(due, 1e-6)  # or rounding may keep it just before
        if (key := model.pop()) is not None:
            model.finish(key, None)
    assert model.requested == set()


async def test_workers_run_different_keys_at_once_and_a_bug_leaves_no_key_behind():
    began, release, runs = asyncio.Semaphore(0), asyncio.Event(), []

    async def work(key):
        runs.append(key)
        began.release()
        await release.wait()
        return ReconcileResult(None)

    work_queue = WorkQueue(work, RateLimitingQueue(), workers=2)
    task = asyncio.create_task(work_queue.run())
    for key in (A, B, C):
        work_queue.add(key)
    await began.acquire()
    await began.acquire()
    assert len(runs) == 2
    assert work_queue.depth() == 1
    release.set()
    await began.acquire()
    assert set(runs) == {A, B, C}
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    await work_queue.drain(1)


async def test_a_run_may_request_runs_of_other_keys():
    runs, done = [], asyncio.Event()

    async def work(key):
        runs.append(key)
        if key == B:
            done.set()
        return ReconcileResult(None, other_keys={B: 0.01} if key == A else {})

    work_queue = WorkQueue(work, RateLimitingQueue(), workers=1)
    task = asyncio.create_task(work_queue.run())
    work_queue.add(A)
    await done.wait()
    assert runs == [A, B]
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    await work_queue.drain(1)
