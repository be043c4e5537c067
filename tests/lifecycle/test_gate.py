"""The whole verdict, from an evaluation's rows: judging.md, Verdicts 2 to 9."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from springtide_api.contract import EvaluateOutput
from springtide_api.generation.status import Score
from springtide_api.update.gate import (
    Dataset,
    Evaluation,
    ExtendHoldout,
    Gate,
    HoldoutDrop,
    Margin,
    OnInconclusive,
    Rule,
)
from springtide_judging.gate import Judgement, judge, missing_counts
from springtide_judging.interim_analyses import interim_confidence

CANDIDATE, LIVE, HOLDOUT = ("sha256:" + letter * 64 for letter in "abc")
FLOOR = Rule(name="floor", metric="auc", min="0.55")
NOT_WORSE = Rule(name="not-worse", metric="auc", max_regression=Margin(absolute="0.01"))
GATE = Gate(rules=[FLOOR, NOT_WORSE])
EVALUATION = Evaluation()


def row(
    name: str, candidate: float, live: float | None, *, width=0.005, entities=900, positives=300
):
    """Write a rule's numbers as the trainer does: value, low, high of candidate, live and delta."""

    def around(value: float | None):
        return (None,) * 3 if value is None else (value, value - width, value + width)

    delta = None if live is None else candidate - live
    errors = (width / 1.645, None if live is None else width / 1.645)
    return (name, *around(candidate), *around(live), *around(delta), *errors, entities, positives)


def output(*rows, **digests) -> EvaluateOutput:
    asked: dict = {"candidate_digest": CANDIDATE, "baseline_digest": LIVE}
    asked["holdout_digest"] = HOLDOUT
    asked["trivial_baseline"] = [0.5] * len(rows)
    return EvaluateOutput(rules=list(rows), report="file:///reports/x", **(asked | digests))


def gate_result(
    out: EvaluateOutput, *, gate=GATE, without_baseline=False, scores=(), **more
) -> Judgement:
    return judge(
        gate,
        more.pop("evaluation", EVALUATION),
        out,
        without_baseline=without_baseline,
        live_scores=scores,
        expected_candidate=CANDIDATE,
        expected_baseline=None if without_baseline else LIVE,
        expected_holdout=HOLDOUT,
        **more,
    )


def both(candidate: float, live: float, **more) -> EvaluateOutput:
    return output(row("floor", candidate, live, **more), row("not-worse", candidate, live, **more))


def short(gate: Gate, entities: int, positives: int, *, without_baseline=False) -> str | None:
    return missing_counts(
        gate, EVALUATION, entities=entities, positives=positives, without_baseline=without_baseline
    )


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


def test_with_shuffled_labels_the_holdout_is_suspect_though_the_comparison_alone_would_pass() -> (
    None
):
    found = gate_result(both(0.501, 0.500), gate=GATE)
    assert found.results[1].verdict == "Pass"
    assert (found.verdict, found.reason, found.suspect) == ("Inconclusive", "HoldoutSuspect", True)
    assert found.message.startswith(
        "the holdout is suspect: for the live model, floor: auc 0.5000 (bounds 0.4950 to "
        "0.5050), required >= 0.55: failed"
    )
    assert "improvement 0.0010, bounds -0.0040 to 0.0060" in found.message


def test_with_mere_drift_the_candidate_passes_and_nothing_is_suspect() -> None:
    better = gate_result(both(0.620, 0.500))
    assert (better.verdict, better.suspect) == ("Accepted", False)
    better_but_low = gate_result(both(0.530, 0.500))
    assert (better_but_low.verdict, better_but_low.suspect) == ("Rejected", False)


def test_live_below_a_rule_only_by_its_point_estimate_is_not_suspect() -> None:
    found = gate_result(both(0.546, 0.546))
    assert (found.verdict, found.suspect) == ("Inconclusive", False)


