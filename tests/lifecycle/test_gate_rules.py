"""One rule, evaluated by its bounds: judging.md, Verdicts 1, 2, 7 and 9."""

from math import inf, nan

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from springtide_api.update.gate import Margin, Rule
from springtide_judging.bounds import Interval, Numbers
from springtide_judging.rules import TEXT_LIMIT, judge_rule

METRICS = ["auc", "pr_auc", "log_loss", "accuracy", "macro_f1", "ece", "ndcg@10"]


def measured(candidate=None, live=None, delta=None, *, entities=500, positives=120) -> Numbers:
    """Give each number with an interval of +- 0.01 unless it has one."""

    def around(value) -> Interval:
        if value is None:
            return Interval()
        return (
            Interval(*value)
            if isinstance(value, tuple)
            else Interval(value, value - 0.01, value + 0.01)
        )

    return Numbers(
        "r", around(candidate), around(live), around(delta), 0.006, 0.006, entities, positives
    )


def rule(metric: str = "auc", **bounds) -> Rule:
    return Rule(name="r", metric=metric, **bounds)


def verdict(of: Rule, numbers: Numbers, *, baseline: bool = True) -> str:
    evaluated = judge_rule(of, numbers, baseline=baseline)
    assert evaluated is not None
    return evaluated.result.verdict


def test_an_absolute_rule_passes_rejects_or_decides_nothing_by_the_candidates_own_interval() -> (
    None
):
    floor = rule(min="0.60")
    assert verdict(floor, measured(0.62)) == "Pass"
    assert verdict(floor, measured(0.605)) == "Inconclusive"
    assert verdict(floor, measured(0.595)) == "Inconclusive"
    assert verdict(floor, measured(0.58)) == "Reject"

    ceiling = rule("log_loss", max="0.50")
    assert verdict(ceiling, measured(0.48)) == "Pass"
    assert verdict(ceiling, measured(0.495)) == "Inconclusive"
    assert verdict(ceiling, measured(0.52)) == "Reject"


def test_a_value_that_must_be_at_least_one_may_be_one() -> None:
    assert verdict(rule("accuracy", min="1.0"), measured((1.0, 1.0, 1.0))) == "Pass"


def test_superiority_needs_a_low_bound_above_zero_and_is_rejected_by_a_high_bound_below() -> None:
    better = rule(min_improvement=Margin(absolute="0"))
    assert verdict(better, measured(0.7, 0.68, 0.02)) == "Pass"
    assert verdict(better, measured(0.7, 0.69, 0.01)) == "Inconclusive"
    assert verdict(better, measured(0.7, 0.695, 0.005)) == "Inconclusive"
    assert verdict(better, measured(0.7, 0.72, -0.02)) == "Reject"


def test_non_inferiority_compares_with_minus_the_margin() -> None:
    not_worse = rule(max_regression=Margin(absolute="0.02"))
    assert verdict(not_worse, measured(0.7, 0.70, 0.0)) == "Pass"
    assert verdict(not_worse, measured(0.7, 0.71, -0.01)) == "Inconclusive"
    assert verdict(not_worse, measured(0.7, 0.715, -0.015)) == "Inconclusive"
    assert verdict(not_worse, measured(0.7, 0.74, -0.04)) == "Reject"


def test_the_sign_of_a_metric_that_is_better_when_lower_is_inverted() -> None:
    better = rule("log_loss", min_improvement=Margin(absolute="0.005"))
    evaluated = judge_rule(better, measured(0.40, 0.43, -0.03), baseline=True)
    assert evaluated is not None
    assert evaluated.result.verdict == "Pass"
    assert (evaluated.result.delta, evaluated.result.low, evaluated.result.high) == (
        "0.03",
        "0.02",
        "0.04",
    )
    assert verdict(better, measured(0.43, 0.40, 0.03)) == "Reject"


def test_a_relative_margin_is_a_fraction_of_the_live_value() -> None:
    not_worse = rule(max_regression=Margin(relative="0.05"))
    assert verdict(not_worse, measured(0.79, 0.80, -0.02)) == "Pass"
    assert verdict(not_worse, measured(0.39, 0.40, -0.02)) == "Inconclusive"


def test_a_zero_baseline_under_a_relative_bound_decides_nothing() -> None:
    not_worse = rule("pr_auc", max_regression=Margin(relative="0.05"))
    evaluated = judge_rule(not_worse, measured(0.5, (0.0, 0.0, 0.0), 0.5), baseline=True)
    assert evaluated is not None
    assert (evaluated.result.verdict, evaluated.reason) == ("Inconclusive", "ZeroBaseline")


