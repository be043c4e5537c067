"""Rules on the data of an update, and on the time that passes."""

from __future__ import annotations

from datetime import timedelta

from hypothesis import strategies as st
from hypothesis.stateful import precondition, rule
from lifecycle.choices import SCORES
from lifecycle.history import History
from lifecycle.world import MONTHS


class DataHistory(History):
    """What happens by itself."""

    @rule(score=SCORES, error=st.sampled_from([0.002, 0.02]))
    def a_month_arrives(self, score: tuple[float, float], error: float) -> None:
        if len(self.world.months) + len(self.world.undelivered) == len(MONTHS) - 1:
            return
        month = self.world.next_month()
        self.world.months.append(month)
        self.world.aucs[month] = score
        self.world.error = error

    @precondition(lambda self: self.world.months and len(self.world.undelivered) < 3)
    @rule(score=SCORES)
    def a_month_is_due_and_does_not_come(self, score: tuple[float, float]) -> None:
        if len(self.world.months) + len(self.world.undelivered) == len(MONTHS) - 1:
            return
        month = self.world.next_month()
        self.world.aucs[month] = score
        self.world.undelivered.append(month)

    @precondition(lambda self: self.world.undelivered)
    @rule(data=st.data())
    def a_month_comes_late(self, data: st.DataObject) -> None:
        self.world.deliver_late(data.draw(st.sampled_from(self.world.undelivered)))

    @precondition(lambda self: self.world.update.status.live)
    @rule(rounds=st.integers(3, 6))
    def the_next_month_does_not_decide(self, rounds: int) -> None:
        self.a_month_arrives((0.61, 0.60), 0.02)
        self.world.rounds(rounds)
        self.settle()

    @rule(minutes=st.integers(1, 30))
    def time_passes_and_jobs_succeed(self, minutes: int) -> None:
        self.world.now += timedelta(minutes=minutes)
        self.world.complete_jobs()
        self.settle()

    @rule(rounds=st.integers(1, 6))
    def the_world_turns(self, rounds: int) -> None:
        self.world.rounds(rounds)
        self.settle()
