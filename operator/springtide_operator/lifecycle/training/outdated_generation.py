"""Whether a generation that has not started yet still matches spec, cursor and live."""

from __future__ import annotations

from typing import TYPE_CHECKING

from springtide_operator.lifecycle.evaluation.regression_reference import as_ancestor, reference
from springtide_operator.lifecycle.state.recipe import (
    continuation,
    excluded_generations,
    parent_buffer,
    parent_fisher,
    recipe,
)

if TYPE_CHECKING:
    from datetime import datetime

    from springtide_api.generation.continuation import Adapter, Continuation
    from springtide_api.generation.spec import GenerationData, GenerationSpec
    from springtide_api.objects import ModelGeneration
    from springtide_operator.lifecycle.state.observation import Observation


def outdated_reason(seen: Observation, generation: ModelGeneration, now: datetime) -> str:
    """Return why a generation that has not started would be created differently now.

    The spec may have changed since; or another client created it, with another gate.
    """
    spec = generation.spec
    if spec.recipe != recipe(seen):
        return "its recipe differs from the current spec"
    if spec.data is None:
        return ""
    if not _fits_the_cursor(seen, spec.data, now):
        return "its rows do not follow the current cursor"
    if since := {*excluded_generations(seen, spec.recipe)} - {*spec.data.excluded_generations}:
        served = ", ".join(f"g{number}" for number in sorted(since))
        return f"rows that {served} served before the rollback may be among its rows"
    return _other_ancestor(seen, spec) or _other_remains(seen, spec, spec.data)


def _other_ancestor(seen: Observation, spec: GenerationSpec) -> str:
    """Why its parent, baseline or reference would be another one."""
    parent, baseline = seen.lineage.parent, seen.lineage.baseline
    weights = parent.status.artifact if parent else None
    digest = weights.weights_digest if weights else None
    served = as_ancestor(baseline)
    if served and (spec.baseline.digest if spec.baseline else None) != served.digest:
        return f"its baseline is not {served.name}"
    if parent is None or (spec.parent.digest if spec.parent else None) != digest:
        name = parent.metadata.name if parent else "an imported model"
        return f"its parent is not {name}"
    expected = as_ancestor(reference(seen, spec.recipe))
    if baseline is not None and spec.reference != expected:
        return f"its reference is not {expected.name if expected else 'empty'}"
    return ""


def _other_remains(seen: Observation, spec: GenerationSpec, data: GenerationData) -> str:
    """Why the adapter, buffer or Fisher information that its parent left would be another one."""
    continued = _adapter(continuation(seen, spec.recipe))
    if _adapter(spec.continuation) != continued:
        return f"its adapter is not {continued.digest if continued else 'a new one'}"
    left = parent_buffer(seen)
    if data.buffer != left:
        return f"its replay buffer is not {left.digest if left else 'empty'}"
    if data.fisher != (known := parent_fisher(seen)):
        return f"its Fisher information is not {known or 'empty'}"
    return ""


def _adapter(decided: Continuation | None) -> Adapter | None:
    return decided.adapter if decided else None


def _fits_the_cursor(seen: Observation, data: GenerationData, now: datetime) -> bool:
    windows, quarantined = data.windows, seen.update.status.cursor.quarantined
    begins = bool(windows) and windows[0].from_ == seen.lineage.cursor and windows[-1].to <= now
    return begins and sorted(data.quarantined) == sorted(quarantined)
