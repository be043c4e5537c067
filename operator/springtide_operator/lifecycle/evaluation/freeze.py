"""After several rollbacks in a row an update is frozen: no run and no rollout starts.

The row is counted from facts: rollbacks since the promotion of live, and since `unfrozenAt`.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

from springtide_operator.lifecycle.state.plan import Waiting

if TYPE_CHECKING:
    from collections.abc import Iterable

    from springtide_api.objects import ModelGeneration
    from springtide_operator.lifecycle.state.observation import Observation

FROZEN = "Frozen"

_NEVER = datetime.min.replace(tzinfo=UTC)


def counted_rollbacks(
    seen: Observation, *, without: ModelGeneration | None = None
) -> list[ModelGeneration]:
    """Generations that were rolled back in a row, the newest last.

    Args:
        seen: the update.
        without: a generation whose unfrozenAt does not count.
    """
    live, ignored = seen.lineage.live, without.metadata.name if without else ""
    ends = [g.status.unfrozen_at for g in seen.generations if g.metadata.name != ignored]
    ends.append(live.status.rollout.promoted_at if live else None)
    since = max(filter(None, ends), default=_NEVER)
    back = [g for g in seen.generations if _counts(g)]
    return sorted((g for g in back if decided_at(g) > since), key=decided_at)


def _counts(generation: ModelGeneration) -> bool:
    rollout = generation.status.rollout
    return rollout.rolled_back_at is not None and not rollout.failure


def decided_at(generation: ModelGeneration) -> datetime:
    """When its rollback was decided: after its promotion, also where the clock was set back."""
    rollout = generation.status.rollout
    decided = rollout.rollback_started_at or rollout.rolled_back_at or _NEVER
    return max(decided, rollout.promoted_at or _NEVER)


def frozen(seen: Observation, rollbacks: Iterable[ModelGeneration] | None = None) -> bool:
    """Whether as many rollbacks in a row were made as spec.rollout.rollback.freezeAfter allows."""
    most = seen.update.spec.rollout.rollback.freeze_after
    if most is None:
        return False
    counted = counted_rollbacks(seen) if rollbacks is None else rollbacks
    return len(list(counted)) >= most


def freeze(seen: Observation) -> Waiting | None:
    """Why nothing starts, and the request that ends it."""
    if not frozen(seen):
        return None
    row = counted_rollbacks(seen)
    names = ", ".join(g.metadata.name for g in row[-5:])
    message = (
        f"{len(row)} generations in a row were rolled back, the last {names} "
        f"(rollout.rollback.freezeAfter is {seen.update.spec.rollout.rollback.freeze_after}); no "
        "run and no rollout starts: annotate springtide.dev/request=unfreeze@<token>"
    )
    return Waiting(FROZEN, message[:1024], held=True)
