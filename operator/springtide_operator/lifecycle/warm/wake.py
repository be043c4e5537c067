"""When to decide again on warm pods, where no watch reports anything."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

from springtide_operator.lifecycle.canary.canaries import present
from springtide_operator.lifecycle.state.plan import RECHECK
from springtide_operator.lifecycle.warm.shift import endpoints_wake
from springtide_operator.lifecycle.warm.standby import standby

if TYPE_CHECKING:
    from datetime import datetime

    from springtide_operator.lifecycle.state.observation import Observation


def warm_wake(seen: Observation, now: datetime) -> timedelta | None:
    """When EndpointSlices are read again, or an edited canary may be deleted; None: neither."""
    if standby(seen) is None:
        return endpoints_wake(seen)
    edited = (each.created for each in present(seen) if each.edited_by)
    due = (created + RECHECK - now for created in edited if created)
    return min((each for each in due if each > timedelta(0)), default=None)
