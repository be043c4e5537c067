"""Rules on the deletion of an update that has something to undo, and on its next creation."""

from __future__ import annotations

from datetime import timedelta

from hypothesis import strategies as st
from hypothesis.stateful import precondition, rule
from lifecycle.history import History


class DeletionHistory(History):
    """What users do to an update with our finalizer: its name is free once it is gone."""

    @precondition(lambda self: self.world.update.metadata.finalizers and not self.is_deleted())
    @rule(minutes=st.sampled_from([0, 0, 1, 11]), again=st.booleans())
    def a_user_deletes_the_update(self, minutes: int, again: bool) -> None:
        """And creates it again as soon as it is gone."""
        self.world.delete()
        self.settle()
        for _ in range(minutes):
            self.world.now += timedelta(minutes=1)
            self.world.finish_rollouts()
            self.settle()
        if again and self.world.is_gone:
            self.the_update_is_created_again(cascade=True)

    @precondition(lambda self: not self.is_deleted())
    @rule(back=st.booleans())
    def a_user_deletes_the_update_in_a_rollout(self, back: bool) -> None:
        self.a_rollout_begins()
        if back:
            newest = max((g.spec.number for g in self.world.generations.values()), default=0)
            self.request(f"rollback.g{newest}")
        self.settle()
        if self.world.update.metadata.finalizers:
            self.world.delete()
        self.settle()

    @precondition(lambda self: self.world.is_gone)
    @rule(cascade=st.booleans())
    def the_update_is_created_again(self, cascade: bool) -> None:
        self.world.recreate(cascade=cascade)
        self.settle()

    def is_deleted(self) -> bool:
        return self.world.update.metadata.deletion_timestamp is not None

    def a_deletion_ends(self) -> None:
        """Called once nothing is in its way; the update is created again."""
        if self.is_deleted():
            self.world.rounds(3)
            assert self.world.is_gone
            self.world.recreate()
