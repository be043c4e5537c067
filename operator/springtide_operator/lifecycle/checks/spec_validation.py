"""Validates what the schema cannot: that schedule and time zone of a spec exist."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from cronsim import CronSim, CronSimError

from springtide_operator.lifecycle.probing.schedule import MACROS
from springtide_operator.lifecycle.state.plan import Waiting

if TYPE_CHECKING:
    from springtide_api.update.spec import UpdateSpec


def invalid_spec(spec: UpdateSpec) -> Waiting | None:
    """Return what is wrong with a spec that the API server accepted."""
    trigger = spec.trigger
    if trigger.schedule:
        try:
            CronSim(
                MACROS.get(trigger.schedule, trigger.schedule), datetime(2026, 1, 1, tzinfo=UTC)
            )
        except CronSimError as error:
            message = f"spec.trigger.schedule: {trigger.schedule!r} is no cron expression ({error})"
            return _stop(message)
    if trigger.time_zone:
        try:
            ZoneInfo(trigger.time_zone)
        except (ZoneInfoNotFoundError, ValueError, OSError):  # OSError: a folder, such as US
            message = (
                f"spec.trigger.timeZone: {trigger.time_zone!r} is no time zone of the IANA list"
            )
            return _stop(message)
    return None


def _stop(message: str) -> Waiting:
    return Waiting("InvalidSpec", f"{message}; change it", blocked=True)
