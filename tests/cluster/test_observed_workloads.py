"""What Kueue says of a Job: the conditions of its Workload, in Kueue's words."""

from datetime import UTC, datetime

import pytest

from springtide_operator.cluster.api.kinds import JOB, WORKLOAD
from springtide_operator.cluster.reading.observed_jobs import observed_job
from springtide_operator.cluster.reading.workload_reader import WorkloadReader
from springtide_operator.cluster.watching.watches import new_cache
from springtide_operator.lifecycle.queues.observed import ObservedKind
from springtide_operator.lifecycle.queues.reasons import why_queued

NOON = "2026-03-01T12:00:00Z"
NO_QUOTA = "couldn't assign flavors to pod set main: insufficient unused quota"
PREEMPTED = "Preempted to accommodate a workload (UID: 17, JobUID: 18)"


def job(queue="gpus", uid="u"):
    labels = {"kueue.x-k8s.io/queue-name": queue} if queue else {}
    metadata = {"name": "j", "namespace": "n", "uid": uid, "creationTimestamp": NOON}
    return {"metadata": {**metadata, "labels": labels}, "spec": {"suspend": True}}


def condition(kind, true, reason, message):
    status = "True" if true else "False"
    return {"type": kind, "status": status, "reason": reason, "message": message}


def workload(*conditions, name="job-j", job_uid="u", annotations=None, active=True, **status):
    metadata = {"name": name, "namespace": "n", "uid": name, "creationTimestamp": NOON}
    metadata |= {"labels": {"kueue.x-k8s.io/job-uid": job_uid}, "resourceVersion": "1"}
    return {
        "metadata": {**metadata, "annotations": annotations or {}},
        "spec": {"active": active, "queueName": "gpus", "podSets": [{"name": "main"}]},
        "status": {"conditions": list(conditions), **status},
    }


def read(*workloads, queue="gpus"):
    cache = new_cache()
    cache.stores[WORKLOAD].replace(list(workloads), 1)
    seen = observed_job(job(queue), [], "")
    return WorkloadReader(cache).of([seen])


def why(*conditions, **fields):
    (found,) = read(workload(*conditions, **fields))
    return why_queued(ObservedKind(), found, "Job j")


def test_the_workload_of_a_job_is_found_by_its_uid_alone():
    others = workload(name="job-k", job_uid="v")
    (found,) = read(workload(), others)
    assert (found.name, found.job_uid, found.active) == ("job-j", "u", True)
    assert read(workload(), queue="") == (), "a Job without a queue has none"


def test_who_deactivated_it_and_when_it_was_activated_again_is_read_from_annotations():
    (theirs,) = read(workload(active=False))
    assert (theirs.active, theirs.deactivated_by_us, theirs.resumed) == (False, False, None)
    mark = {"springtide.dev/suspended": "true", "springtide.dev/resumed": NOON}
    (ours,) = read(workload(annotations=mark, active=False))
    assert (ours.deactivated_by_us, ours.resumed) == (True, datetime(2026, 3, 1, 12, tzinfo=UTC))


@pytest.mark.parametrize("wrong", ["", "noon", "2026-03-01T12:00:00"])
def test_a_time_that_another_client_wrote_is_ignored(wrong):
    (found,) = read(workload(annotations={"springtide.dev/resumed": wrong}))
    assert found.resumed is None


def test_a_job_says_in_which_queue_it_is():
    assert observed_job(job(), [], "").queue == "gpus"
    assert observed_job(job(queue=""), [], "").queue == ""


RESERVED = condition("QuotaReserved", True, "QuotaReserved", "Quota reserved in ClusterQueue l4")
PENDING = condition("QuotaReserved", False, "Pending", NO_QUOTA)
EVICTED = condition("Evicted", True, "Preempted", PREEMPTED)
TIMED_OUT = "Exceeded the PodsReady timeout job-j"
CHECK = {"name": "prov", "state": "Pending", "message": "waits for a node"}