def test_live_far_below_its_own_last_score_makes_the_holdout_suspect() -> None:
    gate = Gate(rules=[Rule(name="floor", metric="accuracy", min="0.1"), NOT_WORSE])
    out = output(row("floor", 0.9, 0.9), row("not-worse", 0.60, 0.60))
    last = Score(metric="auc", dataset="holdout", value="0.70", standard_error="0.004")

    found = gate_result(out, gate=gate, scores=[last])
    assert (found.verdict, found.reason, found.suspect) == ("Inconclusive", "HoldoutSuspect", True)
    assert found.message.startswith(
        "the holdout is suspect: auc of live is 0.6000 on holdout (900 contributing entities, "
        "300 positives) and was 0.7000, worse by 0.1000: more than 3 standard errors of 0.0050 and "
        "more than gate.maxHoldoutDrop, 0.0500"
    )

    noisy = last.model_copy(update={"standard_error": "0.05"})
    assert not gate_result(out, gate=gate, scores=[noisy]).suspect
    elsewhere = last.model_copy(update={"dataset": "other"})
    assert not gate_result(out, gate=gate, scores=[elsewhere]).suspect


def test_a_fall_of_live_is_not_suspect_where_the_candidate_passes_the_rule_or_is_superior() -> None:
    last = Score(metric="auc", dataset="holdout", value="0.75", standard_error="0.004")
    assert not gate_result(both(0.600, 0.600), scores=[last]).suspect
    assert gate_result(both(0.553, 0.553), scores=[last]).suspect
    assert not gate_result(both(0.555, 0.540), scores=[last]).suspect


def test_ordinary_drift_of_many_standard_errors_is_not_suspect() -> None:
    gate = Gate(rules=[Rule(name="floor", metric="accuracy", min="0.6"), NOT_WORSE])
    out = output(row("floor", 0.9, 0.9), row("not-worse", 0.66, 0.66))
    last = Score(metric="auc", dataset="holdout", value="0.70", standard_error="0.0001")
    assert gate_result(out, gate=gate, scores=[last]).verdict == "Accepted"

    strict = gate.model_copy(update={"max_holdout_drop": HoldoutDrop(absolute="0.03")})
    found = gate_result(out, gate=strict, scores=[last])
    assert (found.reason, found.suspect) == ("HoldoutSuspect", True)


def test_a_log_loss_may_rise_by_a_fraction_of_its_last_score() -> None:
    rule = Rule(name="ll", metric="log_loss", max_regression=Margin(absolute="0.05"))
    gate = Gate(rules=[FLOOR, rule])
    out = output(row("floor", 0.7, 0.7), row("ll", 0.60, 0.60))
    near = Score(metric="log_loss", dataset="holdout", value="0.51", standard_error="0.0001")
    assert not gate_result(out, gate=gate, scores=[near]).suspect
    assert gate_result(out, gate=gate, scores=[near.model_copy(update={"value": "0.49"})]).suspect


def test_a_floor_that_a_trivial_baseline_meets_proves_nothing() -> None:
    floor = Rule(name="floor", metric="accuracy", min="0.90")
    gate = Gate(rules=[floor, NOT_WORSE])
    out = output(row("floor", 0.97, 0.97), row("not-worse", 0.7, 0.7), trivial_baseline=[0.93, 0.5])

    found = gate_result(out, gate=gate)
    assert (found.verdict, found.reason) == ("Inconclusive", "FloorProvesNothing")
    assert found.message.startswith(
        "floor: accuracy >= 0.90 proves nothing: a trivial baseline scores 0.9300 on holdout"
    )
    higher = Gate(rules=[floor.model_copy(update={"min": "0.95"}), NOT_WORSE])
    assert gate_result(out, gate=higher).verdict == "Accepted"


def test_a_ceiling_above_the_loss_of_a_constant_proves_nothing() -> None:
    ceiling = Rule(name="ll", metric="log_loss", max="0.70")
    out = output(row("ll", 0.30, 0.30), trivial_baseline=[0.65])
    assert gate_result(out, gate=Gate(rules=[ceiling])).reason == "FloorProvesNothing"
    lower = ceiling.model_copy(update={"max": "0.64"})
    assert gate_result(out, gate=Gate(rules=[lower])).verdict == "Accepted"


def test_a_floor_on_other_rows_than_the_holdout_may_be_that_of_a_constant() -> None:
    evaluation = Evaluation(
        datasets=[
            Dataset(name="holdout", role="Holdout"),
            Dataset(name="musts", role="Guardrail", uri="file:///models/musts.csv"),
        ]
    )
    musts = Rule(name="musts", metric="accuracy", dataset="musts", min="0.9")
    out = output(row("floor", 0.7, 0.7), row("musts", 0.97, 0.97), trivial_baseline=[0.5, 1.0])
    found = gate_result(out, gate=Gate(rules=[FLOOR, musts]), evaluation=evaluation)
    assert found.verdict == "Accepted"


