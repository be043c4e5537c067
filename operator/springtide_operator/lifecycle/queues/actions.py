"""What the operator writes to a Workload: whether it is active, and that it was its own doing."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from datetime import datetime


@dataclass(frozen=True)
class DeactivateWorkload:
    """Set spec.active to false, so that Kueue suspends the Job; refused where it is false."""

    name: str
    uid: str


@dataclass(frozen=True)
class ActivateWorkload:
    """Set spec.active to true again; refused where it was not the operator that deactivated it."""

    name: str
    uid: str
    at: datetime
    """The moment of the decision; the Job's waiting time counts from then."""


QueueAction = DeactivateWorkload | ActivateWorkload


def queue_subject(action: QueueAction) -> str:
    """Return what an action writes to."""
    return f"{type(action).__name__} Workload {action.name}"
