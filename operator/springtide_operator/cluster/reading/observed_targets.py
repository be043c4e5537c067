"""A user's Deployment for an observation: what it runs, who set that, and its pods."""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING

from springtide_api import names
from springtide_api.schema import one_line
from springtide_operator.cluster.api.objects import moment, true_conditions, whole
from springtide_operator.cluster.reading.observed_jobs import (
    NOT_CREATED,
    PULLING,
    why_refused,
    why_waiting,
)
from springtide_operator.lifecycle.state.observed import ObservedCanary, ObservedTarget
from springtide_operator.manifests.canary import is_canary

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from datetime import datetime
    from typing import Any

    from springtide_api.update.rollout import Target
    from springtide_operator.cluster.api.kinds import Raw

INIT_CONTAINERS = "initContainerStatuses"
"""Sidecars are init containers that restart always."""

MAX_MESSAGE = 512
"""Characters of a crashed pod's message: a status has room for little more."""


def observed_target(
    target: Target,
    raw: Raw | None,
    update: str,
    *,
    replica_sets: Iterable[Raw],
    pods: Sequence[Raw],
) -> ObservedTarget:
    """Read one target.

    Args:
        target: as the spec names it.
        raw: the Deployment; None: it does not exist.
        update: name of the update, which names our field manager.
        replica_sets: of this Deployment.
        pods: of its newest template, where they are not all available.
    """
    if raw is None:
        return ObservedTarget(target)
    metadata, spec, status = raw["metadata"], raw["spec"], raw.get("status") or {}
    template = spec["template"]
    container = _container(template, target.container)
    number = (template["metadata"].get("labels") or {}).get(names.LABEL_GENERATION)
    updated = status.get("updatedReplicas", 0)
    return ObservedTarget(
        target=target,
        uid=metadata["uid"],
        deleting="deletionTimestamp" in metadata,
        has_container=container is not None,
        containers=tuple(each["name"] for each in template["spec"]["containers"]),
        claimed_by=(metadata.get("labels") or {}).get(names.LABEL_UPDATE, ""),
        number=whole(number),
        highest_number=whole((metadata.get("annotations") or {}).get(names.ANNOTATION_NUMBER)),
        digest=_variable(container, target.env.digest),
        uri=_variable(container, target.env.uri),
        template=others_template(template, target),
        changed_by=_changed_by(raw, names.field_manager(update)),
        foreign_manager=foreign_manager(raw, target, names.field_manager(update)),
        paused=bool(spec.get("paused")),
        desired=spec.get("replicas", 1),
        updated=updated,
        available=status.get("availableReplicas", 0),
        old=max(0, status.get("replicas", 0) - updated),
        ready=sum(map(_ready, pods)) if pods else None,
        failing=sum(_failing(pod, target.container) for pod in pods),
        settled=status.get("observedGeneration", 0) >= metadata.get("generation", 0),
        stalled=_stalled(status),
        stalled_at=_stalled_at(status),
        complete=_complete(status),
        version=metadata.get("resourceVersion", ""),
        trouble=_trouble(status, pods),
        named=_named([template, *(each["spec"]["template"] for each in replica_sets)], target),
    )


def observed_canary(of: str, deployment: ObservedTarget, raw: Raw, update: str) -> ObservedCanary:
    """Read the Deployment of a canary, or another one that has its name.

    Args:
        of: name of the target.
        deployment: the same Deployment, read as a target.
        raw: the Deployment.
        update: name of the update.
    """
    annotations = raw["metadata"].get("annotations") or {}
    created = raw["metadata"].get("creationTimestamp")
    return ObservedCanary(
        of=annotations.get(names.ANNOTATION_TARGET) or of,
        deployment=deployment,
        ours=is_canary(raw, update),
        made_from=annotations.get(names.ANNOTATION_TEMPLATE) or "",
        edited_by=deployment.changed_by,
        route=annotations.get(names.ANNOTATION_ROUTE) or "",
        service=annotations.get(names.ANNOTATION_SERVICE) or "",
        created=created and moment(created),
    )


def foreign_manager(raw: Raw, target: Target, ours: str) -> str:
    """Name a field manager other than ours that owns one of our two variables."""
    owned_variables = {
        f'k:{{"name":{json.dumps(name)}}}' for name in (target.env.uri, target.env.digest)
    }
    path = ["f:spec", "f:template", "f:spec", "f:containers"]
    path += [f'k:{{"name":{json.dumps(target.container)}}}', "f:env"]
    for entry in raw["metadata"].get("managedFields") or []:
        owned: Any = entry.get("fieldsV1") or {}
        for step in path:
            owned = owned.get(step) or {}
        if entry.get("manager") != ours and owned_variables & set(owned):
            return str(entry.get("manager") or "unknown")
    return ""


