"""What a holdout proves: nothing where live falls, or where a bound is met without a model."""

from lifecycle.gate_results import FLOOR, GATE, NOT_WORSE, both, gate_result, output, row

from springtide_api.generation.status import Score
from springtide_api.update.gate import (
    Dataset,
    Evaluation,
    Gate,
    HoldoutDrop,
    Margin,
    Rule,
)


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