def test_a_cumulative_regression_is_compared_with_the_reference() -> None:
    allowed = rule(max_cumulative_regression=Margin(absolute="0.02"))

    def beside(delta: float) -> Numbers:
        compared = Interval(delta, delta - 0.005, delta + 0.005)
        return measured(0.7, 0.7, 0.0)._replace(reference=0.7 - delta, versus_reference=compared)

    assert verdict(allowed, beside(0.0)) == "Pass"
    assert verdict(allowed, beside(-0.017)) == "Inconclusive"
    evaluated = judge_rule(allowed, beside(-0.03), baseline=True)
    assert evaluated is not None
    assert evaluated.result.verdict == "Reject"
    assert evaluated.result.message == (
        "r: auc regressed by 0.0300 against the reference (bounds 0.0250 to 0.0350), allowed "
        "regression 0.02: failed on holdout (500 contributing entities, 120 positives)"
    )
    share = rule(max_cumulative_regression=Margin(relative="0.01"))
    assert verdict(share, beside(-0.001)) == "Pass"
    assert verdict(share, beside(-0.02)) == "Reject"


@pytest.mark.parametrize("metric", ["auc", "rmse", "r2"])
def test_a_relative_cumulative_margin_is_undefined_where_the_reference_is_0(metric: str) -> None:
    share = rule(metric, max_cumulative_regression=Margin(relative="0.01"))
    numbers = measured(0.1, 0.1, 0.0)._replace(
        reference=0.0, versus_reference=Interval(0.1, 0.09, 0.11)
    )
    evaluated = judge_rule(share, numbers, baseline=True)
    assert evaluated is not None
    assert (evaluated.result.verdict, evaluated.reason) == ("Inconclusive", "ZeroBaseline")
    assert "the reference is 0, so a relative margin is undefined" in evaluated.result.message


def test_without_results_of_the_reference_a_cumulative_regression_is_not_decided() -> None:
    both = rule(min="0.6", max_cumulative_regression=Margin(absolute="0.02"))
    evaluated = judge_rule(both, measured(0.7, 0.7, 0.0), baseline=True)
    assert evaluated is not None
    assert (evaluated.result.verdict, evaluated.reason) == ("Inconclusive", "MissingNumber")
    assert "no value of auc for the comparison with the reference" in evaluated.result.message
    assert verdict(both, measured(0.7), baseline=False) == "Pass", "the first has no reference"


def test_a_value_without_bounds_is_told_from_a_value_that_is_missing() -> None:
    for value, words in (((0.5, nan, nan), "no bounds of auc"), ((nan,) * 3, "no value of auc")):
        found = judge_rule(rule(min="0.6"), measured(value), baseline=False)
        assert found is not None
        assert (found.result.verdict, found.reason) == ("Inconclusive", "MissingNumber")
        assert f"{words} for the candidate" in found.result.message


def test_a_result_states_whether_the_candidate_is_proven_better() -> None:
    def superior(delta: float, metric: str = "auc", entities: int = 500) -> bool:
        numbers = measured(0.7, 0.7 - delta, delta, entities=entities)
        evaluated = judge_rule(rule(metric, min="0.1"), numbers, baseline=True)
        assert evaluated is not None
        return evaluated.result.superior

    assert [superior(0.02), superior(0.005), superior(-0.02)] == [True, False, False]
    assert [superior(-0.02, "log_loss"), superior(0.02, "log_loss")] == [True, False]
    assert not superior(0.02, entities=29)


def test_too_few_entities_or_positives_decide_nothing_however_good_the_numbers() -> None:
    evaluated = judge_rule(rule(min="0.5", min_entities=600), measured(0.9), baseline=True)
    assert evaluated is not None
    assert (evaluated.result.verdict, evaluated.reason, evaluated.more_entities) == (
        "Inconclusive",
        "TooFewEntities",
        100,
    )
    assert "500 contributing entities < 600" in evaluated.result.message

    evaluated = judge_rule(rule(min="0.5", min_positives=240), measured(0.9), baseline=True)
    assert evaluated is not None
    assert (evaluated.reason, evaluated.more_entities) == ("TooFewPositives", 500)
    assert "120 positives < 240" in evaluated.result.message


def test_fewer_than_thirty_contributing_entities_decide_nothing_unless_a_rule_takes_fewer() -> None:
    assert verdict(rule(min="0.5"), measured(0.9, entities=29)) == "Inconclusive"
    assert verdict(rule(min="0.5"), measured(0.9, entities=30)) == "Pass"
    assert verdict(rule(min="0.5", min_entities=10), measured(0.9, entities=10)) == "Pass"
    with pytest.raises(ValidationError):
        rule(min="0.5", min_entities=9)


@pytest.mark.parametrize(
    "bad", [(nan, 0.8, 0.9), (0.9, nan, 0.95), (0.9, 0.95, 0.85), (1.2, 1.1, 1.3), (0.9, 0.8, inf)]
)
def test_nan_infinite_and_impossible_numbers_decide_nothing(bad) -> None:
    assert verdict(rule(min="0.5"), measured(bad)) == "Inconclusive"
    assert judge_rule(rule(min="0.5"), None, baseline=True).reason == "MissingNumber"


