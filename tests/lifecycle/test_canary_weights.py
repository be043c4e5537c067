"""Weights of a canary in whole pods."""

from __future__ import annotations

import pytest

from springtide_operator.lifecycle.canary.weights import (
    canary_pods,
    is_expressible,
    nearest_weights,
    share,
)


@pytest.mark.parametrize(
    ("weight", "pods", "expected"),
    [
        (10, 9, 1),
        (50, 9, 9),
        (20, 4, 1),
        (33, 2, 1),
        (1, 1, 1),
        (99, 1, 99),
        (25, 9, 3),
        (1, 500, 5),
    ],
)
def test_the_number_of_canary_pods_is_nearest_to_the_weight(
    weight: int, pods: int, expected: int
) -> None:
    assert canary_pods(weight, pods) == expected


def test_no_other_number_of_pods_is_nearer() -> None:
    for pods in (1, 2, 3, 7, 20, 99):
        for weight in range(1, 100):
            chosen = canary_pods(weight, pods)
            assert chosen >= 1
            for other in {max(chosen - 1, 1), chosen + 1}:
                assert abs(share(chosen, pods) - weight) <= abs(share(other, pods) - weight)


def test_a_weight_within_five_points_is_possible_and_the_nearest_are_named() -> None:
    assert is_expressible(10, 9)
    assert is_expressible(12, 6)
    assert not is_expressible(10, 2)
    assert nearest_weights(10, 2) == [33, 50]
    assert nearest_weights(40, 2) == [33, 50]
