"""Whether the update may use a GPU now: training.limits.maxGpuSecondsPerDay.

Only what would begin waits: a run, a Job, the resume of a suspended Job. What runs is not ended,
as its work would be lost and be paid for again.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

from springtide_operator.lifecycle.jobs.gpu_seconds import (
    DAY,
    Use,
    shown_until,
    uses,
    within_a_day,
)
from springtide_operator.lifecycle.state.plan import Step, Waiting
from springtide_operator.lifecycle.state.recorded_times import is_ahead

if TYPE_CHECKING:
    from springtide_operator.lifecycle.state.observation import Observation

BUDGET_USED_UP = "MaxGpuSecondsPerDayReached"


def budget_used_up(seen: Observation, now: datetime, stage: str = "") -> Step | None:
    """Return that the GPU seconds of a day are used up, and when enough of them are free again.

    The current spec decides, also on a run that began before it was edited.

    Args:
        seen: the update.
        now: the moment.
        stage: the stage that waits, for the column.
    """
    most = seen.update.spec.training.limits.max_gpu_seconds_per_day
    if most is None:
        return None
    every = (use for g in seen.generations for use in uses(g))
    known = [use.ended_by(now) for use in every if not is_ahead(use.ended or use.started, now)]
    if within_a_day(known, now) < most:
        return None
    until = shown_until(seen.generations, now)
    used, free = within_a_day(known, until), _free_at(known, most, now)
    what = "the next Job with a GPU starts" if stage else "the next run starts"
    message = (
        f"the pods of this update used {used:,.0f} GPU seconds in the 24 hours before "
        f"{until:%Y-%m-%d %H:%M:%S} UTC; at most {most:,} (training.limits.maxGpuSecondsPerDay); "
        f"{what} at {free:%Y-%m-%d %H:%M:%S} UTC, or when the limit is raised"
    )
    short = f"GPU budget until {free:%d %b %H:%M}"
    return Step(waiting=Waiting(BUDGET_USED_UP, message, stage, short=short), wake_after=free - now)


def _free_at(known: list[Use], most: int, now: datetime) -> datetime:
    """The first full second at which less than `most` was used within 24 hours.

    From now on no pod runs, so the sum only falls; the second is the same whenever it is computed.
    """
    low, high = int(now.timestamp()), int((now + DAY).timestamp()) + 1
    while high - low > 1:
        middle = (low + high) // 2
        if within_a_day(known, datetime.fromtimestamp(middle, UTC)) < most:
            high = middle
        else:
            low = middle
    return datetime.fromtimestamp(high, UTC)
