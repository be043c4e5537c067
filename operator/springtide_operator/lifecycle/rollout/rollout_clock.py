"""The deadline of a rollout: when it starts, when it is paused, and for which targets."""

from __future__ import annotations

from typing import TYPE_CHECKING

from springtide_api.generation.rollout import RolloutTarget
from springtide_api.schema import duration
from springtide_operator.lifecycle.canary.gateway import new_route
from springtide_operator.lifecycle.rollout.availability import available
from springtide_operator.lifecycle.rollout.rollback_decision import decide_rollback
from springtide_operator.lifecycle.rollout.rollout_status import with_rollout
from springtide_operator.lifecycle.state.plan import RECHECK, Step
from springtide_operator.lifecycle.state.recorded_times import is_ahead

if TYPE_CHECKING:
    from collections.abc import Iterable
    from datetime import datetime

    from springtide_api.generation.rollout import RolloutStatus
    from springtide_api.objects import ModelGeneration
    from springtide_operator.lifecycle.state.observation import Observation
    from springtide_operator.lifecycle.state.observed import ObservedTarget
    from springtide_operator.lifecycle.state.plan import Waiting

MAX_RECORDED = 8
"""Targets of a rollout in its status: four of the spec, and as many that were removed."""


def restart_clock(seen: Observation, generation: ModelGeneration, now: datetime) -> Step | None:
    """Restart the deadline before the first apply, where the operator was down since the start."""
    patience = duration(seen.update.spec.rollout.deadline)
    left = (generation.status.rollout.deadline or now) - now
    if patience - left <= patience / 10:
        return None
    facts = start_facts(seen, now)
    if generation.status.rollout.step is not None:
        facts["targets"] = recorded_targets(seen, generation.status.rollout)
    return Step(actions=(with_rollout(generation, facts),))


def start_facts(seen: Observation, now: datetime) -> dict[str, object]:
    """What a rollout that starts now writes to its status."""
    patience = duration(seen.update.spec.rollout.deadline)
    return {"step_started_at": now, "deadline": now + patience, "targets": rollout_targets(seen)}


def rollout_targets(seen: Observation) -> list[RolloutTarget]:
    """The targets of the spec as they are now."""
    return [
        RolloutTarget(
            name=target.target.target_ref.name,
            container=target.target.container,
            env=target.target.env,
            template=target.template,
        )
        for target in seen.targets
    ]


def recorded_targets(seen: Observation, rollout: RolloutStatus) -> list[RolloutTarget]:
    """The targets of a rollout, including those added to the spec or removed from it since.

    Their templates are those of its start, until all pods of the current ones are available.
    """
    known, now = {each.name: each for each in rollout.targets}, rollout_targets(seen)
    if not all(available(target) for target in seen.targets):
        now = [
            each.model_copy(update={"template": known[each.name].template})
            if each.name in known
            else each
            for each in now
        ]
    if rollout.step is not None:
        now = [
            each.model_copy(update={"route": known[each.name].route})
            if each.name in known and is_recorded(known[each.name])
            else with_new_route(seen, each)
            for each in now
        ]
    names = {each.name for each in now}
    left = [each for each in rollout.targets if each.name not in names]
    return [*now, *left][:MAX_RECORDED]


def is_recorded(target: RolloutTarget) -> bool:
    """Whether the weights of a target's route are on record, where it has one."""
    return target.route is None or bool(target.route.weights)


def with_new_route(seen: Observation, recorded: RolloutTarget) -> RolloutTarget:
    """A target whose canary starts, with its route as it is now; without one by Replicas."""
    targets = {each.target.target_ref.name: each for each in seen.targets}
    return recorded.model_copy(update={"route": new_route(seen, targets[recorded.name])})


