"""The comparison of two error rates; `tests/bench/false_rollbacks.py` has more cases."""

from itertools import product
from math import comb

import pytest
from bench.false_rollbacks import MINUTES, Traffic, simulate

from springtide_judging.two_binomials import Counts, Evidence, look

KNOWN = Evidence(canary=Counts(1, 100), stable=Counts(18, 900))
RATES = [0.0, 0.001, 0.02, 0.1, 0.4, 0.8, 1.0]


def probability(bad: int, total: int, rate: float) -> float:
    return comb(total, bad) * rate**bad * (1 - rate) ** (total - bad)


@pytest.mark.parametrize("allowed", [0.0, 0.005, 0.2])
@pytest.mark.parametrize(("requests", "beside"), [(1, 1), (2, 9), (7, 3), (4, 0)])
def test_no_look_expects_a_gain_where_the_canary_is_not_worse(allowed, requests, beside) -> None:
    """The exact expectation over all outcomes of a look: so the false alarms are at most 5 %."""
    outcomes = list(product(range(requests + 1), range(beside + 1)))
    gains = {
        (one, other): look(
            KNOWN,
            Counts(1 + one, 100 + requests),
            Counts(18 + other, 900 + beside),
            max_regression=allowed,
        ).e_value
        for one, other in outcomes
    }
    for stable in RATES:
        for canary in (rate for rate in [*RATES, stable + allowed] if rate <= stable + allowed):
            expected = sum(
                gains[one, other]
                * probability(one, requests, min(canary, 1.0))
                * probability(other, beside, stable)
                for one, other in outcomes
            )
            assert expected <= 1 + 1e-9, (canary, stable)


def test_equal_generations_are_rarely_told_apart_in_a_day_of_looks() -> None:
    found = simulate(Traffic(0.02, 0.02, per_look=20, looks=MINUTES), runs=30)
    assert found.share <= 0.05 + 0.08  # 5 % of 30 have a standard error of 4 points


def test_errors_doubled_from_2_to_4_percent_are_found_within_a_thousand_requests() -> None:
    found = simulate(Traffic(0.04, 0.02, per_look=50, looks=20), runs=400)
    assert found.share >= 0.8


def test_requests_of_the_stable_generation_before_the_comparison_make_it_faster() -> None:
    slow, fast = (
        simulate(Traffic(0.04, 0.02, per_look=100, looks=10, earlier=earlier), runs=400)
        for earlier in (0, 9000)
    )
    assert fast.share > slow.share


def test_a_canary_that_fails_every_second_request_is_found_within_thirty() -> None:
    found = simulate(Traffic(0.5, 0.02, per_look=10, looks=3), runs=100)
    assert found.share >= 0.99


def test_a_regression_that_is_allowed_is_not_found() -> None:
    found = simulate(Traffic(0.03, 0.02, per_look=50, looks=100, max_regression=0.01), runs=50)
    assert found.share <= 0.1


def test_counts_that_fall_and_looks_without_requests_change_nothing() -> None:
    after = look(KNOWN, Counts(0, 90), Counts(10, 800), max_regression=0.0)
    assert after == KNOWN
    assert look(KNOWN, KNOWN.canary, KNOWN.stable, max_regression=0.0) == KNOWN


def test_the_first_look_proves_nothing() -> None:
    after = look(Evidence(), Counts(100, 100), Counts(0, 900), max_regression=0.0)
    assert after.e_value == 1.0
    assert not after.regressed()