def selector(raw: Raw) -> str:
    """Write a Deployment's label selector as a query; empty where it uses expressions alone."""
    labels = (raw["spec"].get("selector") or {}).get("matchLabels") or {}
    return ",".join(f"{key}={value}" for key, value in sorted(labels.items()))


def _container(template: Raw, name: str) -> Raw | None:
    return next((each for each in template["spec"]["containers"] if each["name"] == name), None)


def _variable(container: Raw | None, name: str) -> str | None:
    for entry in (container or {}).get("env") or []:
        if entry["name"] == name:
            return str(entry.get("value", ""))
    return None


def _stall(status: Raw) -> Raw:
    """The condition that no pods make progress; empty: they do."""
    for condition in status.get("conditions") or []:
        if condition["type"] == "Progressing" and condition["status"] == "False":
            return dict(condition)
    return {}


def _stalled(status: Raw) -> str:
    found = _stall(status)
    why = found.get("message") or found.get("reason") or "not progressing"
    return str(why) if found else ""


def _stalled_at(status: Raw) -> datetime | None:
    at = _stall(status).get("lastUpdateTime")
    return moment(at) if at else None


def _complete(status: Raw) -> bool:
    """Whether all pods of the newest template were available once.

    The deployment controller keeps that reason when pods fail later. Where it keeps no condition
    (a Deployment without a progress deadline), the counts decide.
    """
    for condition in status.get("conditions") or []:
        if condition["type"] == "Progressing":
            return bool(condition.get("reason") == "NewReplicaSetAvailable")
    return bool(status.get("replicas", 0) == status.get("updatedReplicas", 0))


def _ready(pod: Raw) -> bool:
    return any(each["type"] == "Ready" for each in true_conditions(pod))


def _failing(pod: Raw, container: str) -> bool:
    """Whether the serving container started and is not ready, of a pod that is not being removed.

    A pod without a node or an image never started; of a lost node the kubelet says nothing new. One
    that cannot be started again has ended, and waits for others.
    """
    if "deletionTimestamp" in pod["metadata"]:
        return False
    for each in (pod.get("status") or {}).get("containerStatuses") or []:
        if each["name"] == container and not each.get("ready"):
            state, last = each.get("state") or {}, each.get("lastState") or {}
            started = state.keys() & {"running", "terminated"} or "terminated" in last
            return bool(started) and not _waits_for_others(each)
    return False


def _trouble(status: Raw, pods: Iterable[Raw]) -> str:
    """Why the newest pods are not ready, or why there are none: a quota or admission refuses them.

    The deployment controller keeps ReplicaFailure for as long as pods are refused.
    """
    found = next(filter(None, map(_unready_reason, pods)), "")
    for condition in status.get("conditions") or []:
        if not found and condition["type"] == "ReplicaFailure" and condition["status"] == "True":
            found = why_refused(str(condition.get("message") or ""))
    return one_line(found)[:MAX_MESSAGE]


def _unready_reason(pod: Raw) -> str:
    """Return why a serving pod is not ready: how a container ended, or why it waits.

    Init containers, sidecars among them, come last: they often end because the server does.
    """
    status = pod.get("status") or {}
    for kind, field in (("container", "containerStatuses"), ("init container", INIT_CONTAINERS)):
        for container in status.get(field) or []:
            if _waits_for_others(container):
                return why_waiting(pod)
            if (ended := _ended(pod, container)) and not container.get("ready"):
                text = ended.get("message") or ended.get("reason") or "no message"
                return f"{kind} {container['name']} ended with code {ended['exitCode']}: {text}"
    return why_waiting(pod) or _lost_node(status)


def _waits_for_others(container: Raw) -> bool:
    """Whether a container cannot start for want of its image, or of what it is created with."""
    waiting = (container.get("state") or {}).get("waiting") or {}
    return waiting.get("reason") in PULLING | NOT_CREATED


def _ended(pod: Raw, container: Raw) -> Raw | None:
    """How a container ended; not at the end of its pod, which says nothing of the container."""
    before: Raw | None = (container.get("lastState") or {}).get("terminated")
    over = (pod.get("status") or {}).get("phase") in {"Failed", "Succeeded"}
    if before or over or "deletionTimestamp" in pod["metadata"]:
        return before
    ended: Raw | None = (container.get("state") or {}).get("terminated")
    return ended


