"""Rules on what people decide: who approves a generation, and what an update may change."""

from __future__ import annotations

from hypothesis import strategies as st
from hypothesis.stateful import precondition, rule
from lifecycle.history import History
from lifecycle.invariants_of_people import awaits


class DecisionHistory(History):
    """Approvals and modes."""

    @rule(approval=st.sampled_from(["Auto", "Manual"]))
    def approval_is_switched(self, approval: str) -> None:
        self.world.edit(gate={**self.world.spec["gate"], "approval": approval})
        self.settle()

    @rule(mode=st.sampled_from(["Enforce", "Observe", "TrainOnly"]))
    def the_mode_is_switched(self, mode: str) -> None:
        self.world.edit(mode=mode)
        self.settle()

    @precondition(lambda self: self.rolls())
    @rule(mode=st.sampled_from(["Observe", "TrainOnly"]))
    def the_mode_is_switched_in_a_rollout(self, mode: str) -> None:
        self.the_mode_is_switched(mode)

    @rule(decision=st.sampled_from(["Approved", "Rejected", None]))
    def a_generation_waits_for_approval(self, decision: str | None) -> None:
        """It is the next one, where nothing holds it, and a person decides on it, or not yet."""
        self.approval_is_switched("Manual")
        self.a_rollout_begins()
        self.settle()
        there = self.world.generations.items()
        for name in [name for name, g in there if awaits(self.world.update, g)]:
            if decision:
                self.world.decide_on_approval(name, decision)
        self.settle()

    @precondition(lambda self: self.world.generations)
    @rule(data=st.data(), decision=st.sampled_from(["Approved", "Rejected"]), early=st.booleans())
    def a_person_decides_on_a_generation(
        self, data: st.DataObject, decision: str, early: bool
    ) -> None:
        """As the API server admits it, or in the moment in which something else is written."""
        there = self.world.generations.items()
        waiting = [name for name, g in there if g.status.verdict == "Accepted"]
        name = data.draw(st.sampled_from(sorted(waiting or self.world.generations)))
        free = self.world.generations[name].spec.approval is None
        if early and free and not self.world.generations[name].status.rollout.promoted_at:
            self.world.set_approval(name, decision)
        else:
            self.world.decide_on_approval(name, decision)
