"""The verdict on a candidate from the measured numbers: by confidence bounds, never by points.

The order is fixed: foreign results first, then a suspect holdout, then the rules. What follows from
a verdict (another interim analysis, a hold, a rollout) is decided elsewhere.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from springtide_api.generation.status import Score
from springtide_judging.bounds import absolute, decimal, measured
from springtide_judging.rules import TEXT_LIMIT, judge_rule, overall
from springtide_judging.suspect_holdout import suspect_reason

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from springtide_api.contract import EvaluateOutput
    from springtide_api.generation.status import RuleResult
    from springtide_api.update.gate import Evaluation, Gate, Rule
    from springtide_judging.bounds import Numbers
    from springtide_judging.rules import Judged

GateVerdict = Literal["Accepted", "Rejected", "Inconclusive"]

MAX_SCORES = 16
"""Scores that a generation's status holds."""


@dataclass(frozen=True)
class Judgement:
    """The verdict and its evidence."""

    verdict: GateVerdict
    reason: str
    """One word: RulesPassed, NoBaseline, RuleFailed, HoldoutSuspect, ResultMismatch,
    TooFewEntities, TooFewPositives, MissingNumber, ZeroBaseline, FloorProvesNothing or
    NotDecided."""
    message: str
    """Rule, number, bound, interval and counts; at most 1024 characters."""
    results: list[RuleResult] = field(default_factory=list)
    suspect: bool = False
    """The holdout is suspect: no interim analysis is used, and its partitions are proposed for
    quarantine."""
    scores: list[Score] = field(default_factory=list)
    """The candidate's own scores on the holdout."""
    live_scores_now: list[Score] = field(default_factory=list)
    """The live model's scores on the holdout; valid only where `suspect` is False."""

    @property
    def interim_analyses(self) -> int:
        """Interim analyses used: none if the holdout is suspect or no Required rule applied."""
        evaluated = any(result.severity == "Required" for result in self.results)
        return int(evaluated and not self.suspect)


def judge(
    gate: Gate,
    evaluation: Evaluation,
    output: EvaluateOutput,
    *,
    without_baseline: bool,
    live_scores: Sequence[Score],
    expected_candidate: str,
    expected_baseline: str | None,
    expected_holdout: str,
    expected_reference: str | None = None,
    history: bool = True,
) -> Judgement:
    """Decide on a candidate.

    Args:
        gate: The rules.
        evaluation: The datasets that the rules name.
        output: What the evaluation measured.
        without_baseline: There is no live model to compare with: absolute rules alone.
        live_scores: The live model's last scores on a holdout that was not suspect.
        expected_candidate: Digest of the weights that were to be scored.
        expected_baseline: Digest of the live weights that were to be scored beside them.
        expected_holdout: Digest of the holdout's manifest.
        expected_reference: Digest of the weights that maxCumulativeRegression compares with. A
            result without one lacks those numbers; it is not a mismatch.
        history: The lineage has historical shards. Without any, rules on them are left out as
            comparisons are for the first generation.
    """
    foreign = _foreign_digest(
        ("candidate", output.candidate_digest, expected_candidate),
        ("baseline", output.baseline_digest, expected_baseline),
        ("holdout", output.holdout_digest, expected_holdout),
        ("reference", output.reference_digest or expected_reference, expected_reference),
    ) or _foreign_rule(gate, output)
    if foreign:
        return Judgement("Inconclusive", "ResultMismatch", foreign[:TEXT_LIMIT])
    numbers = measured(output)
    rules = [rule for rule in gate.rules if history or _role(evaluation, rule) != "Historical"]
    evaluated = [
        judge_rule(
            rule,
            numbers.get(rule.name),
            baseline=not without_baseline,
            on_holdout=_role(evaluation, rule) == "Holdout",
        )
        for rule in rules
    ]
    results = [each for each in evaluated if each is not None]
    on_holdout = [rule for rule in rules if _role(evaluation, rule) == "Holdout"]
    suspect = None if without_baseline else suspect_reason(gate, on_holdout, numbers, live_scores)
    verdict = (
        _suspect_verdict(suspect, results)
        if suspect
        else _overall(results, without_baseline=without_baseline)
    )
    return Judgement(
        *verdict,
        results=[each.result for each in results],
        suspect=suspect is not None,
        scores=_scores(on_holdout, numbers, live=False),
        live_scores_now=[] if without_baseline else _scores(on_holdout, numbers, live=True),
    )


