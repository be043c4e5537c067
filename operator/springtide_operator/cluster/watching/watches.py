"""Which kinds are watched, what of them is kept, and which updates a change affects.

kopf watches our own two kinds and an auditor keeps them complete; reflectors watch all others.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

from springtide_api.names import (
    ANNOTATION_ROUTE,
    LABEL_JOB_UID,
    LABEL_QUEUE,
    LABEL_STAGE,
    LABEL_UPDATE,
)
from springtide_operator.cluster.api.kinds import (
    DEPLOYMENT,
    GENERATION,
    HTTP_ROUTE,
    JOB,
    JOB_SET,
    POD,
    UPDATE,
    WORKLOAD,
)
from springtide_operator.cluster.api.objects import true_conditions
from springtide_operator.cluster.watching.auditor import Auditor
from springtide_operator.cluster.watching.cache import Cache, Store
from springtide_operator.cluster.watching.optional_kind import OptionalReflector
from springtide_operator.cluster.watching.reflector import Reflector

if TYPE_CHECKING:
    from collections.abc import Hashable, Iterable

    from springtide_operator.cluster.api.client import Client
    from springtide_operator.cluster.api.kinds import Kind, Raw

LABELS = {UPDATE: "", GENERATION: "", JOB: LABEL_STAGE, POD: LABEL_STAGE, DEPLOYMENT: LABEL_UPDATE}
"""Kinds that are watched, with their label selectors."""

OPTIONAL_LABELS = {HTTP_ROUTE: "", JOB_SET: LABEL_STAGE, WORKLOAD: LABEL_JOB_UID}
"""The same of kinds that may not be served."""

PROBE = "probe"
"""Index key of unfinished probes; with a namespace, of those in it."""

CHANGED_BY = "changedBy"
"""Of a route in the cache: the field manager that wrote to its spec last."""

CHANGED_AT = "changedAt"
"""Of a route in the cache: when that was."""

LABEL_JOB = "batch.kubernetes.io/job-name"
"""The Job controller sets it on its pods."""

ROUTED = "routed"
"""Index key of objects that name an HTTPRoute; with its namespace and name, of those that name this
one."""

QUEUED = "queued"
"""Index key of updates, Jobs and JobSets with a queue of Kueue; with the uid of a Job or JobSet, of
this one and of its Workload."""

SEVERAL_NODES = "several nodes"
"""Index key of updates and generations that are trained on several nodes."""

ENDS = frozenset({"Complete", "Failed", "SuccessCriteriaMet", "FailureTarget"})

OWN = (UPDATE, GENERATION)
"""Kinds whose events kopf delivers."""

NAMING_ROUTES = (*OWN, DEPLOYMENT)
"""Kinds whose objects name an HTTPRoute; of Deployments, canaries."""

Wake = Callable[[str, str], None]
"""Called with namespace and name of an update."""


def by_label(raw: Raw) -> str:
    """Name the update by its label."""
    return str((raw["metadata"].get("labels") or {}).get(LABEL_UPDATE, ""))


def by_reference(raw: Raw) -> str:
    """Name the update of a generation by its reference; its labels do not count."""
    return str(((raw.get("spec") or {}).get("updateRef") or {}).get("name", ""))


def by_name(raw: Raw) -> str:
    """Name an update."""
    return str(raw["metadata"]["name"])


def new_cache() -> Cache:
    """Make an empty cache of all kinds that are watched."""
    return Cache(
        {
            UPDATE: Store(by_name, _trim, index_keys=target_index_keys),
            GENERATION: Store(by_reference, _trim, index_keys=_generation_index_keys),
            JOB: Store(by_label, _trim_job, index_keys=_job_index_keys),
            POD: Store(by_label, _trim_pod, index_keys=_pod_index_keys),
            DEPLOYMENT: Store(by_label, _keep, index_keys=_deployment_index_keys),
            HTTP_ROUTE: Store(by_label, _trim_route, required=False),
            JOB_SET: Store(by_label, _trim_job_set, index_keys=_job_set_index_keys, required=False),
            WORKLOAD: Store(
                by_label, _trim_workload, index_keys=_workload_index_keys, required=False
            ),
        }
    )


def reflectors(client: Client, cache: Cache, namespace: str, wake: Wake) -> list[Reflector]:
    """Create one reflector for each foreign kind; `wake` gets every update a change affects."""
    changed = partial(_changed, cache, wake)
    watched = [
        Reflector(client, kind, cache.stores[kind], changed, namespace=namespace, labels=labels)
        for kind, labels in LABELS.items()
        if kind not in OWN
    ]
    routes = OptionalReflector(
        client,
        HTTP_ROUTE,
        cache.stores[HTTP_ROUTE],
        changed,
        namespace=namespace,
        needed=lambda: any(cache.stores[kind].count(ROUTED) for kind in NAMING_ROUTES),
        install="the CRDs of the Gateway API",
    )
    job_sets = OptionalReflector(
        client,
        JOB_SET,
        cache.stores[JOB_SET],
        changed,
        namespace=namespace,
        labels=OPTIONAL_LABELS[JOB_SET],
        needed=lambda: any(cache.stores[kind].count(SEVERAL_NODES) for kind in OWN),
        install=f"a version of JobSet that serves {JOB_SET.version}, such as 0.10",
    )
    workloads = OptionalReflector(
        client,
        WORKLOAD,
        cache.stores[WORKLOAD],
        changed,
        namespace=namespace,
        labels=OPTIONAL_LABELS[WORKLOAD],
        needed=lambda: any(cache.stores[kind].count(QUEUED) for kind in (UPDATE, JOB, JOB_SET)),
        install=f"a version of Kueue that serves {WORKLOAD.version}, such as 0.14",
    )
    return [*watched, routes, job_sets, workloads]


def auditors(client: Client, cache: Cache, namespace: str, wake: Wake) -> list[Auditor]:
    """Create one auditor for each kind of ours; `wake` gets every update that a change affects."""
    changed = partial(_changed, cache, wake)
    return [Auditor(client, kind, cache.stores[kind], changed, namespace=namespace) for kind in OWN]


def _changed(cache: Cache, wake: Wake, kind: Kind, raw: Raw) -> None:
    place = raw["metadata"]["namespace"]
    for name in affected_updates(cache, kind, raw):
        wake(place, name)


def affected_updates(cache: Cache, kind: Kind, raw: Raw) -> set[str]:
    """Names of the updates that a change of an object affects, in its namespace."""
    names = {cache.stores[kind].owner(raw)} - {""}
    if kind == DEPLOYMENT:
        names |= set(_updates_targeting(cache, raw))
    if kind == HTTP_ROUTE:
        names |= _updates_routed(cache, raw)
    if kind == WORKLOAD:
        stores, key = [cache.stores[each] for each in (JOB, JOB_SET)], (QUEUED, job_uid(raw))
        names |= {store.owner(job) for store in stores for job in store.by_index(key)} - {""}
    return names


def _updates_targeting(cache: Cache, deployment: Raw) -> list[str]:
    """Updates that name a Deployment as a target, even while another one has claimed it."""
    metadata = deployment["metadata"]
    index_key = metadata["namespace"], metadata["name"]
    return [update["metadata"]["name"] for update in cache.stores[UPDATE].by_index(index_key)]


def _updates_routed(cache: Cache, route: Raw) -> set[str]:
    """Updates that name an HTTPRoute: in the spec, in a rollout that started, or on a canary."""
    metadata = route["metadata"]
    index_key = ROUTED, metadata["namespace"], metadata["name"]
    stores = cache.stores
    return {
        stores[kind].owner(raw)
        for kind in NAMING_ROUTES
        for raw in stores[kind].by_index(index_key)
    }


def _deployment_index_keys(deployment: Raw) -> set[Hashable]:
    annotations = deployment["metadata"].get("annotations") or {}
    return _route_keys(deployment, [annotations.get(ANNOTATION_ROUTE)])


def _generation_index_keys(generation: Raw) -> set[Hashable]:
    rollout = (generation.get("status") or {}).get("rollout") or {}
    recorded = (each.get("route") or {} for each in rollout.get("targets") or ())
    recipe = (generation.get("spec") or {}).get("recipe") or {}
    keys = _route_keys(generation, (each.get("name") for each in recorded))
    return keys | _node_keys(recipe)


def _node_keys(declares: Raw) -> set[Hashable]:
    """Index what a spec or a recipe trains on several nodes."""
    compute = (declares.get("training") or {}).get("compute") or {}
    return {SEVERAL_NODES} if (compute.get("nodes") or 1) > 1 else set()


def _route_keys(raw: Raw, routes: Iterable[str | None]) -> set[Hashable]:
    namespace = raw["metadata"]["namespace"]
    keys: set[Hashable] = {(ROUTED, namespace, name) for name in routes if name}
    return keys | {ROUTED} if keys else keys


def target_index_keys(update: Raw) -> set[Hashable]:
    """Index an update by namespace and name of each target, by its routes, queue and nodes."""
    rollout = (update.get("spec") or {}).get("rollout") or {}
    namespace, targets = update["metadata"]["namespace"], rollout.get("targets") or []
    keys: set[Hashable] = {(namespace, str(each["targetRef"]["name"])) for each in targets}
    compute = ((update.get("spec") or {}).get("training") or {}).get("compute") or {}
    keys |= {QUEUED} if compute.get("queueName") else set()
    keys |= _node_keys(update.get("spec") or {})
    return keys | _route_keys(update, (each.get("httpRoute") for each in targets))


def pods_of_job(namespace: str, job: str) -> Hashable:
    """Return the index key of the pods of a Job."""
    return namespace, job


def _pod_index_keys(raw: Raw) -> list[Hashable]:
    metadata = raw["metadata"]
    return [pods_of_job(metadata["namespace"], (metadata.get("labels") or {}).get(LABEL_JOB, ""))]


def _job_index_keys(raw: Raw) -> list[Hashable]:
    """Index an unfinished probe, for the cluster and for its namespace, and a Job in a queue."""
    metadata = raw["metadata"]
    labels = metadata.get("labels") or {}
    ended = any(each["type"] in ENDS for each in true_conditions(raw))
    keys = _job_set_index_keys(raw)
    if labels.get(LABEL_STAGE) == "probe" and not ended:
        keys += [PROBE, (PROBE, metadata["namespace"])]
    return keys


def _job_set_index_keys(raw: Raw) -> list[Hashable]:
    """Index what is in a queue."""
    metadata = raw["metadata"]
    in_a_queue = (metadata.get("labels") or {}).get(LABEL_QUEUE)
    return [QUEUED, (QUEUED, metadata["uid"])] if in_a_queue else []


def job_uid(workload: Raw) -> str:
    """Return the uid of the Job, or of the JobSet, that a Workload was created for."""
    return str((workload["metadata"].get("labels") or {}).get(LABEL_JOB_UID, ""))


def _workload_index_keys(raw: Raw) -> list[Hashable]:
    return [(QUEUED, job_uid(raw))]


def _trim(raw: Raw) -> None:
    raw["metadata"].pop("managedFields", None)


def _trim_job(raw: Raw) -> None:
    """Drop the pod template, which is most of a Job: labels and annotations are enough."""
    _trim(raw)
    (raw.get("spec") or {}).pop("template", None)


def _trim_job_set(raw: Raw) -> None:
    """Drop the templates, which are most of a JobSet."""
    _trim(raw)
    (raw.get("spec") or {}).pop("replicatedJobs", None)


def _trim_pod(raw: Raw) -> None:
    """Keep metadata and status of a pod."""
    _trim(raw)
    raw.pop("spec", None)


def _trim_route(raw: Raw) -> None:
    """Keep the rules of a route, and of its managed fields who wrote to the spec last, and when."""
    raw.pop("status", None)
    managed = raw["metadata"].pop("managedFields", None) or []
    wrote = [each for each in managed if "f:spec" in (each.get("fieldsV1") or {})]
    last: Raw = max(wrote, key=lambda each: str(each.get("time") or ""), default={})
    for key, field in ((CHANGED_BY, "manager"), (CHANGED_AT, "time")):
        raw["metadata"][key] = str(last.get(field) or raw["metadata"].get(key) or "")


def _trim_workload(raw: Raw) -> None:
    """Drop the pod templates, which are most of a Workload."""
    _trim(raw)
    raw["spec"] = {"active": (raw.get("spec") or {}).get("active", True)}
    status = raw.get("status") or {}
    kept = ("conditions", "admissionChecks", "requeueState")
    raw["status"] = {key: status[key] for key in kept if status.get(key)}


def _keep(raw: Raw) -> None:
    """The managed fields of a target are needed: they name the owner of each field."""
