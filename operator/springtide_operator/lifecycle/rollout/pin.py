"""Serves the pinned generation (spec.rollout.pin), and returns to live once the pin is removed.

A pin is the decision of a user: gate, spec.suspend and an unfinished change of a Deployment do not
hold it. It has no steps and no deadline. Values of other clients are respected as in a rollback.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from springtide_api.update.status import GenerationRef
from springtide_operator.lifecycle.canary.canaries import UNSTEPPED
from springtide_operator.lifecycle.canary.removal import removal_waiting
from springtide_operator.lifecycle.rollout.apply import apply_generation
from springtide_operator.lifecycle.rollout.availability import available, not_serving
from springtide_operator.lifecycle.rollout.bake_start import bake_facts
from springtide_operator.lifecycle.rollout.rollback import removed_targets_serving
from springtide_operator.lifecycle.rollout.rollout_clock import rollout_targets
from springtide_operator.lifecycle.rollout.rollout_status import with_rollout
from springtide_operator.lifecycle.rollout.target_facts import usable_targets
from springtide_operator.lifecycle.rollout.target_problems import conflict
from springtide_operator.lifecycle.state.generations import bakes, rolling, unknown_value
from springtide_operator.lifecycle.state.plan import RECHECK, Event, Step, Waiting

if TYPE_CHECKING:
    from datetime import datetime

    from springtide_api.objects import ModelGeneration
    from springtide_operator.lifecycle.state.observation import Observation
    from springtide_operator.lifecycle.state.observed import ObservedTarget

MAX_NAMED = 10
"""Numbers of pinnable generations that a message lists, the newest first."""


def serve_pinned(seen: Observation, now: datetime) -> Step | None:
    """Make all targets run the pinned generation, and abort a rollout in progress.

    `status.pinned` names it first, and until the targets are back on live: a pin that is edited to
    one that is not possible changes nothing that is served.
    """
    pinned, before = seen.lineage.pinned, seen.update.status.pinned
    if pinned is None:
        return _returned(seen, now) if before and _is_back_on_live(seen) else None
    if before is None or before.name != pinned.metadata.name:
        return Step(facts={"pinned": _reference(pinned, now)})
    under_way = seen.lineage.candidate
    if under_way is None or not rolling(under_way):
        step = _apply(seen, pinned, now)
        return step if step and step.actions else None
    if under_way.status.rollout.rollback_reason:
        return None  # `roll_back` moves the targets to the pinned generation
    return _abort(seen, pinned, under_way, now)


def _apply(seen: Observation, pinned: ModelGeneration, now: datetime) -> Step | None:
    """Make the targets run the pinned generation, except those with another client's value."""
    behind = not_serving(pinned, usable_targets(seen))
    ours = [target for target in behind if conflict(seen, [target]) is None]
    return apply_generation(seen, pinned, ours, now) if ours else None


def _abort(
    seen: Observation, pinned: ModelGeneration, aborted: ModelGeneration, now: datetime
) -> Step:
    """End a rollout without a verdict on it: it may start again once nothing is pinned.

    Its facts stay until no target names it: they say what such a target runs. Its deadline is
    paused, since the pin may be removed before.
    """
    left = removed_targets_serving(seen, aborted)
    behind = not_serving(pinned, usable_targets(seen))
    ours = [target for target in behind if conflict(seen, [target]) is None]
    if behind or left:
        step = Step(waiting=conflict(seen, behind), wake_after=RECHECK)
        if ours or left:
            step = apply_generation(seen, pinned, [*ours, *left], now)
        if aborted.status.rollout.held_since:
            return step
        paused = with_rollout(aborted, {"held_since": now})
        return replace(step, actions=(paused, *step.actions))
    if why := removal_waiting(seen):
        return Step(waiting=why, wake_after=RECHECK)
    name = aborted.metadata.name
    message = (
        f"{name}: its rollout is aborted, since {pinned.metadata.name} is pinned; it may start "
        "again once spec.rollout.pin is removed"
    )
    unstarted: dict[str, object] = {
        "step_started_at": None,
        "deadline": None,
        "held_since": None,
        "targets": [],
        **UNSTEPPED,
    }
    return Step(
        actions=(with_rollout(aborted, unstarted),),
        events=(Event("RolloutAborted", message, generation=name),),
    )