def _lost_node(status: Raw) -> str:
    """Whether the node of a pod is lost; empty: nothing says so.

    The node controller sets Ready to False and nothing else: what the kubelet reported last stays,
    and that gives a reason with each Ready that is False (kubernetes, MarkPodsNotReady).
    """
    conditions = {each["type"]: each for each in status.get("conditions") or []}
    ready, containers = conditions.get("Ready", {}), conditions.get("ContainersReady", {})
    unready = ready.get("status") == "False" and not ready.get("reason")
    if unready and containers.get("status") == "True":
        return f"node lost: node {status.get('hostIP') or 'of a pod'} reports nothing any more"
    return ""


def not_copied(raw: Raw, claims: Iterable[Raw]) -> str:
    """Return why a second Deployment cannot run pods of this template; empty: it can.

    Args:
        raw: the Deployment.
        claims: the persistent volume claims that its pods mount.
    """
    spec = raw["spec"]["template"]["spec"]
    if spec.get("hostNetwork"):
        return "its pods use the network of their node (hostNetwork)"
    sidecars = [each for each in spec.get("initContainers") or [] if "restartPolicy" in each]
    for container in (*spec["containers"], *sidecars):
        for port in container.get("ports") or []:
            if port.get("hostPort"):
                return f"its container {container['name']} uses hostPort {port['hostPort']}"
    if twice := _repeated(spec):
        return f"{twice}, which a Deployment may have, and an apply of a copy may not"
    for claim in claims:
        modes = (claim.get("spec") or {}).get("accessModes") or []
        if modes and not {*modes} & {"ReadOnlyMany", "ReadWriteMany"}:
            name = claim["metadata"]["name"]
            return f"PersistentVolumeClaim {name} is {modes[0]}: pods of one node alone mount it"
    return ""


def _repeated(spec: Raw) -> str:
    """Name what the lists of a pod's spec have twice by the keys of an apply; empty: nothing."""
    lists: list[tuple[Raw, str, str, tuple[str, ...]]] = [
        (spec, "its pod template", "imagePullSecrets", ("name",)),
        (spec, "its pod template", "hostAliases", ("ip",)),
    ]
    for container in (*(spec.get("initContainers") or []), *spec["containers"]):
        whose = f"its container {container['name']}"
        lists += [(container, whose, "env", ("name",))]
        lists += [(container, whose, "ports", ("containerPort", "protocol"))]
    for held, whose, field, keys in lists:
        names = [
            " ".join(str(each.get(key, "TCP")) for key in keys) for each in held.get(field) or []
        ]
        if twice := next((name for name in names if names.count(name) > 1), ""):
            return f"{whose} has {twice} twice in {field}"
    return ""


def claim_names(raw: Raw) -> list[str]:
    """Return the names of the persistent volume claims that a Deployment's pods mount."""
    volumes = raw["spec"]["template"]["spec"].get("volumes") or []
    claims = (each.get("persistentVolumeClaim") for each in volumes)
    return sorted({claim["claimName"] for claim in claims if claim})


def others_template(template: Raw, target: Target) -> str:
    """Digest a pod template without what we own in it, so that only its owner changes it."""
    metadata, spec = dict(template["metadata"]), dict(template["spec"])
    for keys in ("labels", "annotations"):
        owned = metadata.pop(keys, None) or {}
        foreign = {k: v for k, v in owned.items() if not k.startswith(f"{names.GROUP}/")}
        metadata |= {keys: foreign}
    ours = (target.env.uri, target.env.digest)
    containers = list(spec["containers"])
    for position, container in enumerate(containers):
        if container["name"] == target.container:
            entries = container.get("env") or []
            foreign_entries = [each for each in entries if each["name"] not in ours]
            containers[position] = {**container, "env": foreign_entries}
    rest = {**template, "metadata": metadata, "spec": {**spec, "containers": containers}}
    text = json.dumps(rest, sort_keys=True)
    return f"sha256:{hashlib.sha256(text.encode()).hexdigest()}"


def _changed_by(raw: Raw, ours: str) -> str:
    """Name the field manager other than ours that wrote to the pod template last."""
    others = [
        (entry.get("time") or "", entry.get("manager") or "")
        for entry in raw["metadata"].get("managedFields") or []
        if entry.get("manager") != ours
        and "f:template" in ((entry.get("fieldsV1") or {}).get("f:spec") or {})
    ]
    return max(others, default=("", ""))[1]


def _named(templates: Iterable[Raw], target: Target) -> frozenset[str]:
    containers = (_container(template, target.container) for template in templates)
    digests = (_variable(container, target.env.digest) for container in containers)
    return frozenset(digest for digest in digests if digest)
