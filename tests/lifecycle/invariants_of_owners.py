"""Invariants of an owner's change of a target: it is no evidence, and nothing starts meanwhile."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lifecycle.generation_facts import digest_of, in_progress, live_of, of_another_version

from springtide_api.names import canary_name

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from springtide_api.generation.rollout import RolloutStatus
    from springtide_api.objects import ModelGeneration
    from springtide_operator.lifecycle.state.observation import Observation
    from springtide_operator.lifecycle.state.observed import ObservedTarget
    from springtide_operator.lifecycle.state.plan import ApplyCanary, Serve, WriteGeneration


class OwnerInvariants:
    """Checks the writes of a rollout while an owner changes a pod template."""

    def an_owners_change_is_no_evidence(self, seen: Observation, write: WriteGeneration) -> None:
        before = next((g for g in seen.generations if g.metadata.name == write.name), None)
        if before is None:
            return
        old, new = before.status.rollout, write.status.rollout
        current = live_of(list(seen.generations))
        if new.step_started_at and not old.step_started_at and current:
            here = (t for t in seen.targets if _serves(current, t) and not t.complete)
            assert not list(_changing(here, current.status.rollout)), "a change is not finished"
        begun = old.step_started_at and not old.promoted_at
        if begun and new.rollback_reason and not old.rollback_reason:
            steps = old.step is not None and old.steps_ended_at is None
            here = (t for t in seen.targets if steps or _serves(before, t))
            by_pods = "(rollout.deadline)" in new.rollback_reason
            assert not by_pods or all(map(is_usable, seen.targets)), "its deadline does not run"
            assert not (by_pods and list(_changing(here, old))), "these may be pods of the change"
        if begun and new.weight_seen_at and not old.weight_seen_at:
            self._canaries_have_the_owners_template(seen)

    def only_usable_targets_are_written(
        self, seen: Observation, action: Serve | ApplyCanary
    ) -> None:
        (target,) = [
            t
            for t in (*seen.targets, *seen.removed_targets)
            if t.target.target_ref.name == action.target.target_ref.name
        ]
        assert is_usable(target)

    def _canaries_have_the_owners_template(self, seen: Observation) -> None:
        made_from = {c.name: c.made_from for c in seen.canaries if c.ours}
        for target in seen.targets:
            name = canary_name(target.target.target_ref.name)
            assert made_from[name] == (target.template or "")

    def reasons_of_use(self, target: ObservedTarget) -> Iterator[str]:
        """Why a Deployment that is there cannot be used as it is."""
        if target.claimed_by not in {"", "shop"}:
            yield "another update"
        if not target.has_container:
            yield "no container of that name"
        if target.paused:
            yield "paused"

    def reasons_of_owners(self, there: list[ModelGeneration]) -> Iterator[str]:
        """A change that keeps a rollout from its end: it is undone, or its pods get ready."""
        for g in filter(in_progress, there):
            rollout = g.status.rollout
            if not rollout.step_started_at or rollout.rollback_reason or of_another_version(g):
                continue
            if rollout.step is not None and not rollout.steps_ended_at:
                continue
            here = (t for t in self._targets() if _serves(g, t))
            for target in _changing(here, rollout):
                yield f"a change of {target.target.target_ref.name} is not finished"


def is_usable(target: ObservedTarget) -> bool:
    """Whether there is a target, with its container, and of no other update."""
    there = bool(target.uid) and target.has_container and not target.deleting
    return there and target.claimed_by in {"", "shop"}


def _changing(
    targets: Iterable[ObservedTarget], rollout: RolloutStatus
) -> Iterator[ObservedTarget]:
    """Targets whose template is not the recorded one, and whose pods are not all available."""
    recorded = {each.name: each.template for each in rollout.targets if each.template}
    for target in targets:
        known = recorded.get(target.target.target_ref.name, target.template)
        if target.template != known and not all_available(target):
            yield target


def all_available(target: ObservedTarget) -> bool:
    """Whether all pods of its newest template are available, and no others are there."""
    full = target.available >= target.desired > 0 and target.updated >= target.desired
    return full and target.old == 0


def _serves(g: ModelGeneration, target: ObservedTarget) -> bool:
    return (target.digest, target.number) == (digest_of(g), g.spec.number)