def return_waiting(seen: Observation) -> Waiting | None:
    """Why no rollout starts: after a pin the targets return to live first."""
    before, current = seen.update.status.pinned, seen.lineage.live
    if not seen.lineage.returning or before is None or current is None:
        return None
    live = current.metadata.name
    message = f"{before.name} is no longer pinned; the targets return to {live} first"
    return Waiting("Unpinned", message, "Rollout", short=f"back to g{current.spec.number}")


def pin_not_possible(seen: Observation) -> Waiting | None:
    """Return why the generation of spec.rollout.pin cannot be served."""
    pin = seen.update.spec.rollout.pin
    if pin is None:
        return None
    if seen.update.spec.mode != "Enforce":
        message = (
            f"spec.rollout.pin needs spec.mode Enforce: {seen.update.spec.mode} changes no target; "
            "change the mode, or remove the pin"
        )
        return Waiting("PinNotPossible", message, "Rollout", blocked=True)
    number, possible = pin.generation, [g.spec.number for g in seen.lineage.promoted]
    if number in possible:
        return None
    named = next((g for g in seen.generations if g.spec.number == number), None)
    numbers = ", ".join(map(str, possible[:MAX_NAMED]))
    choice = f"pin one of {numbers}, or" if possible else "none can be pinned yet;"
    message = (
        f"spec.rollout.pin.generation: generation {number} cannot be pinned: {_why(named)}; "
        f"{choice} remove spec.rollout.pin; what is served stays as it is"
    )
    return Waiting("PinNotPossible", message, "Rollout", blocked=True)


def _why(generation: ModelGeneration | None) -> str:
    if generation is None:
        return "it does not exist"
    if generation.status.rollout.rollback_reason:
        return "it was rolled back"
    if generation.status.rollout.promoted_at is None:
        return "it was never promoted"
    if generation.status.files_deleted_at:
        return "its weights were deleted (spec.history)"
    return "it has the weights of a generation that was rolled back"


def _is_back_on_live(seen: Observation) -> bool:
    """Whether the return to live is over, also where pods of live make no progress."""
    current, before = seen.lineage.live, seen.update.status.pinned
    if not seen.lineage.returning or before is None:
        return False
    if current is None or seen.lineage.rolls is not None:
        return True
    if not_serving(current, seen.targets):
        return False
    return before.name == current.metadata.name or all(map(_is_at_rest, seen.targets))


def _returned(seen: Observation, now: datetime) -> Step:
    """End the return: live runs on the targets as they are now, and its bake starts again."""
    current, rolls = seen.lineage.live, seen.lineage.rolls
    if current is None or rolls is not None or unknown_value(current):
        return Step(facts={"pinned": None})
    rollout = current.status.rollout
    routes = {each.name: each.route for each in rollout.targets}
    targets = (
        each.model_copy(update={"route": routes.get(each.name)}) for each in rollout_targets(seen)
    )
    changes: dict[str, object] = {"targets": list(targets)}
    if bakes(current):
        changes |= bake_facts(seen, now)
    same = all(getattr(rollout, name) == value for name, value in changes.items())
    actions = () if same else (with_rollout(current, changes),)
    return Step(actions=actions, facts={"pinned": None})


def _is_at_rest(target: ObservedTarget) -> bool:
    stuck = target.settled and bool(target.stalled)
    return available(target) or stuck or target.desired == 0


def _reference(generation: ModelGeneration, now: datetime) -> GenerationRef:
    artifact = generation.status.artifact
    return GenerationRef(
        name=generation.metadata.name,
        number=generation.spec.number,
        digest=artifact.served_digest if artifact else None,
        since=now,
    )
