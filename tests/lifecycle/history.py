"""A history of an update, in any order of its rules: what these share."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine

if TYPE_CHECKING:
    from lifecycle.invariants import Invariants
    from lifecycle.world import World


class History(RuleBasedStateMachine):
    """A world, its invariants, and what all rules share."""

    world: World
    checks: Invariants

    def __init__(self) -> None:
        super().__init__()
        self.tokens = 0

    def settle(self) -> None:
        self.world.settle()
        if not self.world.stalled_watches:
            self.checks.check_at_rest()

    def a_target(self, data: st.DataObject) -> str:
        return data.draw(st.sampled_from(sorted(self.world.targets)))

    def request(self, verb: str) -> None:
        self.tokens += 1
        last = self.world.update.status.last_request
        asked = self.world.update.metadata.annotations.get("springtide.dev/request", "")
        self.checks.records_lost |= asked not in (
            "",
            f"{last.verb}@{last.token}" if last else "",
        )
        self.world.ask(f"{verb}@{self.tokens}")
