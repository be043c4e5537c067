"""Which updates a change concerns, and what is kept of an object."""

from pathlib import Path

import pytest
import yaml

from springtide_api.objects import parse_update
from springtide_operator.cluster.api.kinds import DEPLOYMENT, JOB, POD, UPDATE, WORKLOAD
from springtide_operator.cluster.watching.watches import affected_updates, new_cache, reflectors

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
    assert asked.count("rollout") == 2000


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


def in_a_queue(name, update="a", version="1"):
    labels = {"springtide.dev/update": update, "kueue.x-k8s.io/queue-name": "gpus"}
    return with_labels(made(JOB, name, version=version, spec={}), labels)


def with_labels(raw, labels):
    return {**raw, "metadata": {**raw["metadata"], "labels": labels}}


def workload(job_uid, **fields):
    return with_labels(made(WORKLOAD, "w", **fields), {"kueue.x-k8s.io/job-uid": job_uid})


def test_a_workload_concerns_the_update_of_the_job_whose_uid_it_has():
    cache = new_cache()
    cache.insert(JOB, in_a_queue("j"))
    assert affected_updates(cache, WORKLOAD, workload("uid-j")) == {"a"}
    assert affected_updates(cache, WORKLOAD, workload("uid-of-another-job")) == set()
    unlabelled = made(WORKLOAD, "of-pods")
    assert affected_updates(cache, WORKLOAD, unlabelled) == set()


def test_of_a_workload_no_pod_template_is_kept():
    cache = new_cache()
    spec = {"active": False, "podSets": [{"template": {"spec": {}}}], "queueName": "gpus"}
    condition = {"type": "QuotaReserved", "status": "False"}
    status = {"conditions": [condition], "admission": {"podSetAssignments": [{}]}}
    cache.insert(WORKLOAD, workload("uid-j", spec=spec, status=status))
    kept = cache.get(WORKLOAD, "n", "w")
    assert kept["spec"] == {"active": False}
    assert kept["status"] == {"conditions": [condition]}


def queueing(name, queue="gpus"):
    compute = {"queueName": queue} if queue else {}
    return made(UPDATE, name, spec={"training": {"compute": compute}})


def test_workloads_are_watched_once_an_update_or_a_job_names_a_queue():
    cache = new_cache()
    watched = reflectors(None, cache, "", lambda namespace, name: None)
    (workloads,) = [each for each in watched if each.kind == WORKLOAD]
    assert workloads.labels == "kueue.x-k8s.io/job-uid"
    cache.insert(UPDATE, queueing("a", queue=""))
    cache.insert(JOB, with_labels(made(JOB, "j", spec={}), {"springtide.dev/update": "a"}))
    assert not workloads.needed()
    cache.insert(JOB, in_a_queue("k"))
    assert workloads.needed(), "by a default queue of its namespace"
    cache.remove(JOB, "n", "k", "uid-k")
    assert not workloads.needed()
    cache.insert(UPDATE, queueing("b"))
    assert workloads.needed()
