"""Invariants of what people decide: what they must approve, and modes that change no target."""

from __future__ import annotations

from typing import TYPE_CHECKING

from springtide_operator.lifecycle.state.plan import SetFinalizer

if TYPE_CHECKING:
    from springtide_api.objects import IncrementalUpdate, ModelGeneration
    from springtide_operator.lifecycle.state.observation import Observation
    from springtide_operator.lifecycle.state.plan import Serve, StartJob, WriteGeneration


class PeopleInvariants:
    """Checks approvals and modes."""

    def only_an_approval_is_added_to_a_spec(
        self, old: ModelGeneration, new: ModelGeneration
    ) -> None:
        before, after = old.spec, new.spec
        assert before.approval in (None, after.approval)
        assert after.model_copy(update={"approval": before.approval}) == before

    def a_rollout_starts_only_once_it_is_approved(
        self, seen: Observation, write: WriteGeneration
    ) -> None:
        before = next((g for g in seen.generations if g.metadata.name == write.name), None)
        if before is None or before.status.rollout.step_started_at:
            return
        if write.status.rollout.step_started_at:
            assert not awaits(seen.update, before)
            assert decision(before) != "Rejected"

    def nothing_rejected_is_applied(self, seen: Observation, serve: Serve) -> None:
        number = serve.serving.number if serve.serving else None
        for g in seen.generations:
            assert g.spec.number != number or decision(g) != "Rejected"

    def no_target_is_written_unless_the_mode_says_so(
        self, seen: Observation, action: Serve | SetFinalizer
    ) -> None:
        # A canary that is left of a rollout whose record is gone keeps the finalizer in every mode.
        left = any(canary.ours for canary in seen.canaries)
        finishes = isinstance(action, SetFinalizer) and (left or not action.present)
        begun = any(rolls(g) for g in seen.generations)
        assert seen.update.spec.mode == "Enforce" or begun or finishes

    def counts(self, g: ModelGeneration) -> bool:
        """Whether it keeps a run from starting while it is in progress."""
        return not is_only_a_parent(self.world.update, g)

    def nothing_is_evaluated_in_train_only(self, seen: Observation, start: StartJob) -> None:
        assert start.run.stage != "evaluate" or seen.update.spec.mode != "TrainOnly"


def rolls(g: ModelGeneration) -> bool:
    """Whether it rolls out or back."""
    rollout = g.status.rollout
    if rollout.step_started_at is None or rollout.rolled_back_at:
        return False
    return bool(rollout.rollback_reason) or rollout.promoted_at is None


def is_only_a_parent(update: IncrementalUpdate, g: ModelGeneration) -> bool:
    """Whether it is the initial model, and not rolled out because of the mode."""
    waits = g.spec.origin == "Imported" and g.status.artifact is not None and not rolls(g)
    return waits and update.spec.mode != "Enforce"


def decision(g: ModelGeneration) -> str:
    """The decision of a person; an imported generation needs none."""
    return g.spec.approval.decision if g.spec.approval and g.spec.origin == "Trained" else ""


def awaits(update: IncrementalUpdate, g: ModelGeneration) -> bool:
    """Whether a person must decide on a generation before it may be rolled out."""
    started = g.status.rollout.step_started_at is not None
    accepted = g.status.verdict == "Accepted" and not g.status.retired_reason
    embedding = g.spec.recipe.model.embedding if g.spec.origin == "Trained" else None
    both = embedding is not None and embedding.train_tower == "Both"
    asked = update.spec.gate.approval == "Manual" or both
    enforced = asked and update.spec.mode == "Enforce"
    return enforced and accepted and not started and not decision(g)
