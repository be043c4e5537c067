"""Since when pods fail: those of a canary in its steps, those of the generation in a bake.

A pod that crashes again and again is available in between. So the time since the first failure is
kept until all pods have been available for as long as the deadline.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from springtide_operator.lifecycle.state.recorded_times import is_ahead

if TYPE_CHECKING:
    from datetime import datetime, timedelta

    from springtide_api.generation.rollout import RolloutStatus


def failing_facts(
    rollout: RolloutStatus,
    now: datetime,
    *,
    failing: bool,
    starting: bool = False,
    deadline: timedelta,
) -> dict[str, object]:
    """What must be written about failing pods; empty: nothing.

    Args:
        rollout: what is recorded.
        now: the time of the observation.
        failing: whether pods fail.
        starting: whether they only start, as those that an autoscaler adds: after others were
            available, they have a deadline of their own.
        deadline: for how long all must be available until the time since the first failure ends.
    """
    since, recovered = rollout.unavailable_since, rollout.recovered_at
    if failing:
        if since is None or is_ahead(since, now) or (starting and recovered):
            return {"unavailable_since": now, "recovered_at": None}
        return {"recovered_at": None} if recovered else {}
    if since is None:
        return {}
    if recovered is None or is_ahead(recovered, now):
        return {"recovered_at": now}
    if now - recovered >= deadline:
        return {"unavailable_since": None, "recovered_at": None}
    return {}
