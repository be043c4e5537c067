"""Numbers of an evaluation as the trainer writes them, and the verdict on them."""

from springtide_api.contract import EvaluateOutput
from springtide_api.update.gate import (
    Evaluation,
    Gate,
    Margin,
    Rule,
)
from springtide_judging.gate import Judgement, judge, missing_counts

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
