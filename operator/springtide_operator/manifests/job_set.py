"""The JobSet of one attempt at a training on several nodes: one Indexed Job with a pod for each.

Its controller creates the Job and the headless Service by which the pods find the first of them.
`maxRestarts` is 0: a failed set is an attempt that the operator counts. The Job and its pods have
the labels of every Job of ours, so that the same watches report them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from springtide_api.names import ANNOTATION_NODES, REPLICATED_JOB
from springtide_operator.manifests.job import job
from springtide_operator.manifests.job_pods import PLAIN

if TYPE_CHECKING:
    from springtide_api.objects import Meta
    from springtide_operator.lifecycle.state.plan import StartJob
    from springtide_operator.manifests.job_pods import JobPods

API_VERSION = "jobset.x-k8s.io/v1alpha2"


def job_set(
    update: Meta,
    start: StartJob,
    progress_url: str,
    *,
    hub_endpoint: str = "",
    pods: JobPods = PLAIN,
) -> dict[str, Any]:
    """The JobSet that does `start.run` on `start.nodes` nodes; for the arguments, see `job`."""
    made = job(update, start, progress_url, hub_endpoint=hub_endpoint, pods=pods)
    spec = made["spec"]
    suspended = {"suspend": spec.pop("suspend")} if "suspend" in spec else {}
    # Without the queue: Kueue admits the set as a whole.
    labels = dict(spec["template"]["metadata"]["labels"])
    nodes = {ANNOTATION_NODES: str(start.nodes)}
    metadata = {**made["metadata"], "annotations": made["metadata"]["annotations"] | nodes}
    template = {"metadata": {"labels": labels}, "spec": {**spec, "completionMode": "Indexed"}}
    return {
        "apiVersion": API_VERSION,
        "kind": "JobSet",
        "metadata": metadata,
        "spec": {
            **suspended,
            # A pod must find the first one before that is ready.
            "network": {"enableDNSHostnames": True, "publishNotReadyAddresses": True},
            "failurePolicy": {"maxRestarts": 0},
            "replicatedJobs": [{"name": REPLICATED_JOB, "replicas": 1, "template": template}],
        },
    }