def missing_counts(
    gate: Gate, evaluation: Evaluation, *, entities: int, positives: int, without_baseline: bool
) -> str | None:
    """Return what the holdout lacks for its Required rules to decide, before scoring.

    Args:
        gate: The rules.
        evaluation: The datasets that the rules name.
        entities: Entities of the holdout.
        positives: Rows of the positive (with many labels: of the rarest) label.
        without_baseline: There is no live model to compare with: absolute rules alone.

    Returns:
        Which rules lack what; None where the counts suffice.
    """
    short = []
    for rule in gate.rules:
        if rule.severity != "Required" or _role(evaluation, rule) != "Holdout":
            continue
        if without_baseline and not absolute(rule):
            continue
        wanted = (
            ("entities", entities, rule.min_entities),
            ("positives", positives, rule.min_positives),
        )
        short += [
            f"{rule.name}: {found:,} {what} < {least:,}"
            for what, found, least in wanted
            if least is not None and found < least
        ]
    return _join_within_limit(short) if short else None


def _foreign_digest(*asked: tuple[str, str | None, str | None]) -> str | None:
    for what, found, expected in asked:
        if found != expected:
            return (
                f"the result is for another {what}: {found or 'none'}, expected "
                f"{expected or 'none'}; it is ignored"
            )
    return None


def _foreign_rule(gate: Gate, output: EvaluateOutput) -> str | None:
    """Find a row without a rule, or a duplicate one."""
    asked = {rule.name for rule in gate.rules}
    found = [row[0] for row in output.rules]
    odd = sorted({name for name in found if name not in asked or found.count(name) > 1})
    return f"the result has rows without a rule, or twice: {odd}" if odd else None


def _role(evaluation: Evaluation, rule: Rule) -> str | None:
    roles = {dataset.name: dataset.role for dataset in evaluation.datasets}
    return roles.get(rule.dataset)


def _suspect_verdict(suspect: str, results: Sequence[Judged]) -> tuple[GateVerdict, str, str]:
    others = [each.result.message for each in results]
    return "Inconclusive", "HoldoutSuspect", _join_within_limit([suspect, *others])


def _overall(results: Sequence[Judged], *, without_baseline: bool) -> tuple[GateVerdict, str, str]:
    required = [each for each in results if each.result.severity == "Required"]
    match overall(results):
        case "Reject":
            refuted = [each for each in required if each.result.verdict == "Reject"]
            return "Rejected", "RuleFailed", _join_messages(refuted, required)
        case "Inconclusive" if required:
            undecided = [each for each in required if each.result.verdict == "Inconclusive"]
            return "Inconclusive", undecided[0].reason, _join_messages(undecided, required)
        case "Inconclusive":
            return "Inconclusive", "MissingNumber", "no Required rule could be evaluated"
        case "Pass" if without_baseline:
            return "Accepted", "NoBaseline", _join_messages(required, required)
        case "Pass":
            return "Accepted", "RulesPassed", _join_messages(required, required)


def _join_messages(first: Sequence[Judged], required: Sequence[Judged]) -> str:
    """Join the messages of the rules, the deciding ones first."""
    rest = [each for each in required if each not in first]
    return _join_within_limit([each.result.message for each in (*first, *rest)])


def _join_within_limit(sentences: Iterable[str]) -> str:
    """Join messages up to the limit of a status message, and count the ones left out."""
    texts = list(sentences)
    for kept in range(len(texts), 0, -1):
        left = len(texts) - kept
        text = "; ".join(texts[:kept]) + (f"; and {left} more in the report" if left else "")
        if len(text) <= TEXT_LIMIT:
            return text
    return texts[0][:TEXT_LIMIT]


def _scores(rules: Sequence[Rule], numbers: Mapping[str, Numbers], *, live: bool) -> list[Score]:
    """Return a model's scores, one for each metric and dataset."""
    kept: dict[tuple[str, str], Score] = {}
    for rule in rules:
        if rule.name not in numbers:
            continue
        row = numbers[rule.name]
        value = decimal(row.live.value if live else row.candidate.value)
        error = decimal(row.live_error if live else row.candidate_error)
        if value is not None and error is not None:
            key = (rule.metric, rule.dataset)
            kept[key] = Score(metric=key[0], dataset=key[1], value=value, standard_error=error)
    return list(kept.values())[:MAX_SCORES]
