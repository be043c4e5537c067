"""The generation whose metrics are queried now, and what it is compared with."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from springtide_operator.lifecycle.canary.canaries import in_steps
from springtide_operator.lifecycle.rollout.availability import not_serving
from springtide_operator.lifecycle.state.generations import rolling
from springtide_operator.lifecycle.state.plan import CANARY_ROLE, LIVE_ROLE
from springtide_operator.lifecycle.warm.share import compared_in_bake

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from springtide_api.objects import ModelGeneration
    from springtide_api.update.analysis import Metric
    from springtide_operator.lifecycle.state.observation import Observation

IN_STEPS, IN_BAKE = "Canary", "Bake"
"""Phases of a comparison, as a status names them."""


@dataclass(frozen=True)
class Baseline:
    """What ratio metrics compare a generation with."""

    generation: ModelGeneration
    role: str
    """Value of the label springtide.dev/role on its pods."""
    since: datetime | None
    """Requests of both sides count from then on; None: it has no requests now."""
    phase: str
    sides: tuple[str, str]
    """What the two sides are called: that which is watched, and this one."""


@dataclass(frozen=True)
class Watched:
    """A generation that serves live traffic, and whose metrics decide on it."""

    generation: ModelGeneration
    role: str
    """Value of the label springtide.dev/role on its pods."""
    began: datetime | None
    """Samples of fixed bounds count from then on."""
    metrics: Sequence[Metric] = ()
    """The metrics of the spec that are about it."""
    baseline: Baseline | None = None
    """None: no ratio is measured, as in a bake without holdback, or as its record was deleted."""

    def counts_from(self, metric: Metric) -> datetime | None:
        """Since when samples of a metric count."""
        return self.baseline.since if metric.ratio and self.baseline else self.began


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
    began = rollout.weight_seen_at
    if began is None:
        return None
    metrics = analysis.metrics if analysis else ()
    baseline = Baseline(live, LIVE_ROLE, began, IN_STEPS, ("canary", "live")) if live else None
    return Watched(generation, CANARY_ROLE, began, metrics, baseline)


def watched_in_bake(seen: Observation) -> Watched | None:
    """The generation that bakes; ratios only while bake.holdback keeps a share on previous.

    Roles are those of the pods: those of previous are in the Deployment of the canary.
    """
    generation, analysis = seen.lineage.baking, seen.update.spec.rollout.analysis
    if generation is None:
        return None
    rollout, before = generation.status.rollout, compared_in_bake(seen)
    began, since = rollout.bake_started_at or rollout.promoted_at, rollout.holdback_seen_at
    sides = "live", "previous"
    baseline = Baseline(before, CANARY_ROLE, since, IN_BAKE, sides) if before else None
    metrics = [m for m in analysis.metrics if m.value or baseline] if analysis else ()
    return Watched(generation, LIVE_ROLE, began, metrics, baseline)


def is_unserved(seen: Observation, generation: ModelGeneration) -> bool:
    """Whether no target runs it, as another client set its variables: nothing is measured."""
    return len(not_serving(generation, seen.targets)) == len(seen.targets)
