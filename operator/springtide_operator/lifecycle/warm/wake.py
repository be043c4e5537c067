"""When to decide again on warm pods, where no watch reports anything."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

from springtide_operator.lifecycle.canary.canaries import canary_of, present
from springtide_operator.lifecycle.canary.gateway import ENDPOINTS
from springtide_operator.lifecycle.state.plan import RECHECK
from springtide_operator.lifecycle.warm.share import wanted_share
from springtide_operator.lifecycle.warm.shift import endpoints_wake
from springtide_operator.lifecycle.warm.standby import (
    holdback,
    pods_of_share,
    ready_pods,
    standby,
    standby_targets,
)

if TYPE_CHECKING:
    from datetime import datetime

    from springtide_operator.lifecycle.state.observation import Observation


def warm_wake(seen: Observation, now: datetime) -> timedelta | None:
    """When EndpointSlices are read again, or an edited canary may be deleted; None: neither."""
    if standby(seen) is None:
        return endpoints_wake(seen)
    edited = (each.created for each in present(seen) if each.edited_by)
    due = [created + RECHECK - now for created in edited if created]
    if _endpoints_missing(seen):
        due.append(ENDPOINTS)
    return min((each for each in due if each > timedelta(0)), default=None)


def _endpoints_missing(seen: Observation) -> bool:
    """Whether pods of a holdback are available, and a gateway does not know all of them yet."""
    share = holdback(seen)
    for target in standby_targets(seen) if share else ():
        canary = canary_of(seen, target)
        if canary is None or wanted_share(seen, target) == share:
            continue
        least = pods_of_share(share, target)
        if 0 < least <= canary.deployment.available and ready_pods(seen, target, canary) < least:
            return True
    return False