def test_a_missing_live_number_decides_nothing_in_a_comparison() -> None:
    compared = rule(min="0.5", max_regression=Margin(absolute="0.1"))
    assert verdict(compared, measured(0.9, None, 0.2)) == "Inconclusive"
    assert verdict(compared, measured(0.9, 0.7, None)) == "Inconclusive"


def test_without_a_baseline_comparisons_are_left_out_and_absolute_bounds_stay() -> None:
    assert (
        judge_rule(rule(min_improvement=Margin(absolute="0")), measured(0.9), baseline=False)
        is None
    )
    both = rule(min="0.6", max_regression=Margin(absolute="0.01"))
    assert verdict(both, measured(0.7), baseline=False) == "Pass"


def test_all_bounds_of_a_rule_must_pass_and_any_rejects() -> None:
    both = rule(min="0.60", max_regression=Margin(absolute="0.02"))
    assert verdict(both, measured(0.70, 0.70, 0.0)) == "Pass"
    assert verdict(both, measured(0.70, 0.75, -0.05)) == "Reject"
    assert verdict(both, measured(0.50, 0.50, 0.0)) == "Reject"
    assert verdict(both, measured(0.605, 0.60, 0.0)) == "Inconclusive"
    between = rule("ece", min="0.0", max="0.05")
    assert verdict(between, measured((0.03, 0.02, 0.04))) == "Pass"


def test_an_undecided_rule_reports_how_many_more_entities_would_decide_it() -> None:
    evaluated = judge_rule(rule(min="0.600"), measured(0.605), baseline=True)
    assert evaluated is not None
    assert evaluated.more_entities == 1500  # half the width needs four times the entities
    assert evaluated.result.message == (
        "r: auc 0.6050 (bounds 0.5950 to 0.6150), required >= 0.600: inconclusive on holdout "
        "(500 contributing entities, 120 positives); about 1,500 more entities would decide it"
    )
    at_the_bound = judge_rule(rule(min="0.605"), measured(0.605), baseline=True)
    assert at_the_bound is not None
    assert at_the_bound.more_entities is None


def intervals(least: float, most: float) -> st.SearchStrategy[Interval]:
    number = st.one_of(st.floats(least, most), st.just(nan))
    three = st.tuples(number, number, number)
    return three.map(lambda x: Interval(sorted(x)[1], min(x), max(x)))


def rules() -> st.SearchStrategy[Rule]:
    amount = st.decimals(0, 1, places=3).map(str)
    margin = st.one_of(
        amount.map(lambda x: Margin(absolute=x)), amount.map(lambda x: Margin(relative=x))
    )
    bounds = st.sampled_from(["min", "max", "min_improvement", "max_regression"]).flatmap(
        lambda key: st.tuples(st.just(key), amount if key in {"min", "max"} else margin)
    )
    return st.builds(
        lambda metric, chosen, entities: Rule(
            name="r", metric=metric, min_entities=entities, **dict(chosen)
        ),
        st.sampled_from(METRICS),
        st.lists(bounds, min_size=1, max_size=3),
        st.integers(10, 1000),
    )


@given(
    rules(), intervals(0, 1), intervals(0, 1), intervals(-1, 1), st.integers(0, 1000), st.booleans()
)
def test_nothing_passes_on_a_number_that_is_missing(
    of, candidate, live, delta, entities, baseline
) -> None:
    numbers = Numbers("r", candidate, live, delta, 0.1, 0.1, entities, 5)
    evaluated = judge_rule(of, numbers, baseline=baseline)
    if evaluated is None:
        assert not baseline
        return
    assert len(evaluated.result.message) <= TEXT_LIMIT
    used = [*candidate] if of.min or of.max else []
    if baseline and (of.min_improvement or of.max_regression):
        used += [*live, *delta]
    if any(x != x for x in used) or entities < of.min_entities:
        assert evaluated.result.verdict == "Inconclusive"


@given(rules(), st.floats(0.2, 0.8), st.floats(0.2, 0.8), st.floats(0, 0.2), st.floats(0, 0.2))
def test_a_better_candidate_never_gets_a_worse_verdict(of, own, live, width, gain) -> None:
    sign = -1 if of.metric in {"log_loss", "ece"} else 1
    of = of.model_copy(update={"max": None} if sign == 1 else {"min": None})
    if not any((of.min, of.max, of.min_improvement, of.max_regression)):
        return

    def evaluated(value: float) -> str:
        def wide(centre: float) -> Interval:
            return Interval(centre, centre - width, centre + width)

        numbers = Numbers("r", wide(value), wide(live), wide(value - live), 0.1, 0.1, 1000, 100)
        return verdict(of, numbers)

    worse, better = evaluated(own), evaluated(own + sign * gain)
    order = ["Reject", "Inconclusive", "Pass"]
    sane = own - width >= 0 and own + gain + width <= 1 and own - gain - width >= 0
    if sane and live - width >= 0 and live + width <= 1:
        assert order.index(better) >= order.index(worse)
