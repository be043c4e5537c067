"""Approvals and modes: a person decides while the operator writes, and the operator ends."""

import asyncio

import pytest
from faults.life import LIFE, play
from faults.playing import Crash
from lifecycle.world import SPEC

from springtide_operator.cluster.api.kinds import DEPLOYMENT, GENERATION

pytestmark = pytest.mark.apiserver

MANUAL = {**SPEC["gate"], "approval": "Manual"}
LATER_SECONDS = 60


async def decide(scene, decision, number=1):
    """Set spec.approval, as a person does."""
    metadata = {"namespace": scene.namespace, "name": f"shop-g{number}"}
    approval = {"decision": decision, "reason": "read the report"}
    body = {"metadata": metadata, "spec": {"approval": approval}}
    await scene.client.apply(GENERATION, body, manager="approver", force=True)


async def first_run(scene, **update):
    """Import, then let the first generation be trained and evaluated."""
    await scene.declare(**update)
    operator = await scene.start()
    await play(scene, LIFE[:1])
    scene.world.months += LIFE[1].months
    return operator


def awaits(scene):
    return scene.update_status.get("phase") == "AwaitingApproval" and not scene.jobs()


class CrashFromNow(Crash):
    """Counts the writes from the moment in which it is added to an operator."""

    seen = 0

    async def before_write(self, number, verb, path):
        self.seen += 1
        await super().before_write(self.seen, verb, path)

    async def after_write(self, number, verb, path):
        await super().after_write(self.seen, verb, path)


@pytest.mark.survives(
    "Operator",
    "ends before or after one of the writes that follow an approval",
    "the next one continues: the generation is live, and the pods were replaced once",
)
@pytest.mark.parametrize(
    ("number", "before"),
    [
        (1, True),
        (2, False),
        (3, True),
        (4, False),
        *(
            pytest.param(*each, marks=pytest.mark.faults)
            for each in [(1, False), (2, True), (3, False), (4, True), (6, True), (6, False)]
        ),
    ],
)
async def test_an_approved_generation_goes_live_wherever_the_operator_ends(ground, number, before):
    scene = await ground.scene()
    operator = await first_run(scene, gate=MANUAL)
    await scene.ask("run@1")
    await scene.until(awaits)
    assert scene.templates in ([], [""])
    labels = {"namespace": scene.namespace, "update": "shop"}
    registry = operator.metrics.registry
    assert registry.get_sample_value("springtide_awaiting_approval", labels) == 1
    crash = CrashFromNow(number, before=before)
    operator.client.write_hooks += (crash,)

    await decide(scene, "Approved")
    await asyncio.wait_for(crash.happened.wait(), LATER_SECONDS)
    await scene.drop()
    await scene.start()

    await scene.until(lambda scene: (scene.update_status.get("live") or {}).get("number") == 1)
    assert len([each for each in scene.templates if each]) == 1


class AtTheStart:
    """Rejects a generation just before the operator writes that its rollout starts."""

    def __init__(self, scene):
        self.scene = scene
        self.done = False

    async def before_write(self, number, verb, path):
        ours = path.partition("?")[0].endswith("/modelgenerations/shop-g1/status")
        if not self.done and ours and await self._accepted():
            self.done = True
            await decide(self.scene, "Rejected")

    async def after_write(self, number, verb, path):
        pass

    async def _accepted(self):
        live = await self.scene.client.get(GENERATION, self.scene.namespace, "shop-g1")
        return (live.get("status") or {}).get("verdict") == "Accepted"


@pytest.mark.survives(
    "People",
    "a person rejects a generation between the operator's reading and its write that the rollout "
    "starts",
    "it is rolled back before anything is applied",
)
async def test_a_rejection_just_before_the_start_of_the_rollout_is_obeyed(ground):
    scene = await ground.scene()
    operator = await first_run(scene)
    hook = AtTheStart(scene)
    operator.client.write_hooks += (hook,)
    await scene.ask("run@1")

    await scene.until(lambda scene: scene.generation(1).get("outcome") == "RolledBack")
    assert hook.done
    assert [each for each in scene.templates if each] == []
    deployment = await scene.client.get(DEPLOYMENT, scene.namespace, "ranker")
    assert "MODEL_DIGEST" not in str(deployment["spec"]["template"]["spec"])
    assert scene.update_status.get("live") is None


@pytest.mark.survives(
    "Operator",
    "ends before or after one of its writes in mode Observe or TrainOnly",
    "the next one continues: the candidate is retired by the mode, and the Deployment is as its "
    "owner wrote it",
)
@pytest.mark.parametrize(
    ("mode", "number"),
    [
        ("Observe", 3),
        ("Observe", 12),
        ("TrainOnly", 9),
        ("TrainOnly", 14),
        *(
            pytest.param(*each, marks=pytest.mark.faults)
            for each in [("Observe", 9), ("Observe", 14), ("TrainOnly", 3), ("TrainOnly", 12)]
        ),
    ],
)
async def test_no_deployment_is_written_in_other_modes_wherever_the_operator_ends(
    ground, mode, number
):
    scene = await ground.scene()
    operator = await first_run(scene, mode=mode)
    before = await scene.client.get(DEPLOYMENT, scene.namespace, "ranker")
    crash = CrashFromNow(number, before=number % 2 == 0)
    operator.client.write_hooks += (crash,)
    await scene.ask("run@1")
    await asyncio.wait_for(crash.happened.wait(), LATER_SECONDS)
    await scene.drop()
    await scene.start()

    await scene.until(lambda scene: scene.generation(1).get("outcome") == "Retired")
    assert scene.generation(1)["retiredReason"] == f"{mode}Mode"
    await scene.until(lambda scene: not scene.jobs())
    after = await scene.client.get(DEPLOYMENT, scene.namespace, "ranker")
    for part in ("labels", "annotations", "generation"):
        assert after["metadata"].get(part) == before["metadata"].get(part)
    managers = {each["manager"] for each in after["metadata"]["managedFields"]}
    assert not {each for each in managers if each.startswith("springtide:")}
