"""Retires a candidate that must not be served, or that cannot come to a verdict.

Its parent or its weights were rolled back, an approver rejected it, its rows or its labels are
outdated, or spec.mode ends it here. Its verdict is about the evidence, and stays.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from springtide_operator.lifecycle.evaluation.approval import BY_APPROVER, rejection
from springtide_operator.lifecycle.evaluation.modes import ended_by_mode
from springtide_operator.lifecycle.rollout.rollback_decision import (
    retire_after_rollback,
    retired_generation,
)
from springtide_operator.lifecycle.state.generations import rolling

if TYPE_CHECKING:
    from datetime import datetime

    from springtide_api.objects import ModelGeneration
    from springtide_operator.lifecycle.state.observation import Observation
    from springtide_operator.lifecycle.state.plan import Step

LABELS_APPENDED = "LabelsAppended"
_SHOWN = 5
"""Labels that a message lists."""


def retire(seen: Observation, now: datetime) -> Step | None:
    """Retire a candidate that must not be served, or that cannot come to a verdict."""
    return retire_after_rollback(seen, now) or _retire_outdated(seen, now)


def _retire_outdated(seen: Observation, now: datetime) -> Step | None:
    """Retire a candidate that is rejected by an approver, outdated, or ended by spec.mode."""
    under_way = seen.lineage.candidate
    if under_way is None or under_way.spec.data is None or rolling(under_way):
        return None
    if message := rejection(under_way):
        return retired_generation(under_way, BY_APPROVER, message, now)
    if message := _quarantined(seen, under_way):
        return retired_generation(under_way, "PartitionQuarantined", message, now)
    if message := _lacks_labels(seen, under_way):
        return retired_generation(under_way, LABELS_APPENDED, message, now)
    if ended := ended_by_mode(seen, under_way):
        return retired_generation(under_way, *ended, now)
    return None


def _quarantined(seen: Observation, under_way: ModelGeneration) -> str:
    trained_on = under_way.spec.data.partitions if under_way.spec.data else []
    bad = sorted({*trained_on} & {*seen.update.status.cursor.quarantined})
    return f"trained on {', '.join(bad)}, which is quarantined now" if bad else ""


def _lacks_labels(seen: Observation, under_way: ModelGeneration) -> str:
    """Say which labels a waiting candidate lacks, if its longer holdout was refused for a label.

    A probe for a waiting candidate uses the candidate's recipe, so no later one would succeed.
    """
    last = seen.update.status.last_probe
    own, known = under_way.spec.recipe.model.labels or [], seen.update.spec.model.labels or []
    appended = known[len(own) :]
    waits = under_way.status.verdict == "Inconclusive"
    if not (waits and appended and last and last.reason == "UnknownLabel"):
        return ""
    named = ", ".join(appended[:_SHOWN]) + (", ..." if len(appended) > _SHOWN else "")
    return (
        f"it has {len(own)} labels, and newer rows have others; model.labels was extended by "
        f"{named}, so the next run trains on the same rows with all {len(known)} labels"
    )
