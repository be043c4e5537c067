"""A history of an update, in any order of its rules: what these share."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, rule
from lifecycle.answers import MONTHS
from lifecycle.generation_facts import in_progress

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
        if self.world.stalled_watches:
            return
        if self.world.update.metadata.deletion_timestamp:
            self.checks.check_deletion_at_rest()
        else:
            self.checks.check_at_rest()

    def a_target(self, data: st.DataObject) -> str:
        return data.draw(st.sampled_from(sorted(self.world.targets)))

    def rolls(self) -> bool:
        """Whether a generation rolls out or back."""
        there = self.world.generations.values()
        return any(in_progress(g) and g.status.rollout.step_started_at for g in there)

    def a_rollout_begins(self) -> None:
        """Its pods are not ready yet: most rules would meet none, as it ends once they are."""
        self.world.pods_ready = False
        if self.rolls() or len(self.world.months) + len(self.world.undelivered) > len(MONTHS) - 3:
            return
        if self.world.update.spec.suspend or self.world.update.spec.mode != "Enforce":
            self.world.edit(suspend=False, mode="Enforce")
        self.world.months += [self.world.next_month()]
        if self.world.update.status.live is None:
            self.world.months += [self.world.next_month()]
        self.world.error = 0.002
        for _ in range(5):
            self.world.round()
            if self.rolls():
                break

    def request(self, verb: str) -> None:
        self.tokens += 1
        last = self.world.update.status.last_request
        asked = self.world.update.metadata.annotations.get("springtide.dev/request", "")
        self.checks.records_lost |= asked not in (
            "",
            f"{last.verb}@{last.token}" if last else "",
        )
        self.world.ask(f"{verb}@{self.tokens}")


class OperatorHistory(History):
    """The operator and its view of the world."""

    watches: ClassVar[tuple[str, ...]]
    """The kinds whose watches may stall."""

    @rule(written=st.integers(0, 3))
    def the_operator_crashes_between_its_writes(self, written: int) -> None:
        self.world.crash_after(written)

    @rule()
    def the_operator_reconciles_once(self) -> None:
        self.world.step()

    @rule()
    def the_last_plan_is_carried_out_again(self) -> None:
        self.world.repeat()

    @rule()
    def an_operator_decides_on_what_was_before_the_last_writes(self) -> None:
        self.world.decide_on_old_observation()

    @rule(data=st.data())
    def a_watch_stalls(self, data: st.DataObject) -> None:
        self.world.stall_watch(data.draw(st.sampled_from(self.watches)))

    @rule()
    def the_watches_catch_up(self) -> None:
        self.world.resume_watches()
