"""Why a Job's pod does not run yet: a reason for machines and a remedy for users.

The text comes from scheduler, kubelet and admission (`cluster/reading/observed_jobs.py`), or says
what Kueue and JobSet do (`queues/reasons.py`, `nodes/reasons.py`); the part before the colon names
the cause. A queue ends by itself; a refusal and a missing image need a user.
"""

from __future__ import annotations

from typing import NamedTuple

from springtide_operator.lifecycle.nodes import reasons as of_nodes
from springtide_operator.lifecycle.queues.reasons import (
    DEACTIVATED,
    FINISHED,
    INADMISSIBLE,
    MISSING,
    UNREADABLE,
)
from springtide_operator.lifecycle.state.plan import Waiting

PENDING = "Pending"

JOB_REFUSED = "JobRefused"
"""Quota, admission or missing rights refuse a Job itself, not only its pods."""


KUEUE_MISSING = "KueueMissing"

JOB_SET_MISSING = "JobSetMissing"


class Cause(NamedTuple):
    """A cause that a user must fix."""

    reason: str
    remedy: str


CAUSES = {
    "quota exceeded": Cause("QuotaExceeded", "raise the quota, or free some of it"),
    "Pod Security refuses its pods": Cause(
        "PodsForbidden",
        "the operator creates pods that satisfy the level restricted: disable what adds to them, "
        "such as the sidecar injector of a service mesh, or change the level of the namespace",
    ),
    "its pods are refused": Cause("PodsForbidden", "change what refuses them"),
    "image pull failed": Cause(
        "ImagePullFailed", "change training.image, or put the image where the node can pull it"
    ),
    # Of the pods of our Jobs, the environment is all that can be missing.
    "CreateContainerConfigError": Cause(
        "SecretNotFound", "create the Secret of data.secretName, or change the field"
    ),
    MISSING: Cause(KUEUE_MISSING, "or remove training.compute.queueName"),
    UNREADABLE: Cause("KueueUnreadable", "or remove training.compute.queueName"),
    of_nodes.MISSING: Cause(JOB_SET_MISSING, "or set training.compute.nodes to 1"),
    of_nodes.UNREADABLE: Cause("JobSetUnreadable", "or set training.compute.nodes to 1"),
    INADMISSIBLE: Cause(
        "Inadmissible", "correct what it names, or change training.compute.queueName"
    ),
    DEACTIVATED: Cause(
        "WorkloadDeactivated",
        "Kueue or another client did that: set its spec.active to true once the cause is gone",
    ),
    FINISHED: Cause(
        "WorkloadFinished",
        "Kueue runs this Job no more: correct training.compute or the ResourceFlavor, then delete "
        "the Job, and the next attempt starts",
    ),
}


QUEUED = frozenset({PENDING, *(cause.reason for cause in CAUSES.values())})
"""Reasons of a Waiting for a pod that does not run."""


def queued(cause_text: str, stage: str) -> Waiting:
    """Return that a stage waits for its pod.

    Args:
        cause_text: why, such as "image pull failed: ...".
        stage: for the column: Import, Train, Evaluate, Probe.
    """
    cause_name = cause_text.split(":")[0].strip()
    short = cause_name if len(cause_name) <= 40 else cause_name[:39] + "…"
    cause = CAUSES.get(cause_name)
    if cause is None:
        return Waiting(PENDING, cause_text, stage, short=short)
    message = f"{cause_text[:900]}; {cause.remedy}"
    return Waiting(cause.reason, message, stage, short=short, blocked=True)
