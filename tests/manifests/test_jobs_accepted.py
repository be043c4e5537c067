"""A real API server accepts the Jobs of GPU clusters, and says what is wrong with others."""

from __future__ import annotations

import json
import os

import pytest
from local_cluster.control_plane import KubectlError
from manifests.test_job import PLACED, STAGES, a_job, scored_by, tokenized_by

from springtide_api.placement import Placement
from springtide_api.update.data import MAX_SHARD_PODS
from springtide_operator.manifests.job_pods import JobPods

pytestmark = pytest.mark.apiserver


@pytest.fixture(scope="module")
def dry_run(apiserver):
    """Create a Job for show; return it as the API server would store it."""
    namespace = f"jobs-{os.getpid()}"
    apiserver.kubectl("create", "namespace", namespace)

    def create(job: dict) -> dict:
        owned = {key: value for key, value in job["metadata"].items() if key != "ownerReferences"}
        body = {**job, "metadata": {**owned, "namespace": namespace}}
        command = ("create", "--dry-run=server", "--validate=strict", "-o", "json", "-f", "-")
        return json.loads(apiserver.kubectl(*command, input=json.dumps(body)))

    yield create
    apiserver.kubectl("delete", "namespace", namespace, "--wait=false")


ALL_JOBS = JobPods.model_validate(
    {
        "imagePullSecrets": ["registry"],
        "serviceAccountName": "trainer",
        "labels": {"team": "search"},
        "affinity": {
            "podAntiAffinity": {
                "preferredDuringSchedulingIgnoredDuringExecution": [
                    {
                        "weight": 10,
                        "podAffinityTerm": {
                            "topologyKey": "kubernetes.io/hostname",
                            "labelSelector": {"matchLabels": {"app": "ranker"}},
                        },
                    }
                ]
            }
        },
        "topologySpreadConstraints": [
            {"maxSkew": 1, "topologyKey": "zone", "whenUnsatisfiable": "ScheduleAnyway"}
        ],
        "runtimeClassName": "gvisor",
    }
)


@pytest.mark.parametrize("stage", ["train", "evaluate"])
@pytest.mark.parametrize(
    "resource",
    ["nvidia.com/gpu", "nvidia.com/gpu.shared", "nvidia.com/mig-1g.10gb", "amd.com/gpu"],
)
def test_a_job_with_a_gpu_is_accepted_by_each_name_of_its_resource(dry_run, stage, resource):
    made = dry_run(a_job(stage, gpus=1, gpu={"resourceName": resource}))
    container = made["spec"]["template"]["spec"]["containers"][0]
    assert container["resources"]["limits"][resource] == "1"


@pytest.mark.parametrize("stage", ["train", "evaluate"])
@pytest.mark.parametrize("pods", [JobPods(), ALL_JOBS], ids=["alone", "over all Jobs"])
def test_a_placed_job_is_accepted_and_nothing_of_it_is_lost(dry_run, stage, pods):
    asked = a_job(stage, gpus=1, pods=pods, placement=PLACED)
    made, wanted = dry_run(asked)["spec"]["template"], asked["spec"]["template"]
    for field in ("affinity", "topologySpreadConstraints", "runtimeClassName"):
        assert made["spec"][field] == wanted["spec"][field], field
    assert wanted["metadata"]["labels"].items() <= made["metadata"]["labels"].items()


@pytest.mark.parametrize("stage", STAGES)
def test_what_all_jobs_get_is_accepted(dry_run, stage):
    made = dry_run(a_job(stage, pods=ALL_JOBS))["spec"]["template"]["spec"]
    assert made["topologySpreadConstraints"][0]["topologyKey"] == "zone"


def test_an_indexed_job_is_accepted_under_the_longest_name(dry_run):
    """The host name of a pod is the Job's name with the pod's number, and at most 63 characters."""
    made = dry_run(scored_by(MAX_SHARD_PODS, Placement(queue_name="gpus")))
    spec = made["spec"]
    assert (spec["completionMode"], spec["completions"]) == ("Indexed", MAX_SHARD_PODS)


def test_pods_that_tokenize_are_accepted_with_their_failure_policy(dry_run):
    made = dry_run(tokenized_by(MAX_SHARD_PODS))["spec"]
    assert (made["completionMode"], made["completions"]) == ("Indexed", MAX_SHARD_PODS)
    assert made["podFailurePolicy"]["rules"][0]["action"] == "Ignore"
    assert made["podReplacementPolicy"] == "Failed"


def test_preferred_nodes_are_accepted(dry_run):
    term = {"matchExpressions": [{"key": "gpu", "operator": "DoesNotExist"}]}
    preferred = [{"weight": 100, "preference": term}]
    field = "preferredDuringSchedulingIgnoredDuringExecution"
    placement = Placement.model_validate({"affinity": {"nodeAffinity": {field: preferred}}})
    made = dry_run(a_job("train", placement=placement))
    assert made["spec"]["template"]["spec"]["affinity"]["nodeAffinity"][field] == preferred


def test_what_the_rules_of_the_kind_cannot_exclude_is_refused_with_its_field(dry_run):
    """The update then shows it with reason JobRefused."""
    twice = {"topologySpreadConstraints": [{"topologyKey": "zone"}, {"topologyKey": "zone"}]}
    with pytest.raises(KubectlError, match=r"topologySpreadConstraints\[0\].*Duplicate value"):
        dry_run(a_job("train", placement=Placement.model_validate(twice)))