def time_given(generation: ModelGeneration) -> str:
    """The time limit of the rollout, including the time that it was paused."""
    rollout = generation.status.rollout
    if rollout.deadline is None or rollout.step_started_at is None:
        return "its time"
    seconds = round((rollout.deadline - rollout.step_started_at).total_seconds())
    hours, minutes = divmod(seconds // 60, 60)
    parts = ((hours, "h"), (minutes, "m"), (seconds % 60, "s"))
    return "".join(f"{count}{unit}" for count, unit in parts if count)


def pause_clock(
    seen: Observation, generation: ModelGeneration, why: Waiting | None, now: datetime
) -> Step | None:
    """Pause the deadline while something other than the generation holds the rollout.

    Where the clock was set back since its start, it starts again: it would last that much longer.
    """
    rollout = generation.status.rollout
    if why and rollout.held_since:
        return Step(waiting=why, wake_after=RECHECK)
    if why:
        return Step(actions=(with_rollout(generation, {"held_since": now}),), waiting=why)
    targets = recorded_targets(seen, rollout)
    if rollout.step_started_at and is_ahead(rollout.step_started_at, now):
        patience = duration(seen.update.spec.rollout.deadline)
        again = {"step_started_at": now, "deadline": now + patience, "held_since": None}
        return Step(actions=(with_rollout(generation, {**again, "targets": targets}),))
    if rollout.held_since is None and rollout.targets == targets:
        return None
    since, deadline = rollout.held_since or now, rollout.deadline or now
    if (
        rollout.held_since and deadline <= since
    ):  # held while the operator was down, since an unknown time
        deadline = since + duration(seen.update.spec.rollout.deadline)
    resumed = {"held_since": None, "deadline": deadline + (now - since)}
    if rollout.held_since:
        resumed["resumed_at"] = now
    return Step(actions=(with_rollout(generation, {**resumed, "targets": targets}),))


NOT_ITS_OWN = {
    "image pull failed": "ImagePullFailed",
    "no node": "Unschedulable",
    "node lost": "NodeLost",
    "quota exceeded": "QuotaExceeded",
    "Pod Security refuses": "PodsForbidden",
    "its pods are refused": "PodsForbidden",
    "CreateContainerConfigError": "ContainerNotCreated",
    "CreateContainerError": "ContainerNotCreated",
}
"""How the reports of kubelet, scheduler and API server begin, where the cause is not the
generation's."""


def failure_of_others(late: Iterable[ObservedTarget]) -> str:
    """The cause of a failed rollout where it is not the generation's own, on every late target."""
    causes = [cause_of_others(target.trouble) for target in late]
    return causes[0] if causes and all(causes) else ""


def cause_of_others(trouble: str) -> str:
    """The cause of unready pods that is not the generation's own; empty: it may be."""
    return next((word for text, word in NOT_ITS_OWN.items() if trouble.startswith(text)), "")


def stall_of(rollout: RolloutStatus, targets: Iterable[ObservedTarget]) -> str:
    """What a Deployment reports of pods that make no progress in a rollout; empty: nothing.

    One that gets a template again which it had before, as after a change that was undone, keeps an
    earlier report until pods of that template make progress (kubernetes, syncRolloutStatus).
    """
    began = max(filter(None, (rollout.step_started_at, rollout.resumed_at)), default=None)
    stalled = (each for each in targets if each.stalled and each.settled)
    new = (each for each in stalled if not (began and each.stalled_at and each.stalled_at <= began))
    return next((each.stalled for each in new), "")


def abort_if_late(
    seen: Observation,
    generation: ModelGeneration,
    state: str,
    now: datetime,
    *,
    late: Iterable[ObservedTarget],
    stalled: str = "",
) -> Step | None:
    """Abort a rollout that reached its deadline, or that a Deployment reports as stuck.

    Args:
        seen: the update.
        generation: the candidate.
        state: how many pods are available, as a sentence.
        now: the moment.
        late: the Deployments whose pods are not available.
        stalled: what a Deployment reports.
    """
    if now < (generation.status.rollout.deadline or now) and not stalled:
        return None
    limit = f"; {stalled}" if stalled else f" after {time_given(generation)} (rollout.deadline)"
    why = f"{state}{limit}; see the events of its pods"
    return decide_rollback(seen, generation, why, now, {"failure": failure_of_others(late)})
