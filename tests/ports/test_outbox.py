"""What is queued of the facts that each reconcile offers, and what is dropped."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import timedelta

import pytest
from ports.notices import NOON, SHOP, notification, outbox

from springtide_operator.ports.outbox import KEPT_SECONDS, Outbox

HOUR = timedelta(hours=1)


async def ids(queue: Outbox) -> list[str]:
    return [(await queue.next()).notification.id for _ in range(queue.waiting())]


async def test_a_fact_is_queued_once_however_often_it_is_offered() -> None:
    queue, _ = outbox()
    facts = [notification(1), notification(2)]
    for _ in range(3):
        queue.offer(SHOP, facts, NOON)
    assert await ids(queue) == [each.id for each in facts]


async def test_at_the_start_only_facts_of_the_last_hour_are_queued_again() -> None:
    queue, _ = outbox()
    old, recent = notification(1, at=NOON - 2 * HOUR), notification(2, at=NOON - HOUR / 2)
    without_time = notification(3, fact="retired", kind="retired", at=None)
    queue.offer(SHOP, [old, recent, without_time], NOON)
    assert await ids(queue) == [recent.id]


async def test_with_repeat_of_zero_only_facts_since_the_start_are_queued() -> None:
    queue, _ = outbox(repeat=timedelta(0))
    before, since = notification(1, at=NOON - timedelta(seconds=1)), notification(2, at=NOON)
    queue.offer(SHOP, [before, since], NOON)
    assert await ids(queue) == [since.id]


async def test_a_new_fact_of_a_known_object_is_queued_with_any_time_and_without_one() -> None:
    queue, _ = outbox()
    old = notification(1, at=NOON - 9 * HOUR)
    queue.offer(SHOP, [old], NOON)
    later = replace(old, fact="actionrequired/TargetMissing", at=old.at)
    retired = replace(old, fact="retired", at=None)
    queue.offer(SHOP, [old, later, retired], NOON + HOUR)
    assert await ids(queue) == [later.id, retired.id]


async def test_an_object_that_comes_back_into_view_is_not_new() -> None:
    queue, _ = outbox()
    facts = [notification(n, at=NOON - 9 * HOUR) for n in range(20)]
    action = notification(99, kind="actionrequired", generation="")
    queue.offer(SHOP, facts, NOON)
    queue.offer(SHOP, [action], NOON)  # while the update is invalid, nothing else is known
    queue.offer(SHOP, facts, NOON)
    assert await ids(queue) == [action.id]


async def test_what_is_remembered_does_not_grow_with_the_generations_that_ever_were() -> None:
    queue, _ = outbox()
    for n in range(1000):
        queue.offer(SHOP, [notification(n), notification(n + 1)], NOON)
    assert len(queue._known[SHOP]) <= 40
    queue.forget(SHOP)
    assert not queue._known


@pytest.mark.survives(
    "Notifications",
    "more notifications wait than the queue holds",
    "the oldest are dropped, counted by reason and logged",
)
async def test_beyond_the_capacity_the_oldest_is_dropped_and_counted() -> None:
    queue, dropped = outbox(capacity=100)
    facts = [notification(n) for n in range(150)]
    queue.offer(SHOP, facts, NOON)
    assert dropped == ["full"] * 50
    assert await ids(queue) == [each.id for each in facts[50:]]


async def test_what_could_not_be_delivered_for_a_day_is_dropped_and_counted() -> None:
    clock = [0.0]
    queue, dropped = outbox(monotonic=lambda: clock[0])
    queue.offer(SHOP, [notification(1)], NOON)
    clock[0] = KEPT_SECONDS
    queue.offer(SHOP, [notification(2)], NOON)
    assert (await queue.next()).notification.generation == "shop-g2"
    assert dropped == ["expired"]


async def test_who_waits_for_a_notification_gets_it_when_it_comes() -> None:
    queue, _ = outbox()
    waiting = asyncio.create_task(queue.next())
    await asyncio.sleep(0)
    queue.offer(SHOP, [notification(1)], NOON)
    assert (await waiting).notification == notification(1)
