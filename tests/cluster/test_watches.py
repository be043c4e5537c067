"""Which updates a change concerns, and what is kept of an object."""

from pathlib import Path

import pytest
import yaml

from springtide_api.objects import parse_update
from springtide_operator.cluster.api.kinds import DEPLOYMENT, JOB, POD, UPDATE
from springtide_operator.cluster.watching.watches import affected_updates, new_cache

MINIMAL = Path(__file__).parents[1] / "api" / "minimal.yaml"


def made(kind, name, namespace="n", version="1", **fields):
    metadata = {"namespace": namespace, "name": name, "uid": f"uid-{name}"}
    return {"kind": kind.name, "metadata": {**metadata, "resourceVersion": version}, **fields}


def aiming(name, *deployments, **place):
    targets = [{"targetRef": {"name": each}, "container": "c"} for each in deployments]
    return made(UPDATE, name, spec={"rollout": {"targets": targets}}, **place)


def test_a_deployment_concerns_the_updates_that_name_it_in_its_namespace():
    cache = new_cache()
    updates = [aiming("a", "x", "y"), aiming("b", "y"), aiming("a", "y", namespace="m")]
    cache.stores[UPDATE].replace(updates, 2)
    assert affected_updates(cache, DEPLOYMENT, made(DEPLOYMENT, "y")) == {"a", "b"}
    cache.stores[UPDATE].update_from_watch(aiming("a", "x", version="3"))
    assert affected_updates(cache, DEPLOYMENT, made(DEPLOYMENT, "y")) == {"b"}


@pytest.mark.survives(
    "Operator",
    "a relist of 2,000 updates and their Deployments",
    "a Deployment's updates are found without a search through all updates",
)
def test_a_relist_of_many_updates_asks_each_update_for_its_targets_once(monkeypatch):
    asked = []

    class Spec(dict):
        def get(self, key, default=None):
            asked.append(key)
            return super().get(key, default)

    def counting(number):
        update = aiming(f"u{number}", f"d{number}")
        return {**update, "spec": Spec(update["spec"])}

    cache = new_cache()
    cache.stores[UPDATE].replace([counting(number) for number in range(2000)], 2)
    for number in range(2000):
        assert affected_updates(cache, DEPLOYMENT, made(DEPLOYMENT, f"d{number}")) == {f"u{number}"}
    assert len(asked) == 2000


def test_of_a_job_and_a_pod_only_what_is_read_is_kept():
    cache = new_cache()
    template = {"spec": {"containers": []}}
    cache.insert(JOB, made(JOB, "j", spec={"suspend": False, "template": template}))
    cache.insert(POD, made(POD, "p", spec={"containers": []}, status={"phase": "Running"}))
    assert cache.get(JOB, "n", "j")["spec"] == {"suspend": False}
    assert "spec" not in cache.get(POD, "n", "p")


def test_an_update_is_parsed_with_the_spec_that_it_had_before():
    update = yaml.safe_load(MINIMAL.read_text())
    update["metadata"] |= {"namespace": "n", "uid": "1", "resourceVersion": "1"}
    update["metadata"]["creationTimestamp"] = "2026-03-01T00:00:00Z"
    cache = new_cache()
    cache.stores[UPDATE].update_from_watch(update)
    name = update["metadata"]["name"]
    first = cache.parsed(UPDATE, cache.get(UPDATE, "n", name), parse_update)
    later = yaml.safe_load(MINIMAL.read_text())
    later["metadata"] = {**update["metadata"], "resourceVersion": "2"}
    cache.stores[UPDATE].update_from_watch({**later, "status": {"phase": "Training"}})
    second = cache.parsed(UPDATE, cache.get(UPDATE, "n", name), parse_update)
    assert second.status.phase == "Training"
    assert second.spec is first.spec
