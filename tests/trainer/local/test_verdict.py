"""The verdict of local runs: holdouts that were used before, counts, suspect holdouts."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from springtide_api.contract import CommittedArtifact, EvaluateOutput, WindowFound
from springtide_api.generation.spec import Recipe
from springtide_api.generation.status import Score
from springtide_api.update.training import EarlyStopping
from springtide_trainer.local.lineage import Generations, LocalGeneration
from springtide_trainer.local.verdict import conclude, without_scores

LIVE, CANDIDATE, ROWS = ("sha256:" + letter * 64 for letter in "abc")


def recipe(on_inconclusive: dict[str, Any] | None = None) -> Recipe:
    columns = {"text": "t", "label": "l", "timestamp": "ts"}
    rules = [
        {"name": "useful", "metric": "auc", "min": "0.6"},
        {"name": "as-good", "metric": "auc", "maxRegression": {"absolute": "0.01"}},
    ]
    gate = {"rules": rules} | ({"onInconclusive": on_inconclusive} if on_inconclusive else {})
    return Recipe.model_validate(
        {
            "model": {"initial": {"uri": "file:///m"}, "labels": ["0", "1"]},
            "data": {"source": {"uri": "file:///d", "format": "CSV", "columns": columns}},
            "training": {},
            "evaluation": {},
            "gate": gate,
            "storage": {"uri": "file:///m", "volume": {"claimName": "m"}},
        }
    )


def window(*holdout: str, **counts: int) -> WindowFound:
    return WindowFound(
        manifest="file:///rows",
        digest=ROWS,
        to=datetime(2026, 3, 1, tzinfo=UTC),
        holdout_from=datetime(2026, 3, 1, tzinfo=UTC),
        holdout_to=datetime(2026, 4, 1, tzinfo=UTC),
        holdout_partitions=list(holdout),
        **{"holdout_entities": 300, "holdout_positives": 90, **counts},
    )


def generation(number: int, **changes: Any) -> LocalGeneration:
    digest = LIVE if number == 0 else CANDIDATE
    made = CommittedArtifact(uri="file:///a", digest=digest, bytes=1)
    return LocalGeneration(number=number, recipe=f"r{number}", artifact=made, **changes)


def output(auc: float, live: float, width: float = 0.01) -> EvaluateOutput:
    def around(value: float) -> tuple[float, float, float]:
        return value, value - width, value + width

    numbers = (*around(auc), *around(live), *around(auc - live), width / 2, width / 2, 300, 90)
    return EvaluateOutput(
        rules=[(name, *numbers) for name in ("useful", "as-good")],
        trivial_baseline=[0.5, 0.5],
        candidate_digest=CANDIDATE,
        baseline_digest=LIVE,
        holdout_digest=ROWS,
        report="file:///report",
    )


def lineage(*before: LocalGeneration, scores: list[Score] | None = None) -> Generations:
    candidate = generation(9, parent=0, baseline=0, window=window("2026-03", "2026-04"))
    live = generation(0, verdict="Imported", scores=scores or [])
    return Generations(generations=[live, *before, candidate])


def concluded(known: Generations, measured: EvaluateOutput, made: Recipe) -> LocalGeneration:
    candidate = known.number(9)
    assert candidate is not None
    found = conclude(known, candidate, measured, made).number(9)
    assert found is not None
    return found


@pytest.mark.parametrize(("used", "verdict"), [(2, "Accepted"), (3, "Inconclusive")])
def test_after_three_runs_on_a_partition_the_best_recipe_is_not_accepted_on_it(used, verdict):
    before = [
        generation(number, verdict="Rejected", interim_analyses=1, window=window("2026-03"))
        for number in range(1, used + 1)
    ]

    found = concluded(lineage(*before), output(0.75, 0.7), recipe())

    assert found.verdict == verdict
    if used == 3:
        assert found.reason == "InterimAnalysesUsedUp"
        assert "3 earlier local runs were evaluated on 2026-03 to 2026-04 and 3 may be" in (
            found.message
        )


def test_runs_on_other_partitions_do_not_count():
    before = [
        generation(number, verdict="Rejected", interim_analyses=1, window=window("2026-02"))
        for number in range(1, 6)
    ]

    assert concluded(lineage(*before), output(0.75, 0.7), recipe()).verdict == "Accepted"


def test_an_inconclusive_candidate_is_rejected_where_the_gate_says_so():
    found = concluded(lineage(), output(0.75, 0.75, width=0.1), recipe({"type": "Reject"}))

    assert found.verdict == "Rejected"
    assert found.message.endswith("(gate.onInconclusive is Reject)")


def test_a_holdout_on_which_live_falls_is_suspect_and_uses_no_analysis():
    then = [Score(metric="auc", dataset="holdout", value="0.8", standard_error="0.005")]

    found = concluded(lineage(scores=then), output(0.5, 0.5), recipe())

    assert (found.verdict, found.reason) == ("Inconclusive", "HoldoutSuspect")
    assert (found.interim_analyses, found.scores) == (0, [])


def test_the_scores_of_live_are_kept_for_the_next_holdout():
    known = lineage()
    candidate = known.number(9)

    live = conclude(known, candidate, output(0.75, 0.7), recipe()).number(0)

    assert [(each.metric, each.value) for each in live.scores] == [("auc", "0.7")]


def test_a_holdout_with_too_few_entities_is_not_scored():
    candidate = generation(9, baseline=0, window=window("2026-03", holdout_entities=29))

    found = without_scores(Generations(generations=[candidate]), candidate, recipe())

    assert found.number(9).reason == "TooFewEntities"
    assert "useful: 29 entities < 30" in found.number(9).message
    enough = candidate.model_copy(update={"window": window("2026-03")})
    assert without_scores(Generations(), enough, recipe()) is None


def test_weights_of_the_live_model_are_rejected_without_scores():
    candidate = generation(9, baseline=0, window=window("2026-03"), metrics={"best_step": 0.0})
    same = candidate.model_copy(update={"artifact": generation(0).artifact})
    known = Generations(generations=[generation(0, verdict="Imported"), same])
    early = recipe().training.model_copy(update={"early_stopping": EarlyStopping(metric="auc")})

    plain = without_scores(known, same, recipe()).number(9)
    found = without_scores(known, same, recipe().model_copy(update={"training": early})).number(9)

    assert (found.verdict, found.reason) == ("Rejected", "SameWeights")
    assert found.message.endswith("because no step improved auc on the validation split")
    assert plain.message.endswith("so it was not evaluated: training did not change them")
    assert without_scores(known, candidate, recipe()) is None
