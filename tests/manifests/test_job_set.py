"""The JobSet of an attempt: the Job of it on several nodes, whose pods find the first one."""

from __future__ import annotations

import pytest
from manifests.test_job import UPDATE, a_job, a_recipe

from springtide_api.contract import RunFile
from springtide_api.names import first_pod_host, job_set_name
from springtide_api.placement import Placement
from springtide_operator.lifecycle.state.plan import StartJob, subject
from springtide_operator.manifests.job_pods import JobPods
from springtide_operator.manifests.job_set import job_set

NAME = job_set_name("shop", "01234567", 2, 1)


def start(queue: str | None = None) -> StartJob:
    run = RunFile(
        stage="train",
        namespace="search",
        update=UPDATE.name,
        number=2,
        attempt=1,
        job=NAME,
        home="/models/search/x",
        recipe=a_recipe(nodes=2, gpusPerNode=4),
    )
    placement = Placement(queue_name=queue)
    return StartJob(run=run, image="trainer:1", nodes=2, gpus=4, placement=placement)


def made(queue: str | None = None, pods: JobPods | None = None) -> dict:
    return job_set(UPDATE, start(queue), "http://springtide:8080", pods=pods or JobPods())


def job_of(body: dict) -> dict:
    (entry,) = body["spec"]["replicatedJobs"]
    assert (entry["name"], entry["replicas"]) == ("node", 1)
    return entry["template"]


def test_it_is_one_indexed_job_with_a_pod_for_each_node_and_no_restarts_of_its_own() -> None:
    body = made()
    spec = job_of(body)["spec"]
    assert (body["apiVersion"], body["kind"]) == ("jobset.x-k8s.io/v1alpha2", "JobSet")
    assert (spec["completionMode"], spec["completions"], spec["parallelism"]) == ("Indexed", 2, 2)
    assert (spec["backoffLimit"], body["spec"]["failurePolicy"]) == (0, {"maxRestarts": 0})
    assert body["metadata"]["annotations"]["springtide.dev/nodes"] == "2"
    assert body["metadata"]["annotations"]["springtide.dev/gpus"] == "4"
    assert body["metadata"]["ownerReferences"][0]["uid"] == UPDATE.uid
    assert subject(start()) == f"JobSet {NAME}"


def test_its_job_and_pods_have_the_labels_of_all_our_jobs() -> None:
    body, known = made(), a_job("train")["metadata"]["labels"]
    job = job_of(body)
    for labels in (
        body["metadata"]["labels"],
        job["metadata"]["labels"],
        job["spec"]["template"]["metadata"]["labels"],
    ):
        assert labels.keys() == known.keys()
        assert labels["springtide.dev/stage"] == "train"


def test_its_pods_meet_at_the_first_one() -> None:
    (container,) = job_of(made())["spec"]["template"]["spec"]["containers"]
    environment = {each["name"]: each.get("value") for each in container["env"]}
    assert environment["SPRINGTIDE_NODES"] == "2"
    assert environment["SPRINGTIDE_RENDEZVOUS"] == f"{NAME}-node-0-0.{NAME}:29500"
    assert first_pod_host(NAME) == f"{NAME}-node-0-0.{NAME}"
    assert made()["spec"]["network"]["publishNotReadyAddresses"] is True


def test_kueue_admits_the_set_and_not_its_job() -> None:
    body = made(queue="gpus", pods=JobPods(labels={"kueue.x-k8s.io/queue-name": "other"}))
    assert body["spec"]["suspend"] is True
    assert body["metadata"]["labels"]["kueue.x-k8s.io/queue-name"] == "gpus"
    assert "kueue.x-k8s.io/queue-name" not in job_of(body)["metadata"]["labels"]
    assert "suspend" not in job_of(body)["spec"]
    assert "suspend" not in made()["spec"]


@pytest.mark.parametrize("update", ["shop", "a" * 32, "7-days", "shop.example"])
def test_the_names_of_its_pods_and_its_service_are_labels_that_begin_with_a_letter(update) -> None:
    name = job_set_name(update, "0123456789", 99_999, 10)
    assert len(f"{name}-node-0-15-abcde") <= 63
    assert name[0].isalpha()
    assert "." not in name
    assert name.endswith("-g99999-train-10")
    assert name.startswith("shop-01234-") is (update == "shop")
