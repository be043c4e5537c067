"""What a search found and what it cost: a table, and a manifest."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from optuna.trial import TrialState

from springtide_trainer.local import kubectl_yaml
from springtide_trainer.local.tuning import search_space
from springtide_trainer.local.tuning.trials import SECONDS, ended, is_recipe, result

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from optuna import Study
    from optuna.trial import FrozenTrial

    from springtide_trainer.local.tuning.search_space import Value
    from springtide_trainer.local.tuning.trials import Search

SHOWN = 8
"""Rows of the table: the best trials."""


def show(study: Study, search: Search) -> dict[str, Value] | None:
    """Show the best trials; return the values of the best, or None if the recipe is not beaten."""
    done = _by_value(study)
    if not any(ended(study)):
        search.display.line("no trial was started before --minutes were over; raise it")
        return None
    if not done:
        search.display.line("no trial has a result; every one diverged or ran out of memory")
        return None
    names = [each.name for each in search.dimensions]
    numbers = {each.number: index for index, each in enumerate(ended(study), start=1)}
    header = ["trial", *names, search.metric, "seconds", "result"]
    search.display.table(header, [_row(each, search, done[0], numbers) for each in done[:SHOWN]])
    search.display.line(cost(study))
    if done[0].value == _of_recipe(done):
        search.display.line("no values are better than those of the recipe; nothing is written")
        return None
    return values(done[0], search)


def values(trial: FrozenTrial, search: Search) -> dict[str, Value]:
    """Return the values of a trial as they were tried."""
    found: dict[str, Value] = {}
    for each in search.dimensions:
        value = trial.params[each.name]
        found[each.name] = value if each.bounds is None else each.rounded(value)
    return found


def cost(study: Study) -> str:
    """Return what all trials cost."""
    trials = list(ended(study))
    seconds = sum(each.user_attrs[SECONDS] for each in trials)
    counts = [
        (sum(each.state == TrialState.PRUNED for each in trials), "ended early"),
        (sum(each.state == TrialState.FAIL for each in trials), "failed"),
    ]
    of = "".join(f", {count} {what}" for count, what in counts if count)
    return f"{len(trials)} trials{of}, {seconds:,.0f} s of training"


def write(path: Path, document: Mapping[str, Any], study: Study, search: Search) -> None:
    """Write the manifest that was found, and what it cost."""
    best = _by_value(study)[0]
    before = _of_recipe(_by_value(study))
    of_recipe = "" if before is None else f"; the recipe as it was: {before:.4f}"
    lines = [
        f"# Found by springtide-trainer tune: {result(best, search.metric)}{of_recipe}.",
        f"# {cost(study)}. Searched: {' '.join(map(str, search.dimensions))}",
    ]
    text = kubectl_yaml.dump(dict(document), width=100)
    path.write_text("\n".join([*lines, text]), encoding="utf-8")


def _by_value(study: Study) -> list[FrozenTrial]:
    """Return the trials with a value, the best first, the earlier one of two equal ones."""
    done = [each for each in ended(study) if each.state == TrialState.COMPLETE]
    sign = 1.0 if study.direction.name == "MINIMIZE" else -1.0
    return sorted(done, key=lambda each: (sign * (each.value or 0.0), each.number))


def _of_recipe(done: list[FrozenTrial]) -> float | None:
    """Return the value of the recipe as it was; None: its trial failed."""
    return next((each.value for each in done if is_recipe(each)), None)


def _row(
    trial: FrozenTrial, search: Search, best: FrozenTrial, numbers: Mapping[int, int]
) -> list[str]:
    tried = values(trial, search)
    return [
        "recipe" if is_recipe(trial) else str(numbers[trial.number]),
        *(search_space.written(tried[each.name]) for each in search.dimensions),
        f"{trial.value:.4f}",
        f"{trial.user_attrs[SECONDS]:.0f}",
        "best" if trial is best else "-",
    ]
