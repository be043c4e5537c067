"""The Deployment of a canary: a copy of the target's pod template that runs another generation.

With traffic Replicas its pods keep the labels of the target's pods, so that the same Services
select them, and so does the target's selector; its own has one label more, which the target's pods
lack. Each Deployment still counts its own pods alone: they belong to it by owner reference. With
traffic Gateway its pods do not have the labels by which the target's pods are selected.
"""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any

from springtide_api.names import (
    ANNOTATION_DIGEST,
    ANNOTATION_ROUTE,
    ANNOTATION_SERVICE,
    ANNOTATION_TARGET,
    ANNOTATION_TEMPLATE,
    ANNOTATION_UPDATE_UID,
    LABEL_GENERATION,
    LABEL_ROLE,
    LABEL_UPDATE,
)
from springtide_operator.lifecycle.state.plan import CANARY_ROLE
from springtide_operator.manifests.serving import variables

if TYPE_CHECKING:
    from springtide_api.objects import Meta
    from springtide_operator.lifecycle.state.plan import ApplyCanary

COPIED = ("strategy", "minReadySeconds", "progressDeadlineSeconds")
"""Fields of the target's spec that a canary has too."""


def is_canary(raw: dict[str, Any], update: str) -> bool:
    """Whether a Deployment is a canary of an update, of an earlier one of the same name too."""
    labels = raw["metadata"].get("labels") or {}
    return (labels.get(LABEL_UPDATE), labels.get(LABEL_ROLE)) == (update, CANARY_ROLE)


def canary(update: Meta, action: ApplyCanary, owner: dict[str, Any]) -> dict[str, Any]:
    """The apply that makes a canary from the target as it is.

    It has no owner reference: it must not go before its traffic does.

    Args:
        update: metadata of the update.
        action: what it runs, and how many pods.
        owner: the target's Deployment.
    """
    spec, role = owner["spec"], {LABEL_ROLE: CANARY_ROLE}
    number = {LABEL_GENERATION: str(action.serving.number)}
    selector = copy.deepcopy(spec["selector"])
    selector["matchLabels"] = {**(selector.get("matchLabels") or {}), **role}
    if action.selector:
        selector = {"matchLabels": dict(action.selector)}
    traffic = {ANNOTATION_ROUTE: action.route, ANNOTATION_SERVICE: action.service}
    metadata: dict[str, Any] = {
        "name": action.name,
        "namespace": update.namespace,
        "labels": {LABEL_UPDATE: update.name, **role, **number},
        "annotations": {
            ANNOTATION_UPDATE_UID: update.uid,
            ANNOTATION_TARGET: action.target.target_ref.name,
            ANNOTATION_TEMPLATE: action.template,
            **(traffic if action.route else {}),
        },
    }
    if action.uid:
        metadata["uid"] = action.uid
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": metadata,
        "spec": {
            **{key: spec[key] for key in COPIED if key in spec},
            "replicas": action.replicas,
            "selector": selector,
            "template": _template(
                action, spec["template"], {**role, **number, **dict(action.selector)}
            ),
        },
    }


def _template(action: ApplyCanary, owned: dict[str, Any], labels: dict[str, str]) -> dict[str, Any]:
    template = copy.deepcopy(owned)
    metadata = template["metadata"]
    metadata.pop("creationTimestamp", None)
    owners = metadata.get("labels") or {}
    kept = {key: value for key, value in owners.items() if key not in action.dropped_labels}
    metadata["labels"] = {**kept, **labels}
    digest = {ANNOTATION_DIGEST: action.serving.digest}
    metadata["annotations"] = {**(metadata.get("annotations") or {}), **digest}
    ours = {each["name"]: each for each in variables(action.target, action.serving)}
    for container in template["spec"]["containers"]:
        if container["name"] == action.target.container:
            entries = [ours.pop(each["name"], each) for each in container.get("env") or []]
            container["env"] = [*entries, *ours.values()]
    return template
