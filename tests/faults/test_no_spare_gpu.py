"""A Deployment whose owner set `maxSurge: 0, maxUnavailable: 1`, with a real API server."""

import pytest
from faults.directing import condition, directed
from faults.life import LIFE, play
from faults.replacing import STRATEGY, Replacing

pytestmark = pytest.mark.apiserver


async def replaced(scene, controller, number):
    """Replace both pods by those of a generation; the counts and Serving are right at each step."""
    await applied(scene, number)
    await controller.observe()
    await counted(scene, number, 0)
    for ready in (1, 2):
        await controller.replace()
        await counted(scene, number, ready - 1)
        await controller.get_ready()
        await counted(scene, number, ready)


async def applied(scene, number):
    """Wait until the template names a generation."""

    def found(_):
        artifact = scene.generation(number).get("artifact") or {}
        return scene.templates[-1] == artifact.get("servedDigest")

    await scene.until(found)


async def counted(scene, number, ready):
    """Wait until the status has so many available pods of the template, and that it serves."""

    def found(_):
        (target,) = scene.update_status["targets"]
        return (target.get("generation"), target["available"]) == (number, ready)

    await scene.until(found, seconds=30)
    assert condition(scene.update_status, "Serving")["status"] == "True"


@pytest.mark.survives(
    "Deployments",
    "there is no spare GPU: the owner sets `maxSurge: 0, maxUnavailable: 1`",
    "pods are counted as they are replaced one by one; a rollout, a pin, its end and a rollback "
    "each wait for the last pod, and the strategy is not changed",
)
async def test_pods_are_replaced_one_by_one_without_a_spare_gpu(ground):
    scene = await directed(ground)
    controller = Replacing(scene)
    await scene.declare()
    await controller.declare_strategy()
    await scene.start()
    await play(scene, LIFE[:3])
    scene.pods_ready = False
    await controller.take_over()

    scene.world.months.append("2025-04")
    await scene.ask("run@3")
    await applied(scene, 3)
    await controller.observe()
    await controller.replace()  # one pod of generation 3 starts, and does not get ready
    await counted(scene, 3, 0)
    await scene.merge({"rollout": {"pin": {"generation": 1}}})
    await replaced(scene, controller, 1)
    assert scene.update_status["phase"] == "Pinned"

    await scene.merge({"rollout": {"pin": None}})
    await replaced(scene, controller, 2)
    await replaced(scene, controller, 3)
    await scene.until(lambda _: scene.update_status["live"]["number"] == 3)

    await scene.ask("rollback.g3@4")
    await replaced(scene, controller, 2)
    await scene.until(lambda _: scene.generation(3).get("outcome") == "RolledBack")
    assert (await scene.deployment())["spec"]["strategy"] == STRATEGY
