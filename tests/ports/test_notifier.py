"""Notifications reach an HTTP sink, whatever the sink does first."""

from __future__ import annotations

import random

import pytest
from aiohttp import web
from ports.notices import notification
from ports.sink import closes, endless, never, receiver
from ports.sink import status as answer_with

from springtide_operator.ports.notifier import LONGEST_SECONDS, Notifier, Sink


def ids(*numbers: int) -> list[str]:
    return [notification(n).id for n in numbers]


async def test_each_notification_is_one_post_in_order(sink, sending):
    sender = sending(f"{sink.url}?cluster=eu-1")
    sender.send(1, 2, 3)
    await sink.until(lambda: len(sink.events) == 3)
    assert sink.ids == ids(1, 2, 3)
    assert sink.paths == ["/events?cluster=eu-1"] * 3
    content_type = "application/cloudevents+json; charset=utf-8"
    assert {each["Content-Type"] for each in sink.headers} == {content_type}
    assert "Authorization" not in sink.headers[0]
    await sink.until(lambda: sender.delivered == 3)
    assert (sender.failed, sender.dropped, sender.outbox.waiting()) == ({}, [], 0)


@pytest.mark.survives(
    "Notifications",
    "the sink answers 500, 503, 429, 401, 404 or a redirect",
    "the notification is sent again with growing pauses until the sink accepts it",
)
@pytest.mark.parametrize("status", [500, 503, 429, 401, 403, 404, 410, 302, 307])
async def test_an_answer_that_may_change_is_tried_again(sink, sending, status):
    sink.answers = [answer_with(status, Location="/other")] * 3
    sender = sending(sink.url)
    sender.send(1)
    await sink.until(lambda: sender.delivered == 1)
    assert sink.ids == ids(1) * 4
    assert sink.paths == ["/events"] * 4, "a redirect is not followed"
    assert sender.failed == {str(status): 3}
    assert sender.in_a_row == [1, 2, 3]


@pytest.mark.survives(
    "Notifications",
    "the sink refuses the content of a notification (400, 413, 415, 422)",
    "it is dropped and counted; the next one is sent at once",
)
@pytest.mark.parametrize("status", [400, 413, 415, 422])
async def test_a_notification_that_is_refused_for_its_content_is_dropped(sink, sending, status):
    sink.answers = [answer_with(status)]
    sender = sending(sink.url)
    sender.send(1, 2)
    await sink.until(lambda: sender.delivered == 1)
    assert sink.ids == ids(1, 2)
    assert (sender.dropped, sender.failed, sender.waits) == (["refused"], {str(status): 1}, [])


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"Retry_After": "120"}, 120.0),
        ({"Retry_After": "999999"}, 3600.0),
        ({"Retry_After": "-5"}, 0.0),
        ({"Retry_After": "soon"}, 0.0),
        (
            {
                "Date": "Sun, 01 Mar 2026 12:00:00 GMT",
                "Retry_After": "Sun, 01 Mar 2026 12:01:30 GMT",
            },
            90.0,
        ),
        ({"Retry_After": "Sun, 01 Mar 2026 12:01:30 GMT"}, 0.0),
        ({"Retry_After": "Sun, 01 Mar 2026 12:01:30 -0000"}, 0.0),
    ],
)
async def test_retry_after_is_waited_for_within_an_hour(sink, sending, headers, seconds):
    sink.answers = [answer_with(429, **headers)]
    sender = sending(sink.url)
    sender.send(1)
    await sink.until(lambda: sender.delivered == 1)
    assert sender.waits == [seconds]


@pytest.mark.survives(
    "Notifications",
    "the sink answers 500 to one notification alone",
    "it is sent again after the others",
)
async def test_one_that_fails_does_not_stop_the_others(sink, sending):
    bad = ids(1)[0]

    async def answer(request):
        failing = (await request.json())["id"] == bad
        return web.Response(status=500 if failing else 202)

    sink.always = answer
    sender = sending(sink.url)
    sender.send(1, 2, 3)
    await sink.until(lambda: sender.delivered == 2)
    assert sink.ids[:3] == ids(1, 2, 3)
    sink.always = None
    await sink.until(lambda: sender.delivered == 3)


@pytest.mark.survives(
    "Notifications",
    "the sink is slow, closes connections, or does not listen",
    "the attempt ends at the timeout; the notification is sent again",
)
async def test_a_sink_that_does_not_answer_is_tried_again(sink, sending):
    sink.answers = [closes, never, closes]
    sender = sending(sink.url, timeout_seconds=1)
    sender.send(1)
    await sink.until(lambda: sender.delivered == 1)
    assert sink.ids == ids(1) * 4
    assert sender.failed == {"connection": 2, "timeout": 1}


async def test_a_notification_that_is_being_sent_still_waits(sink, sending):
    sink.answers = [never]
    sender = sending(sink.url, timeout_seconds=1)
    sender.send(1)
    await sink.until(lambda: len(sink.events) == 1)
    assert (sender.outbox.waiting(), sender.notifier.waiting()) == (0, 1)
    await sink.until(lambda: sender.delivered == 1)
    assert sender.notifier.waiting() == 0


async def test_a_sink_that_comes_back_gets_everything_that_waits(sending):
    async with receiver() as gone:
        url = gone.url
    sender = sending(url)
    sender.send(1, 2, 3)
    await gone.until(lambda: sender.failed["connection"] >= 3)
    assert sender.notifier.waiting() == 3
    assert sender.delivered == 0


async def test_a_body_that_never_ends_is_not_read(sink, sending):
    sink.answers = [endless]
    sender = sending(sink.url)
    sender.send(1, 2)
    await sink.until(lambda: sender.delivered == 2)
    assert sink.ids == ids(1, 2)


def test_pauses_grow_to_five_minutes_with_full_jitter():
    random.seed(1)
    backoff = Notifier(Sink(), None, count_delivered=None, count_failed=None).backoff  # type: ignore[arg-type]
    assert max(backoff(1) for _ in range(200)) <= 2.0
    late = [backoff(1000) for _ in range(200)]
    assert max(late) <= LONGEST_SECONDS
    assert min(late) < LONGEST_SECONDS / 2
