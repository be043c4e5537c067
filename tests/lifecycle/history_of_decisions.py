"""Rules on what people decide: who approves a generation, and what an update may change."""

from __future__ import annotations

from hypothesis import strategies as st
from hypothesis.stateful import precondition, rule
from lifecycle.history import History


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
