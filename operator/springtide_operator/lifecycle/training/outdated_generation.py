"""Whether a generation that has not started yet still matches spec, cursor and live."""

from __future__ import annotations

from typing import TYPE_CHECKING

from springtide_operator.lifecycle.evaluation.regression_reference import as_ancestor, reference
from springtide_operator.lifecycle.state.recipe import continuation, recipe

if TYPE_CHECKING:
    from datetime import datetime

    from springtide_api.generation.continuation import Adapter, Continuation
    from springtide_api.generation.spec import GenerationData
    from springtide_api.objects import ModelGeneration
    from springtide_operator.lifecycle.state.observation import Observation


def outdated_reason(seen: Observation, generation: ModelGeneration, now: datetime) -> str:
    """Return why a generation that has not started would be created differently now.

    The spec may have changed since; or another client created it, with another gate.
    """
    spec, current = generation.spec, seen.lineage.live
    if spec.recipe != recipe(seen):
        return "its recipe differs from the current spec"
    if spec.data is not None and not _fits_the_cursor(seen, spec.data, now):
        return "its rows do not follow the current cursor"
    if spec.origin == "Trained" and current is not None:
        baseline = spec.baseline.digest if spec.baseline else None
        artifact = current.status.artifact
        if artifact is None or baseline != artifact.weights_digest:
            return f"its baseline is not {current.metadata.name}, which is live"
    expected = as_ancestor(reference(seen, spec.recipe))
    if spec.origin == "Trained" and current is not None and spec.reference != expected:
        return f"its reference is not {expected.name if expected else 'empty'}"
    continued = _adapter(continuation(seen, spec.recipe))
    if spec.origin == "Trained" and _adapter(spec.continuation) != continued:
        return f"its adapter is not {continued.digest if continued else 'a new one'}"
    return ""


def _adapter(decided: Continuation | None) -> Adapter | None:
    return decided.adapter if decided else None


def _fits_the_cursor(seen: Observation, data: GenerationData, now: datetime) -> bool:
    windows, quarantined = data.windows, seen.update.status.cursor.quarantined
    begins = bool(windows) and windows[0].from_ == seen.lineage.cursor and windows[-1].to <= now
    return begins and sorted(data.quarantined) == sorted(quarantined)
