"""The modes of an update: what happens with a candidate that is not rolled out, and to targets.

The spec of the update decides at each moment, as for `suspend`: a switch concerns the run in
progress. A rollout or rollback that has begun is finished in every mode.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from springtide_operator.lifecycle.state.generations import rolling, servable

if TYPE_CHECKING:
    from springtide_api.objects import ModelGeneration
    from springtide_operator.lifecycle.state.observation import Observation

OBSERVED = "ObserveMode"
TRAINED_ONLY = "TrainOnlyMode"

REASONS = {"Observe": OBSERVED, "TrainOnly": TRAINED_ONLY}
"""Reasons of the modes that write no target."""


def writes_targets(seen: Observation) -> bool:
    """Whether targets are written: mode Enforce, or a rollout or rollback that has begun."""
    return seen.update.spec.mode == "Enforce" or seen.lineage.rolls is not None


def is_parent_only(seen: Observation, generation: ModelGeneration) -> bool:
    """Whether an initial model is not rolled out because of spec.mode, and has not been."""
    started = generation.status.rollout.step_started_at is not None
    imported = generation.spec.origin == "Imported" and servable(generation)
    return imported and not started and seen.update.spec.mode != "Enforce"


def ended_by_mode(seen: Observation, generation: ModelGeneration) -> tuple[str, str] | None:
    """Reason and message of a candidate that ends without a rollout; None: it goes on.

    Mode Observe ends what was accepted, TrainOnly what was trained, whatever its verdict.
    """
    mode, status = seen.update.spec.mode, generation.status
    imported = generation.spec.origin == "Imported"
    if mode == "Enforce" or imported or status.artifact is None or rolling(generation):
        return None
    if mode == "TrainOnly":
        stored = f"trained and stored at {status.artifact.uri}"
        return (
            TRAINED_ONLY,
            f"{stored}; spec.mode is TrainOnly: it is neither evaluated nor rolled out",
        )
    if not servable(generation):
        return None
    targets = seen.update.spec.rollout.targets
    names = ", ".join(f"Deployment {each.target_ref.name}" for each in targets)
    message = f"would be rolled out to {names} if spec.mode were Enforce, not Observe"
    if not targets:
        message = f"stored at {status.artifact.uri}; would be live if spec.mode were Enforce"
    return OBSERVED, f"{message}; {status.message}"
