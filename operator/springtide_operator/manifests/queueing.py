"""The JSON Patches that change whether a Workload of Kueue is active, each with its tests.

The annotation says whose doing it was: Kueue deactivates Workloads, too.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from springtide_api.names import ANNOTATION_RESUMED, ANNOTATION_SUSPENDED

if TYPE_CHECKING:
    from collections.abc import Mapping

    from springtide_operator.lifecycle.queues.actions import ActivateWorkload, DeactivateWorkload

ANNOTATIONS = "/metadata/annotations"

ACTIVE = "/spec/active"


def deactivation(
    action: DeactivateWorkload, annotations: Mapping[str, str] | None
) -> list[dict[str, Any]]:
    """Deactivate a Workload that is active, and note it.

    Args:
        action: which one.
        annotations: as observed; an object without any has no place for one.
    """
    tests = [_test("/metadata/uid", action.uid), _test(ACTIVE, True)]
    if annotations:
        note = [_set(_annotation(ANNOTATION_SUSPENDED), "true")]
    else:
        whole = {ANNOTATION_SUSPENDED: "true"}
        note = [_test(ANNOTATIONS, annotations), _set(ANNOTATIONS, whole)]
    return [*tests, *note, _set(ACTIVE, False)]


def activation(action: ActivateWorkload) -> list[dict[str, Any]]:
    """Activate a Workload that the operator deactivated, and note when."""
    mark = _annotation(ANNOTATION_SUSPENDED)
    return [
        _test("/metadata/uid", action.uid),
        _test(mark, "true"),
        {"op": "remove", "path": mark},
        _set(_annotation(ANNOTATION_RESUMED), f"{action.at:%Y-%m-%dT%H:%M:%SZ}"),
        _set(ACTIVE, True),
    ]


def _annotation(key: str) -> str:
    escaped = key.replace("~", "~0").replace("/", "~1")
    return f"{ANNOTATIONS}/{escaped}"


def _test(path: str, value: object) -> dict[str, Any]:
    return {"op": "test", "path": path, "value": value}


def _set(path: str, value: object) -> dict[str, Any]:
    return {"op": "add", "path": path, "value": value}
