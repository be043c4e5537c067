"""Claims new targets and restores removed fields: every target runs the live generation.

While a generation is pinned, `rollout/pin.py` does so with that one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from springtide_operator.lifecycle.evaluation.modes import writes_targets
from springtide_operator.lifecycle.rollout.apply import apply_generation, serve
from springtide_operator.lifecycle.rollout.availability import not_serving
from springtide_operator.lifecycle.rollout.target_facts import finished_digests, usable_targets
from springtide_operator.lifecycle.state.generations import rolling
from springtide_operator.lifecycle.state.plan import Step
from springtide_operator.lifecycle.state.refusals import not_refused

if TYPE_CHECKING:
    from collections.abc import Iterable
    from datetime import datetime

    from springtide_operator.lifecycle.state.observation import Observation
    from springtide_operator.lifecycle.state.observed import ObservedTarget


def restore_targets(seen: Observation, now: datetime) -> Step | None:
    """Claim new targets, and apply live to those without our fields or with outdated ones.

    One that cannot be used, such as a missing one, keeps no other without a model.
    """
    if not writes_targets(seen) or seen.lineage.pinned is not None:
        return None
    there = _free(seen)
    unclaimed = [t for t in there if not t.claimed_by and t.digest is None]
    current, under_way = seen.lineage.live, seen.lineage.candidate
    if under_way and rolling(under_way):
        return None
    pin = seen.update.spec.rollout.pin  # a pin that is not possible changes nothing
    outdated = [t for t in there if pin is None and _carries_older_generation(seen, t)]
    if current is None:
        wanted = [*unclaimed, *outdated]
        open_now = not_refused(seen, wanted, now) or wanted
        claims = tuple(serve(seen, current, target) for target in open_now)
        return Step(actions=claims) if claims else None
    gone = _without_fields(there)
    if not gone and not outdated:
        return None
    step = apply_generation(seen, current, [*gone, *outdated], now)
    return step if step.actions else None


def restore_live(seen: Observation, now: datetime) -> Step | None:
    """Apply live to targets without our fields, while something else holds a step of a canary."""
    current = seen.lineage.live
    gone = not_refused(seen, _without_fields(_free(seen)), now)
    if current is None or not gone:
        return None
    step = apply_generation(seen, current, gone, now)
    return step if step.actions else None


def _free(seen: Observation) -> list[ObservedTarget]:
    return [target for target in usable_targets(seen) if not target.deleting]


def _without_fields(targets: Iterable[ObservedTarget]) -> list[ObservedTarget]:
    return [target for target in targets if target.digest is None and not target.foreign_manager]


def _carries_older_generation(seen: Observation, target: ObservedTarget) -> bool:
    """Whether it runs an older generation of ours: it was not a target for a while."""
    current = seen.lineage.live
    artifact = current.status.artifact if current else None
    is_live = artifact is not None and target.digest == artifact.served_digest
    if current is not None and seen.lineage.returning:
        is_live = not not_serving(current, [target])  # the pinned one may have its weights
    return not is_live and not target.foreign_manager and target.digest in finished_digests(seen)
