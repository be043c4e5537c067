"""What the schema cannot say about a spec: that its schedule, time zone and targets exist.

Found problems are told with the field's path; nothing new starts until they are mended.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from cronsim import CronSim, CronSimError

from springtide_operator.lifecycle.plan import Step, Waiting
from springtide_operator.lifecycle.refusals import refusal_waiting, refused_apply
from springtide_operator.lifecycle.trigger import MACROS

if TYPE_CHECKING:
    from springtide_api.update_spec import UpdateSpec
    from springtide_operator.lifecycle.observation import Observation

RECHECK = timedelta(seconds=30)
"""Targets that are missing or not labelled yet are in no watch."""


def check_preconditions(seen: Observation, now: datetime) -> Step | None:
    """Hold before anything new starts while the spec or a target is not in order."""
    refusal = refused_apply(seen, seen.targets)
    refused = refusal_waiting(refusal) if refusal else None
    why = invalid(seen.update.spec) or seen.targets_problem or refused
    return Step(waiting=why, wake_after=RECHECK) if why else None


def invalid(spec: UpdateSpec) -> Waiting | None:
    """Say what is wrong with a spec that the API server accepted."""
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
        except (ZoneInfoNotFoundError, ValueError):
            message = (
                f"spec.trigger.timeZone: {trigger.time_zone!r} is no time zone of the IANA list"
            )
            return _stop(message)
    return None


def _stop(message: str) -> Waiting:
    return Waiting("InvalidSpec", f"{message}; change it", blocked=True)
