"""Which verdicts use an interim analysis, and what blocks the first generation."""

from __future__ import annotations

import pytest
from lifecycle.declared import SPEC
from lifecycle.world import World, with_generation_one


@pytest.mark.survives(
    "Results",
    "an evaluation returns numbers of other weights, another baseline or another holdout, or a "
    "row for a rule that does not exist",
    "held as `ResultMismatch`, no interim analysis used; `retry` evaluates the same rows again "
    "without training",
)
@pytest.mark.parametrize(
    "lie", ["another candidate", "another baseline", "another holdout", "a foreign row"]
)
def test_a_foreign_result_uses_no_interim_analysis_and_holds_until_a_retry(lie: str) -> None:
    world = with_generation_one()
    world.spoil_next_result = lie
    world.months.append("2025-03")
    world.rounds(6)
    held = world.generation(2).status

    assert (held.verdict, held.reason) == ("Inconclusive", "ResultMismatch")
    assert held.message.endswith("no interim analysis used; on hold")
    assert world.condition("ActionRequired").message == (
        "shop-g2 is on hold: annotate springtide.dev/request=retry@<token> to evaluate again, or "
        f"reject@<token>; {held.message}"
    )
    assert held.evaluation.interim_analyses == 0
    assert world.update.status.phase == "OnHold"

    world.ask("retry@1")
    world.rounds(4)
    accepted = world.generation(2).status
    assert (accepted.verdict, accepted.evaluation.interim_analyses) == ("Accepted", 1)
    assert [holdout.partitions for holdout in accepted.evaluation.holdouts] == [["2025-03"]] * 2
    assert len([name for name in world.job_names_ever if "-g2-train-" in name]) == 1


def test_with_on_inconclusive_reject_a_foreign_result_rejects_and_uses_no_interim_analysis() -> (
    None
):
    world = World(spec=SPEC | {"gate": SPEC["gate"] | {"onInconclusive": {"type": "Reject"}}})
    world.settle()
    world.spoil_next_result = "another candidate"
    world.months = ["2025-01", "2025-02"]
    world.rounds(6)
    first = world.generation(1).status

    assert (first.verdict, first.reason) == ("Rejected", "ResultMismatch")
    assert first.evaluation.interim_analyses == 0


def test_the_first_generation_waits_for_no_entities_of_a_comparison() -> None:
    floor, not_worse = SPEC["gate"]["rules"]
    world = World(spec=SPEC | {"gate": {"rules": [floor, not_worse | {"minEntities": 300}]}})
    world.settle()
    world.months = ["2025-01", "2025-02"]
    world.rounds(8)
    assert world.generation(1).status.verdict == "Accepted"

    world.months.append("2025-03")
    world.rounds(6)
    second = world.generation(2).status
    assert second.reason == "TooFewEntities"
    assert second.message.startswith("not-worse: 200 entities < 300")


def test_a_first_generation_with_rules_on_history_alone_is_on_hold_at_once() -> None:
    """The API server refuses such a gate; one from before that rule may be stored."""
    floor, not_worse = SPEC["gate"]["rules"]
    datasets = [{"name": "holdout", "role": "Holdout"}, {"name": "memory", "role": "Historical"}]
    rules = [floor | {"dataset": "memory"}, not_worse]
    world = World(spec=SPEC | {"evaluation": {"datasets": datasets}, "gate": {"rules": rules}})
    world.settle()
    world.months = ["2025-01", "2025-02"]
    world.rounds(6)
    world.months.append("2025-03")
    world.rounds(4)
    first = world.generation(1).status

    assert first.verdict == "Inconclusive"
    assert first.message.startswith(
        "no Required rule could be evaluated; no interim analysis used; on hold"
    )
    assert (first.evaluation.interim_analyses, len(first.evaluation.holdouts)) == (0, 1)
