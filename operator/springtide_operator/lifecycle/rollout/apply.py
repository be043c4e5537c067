"""The server-side apply that makes a target run a generation."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from springtide_operator.lifecycle.rollout.target_facts import (
    MAX_REAPPLIED,
    recently_reapplied,
    recorded_status,
    removed,
    removed_too_often,
)
from springtide_operator.lifecycle.rollout.target_problems import fields_removed
from springtide_operator.lifecycle.state.observed import OWN_KEYS_TAKEN
from springtide_operator.lifecycle.state.plan import RECHECK, Event, Serve, Serving, Step, subject
from springtide_operator.lifecycle.state.refusals import not_refused

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from springtide_api.objects import ModelGeneration
    from springtide_api.update.status import TargetStatus
    from springtide_operator.lifecycle.state.observation import Observation
    from springtide_operator.lifecycle.state.observed import ObservedTarget


def ever_served(seen: Observation, generation: ModelGeneration, target: ObservedTarget) -> bool:
    """Whether a target ever ran a generation, as far as is recorded anywhere."""
    artifact, began = generation.status.artifact, generation.status.rollout.step_started_at
    recorded = recorded_status(seen, target.target.target_ref.name)
    if began and any(moment >= began for moment in recorded.reapplied_at):
        return True
    named = {target.digest, recorded.digest, *target.named}
    return artifact is not None and artifact.served_digest in named


def apply_generation(
    seen: Observation, generation: ModelGeneration, targets: Sequence[ObservedTarget], now: datetime
) -> Step:
    """Make targets run a generation; where our fields were removed, at most 3 times an hour."""
    spent = [target for target in targets if removed_too_often(seen, target)]
    allowed = tuple(target for target in targets if target not in spent)
    if not allowed:
        return Step(waiting=fields_removed(seen, spent[0]), wake_after=RECHECK)
    allowed = not_refused(seen, allowed, now) or allowed
    names = {t.target.target_ref.name for t in allowed if removed(seen, t)}
    events = tuple(
        Event("FieldsRestored", f"Deployment {name}: removed fields are applied again")
        for name in sorted(names)
    )
    return Step(
        actions=tuple(serve(seen, generation, target) for target in allowed),
        facts={"targets": _reapplied_statuses(seen, names, now)} if names else {},
        events=events,
    )


def serve(seen: Observation, generation: ModelGeneration | None, target: ObservedTarget) -> Serve:
    """The apply that makes a target run a generation, or that only claims it."""
    serving = None
    if generation is not None and generation.status.artifact is not None:
        artifact = generation.status.artifact
        serving = Serving(generation.spec.number, artifact.served_digest, artifact.uri)
    numbers = [g.spec.number for g in seen.generations]
    if target.highest_number is not None:
        numbers.append(target.highest_number)
    made = Serve(target.target, target.uid, serving, max(numbers, default=None))
    refusal = seen.refusal(subject(made))
    if refusal and refusal.reason == OWN_KEYS_TAKEN and not target.foreign_manager:
        return replace(made, force_at_version=target.version)
    return made


def _reapplied_statuses(seen: Observation, names: set[str], now: datetime) -> list[TargetStatus]:
    counted = []
    for target in seen.targets:
        name = target.target.target_ref.name
        recent = recently_reapplied(seen, target)
        reapplied = [*recent, now][-MAX_REAPPLIED:] if name in names else recent
        counted.append(recorded_status(seen, name).model_copy(update={"reapplied_at": reapplied}))
    return counted
