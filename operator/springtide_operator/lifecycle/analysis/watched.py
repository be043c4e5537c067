"""The generation whose metrics are queried now."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from springtide_operator.lifecycle.canary.canaries import in_steps
from springtide_operator.lifecycle.rollout.availability import not_serving
from springtide_operator.lifecycle.state.generations import rolling
from springtide_operator.lifecycle.state.plan import CANARY_ROLE, LIVE_ROLE

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from springtide_api.objects import ModelGeneration
    from springtide_api.update.analysis import Metric
    from springtide_operator.lifecycle.state.observation import Observation


@dataclass(frozen=True)
class Watched:
    """A generation that serves live traffic, and whose metrics decide on it."""

    generation: ModelGeneration
    role: str
    """Value of the label springtide.dev/role on its pods."""
    began: datetime | None
    """Its samples count from then on."""
    metrics: Sequence[Metric] = ()
    """The metrics of the spec that are about it."""
    live: ModelGeneration | None = None
    """What a canary is compared with; None in a bake, and where its record was deleted: no ratio is
    measured then."""


def watched(seen: Observation) -> Watched | None:
    """The generation whose metrics are queried now; None: there is none."""
    return watched_canary(seen) or watched_in_bake(seen)


def watched_canary(seen: Observation) -> Watched | None:
    """The candidate in a step of its canary, once it has its weight; all metrics decide on it."""
    generation, live = seen.lineage.candidate, seen.lineage.live
    if generation is None or seen.lineage.pinned is not None:
        return None
    rollout, analysis = generation.status.rollout, seen.update.spec.rollout.analysis
    if not rolling(generation) or rollout.rollback_reason or not in_steps(rollout):
        return None
    if rollout.weight_seen_at is None:
        return None
    metrics = analysis.metrics if analysis else ()
    return Watched(generation, CANARY_ROLE, rollout.weight_seen_at, metrics, live)


def watched_in_bake(seen: Observation) -> Watched | None:
    """The generation that bakes; only fixed bounds decide on it."""
    generation, analysis = seen.lineage.baking, seen.update.spec.rollout.analysis
    if generation is None:
        return None
    rollout = generation.status.rollout
    began = rollout.bake_started_at or rollout.promoted_at
    values = [metric for metric in analysis.metrics if metric.value] if analysis else ()
    return Watched(generation, LIVE_ROLE, began, values)


def is_unserved(seen: Observation, generation: ModelGeneration) -> bool:
    """Whether no target runs it, as another client set its variables: nothing is measured."""
    return len(not_serving(generation, seen.targets)) == len(seen.targets)
