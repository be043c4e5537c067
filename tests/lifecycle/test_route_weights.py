"""Weights of a route: whole numbers with the owner's sum, and what is written when."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from lifecycle.route_examples import AT_REST, route

from springtide_operator.lifecycle.routes.weights import changes, error_of, split, unexpected

TOTALS = {0: 100}


@pytest.mark.parametrize(
    ("total", "percent", "weights"),
    [
        (100, 10, (90, 10)),
        (100, 0, (100, 0)),
        (100, 100, (0, 100)),
        (1000, 5, (950, 50)),
        (7, 50, (3, 4)),
        (1, 10, (1, 0)),
    ],
)
def test_a_share_is_split_into_whole_weights_with_the_owners_sum(total, percent, weights):
    assert split(total, percent) == weights


@given(st.integers(1, 1_000_000), st.integers(0, 100))
def test_weights_keep_their_sum_and_miss_the_share_by_half_a_weight_at_most(total, percent):
    stable, canary = split(total, percent)
    assert stable + canary == total
    assert stable >= 0
    assert canary >= 0
    assert error_of(total, percent) <= 50 / total + 1e-9


def test_both_weights_of_every_rule_that_names_both_services_change_and_nothing_else():
    seen = route({"ranker": 100, "ranker-canary": 0, "old": 50}, {"docs": 1}, AT_REST)
    made = changes(seen, "ranker", {0: 100, 2: 100}, 10)
    assert [(c.rule, c.index, c.service, c.before, c.after) for c in made] == [
        (0, 0, "ranker", 100, 90),
        (0, 1, "ranker-canary", 0, 10),
        (2, 0, "ranker", 100, 90),
        (2, 1, "ranker-canary", 0, 10),
    ]


def test_a_route_with_the_wanted_weights_is_not_written():
    assert changes(route({"ranker": 90, "ranker-canary": 10}), "ranker", TOTALS, 10) == ()


def test_the_way_back_writes_the_recorded_weight_whatever_another_client_has_set():
    made = changes(route({"ranker": 3, "ranker-canary": 4}), "ranker", TOTALS, 0)
    assert [each.after for each in made] == [100, 0]


def test_a_rule_that_was_added_since_goes_back_to_its_own_sum():
    seen = route({"ranker": 100, "ranker-canary": 0}, {"ranker": 7, "ranker-canary": 3})
    made = changes(seen, "ranker", TOTALS, 0)
    assert [(each.rule, each.after) for each in made] == [(0, 100), (0, 0), (1, 10), (1, 0)]


def test_weights_of_a_step_that_was_written_are_expected_and_others_are_not():
    def found(weights):
        pair = unexpected(route(weights), "ranker", TOTALS, (0, 10))
        return pair and tuple(each.weight for each in pair)

    assert found({"ranker": 100, "ranker-canary": 0}) is None
    assert found({"ranker": 90, "ranker-canary": 10}) is None
    assert found({"ranker": 50, "ranker-canary": 50}) == (50, 50)
    assert found({"ranker": 9, "ranker-canary": 1}) == (9, 1)


def test_a_backend_of_another_namespace_is_not_a_weight_of_ours():
    seen = route(AT_REST)
    away = tuple(replace(each, namespace="other") for each in seen.backends)
    assert changes(replace(seen, backends=away), "ranker", TOTALS, 10) == ()
