"""Rolling a generation out: what the targets should carry, when it is promoted, when it goes back.

Order of a promotion: verdict, start, one apply per target, availability, promotion. `act` does the
writing. Whoever is called at night reads `roll_out` and knows why the roll stands where it stands.
"""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

from springtide_api.generation import RolloutTarget
from springtide_api.schema import duration
from springtide_operator.lifecycle.availability import available, new_pods, not_serving
from springtide_operator.lifecycle.lineage import rolling, servable
from springtide_operator.lifecycle.plan import Event, Step, Waiting, WriteGeneration
from springtide_operator.lifecycle.refusals import not_refused, refusal_waiting, refused_apply
from springtide_operator.lifecycle.target_problems import conflict, idle, unfinished
from springtide_operator.lifecycle.targets import apply, ever_served, restore_targets, serve

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

    from springtide_api.generation import RolloutStatus
    from springtide_api.objects import ModelGeneration
    from springtide_operator.lifecycle.observation import Observation, ObservedTarget

CHECK = timedelta(seconds=30)

MOST_RECORDED = 8
"""Targets of a rollout that its status holds: four that the spec names, and as many of before."""


def roll_out(seen: Observation, now: datetime) -> Step | None:
    """Move all targets to the candidate together, or all of them back."""
    generation = seen.lineage.candidate
    if generation is None:
        return None
    if generation.status.rollout.rollback_reason:
        return roll_back(seen, generation, now)
    if not servable(generation):
        return None
    if rolling(generation):
        return _continue(seen, generation, now)
    if why := _start_blocker(seen):
        # Live is served meanwhile: what lacks our fields gets them back.
        return restore_targets(seen, now) or Step(waiting=why, wake_after=CHECK)
    return _start(seen, generation, now)


def _start_blocker(seen: Observation) -> Waiting | None:
    """Why an accepted generation does not roll out yet."""
    if why := seen.targets_problem or unfinished(seen):
        return why
    if seen.update.spec.suspend:
        message = "spec.suspend is true; set it to false to roll out"
        return Waiting("Suspended", message, "Rollout")
    return None


def _continue(seen: Observation, generation: ModelGeneration, now: datetime) -> Step:
    """Continue a begun roll, or stop its clock while something else than its pods holds it."""
    behind = not_serving(generation, seen.targets)
    why, refusal = seen.targets_problem or idle(seen), refused_apply(seen, behind)
    if why is None and refusal is not None:
        if generation.status.rollout.held_since and not refusal.is_pending(now):
            return apply(seen, generation, behind, now)
        why = refusal_waiting(refusal)
    return _pause_clock(seen, generation, why, now) or _next_step(seen, generation, now)


def _next_step(seen: Observation, generation: ModelGeneration, now: datetime) -> Step:
    """One step of a begun roll: apply, then wait for availability, then promote."""
    if behind := not_serving(generation, seen.targets):
        if not all(ever_served(seen, generation, target) for target in behind) and (
            aborted := _restart_clock(seen, generation, now)
        ):
            return aborted
        return apply(seen, generation, behind, now)
    if all(available(target) for target in seen.targets):
        return _promote(seen, generation, now)
    return _wait_or_abort(seen, generation, now)


def _start(seen: Observation, generation: ModelGeneration, now: datetime) -> Step:
    name, current = generation.metadata.name, seen.lineage.live
    parent = generation.spec.parent
    if current and generation.spec.origin == "Imported":
        return _retire(generation, f"{current.metadata.name} is live already", now)
    if parent and current and current.metadata.name != parent.name:
        return _retire(generation, f"its parent {parent.name} is live no more", now)
    event = Event("RollingOut", f"{name} goes to {_names(seen)}", generation=name)
    return Step(actions=(with_rollout(generation, _start_facts(seen, now)),), events=(event,))


def _restart_clock(seen: Observation, generation: ModelGeneration, now: datetime) -> Step | None:
    """Give a roll its whole time before its apply, where the operator was away since its start."""
    patience = duration(seen.update.spec.rollout.deadline)
    left = (generation.status.rollout.deadline or now) - now
    if patience - left <= patience / 10:
        return None
    return Step(actions=(with_rollout(generation, _start_facts(seen, now)),))


