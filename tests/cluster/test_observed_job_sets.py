"""A JobSet, its Job and its pods, read in the form of a Job."""

import json

import pytest
from cluster.test_observed_jobs import NOON, pod, result

from springtide_operator.cluster.api.kinds import JOB, JOB_SET, POD
from springtide_operator.cluster.api.objects import moment
from springtide_operator.cluster.reading.job_set_reader import is_of_job_set, observed_job_set
from springtide_operator.cluster.reading.token_reviews import TokenReviews
from springtide_operator.cluster.watching.watches import new_cache
from springtide_operator.lifecycle.queues.observed import ObservedKind

INDEX = "batch.kubernetes.io/job-completion-index"


def condition(kind, **said):
    return {"type": kind, "status": "True", "lastTransitionTime": NOON, **said}


def job_set(*conditions, suspend=False):
    annotations = {"springtide.dev/nodes": "2", "springtide.dev/gpus": "4"}
    metadata = {"name": "j", "uid": "s", "creationTimestamp": NOON, "annotations": annotations}
    metadata["labels"] = {"springtide.dev/stage": "train"}
    status = {"conditions": list(conditions)}
    return {"metadata": metadata, "spec": {"suspend": suspend}, "status": status}


def job(*conditions):
    owner = {"kind": "JobSet", "name": "j", "uid": "s", "controller": True}
    metadata = {"name": "j-node-0", "uid": "c", "creationTimestamp": NOON}
    status = {"startTime": NOON, "conditions": list(conditions)}
    return {"metadata": {**metadata, "ownerReferences": [owner]}, "spec": {}, "status": status}


def of_node(index, code=None, message="", **status):
    state = {"running": {"startedAt": NOON}}
    if code is not None:
        ended = {"exitCode": code, "message": message, "startedAt": NOON, "finishedAt": NOON}
        state = {"terminated": ended}
    made = pod(f"p{index}", containerStatuses=[{"name": "trainer", "state": state}], **status)
    made["metadata"]["labels"] = {INDEX: str(index)}
    return made


OK = result(train={"artifact": {"uri": "file:///x", "digest": "sha256:" + "1" * 64, "bytes": 7}})


def failure(reason):
    return json.dumps(
        {"job": "j", "stage": "train", "ok": False, "failure": {"reason": reason, "message": "m"}}
    )


def test_a_set_that_runs_has_the_gpus_of_each_pod_and_the_start_of_its_job():
    seen = observed_job_set(job_set(), job(), [of_node(0), of_node(1)], "")
    assert (seen.name, seen.uid, seen.nodes, seen.gpus) == ("j", "s", 2, 4)
    assert (seen.is_job_set, seen.succeeded, seen.failed) == (True, False, False)
    assert [each.index for each in seen.pods] == [0, 1]
    assert seen.resumed == moment(NOON)
    assert is_of_job_set(job())
    assert not is_of_job_set({"metadata": {}})


def test_a_set_that_completed_has_the_result_of_its_first_pod():
    pods = [of_node(1, 0, result()), of_node(0, 0, OK)]
    seen = observed_job_set(job_set(condition("Completed")), job(), pods, "")
    assert (seen.succeeded, seen.finished) == (True, moment(NOON))
    assert seen.result.train is not None


def test_what_the_first_pod_committed_counts_though_the_set_failed():
    pods = [of_node(0, 0, OK), of_node(1, 1, failure("Error"))]
    assert observed_job_set(job_set(condition("Failed")), job(), pods, "").result.ok


@pytest.mark.parametrize("code", [3, 42, 75])
def test_a_set_that_failed_has_the_failure_that_a_pod_names(code):
    pods = [of_node(0, 1, failure("Error")), of_node(1, code, failure("Because"))]
    seen = observed_job_set(job_set(condition("Failed")), job(), pods, "")
    assert (seen.failed, seen.result.failure.reason) == (True, "Because")


def test_why_a_set_failed_says_its_job():
    said = "Pod x has condition DisruptionTarget matching FailJob rule at index 0"
    ended = condition("Failed", reason="PodFailurePolicy", message=said)
    of_set = condition("Failed", reason="FailedJobs", message="jobset failed")
    assert "DisruptionTarget" in observed_job_set(job_set(of_set), job(ended), [], "").failure
    assert observed_job_set(job_set(of_set), None, [], "").failure == "FailedJobs: jobset failed"


def test_a_suspended_set_and_one_that_is_about_to_continue():
    held = observed_job_set(job_set(condition("Suspended"), suspend=True), None, [], "")
    assert (held.suspended, held.suspended_at, held.resuming) == (True, moment(NOON), False)
    assert observed_job_set(job_set(condition("Suspended")), None, [], "").resuming


def test_progress_of_a_set_is_accepted_from_the_pods_of_its_job_alone():
    def kept(raw):
        return {**raw, "metadata": {**raw["metadata"], "namespace": "search", "resourceVersion": 1}}

    own, other = of_node(0), of_node(1)
    labels = {"batch.kubernetes.io/job-name": "j-node-0"}
    for each, uid in ((own, "c"), (other, "another")):
        owner = {"kind": "Job", "name": "j-node-0", "uid": uid, "controller": True}
        each["metadata"] |= {"labels": labels, "ownerReferences": [owner]}
    cache = new_cache()
    for kind, raw in ((JOB_SET, job_set()), (JOB, job()), (POD, own), (POD, other)):
        cache.insert(kind, kept(raw))
    reviews = TokenReviews(None, cache)
    assert reviews.is_of_job(("search", "p0", "p0"), "j")
    assert not reviews.is_of_job(("search", "p1", "p1"), "j"), "the name of a Job is not enough"
    assert not reviews.is_of_job(("search", "p0", "p0"), "another")


@pytest.mark.parametrize("listed", [(False, True), (True, False), (True, True)])
def test_a_set_is_gone_only_where_sets_were_listed_all_the_time(listed):
    """An operator that starts lists them while it reads other things."""
    before, after = (ObservedKind(listed=each) for each in listed)
    assert before.throughout(after).listed is all(listed)
