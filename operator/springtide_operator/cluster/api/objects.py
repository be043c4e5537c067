"""Fields of raw Kubernetes objects: owners, conditions, times and numbers."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any

    from springtide_operator.cluster.api.kinds import Raw


def controller_uid(raw: Raw) -> str:
    """Return the uid of the controlling owner; empty where there is none."""
    for owner in raw["metadata"].get("ownerReferences") or []:
        if owner.get("controller"):
            return str(owner["uid"])
    return ""


def true_conditions(raw: Raw) -> list[dict[str, Any]]:
    """Return the conditions whose status is True."""
    conditions = (raw.get("status") or {}).get("conditions") or []
    return [each for each in conditions if each.get("status") == "True"]


def whole(text: str | None) -> int | None:
    """Read a whole number from a label, which any client may have written."""
    return int(text) if text and text.isascii() and text.isdigit() and len(text) < 10 else None


def moment(text: str) -> datetime:
    """Read a time of the API server."""
    return datetime.fromisoformat(text)


def owned_by(uid: str, objects: Iterable[Raw]) -> list[Raw]:
    """Return the objects with this owner."""
    return [
        each
        for each in objects
        if any(owner["uid"] == uid for owner in each["metadata"].get("ownerReferences") or [])
    ]
