"""Helm and `kubectl apply` remove our variables from a Deployment, with clients on it."""

import pytest
import yaml
from demo.kubectl import DemoError, run
from e2e import owner
from e2e.monitors import sending_requests
from e2e.small_example import MONTHS, SmallExample
from local_cluster.places import program

pytestmark = [pytest.mark.cluster, pytest.mark.faults, pytest.mark.timeout(1200)]

TIMES = 3
"""Limit of reapplied fields in an hour."""


class HelmExample(SmallExample):
    """An example whose server is a Helm release."""

    def objects(self):
        """Return only the update: Helm creates the rest."""
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
        """Install the release, or upgrade it.

        A replacement that another client's write overtook changes nothing, and is made again: the
        Deployment controller writes the status of a rollout that has just ended.
        """
        place = ("--namespace", self.namespace)
        command = (*self.cluster.helm, "upgrade", "--install", "shop", str(folder))
        for left in reversed(range(5)):
            try:
                run(*command, *place, *options)
            except DemoError as error:
                if left == 0 or "the object has been modified" not in str(error):
                    raise
            else:
                return


def level(example):
    return owner.variables(example)["LEVEL"]


@pytest.mark.survives(
    "Deployments",
    "with traffic: `helm upgrade` of the release that owns the Deployment",
    "the upgrade rolls out and our variables stay; nothing is applied again, no request fails",
)
@pytest.mark.survives(
    "Deployments",
    "with traffic: `helm upgrade --force-replace` removes all our fields, repeatedly",
    "applied again three times an hour; then `FieldsRemoved` says what to look for and nothing "
    "is applied; no serving pod is lost, no request fails",
)
def test_helm_can_upgrade_a_served_release_and_fields_that_it_removes_are_reapplied_three_times(
    installed, node_cluster, tmp_path
):
    example = HelmExample(installed, "small-helm", node=node_cluster)
    assert program("helm") == example.cluster.helm[0]
    chart = example.chart(tmp_path)
    example.begin(months=MONTHS[:1], before=lambda: example.helm(chart))
    example.goes_live(0)
    owner.wait_until_served(example, 0)
    with sending_requests(example) as client:
        client.wait_for(more=5)
        for value, way in (("debug", "--server-side=true"), ("warning", "--server-side=false")):
            example.helm(chart, "--set", f"level={value}", way)
            owner.wait_until_served(example, 0)
            assert level(example) == value
        assert owner.event_count(example, "FieldsRestored") == 0

        replace = ("--server-side=false", "--force-replace", "--set", "level=warning")
        for nth in range(1, TIMES + 1):
            example.helm(chart, *replace)
            owner.wait_until_served(example, 0)
            assert len(example.update()["targets"][0]["reappliedAt"]) == nth
        pods = set(example.served()["pods"])
        example.helm(chart, *replace)
        status = example.wait(owner.out_of_sync("FieldsRemoved"), what="FieldsRemoved")
        why = owner.condition(status, "TargetsInSync")["message"]
        assert "--show-managed-fields" in why
        assert "MODEL_DIGEST" not in owner.variables(example)
        assert pods <= set(example.served()["pods"])
        client.wait_for(more=10)
        totals = client.totals()
    assert totals["failures"] == []
    assert status["live"]["number"] == 0
    example.end()


@pytest.mark.survives(
    "Deployments",
    "with traffic: a manifest adds our variables and drops them again, by `kubectl apply` with "
    "its last-applied annotation",
    "applied again each time, three times an hour; then `FieldsRemoved`; no request fails",
)
def test_variables_that_a_manifest_adds_and_removes_are_reapplied(small):
    example = small("applied")
    example.begin(months=MONTHS[:1])
    example.goes_live(0)
    owner.wait_until_served(example, 0)
    same = [
        {"name": name, "value": value} for name, value in owner.served_variables(example, 0).items()
    ]
    with sending_requests(example) as client:
        client.wait_for(more=5)
        for nth in range(1, TIMES + 2):
            taken = owner.manifest(example, lambda spec: owner.environment(spec).extend(same))
            example.kubectl.apply([taken])
            example.wait(owner.in_sync, what="targets in sync")
            example.kubectl.apply([owner.manifest(example)])
            if nth <= TIMES:
                owner.wait_until_served(example, 0)
        example.wait(owner.out_of_sync("FieldsRemoved"), what="FieldsRemoved")
        assert len(example.update()["targets"][0]["reappliedAt"]) == TIMES
        client.wait_for(more=10)
        totals = client.totals()
    assert totals["failures"] == []