def _start_facts(seen: Observation, now: datetime) -> dict[str, object]:
    patience = duration(seen.update.spec.rollout.deadline)
    return {"step_started_at": now, "deadline": now + patience, "targets": _rollout_targets(seen)}


def _retire(generation: ModelGeneration, why: str, now: datetime) -> Step:
    status = generation.status.model_copy(
        update={"retired_reason": "ParentNotLive", "message": why}
    )
    name = generation.metadata.name
    event = Event("Retired", f"{name}: {why}", "Warning", generation=name)
    return Step(actions=(WriteGeneration(name, status),), events=(event,))


def _names(seen: Observation) -> str:
    return ", ".join(f"Deployment {t.target.target_ref.name}" for t in seen.targets)


def with_rollout(generation: ModelGeneration, changes: Mapping[str, object]) -> WriteGeneration:
    """Change what a generation's status says of serving."""
    rollout: RolloutStatus = generation.status.rollout.model_copy(update=changes)
    status = generation.status.model_copy(update={"rollout": rollout})
    return WriteGeneration(generation.metadata.name, status)


def _promote(seen: Observation, generation: ModelGeneration, now: datetime) -> Step:
    name, data = generation.metadata.name, generation.spec.data
    quarantined = sorted(
        {*(data.quarantined if data else []), *seen.update.status.cursor.quarantined}
    )
    through = data.windows[-1].to if data and data.windows else generation.status.trained_through
    before = seen.lineage.live and seen.lineage.live.status.rollout.promoted_at
    at = max(now, before or now)  # a clock that was set back must not keep the older one live
    rollout = generation.status.rollout.model_copy(update={"promoted_at": at})
    status = generation.status.model_copy(
        update={"rollout": rollout, "trained_through": through, "quarantined": quarantined}
    )
    message = f"{name} is live on {_names(seen)}"
    return Step(
        actions=(WriteGeneration(name, status),),
        events=(Event("Promoted", message, generation=name),),
    )


def _wait_or_abort(seen: Observation, generation: ModelGeneration, now: datetime) -> Step:
    deadline = generation.status.rollout.deadline or now
    counted = [(new_pods(target) if target.settled else 0, target) for target in seen.targets]
    ready, slowest = min(counted, key=lambda each: each[0] / max(each[1].desired, 1))
    state = (
        f"Deployment {slowest.target.target_ref.name}: {ready} of {slowest.desired} new pods "
        f"available"
    )
    if slowest.trouble:
        state += f" ({slowest.trouble})"
    stalled = next((t.stalled for t in seen.targets if t.stalled and t.settled), "")
    if aborted := _abort_if_late(seen, generation, state, now, stalled=stalled):
        return aborted
    waiting = Waiting("RollingOut", state, "Rollout", short=f"{ready}/{slowest.desired} pods")
    return Step(waiting=waiting, wake_after=min(deadline - now, CHECK))


def _abort_if_late(
    seen: Observation, generation: ModelGeneration, state: str, now: datetime, *, stalled: str = ""
) -> Step | None:
    """Give a roll up that reached its deadline, or that its Deployment says is stuck."""
    if now < (generation.status.rollout.deadline or now) and not stalled:
        return None
    limit = stalled or f"after {_time_given(generation)} (rollout.deadline)"
    reason = f"{state}; {limit}; see the events of its pods"[:1024]
    name = generation.metadata.name
    event = Event("RollbackStarted", f"{name}: {reason}", "Warning", generation=name)
    return Step(actions=(with_rollout(generation, {"rollback_reason": reason}),), events=(event,))


def _rollout_targets(seen: Observation) -> list[RolloutTarget]:
    return [
        RolloutTarget(
            name=target.target.target_ref.name,
            container=target.target.container,
            env=target.target.env,
            template=target.template,
        )
        for target in seen.targets
    ]


def _recorded(seen: Observation, rollout: RolloutStatus) -> list[RolloutTarget]:
    """The targets of a begun rollout, those that joined the spec or left it since included.

    Their templates are those of its begin, until all pods of what they are now are available.
    """
    known, now = {each.name: each for each in rollout.targets}, _rollout_targets(seen)
    if not all(available(target) for target in seen.targets):
        now = [
            each.model_copy(update={"template": known[each.name].template})
            if each.name in known
            else each
            for each in now
        ]
    names = {each.name for each in now}
    left = [each for each in rollout.targets if each.name not in names]
    return [*now, *left][:MOST_RECORDED]


