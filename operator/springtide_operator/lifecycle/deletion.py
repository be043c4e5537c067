"""The end of an update: a roll under way is undone, then it may go.

Jobs and pods go by their owner reference. The finalizer is held only during a roll: without the
operator there would be nobody to take back pods that never become available.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from springtide_api.names import FINALIZER
from springtide_operator.lifecycle.lineage import candidate, rolling
from springtide_operator.lifecycle.plan import HoldFinalizer, Step, WriteGeneration
from springtide_operator.lifecycle.rollout import go_back

if TYPE_CHECKING:
    from datetime import datetime

    from springtide_operator.lifecycle.observation import Observation


def let_go(seen: Observation, now: datetime) -> Step | None:
    """Undo a roll of an update that is being deleted, then release it."""
    meta = seen.update.metadata
    if meta.deletion_timestamp is None:
        return None
    if FINALIZER not in meta.finalizers:
        return Step()
    under_way = candidate(seen)
    if seen.namespace_terminating or under_way is None or not rolling(under_way):
        return Step(actions=(HoldFinalizer(present=False),))
    if not under_way.status.rollout.abort_reason:
        rollout = under_way.status.rollout.model_copy(
            update={"abort_reason": "the IncrementalUpdate was deleted during the roll"}
        )
        status = under_way.status.model_copy(update={"rollout": rollout})
        return Step(actions=(WriteGeneration(under_way.metadata.name, status),))
    return go_back(seen, under_way, now)


def hold_on(seen: Observation, now: datetime) -> Step | None:
    """Keep the finalizer exactly while a roll is under way."""
    under_way = candidate(seen)
    wanted = under_way is not None and rolling(under_way)
    present = FINALIZER in seen.update.metadata.finalizers
    if wanted == present:
        return None
    return Step(actions=(HoldFinalizer(present=wanted),))
