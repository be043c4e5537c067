"""The whole verdict, from an evaluation's rows: judging.md, Verdicts 2 to 9."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from lifecycle.gate_results import (
    CANDIDATE,
    EVALUATION,
    FLOOR,
    GATE,
    LIVE,
    NOT_WORSE,
    both,
    gate_result,
    output,
    row,
    short,
)

from springtide_api.generation.status import Score
from springtide_api.update.gate import (
    Dataset,
    Evaluation,
    ExtendHoldout,
    Gate,
    OnInconclusive,
    Rule,
)
from springtide_judging.interim_analyses import interim_confidence


def test_a_candidate_that_passes_all_required_rules_is_accepted_with_its_numbers() -> None:
    found = gate_result(both(0.700, 0.680))

    assert (found.verdict, found.reason, found.suspect) == ("Accepted", "RulesPassed", False)
    assert found.message == (
        "floor: auc 0.7000 (bounds 0.6950 to 0.7050), required >= 0.55: passed on holdout (900 "
        "contributing entities, 300 positives); not-worse: auc improved by 0.0200 (bounds 0.0150 "
        "to 0.0250), allowed regression 0.01: passed on holdout (900 contributing entities, "
        "300 positives)"
    )
    assert [result.verdict for result in found.results] == ["Pass", "Pass"]
    assert found.scores == [
        Score(metric="auc", dataset="holdout", value="0.7", standard_error="0.00303951")
    ]
    assert found.live_scores_now[0].value == "0.68"


def test_one_failed_required_rule_rejects_and_is_reported_first() -> None:
    found = gate_result(both(0.650, 0.680))
    assert (found.verdict, found.reason) == ("Rejected", "RuleFailed")
    assert found.message.startswith(
        "not-worse: auc regressed by 0.0300 (bounds 0.0250 to 0.0350), allowed regression "
        "0.01: failed"
    )


def test_an_undecided_rule_is_inconclusive_and_reports_how_many_entities_would_decide() -> None:
    found = gate_result(both(0.675, 0.682))
    assert (found.verdict, found.reason) == ("Inconclusive", "NotDecided")
    assert "more entities would decide it" in found.message


def test_a_failed_rule_takes_precedence_over_undecided_ones() -> None:
    gate = Gate(rules=[FLOOR, Rule(name="ndcg", metric="ndcg@10", min="0.3")])
    found = gate_result(output(row("floor", 0.40, 0.7), row("ndcg", 0.3, 0.3)), gate=gate)
    assert found.verdict == "Rejected"


def test_a_warning_rule_is_reported_and_decides_nothing() -> None:
    warn = Rule(name="warn", metric="accuracy", min="0.99", severity="Warn")
    gate = Gate(rules=[FLOOR, NOT_WORSE, warn])
    out = output(row("floor", 0.7, 0.7), row("not-worse", 0.7, 0.7), row("warn", 0.5, 0.5))
    found = gate_result(out, gate=gate)
    assert found.verdict == "Accepted"
    assert found.results[2].verdict == "Reject"


def test_the_first_generation_is_accepted_by_absolute_rules_alone() -> None:
    out = output(row("floor", 0.7, None), row("not-worse", 0.7, None), baseline_digest=None)
    found = gate_result(out, without_baseline=True)
    assert (found.verdict, found.reason) == ("Accepted", "NoBaseline")
    assert [result.rule for result in found.results] == ["floor"]
    assert found.live_scores_now == []

    low = output(row("floor", 0.5, None), baseline_digest=None)
    assert gate_result(low, without_baseline=True).verdict == "Rejected"


def test_rules_on_history_are_left_out_while_there_is_none() -> None:
    evaluation = Evaluation(
        datasets=[Dataset(name="holdout", role="Holdout"), Dataset(name="old", role="Historical")]
    )
    kept = Rule(name="kept", metric="auc", dataset="old", min="0.55")
    gate = Gate(rules=[FLOOR, kept])
    out = output(row("floor", 0.7, 0.7), ("kept", *[None] * 11, 0, 0))
    assert gate_result(out, gate=gate, evaluation=evaluation, history=False).verdict == "Accepted"
    found = gate_result(out, gate=gate, evaluation=evaluation)
    assert (found.verdict, found.reason) == ("Inconclusive", "TooFewEntities")


@pytest.mark.parametrize(
    "digests",
    [{"candidate_digest": LIVE}, {"baseline_digest": None}, {"holdout_digest": CANDIDATE}],
)
def test_the_result_of_another_evaluation_is_ignored(digests) -> None:
    found = gate_result(both(0.7, 0.6).model_copy(update=digests))
    assert (found.verdict, found.reason, found.results) == ("Inconclusive", "ResultMismatch", [])


def test_rows_without_a_rule_or_duplicate_rows_are_a_result_mismatch() -> None:
    assert gate_result(output(row("other", 0.7, 0.6))).reason == "ResultMismatch"
    twice = output(row("floor", 0.7, 0.6), row("floor", 0.7, 0.6), row("not-worse", 0.7, 0.6))
    assert gate_result(twice).reason == "ResultMismatch"


def test_a_missing_row_is_never_a_pass() -> None:
    found = gate_result(output(row("floor", 0.7, 0.6)))
    assert (found.verdict, found.reason) == ("Inconclusive", "MissingNumber")


def test_interim_analyses_share_the_error_of_one() -> None:
    assert interim_confidence(GATE, EVALUATION) == pytest.approx(1 - 0.05 / 3)
    two = OnInconclusive(type="ExtendHoldout", extend_holdout=ExtendHoldout(max_interim_analyses=2))
    assert interim_confidence(Gate(rules=[FLOOR], on_inconclusive=two), EVALUATION) == 0.975
    hold = Gate(rules=[FLOOR], on_inconclusive=OnInconclusive(type="Hold"))
    assert interim_confidence(hold, EVALUATION) == pytest.approx(1 - 0.05 / 3), (
        "retry evaluates again"
    )
    reject = Gate(rules=[FLOOR], on_inconclusive=OnInconclusive(type="Reject"))
    assert interim_confidence(reject, EVALUATION) == pytest.approx(0.95)


def test_counts_decide_an_extension_before_scoring() -> None:
    needy = FLOOR.model_copy(update={"min_entities": 1000, "min_positives": 200})
    warn = NOT_WORSE.model_copy(update={"min_entities": 10_000, "severity": "Warn"})
    gate = Gate(rules=[needy, warn])
    assert short(gate, 900, 100) == "floor: 900 entities < 1,000; floor: 100 positives < 200"
    assert short(gate, 1000, 200) is None


def test_counts_for_a_comparison_do_not_block_the_first_generation() -> None:
    gate = Gate(rules=[FLOOR, NOT_WORSE.model_copy(update={"min_entities": 3000})])
    assert short(gate, 900, 100, without_baseline=True) is None
    assert short(gate, 900, 100) == "not-worse: 900 entities < 3,000"

    both_kinds = NOT_WORSE.model_copy(update={"min": "0.55", "min_entities": 3000})
    assert short(Gate(rules=[both_kinds]), 900, 100, without_baseline=True)


def test_only_results_of_a_required_rule_use_an_interim_analysis() -> None:
    assert gate_result(both(0.7, 0.68)).interim_analyses == 1
    assert gate_result(both(0.675, 0.682)).interim_analyses == 1
    assert gate_result(both(0.501, 0.500)).interim_analyses == 0, "the holdout is suspect"
    assert (
        gate_result(both(0.7, 0.68).model_copy(update={"holdout_digest": LIVE})).interim_analyses
        == 0
    )

    warn = FLOOR.model_copy(update={"severity": "Warn"})
    first = both(0.7, 0.68).model_copy(update={"baseline_digest": None})
    found = gate_result(first, gate=Gate(rules=[warn, NOT_WORSE]), without_baseline=True)
    assert (found.message, found.interim_analyses) == ("no Required rule could be evaluated", 0)


def test_sixteen_long_messages_still_fit_a_status() -> None:
    names = [f"rule-{number:02}-" + "x" * 50 for number in range(16)]
    gate = Gate(rules=[Rule(name=name, metric="auc", min="0.55") for name in names])
    found = gate_result(output(*[row(name, 0.7, 0.7) for name in names]), gate=gate)
    assert found.verdict == "Accepted"
    assert len(found.message) <= 1024
    assert found.message.endswith("more in the report")


shares = st.floats(0.05, 0.95)


@given(shares, shares, st.floats(0.0, 0.04), st.floats(0.0, 0.04))
def test_an_accepted_candidate_stays_accepted_when_it_gets_better(own, live, width, gain) -> None:
    if gate_result(both(own, live, width=width)).verdict == "Accepted":
        better = gate_result(both(min(own + gain, 1 - width), live, width=width))
        assert better.verdict == "Accepted" or own + gain > 1 - width


@given(st.floats(-0.02, 0.02), st.floats(-0.02, 0.02), st.floats(0.001, 0.03))
def test_random_labels_are_never_accepted(one, other, width) -> None:
    found = gate_result(both(0.5 + one, 0.5 + other, width=width))
    assert found.verdict in {"Inconclusive", "Rejected"}


numbers = st.one_of(st.none(), st.floats(allow_nan=True, allow_infinity=True))


@given(st.lists(numbers, min_size=22, max_size=22), st.integers(0, 10**9), st.integers(0, 10**9))
def test_no_numbers_cause_an_exception(found, entities, positives) -> None:
    rows = [
        ("floor", *found[:11], entities, positives),
        ("not-worse", *found[11:], entities, positives),
    ]
    verdict = gate_result(output(*rows))
    assert verdict.verdict in {"Accepted", "Rejected", "Inconclusive"}
    assert len(verdict.message) <= 1024
    if any(x is None or x != x for x in (*found[:3], *found[14:20])):
        assert verdict.verdict != "Accepted"