def test_a_result_without_the_score_of_a_trivial_baseline_is_never_a_pass() -> None:
    found = gate_result(both(0.70, 0.68).model_copy(update={"trivial_baseline": []}))
    assert (found.verdict, found.reason) == ("Inconclusive", "MissingNumber")
    assert "the score of a trivial baseline is not known" in found.message


def test_a_rise_of_log_loss_is_a_fall() -> None:
    rule = Rule(name="ll", metric="log_loss", max_regression=Margin(absolute="0.05"))
    gate = Gate(rules=[FLOOR, rule])
    out = output(row("floor", 0.7, 0.7), row("ll", 0.60, 0.60))
    risen = Score(metric="log_loss", dataset="holdout", value="0.40", standard_error="0.004")
    assert gate_result(out, gate=gate, scores=[risen]).suspect
    assert not gate_result(
        out, gate=gate, scores=[risen.model_copy(update={"value": "0.9"})]
    ).suspect


def test_too_few_entities_are_not_suspect() -> None:
    floor = FLOOR.model_copy(update={"min_entities": 1000})
    found = gate_result(both(0.5, 0.5), gate=Gate(rules=[floor, NOT_WORSE]))
    assert (found.reason, found.suspect) == ("TooFewEntities", False)


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


MAE = Rule(name="floor", metric="mae", max="8")
ERROR = Gate(
    rules=[MAE, Rule(name="not-worse", metric="wape", max_regression=Margin(relative="0.1"))]
)


def prices(candidate: float, live: float) -> EvaluateOutput:
    return output(
        row("floor", candidate, live),
        row("not-worse", candidate / 100, live / 100, width=0.0005),
        trivial_baseline=[20.0, 0.2],
    )


def test_an_error_of_prices_passes_below_its_bound_and_is_worse_when_it_grows() -> None:
    found = gate_result(prices(5.0, 5.2), gate=ERROR)
    assert found.verdict == "Accepted"
    assert "positives" not in found.results[0].message
    worse = gate_result(prices(7.0, 5.0), gate=ERROR)
    assert (worse.verdict, worse.reason) == ("Rejected", "RuleFailed")
    vain = gate_result(
        prices(5.0, 5.2).model_copy(update={"trivial_baseline": [7.0, 0.2]}), gate=ERROR
    )
    assert vain.reason == "FloorProvesNothing"


def test_a_holdout_on_which_the_error_of_live_grows_by_more_than_a_fifth_is_suspect() -> None:
    last = Score(metric="wape", dataset="holdout", value="0.05", standard_error="0.0001")
    kept = ERROR.model_copy(update={"max_holdout_drop": HoldoutDrop(relative="0.5")})
    found = gate_result(prices(6.2, 6.2), gate=ERROR, scores=[last])
    assert (found.reason, found.suspect) == ("HoldoutSuspect", True)
    assert "wape of live is 0.0620" in found.message
    assert "worse by 0.0120: more than 3 standard errors" in found.message
    assert not gate_result(prices(6.2, 6.2), gate=kept, scores=[last]).suspect
    below = gate_result(prices(9.0, 9.0), gate=ERROR)
    assert below.suspect, "live is above the absolute bound, and the candidate is not better"


def test_small_losses_of_an_error_do_not_add_up() -> None:
    lasting = Rule(
        name="floor", metric="rmse", max="9", max_cumulative_regression=Margin(relative="0.1")
    )
    rows = output(row("floor", 6.0, 5.9), trivial_baseline=[20.0])
    far = rows.model_copy(update={"versus_reference": [(5.0, 1.0, 0.9, 1.1)]})
    assert gate_result(far, gate=Gate(rules=[lasting])).verdict == "Rejected"
    near = rows.model_copy(update={"versus_reference": [(5.8, 0.2, 0.1, 0.3)]})
    assert gate_result(near, gate=Gate(rules=[lasting])).verdict == "Accepted"


@pytest.mark.parametrize("value", [-3.0, 0.4])
def test_r2_may_be_negative_and_is_better_when_higher(value) -> None:
    rule = Rule(name="floor", metric="r2", min="0.3")
    found = gate_result(
        output(row("floor", value, value), trivial_baseline=[0.0]), gate=Gate(rules=[rule])
    )
    assert found.results[0].verdict == ("Pass" if value > 0 else "Reject")
