"""Retires a candidate whose training data was quarantined."""

from __future__ import annotations

from typing import TYPE_CHECKING

from springtide_operator.lifecycle.state.generations import rolling
from springtide_operator.lifecycle.state.plan import Event, Step, WriteGeneration

if TYPE_CHECKING:
    from datetime import datetime

    from springtide_operator.lifecycle.state.observation import Observation


def retire(seen: Observation, now: datetime) -> Step | None:
    """Retire a candidate whose training data was quarantined meanwhile."""
    under_way = seen.lineage.candidate
    if under_way is None or under_way.spec.data is None or rolling(under_way):
        return None
    bad = sorted({*under_way.spec.data.partitions} & {*seen.update.status.cursor.quarantined})
    if not bad:
        return None
    name = under_way.metadata.name
    message = f"trained on {', '.join(bad)}, which is quarantined now"
    status = under_way.status.model_copy(
        update={
            "retired_reason": "PartitionQuarantined",
            "message": message[:1024],
            "verdict_at": now,
        }
    )
    event = Event("Retired", f"{name}: {message}", generation=name)
    return Step(actions=(WriteGeneration(name, status),), events=(event,))