def _time_given(generation: ModelGeneration) -> str:
    """How long the roll could take, with the time that it was held."""
    rollout = generation.status.rollout
    if rollout.deadline is None or rollout.step_started_at is None:
        return "its time"
    seconds = round((rollout.deadline - rollout.step_started_at).total_seconds())
    hours, minutes = divmod(seconds // 60, 60)
    parts = ((hours, "h"), (minutes, "m"), (seconds % 60, "s"))
    return "".join(f"{count}{unit}" for count, unit in parts if count)


def roll_back(seen: Observation, generation: ModelGeneration, now: datetime) -> Step:
    """Return every target to live, or withdraw our fields where there never was one."""
    current = seen.lineage.live
    name = seen.update.metadata.name
    present = [t for t in seen.targets if t.uid and t.has_container and t.claimed_by in {"", name}]
    left = removed_targets_serving(seen, generation)
    behind = (
        not_serving(current, present)
        if current
        else tuple(target for target in present if target.digest is not None)
    )
    ours = tuple(target for target in behind if conflict(seen, [target]) is None)
    if ours or left:
        carrying = (*ours, *left)
        if current:
            return apply(seen, current, carrying, now)
        open_now = not_refused(seen, carrying, now) or carrying
        return Step(actions=tuple(serve(seen, current, target) for target in open_now))
    if behind:
        return Step(waiting=conflict(seen, behind), wake_after=CHECK)
    waits = [t for t in present if not (available(t) or _stuck(seen, generation, t, now))]
    if current and waits and not idle(seen):
        waiting = Waiting(
            "RollingBack", generation.status.rollout.rollback_reason, "Rollout", "rolling back"
        )
        return Step(waiting=waiting, wake_after=CHECK)
    return Step(
        actions=(with_rollout(generation, {"rolled_back_at": now}),),
        events=(rolled_back(generation, current),),
    )


def _stuck(
    seen: Observation, generation: ModelGeneration, target: ObservedTarget, now: datetime
) -> bool:
    """Whether a target makes no progress with live either: a fix must not wait for its pods.

    A Deployment may say so of its last rollout for a while: it counts when time enough is over.
    """
    until = (generation.status.rollout.deadline or now) + duration(
        seen.update.spec.rollout.deadline
    )
    return bool(target.settled and target.stalled) and now >= until


def removed_targets_serving(
    seen: Observation, generation: ModelGeneration
) -> tuple[ObservedTarget, ...]:
    """Targets that left the spec during the rollout and still carry what is rolled back."""
    artifact, name = generation.status.artifact, seen.update.metadata.name
    return tuple(
        t
        for t in seen.removed_targets
        if t.uid
        and artifact
        and t.digest == artifact.served_digest
        and t.claimed_by == name
        and not t.foreign_manager
    )


def rolled_back(generation: ModelGeneration, current: ModelGeneration | None) -> Event:
    """The Event of a rollback that is done."""
    name = generation.metadata.name
    serving = f"serve {current.metadata.name} again" if current else "no longer carry our variables"
    message = f"{name} is rolled back and will not be served again; the targets {serving}"
    return Event("RollbackCompleted", message, "Warning", generation=name)


def _pause_clock(
    seen: Observation, generation: ModelGeneration, why: Waiting | None, now: datetime
) -> Step | None:
    """Let the deadline stand still while the roll is held by what is not the generation's doing."""
    rollout = generation.status.rollout
    if why and rollout.held_since:
        return Step(waiting=why, wake_after=CHECK)
    if why:
        return Step(actions=(with_rollout(generation, {"held_since": now}),), waiting=why)
    targets = _recorded(seen, rollout)
    if rollout.held_since is None and rollout.targets == targets:
        return None
    since, deadline = rollout.held_since or now, rollout.deadline or now
    if rollout.held_since and deadline <= since:  # held while the operator was away, who knows when
        deadline = since + duration(seen.update.spec.rollout.deadline)
    resumed = {"held_since": None, "deadline": deadline + (now - since)}
    return Step(actions=(with_rollout(generation, {**resumed, "targets": targets}),))
