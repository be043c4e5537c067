"""Rules on other clients of the API server, and other versions of the operator."""

from __future__ import annotations

from hypothesis import strategies as st
from hypothesis.stateful import precondition, rule
from lifecycle.history import History

from springtide_api.update.status import Cursor, UpdateStatus
from springtide_operator.lifecycle.state.generations import unknown_value


class OtherHistory(History):
    """What other clients create and write."""

    @precondition(lambda self: self.made_before())
    @rule(data=st.data(), labelled=st.booleans(), ahead=st.integers(1, 3))
    def another_client_creates_a_generation(
        self, data: st.DataObject, labelled: bool, ahead: int
    ) -> None:
        """As a copy with a gate of its own, which every candidate passes.

        It may name rows that are being deleted: no Job knows what is created after it.
        """
        running = (start for name, start in self.world.runs.items() if name in self.world.jobs)
        self.checks.files_lost |= any(start.run.collect for start in running)
        copied = self.world.generations[data.draw(st.sampled_from(self.made_before()))].spec
        gate = copied.recipe.gate.model_copy(update={"rules": copied.recipe.gate.rules[:1]})
        recipe = copied.recipe.model_copy(update={"gate": gate})
        number = ahead + max(g.spec.number for g in self.world.generations.values())
        spec = copied.model_copy(update={"number": number, "recipe": recipe})
        self.checks.foreign.add(self.world.create_foreign_generation(spec, labelled=labelled))

    def made_before(self) -> list[str]:
        return [g.metadata.name for g in self.checks.ours() if g.spec.origin == "Trained"]

    @precondition(lambda self: self.world.generations)
    @rule(data=st.data(), field=st.sampled_from(["verdict", "outcome", "phase"]))
    def a_newer_operator_writes_a_value_and_is_rolled_back(
        self, data: st.DataObject, field: str
    ) -> None:
        """The word stays for a while: nothing is done to that generation, nothing begins."""
        name = data.draw(st.sampled_from(sorted(self.world.generations)))
        generation = self.world.generations[name]
        if unknown_value(generation):
            return
        self.checks.unseen.add(name)
        self.set_status_values(name, **{field: "Shadowed"})
        changed = self.world.generations[name]
        self.world.settle()
        self.world.rounds(2)
        there = self.world.generations.get(name)
        assert there is None or there.status == changed.status
        self.set_status_values(name, **{field: getattr(generation.status, field)})

    def set_status_values(self, name: str, **words: str) -> None:
        self.world.set_status_values(name, **words)
        if name in self.world.generations:
            made = self.world.generations[name]
            self.checks.known[made.metadata.uid] = made

    @rule()
    def another_client_writes_derived_fields_into_a_status(self) -> None:
        scribbled = UpdateStatus.model_validate(
            {"phase": "Invalid", "progress": {"waitingFor": "me"}, "live": None}
        )
        known = self.world.update.status
        cursor = Cursor(
            quarantined=known.cursor.quarantined,
            pending_rows=7,
            proposed_for_quarantine=["2025-01"],
        )
        changes = {"phase": scribbled.phase, "progress": scribbled.progress, "cursor": cursor}
        status = known.model_copy(update={**changes, "live": None, "previous": None})
        self.world.update = self.world.update.model_copy(update={"status": status})
        for name, g in self.world.generations.items():
            wrong = g.status.model_copy(update={"phase": "Promoted", "conditions": []})
            self.world.generations[name] = g.model_copy(update={"status": wrong})
        self.settle()
