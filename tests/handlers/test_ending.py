"""An update that goes away while the operator works on it."""

import asyncio

import pytest
from patience import within

from springtide_operator.cluster.api import errors
from springtide_operator.cluster.api.kinds import DEPLOYMENT, UPDATE

pytestmark = pytest.mark.apiserver


@pytest.mark.survives(
    "People",
    "the namespace is deleted during a rollout",
    "the finalizer is removed and does not block the namespace",
)
async def test_the_deletion_of_a_namespace_during_a_rollout_is_not_blocked(stage):
    stage.stand_ins.world.months = ["2025-01", "2025-02"]
    stage.stand_ins.pods_ready = False
    await stage.declare()
    await stage.start()
    await stage.until(lambda status: status.get("phase") == "RollingOut")
    async with within(10):
        while not (await stage.update())["metadata"].get("finalizers"):
            await asyncio.sleep(0.05)

    # As the namespace controller does it: nothing can be made any more, then contents are deleted.
    stage.kinds.kubectl("delete", "namespace", stage.namespace, "--wait=false")
    deployment = await stage.client.get(DEPLOYMENT, stage.namespace, "ranker")
    await stage.client.delete(
        DEPLOYMENT, stage.namespace, "ranker", uid=deployment["metadata"]["uid"]
    )
    uid = (await stage.update())["metadata"]["uid"]
    await stage.client.delete(UPDATE, stage.namespace, "shop", uid=uid)

    async with within(60):
        while True:
            try:
                await stage.update()
            except errors.NotFound:
                break
            await asyncio.sleep(0.2)
    assert not stage.operator.ended.done()
