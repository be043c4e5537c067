"""What is wrong with the user's Deployments, as reason and message.

A Deployment belongs to its owner: what another client set is reported and never overwritten.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from springtide_operator.lifecycle.canary.canaries import in_steps
from springtide_operator.lifecycle.rollout.availability import available, new_pods, not_serving
from springtide_operator.lifecycle.rollout.target_facts import (
    HOUR,
    MAX_REAPPLIED,
    allowed_digests,
    deleted_generation,
    finished_digests,
    recently_reapplied,
    removed_too_often,
)
from springtide_operator.lifecycle.state.generations import rolling
from springtide_operator.lifecycle.state.paused_targets import paused
from springtide_operator.lifecycle.state.plan import Waiting

if TYPE_CHECKING:
    from collections.abc import Sequence

    from springtide_api.objects import ModelGeneration
    from springtide_operator.lifecycle.state.observation import Observation
    from springtide_operator.lifecycle.state.observed import ObservedTarget


def targets_problem(seen: Observation) -> Waiting | None:
    """What is wrong with the targets, the most severe problem first."""
    if why := blocked(seen) or conflict(seen):
        return why
    often = [target for target in seen.targets if removed_too_often(seen, target)]
    return fields_removed(seen, often[0]) if often else _changed(seen)


def blocked(seen: Observation) -> Waiting | None:
    """Why a target cannot be used at all: missing, without the container, or claimed."""
    for index, target in enumerate(seen.targets):
        path, name = f"spec.rollout.targets[{index}]", _name(target)
        if not target.uid or target.deleting:
            message = f"{name} does not exist; create it or change {path}.targetRef.name"
            return _stop("TargetNotFound", message)
        if target.claimed_by and target.claimed_by != seen.update.metadata.name:
            message = (
                f"{name} is served by IncrementalUpdate {target.claimed_by}; change "
                f"{path}.targetRef.name, or remove its label springtide.dev/update"
            )
            return _stop("TargetClaimed", message)
        if not target.has_container:
            there = f", only {', '.join(target.containers)}" if target.containers else ""
            message = f"{name} has no container {target.target.container}{there}; change "
            message += f"{path}.container"
            return _stop("ContainerNotFound", message)
    return None


def idle(seen: Observation) -> Waiting | None:
    """Why a target cannot roll out now although it is valid: paused, or scaled to 0."""
    for target in seen.targets:
        if why := paused([target]):
            return why
        if target.desired == 0:
            message = f"{_name(target)} is scaled to 0; scale it up to roll out"
            return Waiting("TargetScaledToZero", message, "Rollout", blocked=True, targets=True)
    return None


def unfinished(seen: Observation) -> Waiting | None:
    """Why a rollout does not start: the owner's own change of a Deployment is not finished.

    Pods of live that crash after they were available do not block the next generation, even
    if the operator created them again; and before the first generation no pod is ready.
    """
    current = seen.lineage.live
    if current is None:
        return None
    began = {each.name: each.template for each in current.status.rollout.targets if each.template}
    for target in seen.targets:
        if target.complete or target in not_serving(current, [target]):
            continue
        if target.paused:
            return idle(seen)
        if target.template and target.template == began.get(target.target.target_ref.name):
            continue  # unchanged since live was promoted on it: these are pods of live
        message = (
            f"{_name(target)}: a change of its owner is not finished ({new_pods(target)} of "
            f"{target.desired} new pods available); the next generation rolls out once it is, see "
            f"kubectl rollout status deployment/{target.target.target_ref.name}"
        )
        for why in filter(None, (target.trouble, target.stalled)):
            message += f" ({why})"
        return Waiting("TargetChanging", message[:1024], "Rollout", held=bool(target.stalled))
    return None


def conflict(seen: Observation, targets: Sequence[ObservedTarget] | None = None) -> Waiting | None:
    """Why another client's value is in our fields; an older value of ours does not count.

    Args:
        seen: the update.
        targets: those in question; None: all.
    """
    allowed = allowed_digests(seen) | finished_digests(seen)
    for target in seen.targets if targets is None else targets:
        env = target.target.env
        if target.foreign_manager:
            message = (
                f"{_name(target)}: {target.foreign_manager} sets {env.uri} or {env.digest}, and "
                "nothing rolls out meanwhile; to hand them over, remove both there, or by "
                f"{_removal(target)}, and {_after_removal(seen)}"
            )
            return Waiting("FieldConflict", message[:1024], "Rollout", targets=True, held=True)
        if target.digest is not None and target.digest not in allowed:
            message = _unknown_value(seen, target)
            return Waiting("FieldConflict", message[:1024], "Rollout", targets=True, held=True)
    return None


def _unknown_value(seen: Observation, target: ObservedTarget) -> str:
    """What a target runs that is neither live nor anything that was, and what to do."""
    then = f"remove both variables ({_removal(target)}), and {_after_removal(seen)}"
    if gone := deleted_generation(seen, target):
        what = f"runs {gone}, and that ModelGeneration was deleted; restore it from a backup, or"
        return f"{_name(target)} {what} {then}"
    what = f"{_name(target)} runs {_brief(target.digest or '')}, which is"
    if _applied(seen) is None:
        return f"{what} of no generation, and none is live; {then}"
    return (
        f"{what} not the live generation; undo the change of {target.target.env.digest}, or {then}"
    )


def _applied(seen: Observation) -> ModelGeneration | None:
    """What is applied to a target without our variables; None: nothing is before a promotion."""
    rolls = seen.lineage.candidate
    if rolls is None or not rolling(rolls) or rolls.status.rollout.rollback_reason:
        return seen.lineage.served
    return seen.lineage.served if in_steps(rolls.status.rollout) else rolls


def _after_removal(seen: Observation) -> str:
    """What happens once both variables are removed from a target."""
    if applied := _applied(seen):
        return f"those of {applied.metadata.name} are applied again"
    rolls = seen.lineage.candidate
    back = rolls and rolling(rolls) and rolls.status.rollout.rollback_reason
    ends = f"the rollback of {rolls.metadata.name} ends, and " if rolls and back else ""
    return f"{ends}the next generation that rolls out sets them"


def _removal(target: ObservedTarget) -> str:
    """The command that removes both variables."""
    name, env = target.target.target_ref.name, target.target.env
    containers = f"--containers={target.target.container}"
    return f"kubectl set env deployment/{name} {containers} {env.uri}- {env.digest}-"


def _stop(reason: str, message: str) -> Waiting:
    return Waiting(reason, message, "Rollout", blocked=True, targets=True)


def _brief(digest: str) -> str:
    return digest if len(digest) <= 20 else f"{digest[:19]}…"


def _name(target: ObservedTarget) -> str:
    return f"Deployment {target.target.target_ref.name}"


def fields_removed(seen: Observation, target: ObservedTarget) -> Waiting:
    """Report that our fields are removed repeatedly, and when they are applied again."""
    name, env = target.target.target_ref.name, target.target.env
    again = min(recently_reapplied(seen, target)) + HOUR
    message = (
        f"{_name(target)}: {env.uri} and {env.digest} were removed again after {MAX_REAPPLIED} "
        f"applies within an hour; find the client that replaces it (kubectl get deployment {name} "
        "--output=yaml --show-managed-fields) and exclude both variables there; they are "
        f"applied again at {again:%H:%M} UTC"
    )
    return Waiting("FieldsRemoved", message, "Rollout", targets=True, held=True)


def _changed(seen: Observation) -> Waiting | None:
    """Why a rollout is no evidence about its generation: another change rolls out with it.

    The other change stays. Once all pods of the changed template are available, the rollout
    continues from it.
    """
    generation = seen.lineage.candidate
    if generation is None or not rolling(generation) or generation.status.rollout.rollback_reason:
        return None
    rollout = generation.status.rollout
    began = {each.name: each.template for each in rollout.targets if each.template}
    for target in seen.targets:
        name = target.target.target_ref.name
        if target.template == began.get(name, target.template) or available(target):
            continue
        if target in not_serving(generation, [target]):
            continue
        who = f" by {target.changed_by}" if target.changed_by else ""
        message = (
            f"Deployment {name}: its pod template was changed{who} while "
            f"{generation.metadata.name} rolls out; nothing is promoted or rolled back before all "
            f"{target.desired} pods of the changed template are available, or the change is undone"
        )
        if target.trouble:
            message += f" ({target.trouble})"
        return Waiting("FieldConflict", message, "Rollout", targets=True, held=True)
    return None
