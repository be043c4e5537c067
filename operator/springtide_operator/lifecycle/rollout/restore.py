"""Claims new targets and restores removed fields: every target runs the live generation.

While a generation is pinned, `rollout/pin.py` does so with that one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from springtide_operator.lifecycle.evaluation.modes import writes_targets
from springtide_operator.lifecycle.rollout.apply import apply_generation, serve
from springtide_operator.lifecycle.rollout.availability import not_serving
from springtide_operator.lifecycle.rollout.target_facts import finished_digests
from springtide_operator.lifecycle.rollout.target_problems import blocked
from springtide_operator.lifecycle.state.generations import rolling
from springtide_operator.lifecycle.state.plan import Step
from springtide_operator.lifecycle.state.refusals import not_refused

if TYPE_CHECKING:
    from datetime import datetime

    from springtide_operator.lifecycle.state.observation import Observation
    from springtide_operator.lifecycle.state.observed import ObservedTarget


def restore_targets(seen: Observation, now: datetime) -> Step | None:
    """Claim new targets, and apply live to those without our fields or with outdated ones."""
    if not writes_targets(seen) or blocked(seen) or seen.lineage.pinned is not None:
        return None
    unclaimed = [t for t in seen.targets if not t.claimed_by and t.digest is None]
    current, under_way = seen.lineage.live, seen.lineage.candidate
    if under_way and rolling(under_way):
        return None
    pin = seen.update.spec.rollout.pin  # a pin that is not possible changes nothing
    outdated = [t for t in seen.targets if pin is None and _carries_older_generation(seen, t)]
    if current is None:
        wanted = [*unclaimed, *outdated]
        open_now = not_refused(seen, wanted, now) or wanted
        claims = tuple(serve(seen, current, target) for target in open_now)
        return Step(actions=claims) if claims else None
    gone = [t for t in seen.targets if t.digest is None and not t.foreign_manager]
    if not gone and not outdated:
        return None
    step = apply_generation(seen, current, [*gone, *outdated], now)
    return step if step.actions else None


def _carries_older_generation(seen: Observation, target: ObservedTarget) -> bool:
    """Whether it runs an older generation of ours: it was not a target for a while."""
    current = seen.lineage.live
    artifact = current.status.artifact if current else None
    is_live = artifact is not None and target.digest == artifact.served_digest
    if current is not None and seen.lineage.returning:
        is_live = not not_serving(current, [target])  # the pinned one may have its weights
    return not is_live and not target.foreign_manager and target.digest in finished_digests(seen)
