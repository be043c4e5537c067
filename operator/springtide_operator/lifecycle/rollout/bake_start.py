"""The start of a bake, and that the next rollout waits for its end; `lifecycle.bake` watches it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from springtide_api.schema import duration
from springtide_operator.lifecycle.state.generations import bakes, unknown_value
from springtide_operator.lifecycle.state.plan import Waiting

if TYPE_CHECKING:
    from datetime import datetime

    from springtide_operator.lifecycle.state.observation import Observation


def bake_facts(seen: Observation, now: datetime) -> dict[str, object]:
    """What a bake that starts now writes to `status.rollout`; empty without `rollout.bake`."""
    bake = seen.update.spec.rollout.bake
    if bake is None:
        return {}
    return {
        "bake_started_at": now,
        "bake_until": now + duration(bake.duration),
        "baked_at": None,
        "unavailable_since": None,
        "recovered_at": None,
        "holdback_seen_at": None,
        "analysis": [],
    }


def waits_for_bake(seen: Observation, now: datetime) -> Waiting | None:
    """Why the next generation does not roll out: live bakes."""
    live = seen.lineage.live
    if live is None or not bakes(live):
        return None
    if unknown := unknown_value(live):
        message = f"{live.metadata.name} bakes, and has {unknown}, a value of another version"
        return Waiting("Baking", message, "Rollout", short=f"{live.metadata.name} bakes")
    name, number, until = live.metadata.name, live.spec.number, live.status.rollout.bake_until
    left = "is over, and its pods or metrics have yet to pass"
    if until and now < until:
        left = f"lasts until {until:%Y-%m-%d %H:%M} UTC"
    message = (
        f"{name} bakes (rollout.bake), and the next generation rolls out after that; it {left}; "
        f"springtide.dev/request=promote.g{number}@<token> ends it now"
    )
    return Waiting("Baking", message, "Rollout", short=f"{name} bakes")
