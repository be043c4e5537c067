"""Rules on the deletion of an update that has something to undo, and on its next creation."""

from __future__ import annotations

from hypothesis import strategies as st
from hypothesis.stateful import precondition, rule
from lifecycle.history import History


class DeletionHistory(History):
    """What users do to an update with our finalizer: its name is free once it is gone."""

    @precondition(lambda self: self.world.update.metadata.finalizers and not self.is_deleted())
    @rule()
    def a_user_deletes_the_update(self) -> None:
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
