"""Invariants of the deletion of an update: nothing starts, and what had begun is undone first."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lifecycle.generation_facts import digest_of, live_of, of_another_version
from lifecycle.invariants_of_owners import is_usable
from lifecycle.invariants_of_people import rolls

from springtide_api.schema import duration
from springtide_operator.lifecycle.routes.actions import SetRouteWeights
from springtide_operator.lifecycle.state.plan import (
    DeleteCanary,
    Serve,
    SetFinalizer,
    WriteGeneration,
)

if TYPE_CHECKING:
    from lifecycle.world import World

    from springtide_api.objects import ModelGeneration
    from springtide_operator.lifecycle.state.observation import Observation
    from springtide_operator.lifecycle.state.observed import ObservedTarget
    from springtide_operator.lifecycle.state.plan import Action

UNDOES = (DeleteCanary, Serve, SetFinalizer, SetRouteWeights, WriteGeneration)


class DeletionInvariants:
    """Checks what is done for an update that is being deleted."""

    world: World

    def a_deletion_only_undoes(self, seen: Observation, action: Action) -> None:
        if seen.update.metadata.deletion_timestamp is None:
            return
        assert isinstance(action, UNDOES)
        if isinstance(action, SetFinalizer):
            assert not action.present
            self.what_had_begun_is_undone(seen)

    def what_had_begun_is_undone(self, seen: Observation) -> None:
        """Unless another client, or a refusal for as long as a rollout may take, is in the way."""
        for g in seen.generations:
            if not rolls(g) or of_another_version(g):
                continue
            assert g.status.rollout.rollback_reason
            if g.status.rollout.promoted_at and live_of(list(seen.generations)) is None:
                continue  # nothing to return to: it stays
            for target in (*seen.targets, *seen.removed_targets):
                runs = bool(target.uid) and target.digest == digest_of(g)
                assert not runs or self._is_in_the_way(seen, g, target)
        left = [c for c in seen.canaries if c.ours and not c.deployment.deleting]
        assert not left or self._was_refused_for_long(seen) or self._is_late(seen)

    def _is_in_the_way(self, seen: Observation, g: ModelGeneration, target: ObservedTarget) -> bool:
        live = live_of(list(seen.generations))
        same = live is not None and digest_of(live) == digest_of(g)
        taken = bool(target.foreign_manager) or not is_usable(target)
        return same or taken or self._was_refused_for_long(seen)

    def _was_refused_for_long(self, seen: Observation) -> bool:
        patience = duration(seen.update.spec.rollout.deadline)
        return any(self.world.now - each.since >= patience for each in seen.refusals)

    def _is_late(self, seen: Observation) -> bool:
        """Whether routes that cannot be read kept it for as long as a rollout may take."""
        asked = seen.update.metadata.deletion_timestamp
        return self.world.now - asked >= duration(seen.update.spec.rollout.deadline)

    def check_deletion_at_rest(self) -> None:
        """It is gone, or the operator looks again: what holds it may change unseen."""
        plan = self.world.plan
        assert self.world.is_gone or (plan and plan.wake_after is not None)
