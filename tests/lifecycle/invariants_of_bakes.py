"""Invariants of the bake: what is recorded, what ends it, and what rolls it back."""

from __future__ import annotations

from itertools import pairwise, takewhile
from typing import TYPE_CHECKING

from lifecycle.generation_facts import bakes, digest_of, live_of, pinned_of
from lifecycle.invariants_of_analyses import evidence_of

from springtide_api.schema import duration
from springtide_operator.lifecycle.state.generations import unknown_value

if TYPE_CHECKING:
    from collections.abc import Iterator

    from springtide_api.generation.rollout import AnalysisSample
    from springtide_api.objects import ModelGeneration


class BakeInvariants:
    """Checks the facts of a bake as they change."""

    def check_bake(self, old: ModelGeneration, new: ModelGeneration) -> None:
        before, after = old.status.rollout, new.status.rollout
        if not before.promoted_at:
            return
        assert len(after.analysis) <= 16
        if before.baked_at:
            assert (before.baked_at, before.bake_until) == (after.baked_at, after.bake_until)
            assert before.analysis == after.analysis, "a sample after the end"
        if after.baked_at and not before.baked_at:
            self.a_bake_ends_in_time_or_by_a_user(new)
        if after.rollback_reason and not before.rollback_reason and bakes(old):
            self.a_bake_is_rolled_back_for_a_cause(old, after.rollback_reason)
            missing = "has no number" in after.rollback_reason
            assert after.failure == ("NoData" if missing else ""), "missing data is not its fault"

    def a_bake_ends_in_time_or_by_a_user(self, g: ModelGeneration) -> None:
        world, rollout = self.world, g.status.rollout
        spec = world.update.spec.rollout
        if f"promote.g{g.spec.number}" in world.asked or spec.bake is None or world.stalled_watches:
            return
        assert world.now >= rollout.bake_until
        others = [x for x in self._earlier(g) if digest_of(x) != digest_of(g)]
        if not others:
            return  # a failure cannot be rolled back, and does not keep the next one waiting
        for metric in spec.analysis.metrics if spec.analysis else ():
            if metric.ratio and not self._is_compared(g):
                continue  # it ended with the last step
            samples = _samples(rollout.analysis, metric.name)
            assert samples
            assert samples[-1].verdict == "Pass"
            if metric.ratio:
                assert len(samples) >= 2

    def _is_compared(self, g: ModelGeneration) -> bool:
        """Whether a share is kept on previous: some target's route is on record as it is named."""
        bake, mode = self.world.update.spec.rollout.bake, self.world.update.spec.mode
        if not (bake and bake.holdback and mode == "Enforce"):
            return False
        routes = {each.name: each.route for each in g.status.rollout.targets if each.route}
        return any(
            (found := routes.get(each.target_ref.name))
            and (found.name, found.service) == (each.http_route, each.service)
            and self.world.targets[each.target_ref.name].claimed_by in {"", "shop"}
            for each in self.world.update.spec.rollout.targets
        )

    def a_bake_is_rolled_back_for_a_cause(self, g: ModelGeneration, reason: str) -> None:
        world, spec = self.world, self.world.update.spec.rollout
        if reason.startswith("requested by") or world.stalled_watches:
            return
        assert spec.rollback.automatic
        assert world.update.spec.mode == "Enforce"
        rollout = g.status.rollout
        if "rollout.deadline" in reason:
            assert world.now - rollout.unavailable_since >= duration(spec.deadline)
            return
        if "are bad" in reason:
            assert any(x.phase == "Bake" and evidence_of(x) >= 20 for x in rollout.comparisons)
            return
        wanted = {"Fail"} if "outside its bounds" in reason else {"NoData", "Error"}
        assert wanted == {"Fail"} or spec.analysis.on_no_data == "Fail"
        assert any(
            _row(_samples(rollout.analysis, metric.name), wanted) >= spec.analysis.failure_limit
            for metric in spec.analysis.metrics
        )

    def reasons_of_bake(self, there: list[ModelGeneration]) -> Iterator[str]:
        """Why a user must decide on the generation that bakes."""
        live, spec = live_of(there), self.world.update.spec.rollout
        if not bakes(live) or unknown_value(live):
            return
        if self.world.update.status.pinned or pinned_of(self.world.update, there):
            return  # a pin stops the bake, until the targets are back on live
        rollout, analysis = live.status.rollout, spec.analysis
        for metric in analysis.metrics if analysis else ():
            samples = _samples(rollout.analysis, metric.name)
            if samples and samples[-1].verdict == "Error":
                yield "a query to change"
            failing = _row(samples, {"Fail"}) >= (1 if metric.ratio else analysis.failure_limit)
            if failing and not (metric.ratio and self.records_lost):
                yield "a metric fails"
            missing = _row(samples, {"NoData", "Error"}) >= analysis.failure_limit
            if missing and analysis.on_no_data in {"Hold", "Fail"}:
                yield "a metric has no number"
        since = rollout.unavailable_since
        if since and self.world.now - since >= duration(spec.deadline) and self._pods_fail(live):
            yield "pods fail"

    def _pods_fail(self, live: ModelGeneration) -> bool:
        recorded = {each.name: each.template for each in live.status.rollout.targets}
        names = [t.target_ref.name for t in self.world.update.spec.rollout.targets]
        targets = {name: self.world.targets[name] for name in names}
        if any(t.paused or not t.desired for t in targets.values()):
            return False
        return any(
            t.failing
            and t.settled
            and (t.digest, t.number) == (digest_of(live), live.spec.number)
            and t.template == recorded.get(name, t.template)
            for name, t in targets.items()
        )

    def _earlier(self, g: ModelGeneration) -> list[ModelGeneration]:
        return [
            x
            for x in self.world.generations.values()
            if x.metadata.name != g.metadata.name
            and x.status.rollout.promoted_at
            and not x.status.rollout.rollback_reason
            and not x.status.files_deleted_at
        ]


def _samples(ring: list[AnalysisSample], metric: str) -> list[AnalysisSample]:
    found = [sample for sample in ring if sample.metric == metric]
    assert all(a.time < b.time for a, b in pairwise(found))
    return found


def _row(samples: list[AnalysisSample], verdicts: set[str]) -> int:
    """How many of the newest samples in a row have one of these verdicts."""
    counted = reversed(samples)
    if verdicts == {"Fail"}:
        counted = (sample for sample in counted if sample.value is not None)
    return len(list(takewhile(lambda sample: sample.verdict in verdicts, counted)))
