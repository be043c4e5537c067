"""The verdict of a local run: the operator's function, and how often this holdout was used."""

from __future__ import annotations

from typing import TYPE_CHECKING

from springtide_judging.gate import judge, missing_counts
from springtide_judging.interim_analyses import max_interim_analyses
from springtide_judging.same_weights import SAME_WEIGHTS, same_weights

if TYPE_CHECKING:
    from springtide_api.contract import EvaluateOutput
    from springtide_api.generation.spec import Recipe
    from springtide_trainer.local.lineage import Generations, LocalGeneration


def without_scores(
    known: Generations, generation: LocalGeneration, recipe: Recipe
) -> Generations | None:
    """Conclude before scoring, where equal weights or counts decide; else None."""
    window, artifact, live = (
        generation.window,
        generation.artifact,
        known.number(generation.baseline),
    )
    assert window is not None
    assert artifact is not None
    same = same_weights(
        artifact.served_digest,
        live.artifact.served_digest if live and live.artifact else None,
        recipe=recipe,
        metrics=generation.metrics,
    )
    if same is not None:
        changes = {"verdict": "Rejected", "reason": SAME_WEIGHTS, "message": same}
        return known.with_(generation.model_copy(update=changes))
    short = missing_counts(
        recipe.gate,
        recipe.evaluation,
        entities=window.holdout_entities,
        positives=window.holdout_positives,
        without_baseline=generation.baseline is None,
    )
    if short is None:
        return None
    message = f"the holdout is too small and was not scored: {short}"
    verdict = "Rejected" if recipe.gate.on_inconclusive.type == "Reject" else "Inconclusive"
    changes = {"verdict": verdict, "reason": "TooFewEntities", "message": message}
    return known.with_(generation.model_copy(update=changes))


def conclude(
    known: Generations, generation: LocalGeneration, output: EvaluateOutput, recipe: Recipe
) -> Generations:
    """Write the verdict of a candidate, and live's own scores on this holdout."""
    live, reference = known.number(generation.baseline), known.number(generation.reference)
    window, artifact = generation.window, generation.artifact
    assert window is not None
    assert artifact is not None
    judgement = judge(
        recipe.gate,
        recipe.evaluation,
        output,
        without_baseline=live is None,
        live_scores=live.scores if live else [],
        expected_candidate=artifact.served_digest,
        expected_baseline=live.artifact.served_digest if live and live.artifact else None,
        expected_reference=reference.artifact.served_digest
        if reference and reference.artifact
        else None,
        expected_holdout=window.digest,
        history=bool(generation.historical),
    )
    verdict, reason, message = judgement.verdict, judgement.reason, judgement.message
    spent, most = known.analyses(window.holdout_partitions), max_interim_analyses(recipe.gate)
    if verdict == "Accepted" and spent >= most:
        verdict, reason = "Inconclusive", "InterimAnalysesUsedUp"
        message = _used_up(window.holdout_partitions, spent, most)
    rejects = recipe.gate.on_inconclusive.type == "Reject" and not judgement.suspect
    if judgement.verdict == "Inconclusive" and rejects:
        verdict, message = "Rejected", f"{message} (gate.onInconclusive is Reject)"
    if live is not None and not judgement.suspect and judgement.live_scores_now:
        known = known.with_(live.model_copy(update={"scores": list(judgement.live_scores_now)}))
    return known.with_(
        generation.model_copy(
            update={
                "verdict": verdict,
                "reason": reason,
                "message": message,
                "results": list(judgement.results),
                "scores": [] if judgement.suspect else list(judgement.scores),
                "interim_analyses": judgement.interim_analyses,
                "report": output.report,
            }
        )
    )


def _used_up(partitions: list[str], spent: int, most: int) -> str:
    names = partitions[0] if len(partitions) == 1 else f"{partitions[0]} to {partitions[-1]}"
    return (
        f"all rules pass, but {spent} earlier local runs were evaluated on {names} and {most} may "
        "be: the best of several recipes passes by chance; evaluate this one on later partitions "
        "(--through)"
    )
