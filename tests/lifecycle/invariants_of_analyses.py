"""Invariants of the metrics of a canary: what is counted, what aborts it, what ends a step."""

from __future__ import annotations

from math import exp
from typing import TYPE_CHECKING

from lifecycle.generation_facts import in_progress, live_of, of_another_version, pinned_of

from springtide_judging.two_binomials import REGRESSIONS

if TYPE_CHECKING:
    from collections.abc import Iterator

    from springtide_api.generation.comparison import Comparison, Requests
    from springtide_api.generation.rollout import RolloutStatus
    from springtide_api.objects import ModelGeneration
    from springtide_api.update.analysis import Metric
    from springtide_operator.lifecycle.state.observation import Observation
    from springtide_operator.lifecycle.state.plan import WriteGeneration


class AnalysisInvariants:
    """Checks the writes of a rollout whose canary has metrics."""

    def check_analysis(self, seen: Observation, write: WriteGeneration) -> None:
        before = next((g for g in seen.generations if g.metadata.name == write.name), None)
        if before is None:
            return
        old, new = before.status.rollout, write.status.rollout
        assert len(new.analysis) <= 16
        if new.comparisons != old.comparisons:
            self.evidence_comes_with_a_sample(old, new)
        if _in_steps(old) and new.rollback_reason and not old.rollback_reason:
            self.a_canary_is_aborted_for_a_cause(seen, old, new)
        in_order = _in_steps(old) and not new.rollback_reason and new.step_started_at
        if in_order and (new.step != old.step or new.steps_ended_at):
            self.a_step_ends_with_metrics_that_pass(seen, old)

    def evidence_comes_with_a_sample(self, old: RolloutStatus, new: RolloutStatus) -> None:
        """In a step or a holdback alone; counts never fall, and no request counts twice."""
        if old.promoted_at:
            self.evidence_of_a_bake_counts_from_its_share(old, new)
        else:
            assert _in_steps(old)
            assert old.weight_seen_at == new.weight_seen_at
        assert new.analysis != old.analysis
        known = {(each.metric, each.phase): each for each in old.comparisons}
        for now in new.comparisons:
            before = known.get((now.metric, now.phase))
            if before == now:
                continue
            if before is None or before.definition != now.definition:
                continue
            assert evidence_of(before) < 20, "the test had ended"
            for one, other in zip(_all(before), _all(now), strict=True):
                assert one.bad <= other.bad
                assert one.total <= other.total
            if before.since == now.since:
                assert (before.watched_before, before.baseline_before) == (
                    now.watched_before,
                    now.baseline_before,
                )
            else:
                began = new.holdback_seen_at if now.phase == "Bake" else new.weight_seen_at
                assert now.since == began

    def a_canary_is_aborted_for_a_cause(
        self, seen: Observation, old: RolloutStatus, new: RolloutStatus
    ) -> None:
        why, analysis = new.rollback_reason, seen.update.spec.rollout.analysis
        if "requests of the canary are bad" in why:
            assert any(evidence_of(each) >= 20 for each in old.comparisons)
            assert new.failure == ""
        elif "outside its bounds" in why:
            values = [s.verdict for s in old.analysis if s.value is not None]
            assert values.count("Fail") >= analysis.failure_limit
            assert new.failure == ""
        elif "has no number" in why:
            assert analysis.on_no_data == "Fail"
            assert new.failure == "NoData"

    def a_step_ends_with_metrics_that_pass(self, seen: Observation, old: RolloutStatus) -> None:
        spec = seen.update.spec.rollout
        steps = spec.strategy.canary.steps if spec.strategy.canary else []
        metrics = spec.analysis.metrics if spec.analysis else []
        if old.step > len(steps):
            return  # the spec has no such step any more
        assert live_of(list(seen.generations)), "nothing to compare with, or to return to"
        for metric in metrics:
            found = [s for s in old.analysis if s.metric == metric.name]
            assert len(found) >= (2 if metric.ratio else 1)
            newest = found[-1]
            assert newest.verdict == "Pass"
            assert newest.time >= old.weight_seen_at
        least = steps[old.step - 1].min_requests
        counts = [each for each in metrics if each.ratio]
        assert least is None or not counts or self._canary_requests(old, counts) >= least

    def reasons_of_canary(self, there: list[ModelGeneration]) -> Iterator[str]:
        """Why a user must decide about a canary, or about its metrics."""
        canary = self.world.update.spec.rollout.strategy.canary
        if pinned_of(self.world.update, there):
            return
        for g in there:
            rollout = g.status.rollout
            if not _in_steps(rollout) or rollout.rollback_reason:
                continue
            if not in_progress(g) or of_another_version(g):
                continue
            if live_of(there) is None and canary and rollout.step <= len(canary.steps):
                yield "the live generation was deleted"
            if rollout.weight_seen_at:
                yield from self._reasons_of_metrics(rollout)

    def _reasons_of_metrics(self, rollout: RolloutStatus) -> Iterator[str]:
        analysis = self.world.update.spec.rollout.analysis
        for metric in analysis.metrics if analysis else ():
            verdicts = [s.verdict for s in rollout.analysis if s.metric == metric.name]
            if verdicts[-1:] == ["Error"]:
                yield "a query to change"
            newest = verdicts[-analysis.failure_limit :]
            missing = len(newest) == analysis.failure_limit and {*newest} <= {"NoData", "Error"}
            if missing and analysis.on_no_data == "Hold":
                yield "a metric has no number"

    def _canary_requests(self, old: RolloutStatus, metrics: list[Metric]) -> int:
        wanted = metrics[0].name, "Canary"
        (known,) = [each for each in old.comparisons if (each.metric, each.phase) == wanted]
        assert known.since == old.weight_seen_at
        return known.watched.total


def _in_steps(rollout: RolloutStatus) -> bool:
    return rollout.step is not None and not (rollout.steps_ended_at or rollout.promoted_at)


def evidence_of(known: Comparison) -> float:
    wealth = [float(each) for each in known.evidence]
    bets = zip(REGRESSIONS, wealth, strict=True)
    return sum(share * exp(min(each, 700.0)) for (_, share), each in bets)


def _all(known: Comparison) -> list[Requests]:
    """Requests of both sides since the first step."""
    return [
        before.model_copy(update={"bad": before.bad + now.bad, "total": before.total + now.total})
        for before, now in (
            (known.watched_before, known.watched),
            (known.baseline_before, known.baseline),
        )
    ]