@pytest.mark.parametrize(
    ("conditions", "fields", "text"),
    [
        ([], {}, "Pending in Kueue: it was not considered for admission yet"),
        ([PENDING], {}, f"Pending in Kueue: {NO_QUOTA}"),
        (
            [condition("QuotaReserved", False, "Waiting", "waiting for all admitted workloads")],
            {},
            "Waiting in Kueue: waiting for all admitted workloads",
        ),
        (
            [condition("QuotaReserved", False, "Inadmissible", "LocalQueue gpus doesn't exist")],
            {},
            "Inadmissible in Kueue: LocalQueue gpus doesn't exist",
        ),
        (
            [RESERVED],
            {"admissionChecks": [CHECK, {"name": "other", "state": "Ready"}]},
            "QuotaReserved in Kueue: Quota reserved in ClusterQueue l4; admission check prov is "
            "Pending (waits for a node)",
        ),
        (
            [RESERVED, condition("Admitted", True, "Admitted", "The workload is admitted")],
            {},
            "Admitted in Kueue: The workload is admitted; Job j is resumed next",
        ),
        ([RESERVED, EVICTED], {}, f"Preempted in Kueue: {PREEMPTED}"),
        (
            [EVICTED, condition("QuotaReserved", False, "Pending", PREEMPTED)],
            {},
            f"Preempted in Kueue: {PREEMPTED}",
        ),
        ([EVICTED, PENDING], {}, f"Preempted in Kueue: {PREEMPTED}; {NO_QUOTA}"),
        (
            [condition("Evicted", True, "PodsReadyTimeout", TIMED_OUT)],
            {"requeueState": {"count": 1, "requeueAt": "2026-03-01T12:01:30Z"}},
            f"PodsReadyTimeout in Kueue: {TIMED_OUT}; it is requeued at 12:01:30 UTC",
        ),
        (
            [
                condition("Evicted", True, "ClusterQueueStopped", "The ClusterQueue is stopped"),
                condition("QuotaReserved", False, "Inadmissible", "ClusterQueue l4 is inactive"),
            ],
            {},
            "Inadmissible in Kueue: ClusterQueue l4 is inactive",
        ),
        (
            [condition("Evicted", True, "Deactivated", "The workload is deactivated due to x")],
            {"active": False},
            "Deactivated in Kueue: Workload job-j: The workload is deactivated due to x",
        ),
        (
            [EVICTED],
            {"active": False},
            "Deactivated in Kueue: Workload job-j: spec.active is false",
        ),
        (
            [
                condition("Evicted", True, "Deactivated", "The workload is deactivated"),
                condition("QuotaReserved", False, "Pending", "The workload is deactivated"),
            ],
            {},
            "Pending in Kueue: it was not considered for admission yet",
        ),
        (
            [condition("Finished", True, "FailedToStart", "conflict for key: zone")],
            {},
            "Finished in Kueue: FailedToStart: conflict for key: zone",
        ),
    ],
)
def test_why_a_job_waits_has_the_words_of_the_condition_that_counts(conditions, fields, text):
    assert why(*conditions, **fields) == text


def test_without_workloads_the_reason_is_that_they_cannot_be_read():
    cache = new_cache()
    reader, store = WorkloadReader(cache), cache.stores[WORKLOAD]
    assert why_queued(reader.kueue(), None, "Job j") == "Workloads of Kueue are not listed yet"
    store.clear("install it", served=False)
    assert why_queued(reader.kueue(), None, "Job j") == "Kueue is missing: install it"
    store.clear("install the rules", served=True)
    assert why_queued(reader.kueue(), None, "Job j") == "Kueue cannot be read: install the rules"
    store.replace([], 1)
    assert why_queued(reader.kueue(), None, "Job j").startswith("No Workload in Kueue: ")
    assert cache.stores[WORKLOAD].required is False
    assert cache.stores[JOB].required
