"""Helm and `kubectl apply` that take our variables off a Deployment, while clients ask it."""

import pytest
import yaml
from e2e import owner
from e2e.small import MONTHS, SmallScene
from e2e.witnesses import asking
from local_cluster.places import program
from story.kubectl import run

pytestmark = [pytest.mark.cluster, pytest.mark.faults, pytest.mark.timeout(1200)]

TIMES = 3
"""As often as fields are put back in an hour."""


class OfHelm(SmallScene):
    """A scene whose server is a Helm release."""

    def objects(self):
        """Return the update alone: the rest is made by Helm."""
        return {"IncrementalUpdate": super().objects()["IncrementalUpdate"]}

    def chart(self, folder):
        """Write the chart of the release; its one value is a variable of the server."""
        made = super().objects()
        owner.environment(made["Deployment"]["spec"]).append({"name": "LEVEL", "value": "LEVEL"})
        text = yaml.safe_dump_all([made["Deployment"], made["Service"]])
        (folder / "templates").mkdir()
        (folder / "templates/all.yaml").write_text(
            text.replace("value: LEVEL", "value: {{ .Values.level }}")
        )
        chart = {"apiVersion": "v2", "name": "shop", "version": "0.1.0"}
        (folder / "Chart.yaml").write_text(yaml.safe_dump(chart))
        (folder / "values.yaml").write_text(yaml.safe_dump({"level": "info"}))
        return folder

    def helm(self, folder, *options):
        """Install the release, or upgrade it."""
        place = ("--namespace", self.namespace)
        run(*self.place.helm, "upgrade", "--install", "shop", str(folder), *place, *options)


def level(scene):
    return owner.variables(scene)["LEVEL"]


@pytest.mark.survives(
    "Deployments",
    "with clients on it: `helm upgrade` of the release that owns the Deployment",
    "the upgrade rolls out and our variables stay; nothing is applied again, no request fails",
)
@pytest.mark.survives(
    "Deployments",
    "with clients on it: `helm upgrade --force-replace` wipes every field of ours, again and again",
    "put back three times an hour; then `FieldsWiped` says what to look for and nothing is fought;"
    " no pod that serves is lost, no request fails",
)
def test_helm_may_upgrade_what_we_serve_and_its_replacing_is_not_fought(
    installed, node_cluster, tmp_path
):
    scene = OfHelm(installed, "small-helm", node=node_cluster)
    assert program("helm") == scene.place.helm[0]
    chart = scene.chart(tmp_path)
    scene.begin(months=MONTHS[:1], before=lambda: scene.helm(chart))
    scene.goes_live(0)
    owner.serves(scene, 0)
    with asking(scene) as client:
        client.wait_for(more=5)
        for value, way in (("debug", "--server-side=true"), ("warning", "--server-side=false")):
            scene.helm(chart, "--set", f"level={value}", way)
            owner.serves(scene, 0)
            assert level(scene) == value
        assert owner.said(scene, "FieldsRestored") == 0

        replace = ("--server-side=false", "--force-replace", "--set", "level=warning")
        for nth in range(1, TIMES + 1):
            scene.helm(chart, *replace)
            owner.serves(scene, 0)
            assert len(scene.update()["targets"][0]["reapplied"]) == nth
        pods = set(scene.served()["pods"])
        scene.helm(chart, *replace)
        status = scene.wait(owner.out_of_sync("FieldsWiped"), what="the end of the patience")
        why = owner.condition(status, "TargetsInSync")["message"]
        assert "--show-managed-fields" in why
        assert "MODEL_DIGEST" not in owner.variables(scene)
        assert pods <= set(scene.served()["pods"])
        client.wait_for(more=10)
        totals = client.totals()
    assert totals["failures"] == []
    assert status["live"]["number"] == 0
    scene.end()


@pytest.mark.survives(
    "Deployments",
    "with clients on it: a manifest takes our variables in and drops them again, by `kubectl apply`"
    " with its last-applied annotation",
    "put back each time, three times an hour; then `FieldsWiped`; no request fails",
)
def test_variables_that_a_manifest_takes_in_and_drops_come_back(small):
    scene = small("applied")
    scene.begin(months=MONTHS[:1])
    scene.goes_live(0)
    owner.serves(scene, 0)
    same = [{"name": name, "value": value} for name, value in owner.carried(scene, 0).items()]
    with asking(scene) as client:
        client.wait_for(more=5)
        for nth in range(1, TIMES + 2):
            taken = owner.manifest(scene, lambda spec: owner.environment(spec).extend(same))
            scene.kubectl.apply([taken])
            scene.wait(owner.in_sync, what="peace")
            scene.kubectl.apply([owner.manifest(scene)])
            if nth <= TIMES:
                owner.serves(scene, 0)
        scene.wait(owner.out_of_sync("FieldsWiped"), what="the end of the patience")
        assert len(scene.update()["targets"][0]["reapplied"]) == TIMES
        client.wait_for(more=10)
        totals = client.totals()
    assert totals["failures"] == []
