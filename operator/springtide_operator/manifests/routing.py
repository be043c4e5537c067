"""The Service of a canary's pods, and the JSON Patch that changes weights of an HTTPRoute."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from springtide_api.names import LABEL_UPDATE

if TYPE_CHECKING:
    from springtide_api.objects import Meta
    from springtide_operator.lifecycle.routes.actions import CreateCanaryService, SetRouteWeights

PORT_FIELDS = ("name", "port", "targetPort", "protocol", "appProtocol")


def canary_service(
    update: Meta, made: CreateCanaryService, ports: list[dict[str, Any]]
) -> dict[str, Any]:
    """The Service of the canary. It stays, so it has no owner.

    Args:
        update: whose label it gets.
        made: name and selector.
        ports: of the owner's Service.
    """
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {
            "name": made.name,
            "namespace": update.namespace,
            "labels": {LABEL_UPDATE: update.name},
        },
        "spec": {
            "selector": dict(made.selector),
            "ports": [{key: each[key] for key in PORT_FIELDS if key in each} for each in ports],
        },
    }


def weight_patch(action: SetRouteWeights) -> list[dict[str, Any]]:
    """Weights alone, each with a test of what was seen: rules are one atomic list.

    The resource version is not tested: gateways change it with their status.
    """
    operations: list[dict[str, Any]] = [
        {"op": "test", "path": "/metadata/uid", "value": action.uid}
    ]
    writes = []
    for change in action.changes:
        entry = f"/spec/rules/{change.rule}/backendRefs/{change.index}"
        operations += [
            {"op": "test", "path": f"{entry}/name", "value": change.service},
            {"op": "test", "path": f"{entry}/weight", "value": change.before},
        ]
        if change.before != change.after:
            writes.append({"op": "replace", "path": f"{entry}/weight", "value": change.after})
    return operations + writes
