"""The verdict on errors and r2 of predicted numbers: smaller is better, and r2 may be negative."""

import pytest
from lifecycle.gate_results import gate_result, output, row

from springtide_api.contract import EvaluateOutput
from springtide_api.generation.status import Score
from springtide_api.update.gate import (
    Gate,
    HoldoutDrop,
    Margin,
    Rule,
)

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
