"""Names as long as the API allows: statuses and messages hold what a spec may hold."""

import pytest
from faults.life import LIFE, play

from springtide_operator.cluster.api.kinds import DEPLOYMENT

pytestmark = pytest.mark.apiserver

LONGEST = ".".join(["a" * 63] * 3 + ["b" * 61])


@pytest.mark.survives(
    "People",
    "the Deployment's name has 253 characters, and the update's 32",
    "imported, trained and promoted; the status has the full name",
)
async def test_a_deployment_with_the_longest_name_is_served(ground):
    assert len(LONGEST) == 253
    scene = await ground.scene()
    labels = {"app": "long"}
    template = {
        "metadata": {"labels": labels},
        "spec": {"containers": [{"name": "server", "image": "server"}]},
    }
    spec = {"replicas": 2, "selector": {"matchLabels": labels}, "template": template}
    metadata = {"namespace": scene.namespace, "name": LONGEST}
    await scene.declare_update(deployment=LONGEST)
    await scene.start()
    await scene.until(lambda scene: LONGEST in str(scene.update_status.get("conditions")))
    await scene.client.create(DEPLOYMENT, {"metadata": metadata, "spec": spec})
    await play(scene, LIFE[:2])
    (target,) = scene.update_status["targets"]
    assert (target["name"], target["generation"]) == (LONGEST, 1)
    (seen,) = scene.generation(1)["rollout"]["targets"]
    assert seen["name"] == LONGEST
