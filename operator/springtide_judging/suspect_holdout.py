"""Whether the holdout itself is suspect: the live model is evaluated on it first.

With shuffled labels both models score at chance and a comparison alone would pass; with mere drift
the candidate is better. So a suspicion needs a live model that fails and a candidate that is not
proven better.
"""

from __future__ import annotations

from math import hypot, isfinite
from typing import TYPE_CHECKING

from springtide_judging.bounds import LOWER_IS_BETTER, absolute, better, counted, readable
from springtide_judging.rules import judge_rule

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from springtide_api.generation.status import Score
    from springtide_api.update.gate import Gate, Rule
    from springtide_judging.bounds import Numbers

ERRORS = 3.0
"""Standard errors of the difference by which live may be below its own last score."""


def suspect_reason(
    gate: Gate, rules: Sequence[Rule], measured: Mapping[str, Numbers], scores: Sequence[Score]
) -> str | None:
    """Return why the holdout is suspect, or None.

    Args:
        gate: How far the live model's own score may fall.
        rules: The rules on the holdout; only the Required ones can make it suspect.
        measured: Numbers by the name of their rule.
        scores: The live model's last scores on a holdout that was not suspect.
    """
    required = [rule for rule in rules if rule.severity == "Required" and rule.name in measured]
    for rule in required:
        row = measured[rule.name]
        if superior(rule, row):
            continue
        peers = [peer for peer in required if _same(peer, rule) and absolute(peer)]
        if (below := _below(rule, row)) and not _proven([rule], measured):
            return f"{below}; {_not_proven_better(row, rule)}"
        if (fall := _fall(gate, rule, row, scores)) and not _proven(peers, measured):
            return f"{fall}; {_not_proven_better(row, rule)}"
    return None


def superior(rule: Rule, row: Numbers) -> bool:
    """Whether the candidate is proven better than live in the rule's metric."""
    delta = better(rule.metric, row.delta)
    return all(map(isfinite, delta)) and delta.low > 0.0


def _same(one: Rule, other: Rule) -> bool:
    return (one.metric, one.dataset) == (other.metric, other.dataset)


def _proven(rules: Sequence[Rule], measured: Mapping[str, Numbers]) -> bool:
    """Whether the candidate passes the absolute bounds of these rules; False for no rules."""
    evaluated = [judge_rule(rule, measured[rule.name], baseline=False) for rule in rules]
    return bool(evaluated) and all(each and each.result.verdict == "Pass" for each in evaluated)


def _below(rule: Rule, row: Numbers) -> str | None:
    """Evaluate live by the rule's absolute bounds; return the message of a rejection."""
    evaluated = judge_rule(rule, row._replace(candidate=row.live), baseline=False)
    if evaluated is None or evaluated.result.verdict != "Reject":
        return None
    return f"the holdout is suspect: for the live model, {evaluated.result.message}"


def _fall(gate: Gate, rule: Rule, row: Numbers, scores: Sequence[Score]) -> str | None:
    """Describe a fall of live below its own last score that neither chance nor drift explains.

    Chance explains three standard errors of the difference, ordinary drift `gate.maxHoldoutDrop`:
    where rows are many, a drift of 0.03 is eight standard errors.
    """
    evaluated = judge_rule(rule, row, baseline=True)
    if evaluated is None or evaluated.reason in {"TooFewEntities", "TooFewPositives"}:
        return None
    for score in scores:
        if (score.metric, score.dataset) != (rule.metric, rule.dataset):
            continue
        then, error = float(score.value), hypot(float(score.standard_error), row.live_error)
        fallen = row.live.value - then if rule.metric in LOWER_IS_BETTER else then - row.live.value
        allowed = _allowed(gate, rule, then)
        if isfinite(fallen) and isfinite(error) and fallen > max(ERRORS * error, allowed):
            return (
                f"the holdout is suspect: {rule.metric} of live is {readable(row.live.value)} on "
                f"{rule.dataset} ({counted(rule.metric, row.entities, row.positives)}) and was "
                f"{readable(then)}, worse by {readable(fallen)}: more than "
                f"{ERRORS:g} standard errors of {readable(error)} and more than "
                f"gate.maxHoldoutDrop, {readable(allowed)}"
            )
    return None


def _allowed(gate: Gate, rule: Rule, then: float) -> float:
    """Return how far a metric may fall from its last score, in units of the metric."""
    drop = gate.max_holdout_drop
    if rule.metric in LOWER_IS_BETTER:
        return float(drop.relative) * then
    return float(drop.absolute)


def _not_proven_better(row: Numbers, rule: Rule) -> str:
    value, low, high = (readable(x) for x in better(rule.metric, row.delta))
    return f"the candidate is not proven better (improvement {value}, bounds {low} to {high})"
