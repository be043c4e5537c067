"""Notifications of an operator on a real API server: at least once, whatever ends meanwhile."""

import asyncio
import itertools
import json
import re

import pytest
from docs.pages import ROOT
from ports.sink import never, receiver, status

from springtide_operator.cluster.api.kinds import GENERATION
from springtide_operator.ports.notifier import Sink

pytestmark = pytest.mark.apiserver

PAGE = ROOT / "docs/how-to/notifications.md"


@pytest.fixture
async def sink():
    async with receiver() as made:
        yield made


async def live(stage):
    """Run an update until its first generation is live, by an operator that has started."""
    stage.stand_ins.world.months = ["2025-01", "2025-02"]
    await stage.declare()
    return await stage.until(lambda status: (status.get("live") or {}).get("number") == 1)


def kinds(events):
    return [event["type"].split(".")[3] for event in events]


async def test_verdict_and_promotion_of_a_run_are_notified(stage, sink):
    await stage.start(sink=Sink(sink.url))
    await live(stage)
    await sink.until(lambda: len(sink.accepted) == 2)
    verdict, promoted = sink.accepted
    assert kinds(sink.accepted) == ["verdict", "promoted"]
    generation = await stage.client.get(GENERATION, stage.namespace, "shop-g1")
    uid, found = generation["metadata"]["uid"], generation["status"]
    assert verdict["id"] == f"{uid}/verdict/{found['verdictAt']}"
    assert promoted["id"] == f"{uid}/promoted/{found['rollout']['promotedAt']}"
    assert {each["subject"] for each in sink.accepted} == {"shop-g1"}
    path = f"namespaces/{stage.namespace}/incrementalupdates/shop"
    assert verdict["source"] == f"/apis/springtide.dev/v1alpha1/{path}"
    assert verdict["data"]["message"] == found["message"]
    assert promoted["data"]["live"] == "shop-g1"


async def test_the_documented_example_has_the_members_of_a_notification(stage, sink):
    await stage.start(sink=Sink(sink.url))
    await live(stage)
    await sink.until(lambda: len(sink.accepted) == 2)
    blocks = re.findall(r"```json\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    shown = json.loads(blocks[0])
    verdict = sink.accepted[0]
    assert list(shown) == list(verdict)
    assert list(shown["data"]) == list(verdict["data"])
    assert shown["type"] == verdict["type"]


@pytest.mark.survives(
    "Notifications",
    "the operator is killed while notifications wait",
    "the next one sends what happened within the last hour again, under the same ids",
)
async def test_an_operator_that_starts_sends_what_a_killed_one_had_not_delivered(stage, sink):
    sink.always = status(503)
    await stage.start(sink=Sink(sink.url))
    await live(stage)
    await sink.until(lambda: len(sink.events) >= 1)
    await stage.drop()
    refused = set(sink.ids)

    sink.always = None
    await stage.start(sink=Sink(sink.url))
    await sink.until(lambda: len(sink.accepted) == 2)
    assert kinds(sink.accepted) == ["verdict", "promoted"]
    assert refused <= {event["id"] for event in sink.accepted}


async def test_what_was_delivered_comes_again_under_the_same_id_after_a_restart(stage, sink):
    await stage.start(sink=Sink(sink.url))
    await live(stage)
    await sink.until(lambda: len(sink.accepted) == 2)
    await stage.drop()
    await stage.start(sink=Sink(sink.url))
    await sink.until(lambda: len(sink.accepted) == 4)
    assert sink.ids[2:] == sink.ids[:2]


class DiesAt:
    """Ends the operator after its n-th write."""

    def __init__(self, number):
        self.number, self.died = number, asyncio.Event()

    async def before_write(self, number, verb, path):
        if self.died.is_set():
            await asyncio.Event().wait()

    async def after_write(self, number, verb, path):
        if number == self.number:
            self.died.set()
            await asyncio.Event().wait()


@pytest.mark.survives(
    "Notifications",
    "the operator is killed after any write",
    "each notification arrives at least once, always under one id",
)
async def test_an_operator_that_is_killed_every_few_writes_loses_no_notification(stage, sink):
    running = asyncio.create_task(live(stage))
    for number in itertools.chain([1, 2, 3, 4, 5], itertools.repeat(3)):
        death = DiesAt(number)
        await stage.start(death, sink=Sink(sink.url))
        died = asyncio.create_task(death.died.wait())
        await asyncio.wait({running, died}, return_when=asyncio.FIRST_COMPLETED)
        died.cancel()
        if running.done():
            break
        await stage.drop()
    await running
    await stage.drop()
    await stage.start(sink=Sink(sink.url))
    await sink.until(lambda: {"verdict", "promoted"} <= set(kinds(sink.accepted)))
    about = {event["id"]: (event["type"], event["subject"]) for event in sink.events}
    assert len(about) == 2


@pytest.mark.survives(
    "Notifications",
    "the sink never answers",
    "updates are reconciled as without it; what waits is bounded",
)
async def test_a_sink_that_never_answers_delays_no_update(stage, sink):
    sink.always = never
    await stage.start(sink=Sink(sink.url, timeout_seconds=3600))
    await live(stage)
    stage.stand_ins.world.months.append("2025-03")
    await stage.ask("run@1")
    await stage.until(lambda status: (status.get("live") or {}).get("number") == 2)
    assert stage.operator.health().problems() == []
    assert len(sink.events) == 1
