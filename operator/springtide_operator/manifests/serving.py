"""What we own in a user's Deployment, as one server-side apply; nothing else of it is named.

Two environment variables of one container, one label, two annotations, and on the pod template two
labels and one annotation. With the uid a deleted Deployment is not created again.
"""

from __future__ import annotations

import copy
import json
from typing import TYPE_CHECKING, Any

from springtide_api.names import (
    ANNOTATION_DIGEST,
    ANNOTATION_NUMBER,
    ANNOTATION_UPDATE_UID,
    GROUP,
    LABEL_GENERATION,
    LABEL_ROLE,
    LABEL_UPDATE,
)
from springtide_operator.lifecycle.state.plan import LIVE_ROLE

if TYPE_CHECKING:
    from springtide_api.objects import Meta
    from springtide_api.update.rollout import Target
    from springtide_operator.lifecycle.state.plan import Serve, Serving

OWN_KEYS = tuple(
    f".{template}metadata.{keys}.{GROUP}/"
    for template in ("", "spec.template.")
    for keys in ("labels", "annotations")
)
"""Paths of labels and annotations that only this operator uses."""


def disowned(managed: list[dict[str, Any]], target: Target, ours: str) -> list[dict[str, Any]]:
    """`managedFields` of a Deployment without other managers' ownership of what we own.

    That is both variables, and our label and annotation of the pod template: if the apply that
    follows is not sent, the next one meets no other owner.

    Args:
        managed: the entries as they are.
        target: the container and its variables.
        ours: our field manager.
    """
    container = f'k:{{"name":{json.dumps(target.container)}}}'
    env = [f'k:{{"name":{json.dumps(name)}}}' for name in (target.env.uri, target.env.digest)]
    ours_alone = (
        (("f:spec", "f:containers", container, "f:env"), env),
        (("f:metadata", "f:labels"), [f"f:{LABEL_GENERATION}", f"f:{LABEL_ROLE}"]),
        (("f:metadata", "f:annotations"), [f"f:{ANNOTATION_DIGEST}"]),
    )
    left = copy.deepcopy(managed)
    for entry in left:
        if entry.get("manager") == ours:
            continue
        for path, keys in ours_alone:
            owned = entry.get("fieldsV1") or {}
            for step in ("f:spec", "f:template", *path):
                owned = owned.get(step) or {}
            for key in keys:
                owned.pop(key, None)
    return left


def variables(target: Target, serving: Serving) -> list[dict[str, Any]]:
    """Both environment variables, for a generation."""
    return [
        {"name": target.env.uri, "value": serving.uri},
        {"name": target.env.digest, "value": serving.digest},
    ]


def deployment(update: Meta, serve: Serve) -> dict[str, Any]:
    """The apply that claims a target and, with `serve.serving`, points it to a generation."""
    annotations = {ANNOTATION_UPDATE_UID: update.uid}
    if serve.highest_number is not None:
        annotations[ANNOTATION_NUMBER] = str(serve.highest_number)
    applied: dict[str, Any] = {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {
            "name": serve.target.target_ref.name,
            "namespace": update.namespace,
            "uid": serve.target_uid,
            "labels": {LABEL_UPDATE: update.name},
            "annotations": annotations,
        },
    }
    if serve.force_at_version:
        applied["metadata"]["resourceVersion"] = serve.force_at_version
    serving, target = serve.serving, serve.target
    if serving is not None:
        env = variables(target, serving)
        applied["spec"] = {
            "template": {
                "metadata": {
                    "labels": {LABEL_GENERATION: str(serving.number), LABEL_ROLE: LIVE_ROLE},
                    "annotations": {ANNOTATION_DIGEST: serving.digest},
                },
                "spec": {"containers": [{"name": target.container, "env": env}]},
            }
        }
    return applied
