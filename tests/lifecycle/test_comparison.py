"""What is made of the four numbers of a ratio metric: a sample with its verdict, and evidence."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime, timedelta

import pytest
from lifecycle.world import NOON, after_promotions

from springtide_api.generation.comparison import Requests
from springtide_api.generation.rollout import RolloutStatus
from springtide_api.objects import ModelGeneration
from springtide_api.update.analysis import Metric
from springtide_operator.lifecycle.analysis.comparison import (
    comparison_of,
    evidence,
    has_ended,
    in_all_steps,
    regression,
    requests_of_step,
)
from springtide_operator.lifecycle.analysis.samples import unproven
from springtide_operator.lifecycle.analysis.verdicts import MOST, measure
from springtide_operator.lifecycle.analysis.watched import IN_STEPS, Baseline, Watched
from springtide_operator.lifecycle.state.observed import ObservedSample
from springtide_operator.lifecycle.state.plan import CANARY_ROLE, LIVE_ROLE

SELECTOR = 'requests{{generation="{{{{generation}}}}",outcome=~"{}"}}'
RATIO = {"bad": SELECTOR.format("error"), "total": SELECTOR.format(".*"), "maxRegression": "0"}
PARTS = "canary: bad", "canary: total", "live: bad", "live: total"
METRIC = Metric.model_validate({"name": "errors", "ratio": RATIO})


@dataclass
class Side:
    """A canary of generation 2 beside generation 1, whose samples are kept as in a status."""

    generation: ModelGeneration
    live: ModelGeneration
    metric: Metric = METRIC
    began: datetime = NOON
    now: datetime = NOON

    @property
    def about(self) -> Watched:
        live = Baseline(self.live, LIVE_ROLE, self.began, IN_STEPS, ("canary", "live"))
        return Watched(self.generation, CANARY_ROLE, self.began, [self.metric], live)

    def sees(self, *counts: float | None, **changes: object):
        """Record what the counters show now, in the order of PARTS; None: no series."""
        self.now += timedelta(minutes=1)
        answers = [
            ObservedSample("shop-g2", "errors", "", self.now, value, "no series", part=part)
            for part, value in zip(PARTS, counts, strict=True)
        ]
        return self.records([replace(each, **changes) for each in answers])

    def records(self, answers):
        measured = measure(self.about, self.metric, answers)
        rollout = self.generation.status.rollout
        ring = [*rollout.analysis, measured.sample]
        kept = [measured.comparison] if measured.comparison else rollout.comparisons
        status = self.generation.status.model_copy(
            update={"rollout": RolloutStatus(analysis=ring, comparisons=kept)}
        )
        # As it is read from the API server.
        raw = {**self.generation.plain(), "status": status.plain()}
        self.generation = ModelGeneration.model_validate(raw)
        return measured.sample

    def known(self):
        return comparison_of(self.about, self.metric)


@pytest.fixture(scope="module")
def promoted():
    world = after_promotions(2)
    return world.generation(2), world.generation(1)


@pytest.fixture
def side(promoted):
    return Side(*promoted)


def test_a_sample_shows_the_difference_of_both_shares_with_their_requests(side) -> None:
    sample = side.sees(3, 100, 18, 900)
    assert (sample.value, sample.bound, sample.verdict) == ("0.01", "maxRegression 0", "Pass")
    assert sample.message == "canary 3 of 100, live 18 of 900, e-value 1 of 20"


def test_a_canary_that_fails_more_often_is_found_and_the_reason_has_all_numbers(side) -> None:
    assert side.sees(2, 100, 18, 900).verdict == "Pass"
    sample = side.sees(45, 200, 36, 1800)
    assert (sample.verdict, has_ended(side.about, METRIC)) == ("Fail", True)
    why = regression(side.about, side.known(), METRIC)
    assert why.startswith(
        "metric errors: 45 of 200 requests of the canary are bad (22.50%), and 36 of 1,800 of "
        "shop-g1 (2.00%); maxRegression 0, e-value "
    )
    assert why.endswith(", bound 20 (rollout.analysis)")


@pytest.mark.survives(
    "Operator",
    "is replaced between any two samples of a ratio metric",
    "the next one continues from the counts and the evidence in the status: no request is looked "
    "at twice, so that false alarms stay at 5 % over any number of looks",
)
def test_the_same_counts_again_change_no_evidence(side) -> None:
    side.sees(2, 100, 18, 900)
    side.sees(5, 200, 30, 1800)
    before = side.known()
    assert evidence(before).e_value != 1.0
    for _ in range(3):
        side.sees(5, 200, 30, 1800)
    assert side.known() == before


def test_a_next_step_counts_anew_and_keeps_the_evidence(side) -> None:
    side.sees(2, 100, 18, 900)
    side.sees(7, 200, 30, 1800)
    before = evidence(side.known()).wealth
    side.began = side.now
    assert requests_of_step(side.about, METRIC) == 0
    assert unproven(side.about) == ""  # its sample is of this very moment
    side.sees(0, 40, 3, 100)
    known = side.known()
    assert requests_of_step(side.about, METRIC) == 40
    assert in_all_steps(known) == (Requests(bad=7, total=240), Requests(bad=33, total=1900))
    assert evidence(known).earlier.total == 1800
    assert evidence(known).wealth != before


def test_one_look_compares_nothing_yet(side) -> None:
    side.sees(2, 100, 18, 900)
    assert unproven(side.about) == (
        "metric errors has one sample, and its test compares from the second on"
    )
    side.sees(4, 200, 36, 1800)
    assert unproven(side.about) == ""


def test_a_sample_of_an_earlier_step_proves_nothing(side) -> None:
    side.sees(2, 100, 18, 900)
    side.began = side.now + timedelta(minutes=1)
    assert unproven(side.about) == "metric errors has no sample yet"


def test_counts_that_fall_are_ignored_and_the_sample_says_so(side) -> None:
    side.sees(5, 200, 30, 1800)
    before = side.known()
    sample = side.sees(1, 50, 10, 400)
    assert sample.verdict == "Pass"
    assert sample.message.endswith("; counts fell, ignored")
    assert side.known() == before
    side.sees(5, 300, 30, 2000)
    assert side.known().watched == Requests(bad=5, total=300)


def test_what_increase_extrapolates_beyond_whole_requests_is_no_request(side) -> None:
    side.sees(2.999, 100.7, 17.99999999, 900.2)
    assert (side.known().watched, side.known().baseline) == (
        Requests(bad=2, total=100),
        Requests(bad=18, total=900),
    )


def test_a_counter_that_no_bad_request_has_made_yet_is_zero(side) -> None:
    sample = side.sees(None, 100, None, 900)
    assert sample.verdict == "Pass"
    assert sample.message == "canary 0 of 100, live 0 of 900, e-value 1 of 20; bad: no series"
    assert "no series" not in side.sees(None, 200, 4, 1800).message


@pytest.mark.survives(
    "Deployments",
    "Prometheus has no total of a side, no requests, more bad ones than all, or no finite number",
    "no evidence: the sample is NoData with its cause, the step goes on, and onNoData decides",
)
@pytest.mark.parametrize(
    ("counts", "message"),
    [
        ((1, None, 2, 900), "canary: total: no series"),
        ((1, 100, 2, None), "live: total: no series"),
        ((0, 0, 2, 900), "canary: no requests"),
        ((0, 100, 0, 0), "live: no requests"),
        ((12, 10, 2, 900), "canary: 12 bad of 10; total must include the bad ones"),
        ((1, 100, -2, 900), "live: bad: -2 is no number of requests"),
        ((1, 10 * MOST, 2, 900), "canary: total: 1e+16 is no number of requests"),
    ],
)
def test_numbers_that_are_no_counts_are_no_data_and_no_evidence(side, counts, message) -> None:
    sample = side.sees(*counts)
    assert (sample.verdict, sample.value, sample.message) == ("NoData", None, message)
    assert side.known() is None


def test_a_refused_query_is_an_error_in_the_words_of_prometheus(side) -> None:
    sample = side.sees(None, None, None, None, problem="Prometheus: parse error", invalid=True)
    assert sample.verdict == "Error"
    assert sample.message == "canary: total: Prometheus: parse error"


@pytest.mark.parametrize(
    ("problem", "invalid", "verdict"),
    [
        ("no answer within 10s", False, "NoData"),
        ("no connection or a broken answer (ClientConnectorError)", False, "NoData"),
        ("the value is nan", False, "NoData"),
        ("2 series; aggregate them, such as with sum()", True, "Error"),
        ("the answer is longer than 256 KiB; a query must return one number", True, "Error"),
    ],
)
def test_a_number_that_could_not_be_had_is_told_and_no_evidence(
    side, problem, invalid, verdict
) -> None:
    sample = side.sees(None, None, None, None, problem=problem, invalid=invalid)
    assert (sample.verdict, sample.message) == (verdict, f"canary: total: {problem}")
    assert side.known() is None


def test_a_sample_without_all_four_numbers_is_none(side) -> None:
    answers = [ObservedSample("shop-g2", "errors", "", NOON, 1, part=part) for part in PARTS[1:]]
    assert measure(side.about, METRIC, answers) is None


@pytest.mark.parametrize("change", ["maxRegression", "bad", "live"])
def test_a_comparison_starts_again_once_it_compares_something_else(side, change) -> None:
    side.sees(5, 100, 18, 900)
    side.sees(9, 200, 36, 1800)
    if change == "live":
        side.live = side.live.model_copy(
            update={"metadata": side.live.metadata.model_copy(update={"name": "shop-g0"})}
        )
    else:
        ratio = {**RATIO, change: "0.1" if change == "maxRegression" else SELECTOR.format("5..")}
        side.metric = Metric.model_validate({"name": "errors", "ratio": ratio})
    assert side.known() is None
    side.sees(9, 200, 36, 1800)
    assert evidence(side.known()).e_value == 1.0
