"""The command `tune`: checks what is asked, searches, and writes the recipe that was found."""

from __future__ import annotations

import argparse
import math
import os
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from springtide_api.contract import ExitCode
from springtide_api.objects import Problem
from springtide_trainer.errors import Interrupted, Refused
from springtide_trainer.local import manifest_file
from springtide_trainer.local.display import display
from springtide_trainer.local.lineage import Generations
from springtide_trainer.local.opening import (
    TERMINATED,
    add_places,
    on_folder,
    places,
    stage_failed,
)
from springtide_trainer.local.tuning import search_space

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from springtide_api.contract import RunFile
    from springtide_trainer.local.display import Display
    from springtide_trainer.local.manifest_file import LocalRecipe
    from springtide_trainer.local.run import LocalRun
    from springtide_trainer.local.tuning.search_space import Dimension, Value
    from springtide_trainer.storage import Home

NOTHING_FOUND = 1
STOPPING = "spec.training.earlyStopping"
PRUNING = "spec.training.pruning"


def add_command(commands: Any) -> None:
    """Add the command to the parser."""
    tune = commands.add_parser(
        "tune", help="search hyperparameters on the validation part of the next window"
    )
    tune.set_defaults(command=_tune)
    add_places(tune)
    tune.add_argument(
        "--search",
        action="append",
        type=search_space.parse,
        metavar="NAME=VALUES",
        help="what is searched, such as learningRate=1e-6:1e-4 or batchSize=16,32; may be "
        f"repeated; one of {', '.join(search_space.PLACES)}; default: learningRate from a tenth "
        "to ten times that of the recipe, warmup, weightDecay, and epochs unless maxSteps is set",
    )
    tune.add_argument(
        "--trials", type=_positive, default=20, help="number of trainings; default 20"
    )
    tune.add_argument(
        "--minutes", type=float, default=math.inf, help="start no trial after so many; default: all"
    )
    tune.add_argument(
        "--write",
        type=Path,
        required=True,
        metavar="FILE",
        help="where the recipe that was found is written",
    )


def _tune(given: argparse.Namespace) -> int:
    """Search, and write the recipe that was found."""
    if find_spec("optuna") is None:
        message = (
            "the search needs Optuna; in a checkout of the repository: "
            "pip install '.[trainer,cli,tune]'"
        )
        raise Refused("MissingPackage", message, code=ExitCode.ENVIRONMENT)
    manifest = manifest_file.load(given.manifest)
    asked = manifest_file.made(manifest, given.manifest, places(given))
    dimensions = _dimensions(given, asked)
    _check(given, manifest, asked, dimensions)
    shown = display()
    return on_folder(
        asked,
        given.storage,
        shown,
        lambda home: _search(given, manifest, dimensions, _local(given, asked, home, shown)),
    )


def _dimensions(given: argparse.Namespace, asked: LocalRecipe) -> Sequence[Dimension]:
    found: Sequence[Dimension] = given.search or search_space.default(asked.recipe.training)
    names = [each.name for each in found]
    if twice := {name for name in names if names.count(name) > 1}:
        message = f"--search names {', '.join(sorted(twice))} twice; name each once"
        raise Refused("InvalidSearch", message)
    return found


def _check(
    given: argparse.Namespace,
    manifest: Mapping[str, Any],
    asked: LocalRecipe,
    dimensions: Sequence[Dimension],
) -> None:
    """Check the search before anything is trained.

    Raises:
        InvalidManifest: the API server would refuse a value that would be tried.
        Refused: the recipe as it is would not be tried, or what is found could not be written.
    """
    training, folder = asked.recipe.training, given.write.absolute().parent
    if given.write.is_dir() or not os.access(folder, os.W_OK | os.X_OK):
        message = f"--write {given.write} cannot be written; name a file in a folder of yours"
        raise Refused("NoAccess", message, code=ExitCode.ENVIRONMENT)
    if training.pruning is not None:
        message = (
            "excludes earlyStopping, which holds out the validation part on which the trials are "
            "compared: search without pruning, and add it to the recipe that is found"
        )
        raise manifest_file.InvalidManifest(given.manifest, [Problem(PRUNING, message)])
    if training.early_stopping is None:
        message = (
            "is missing; it holds out the validation part on which the trials are compared: "
            "add `earlyStopping: {}`"
        )
        raise manifest_file.InvalidManifest(given.manifest, [Problem(STOPPING, message)])
    for each in dimensions:
        value = search_space.current(each, training)
        if not each.contains(value):
            message = (
                f"--search {each} does not contain {search_space.written(value)}, the value of the "
                "recipe, which is the first trial; widen it"
            )
            raise Refused("InvalidSearch", message)
        for corner in each.corners:
            tried = search_space.changed(manifest, {each.name: corner})
            manifest_file.made(tried, given.manifest, places(given))


def _local(given: argparse.Namespace, asked: LocalRecipe, home: Home, shown: Display) -> LocalRun:
    from springtide_trainer.local.run import LocalRun, Request

    return LocalRun(asked, home, shown, Request.of(given), Generations.read(home.path))


def _search(
    given: argparse.Namespace,
    manifest: Mapping[str, Any],
    dimensions: Sequence[Dimension],
    local: LocalRun,
) -> int:
    from springtide_trainer.local.local_stages import StageFailed
    from springtide_trainer.local.run import NoRun
    from springtide_trainer.local.tuning import found
    from springtide_trainer.local.tuning.trials import Search

    try:
        local.import_model()
        window = local.next_window()

        def of(values: Mapping[str, Value]) -> RunFile:
            tried = manifest_file.made(
                _with(manifest, local.asked, values), given.manifest, places(given)
            )
            return replace(local, asked=tried).training(window)

        search = Search(local.training(window), of, dimensions, local.home, local.display)
        study = search.run(given.trials, seconds=60 * given.minutes)
    except NoRun as none:
        local.display.line(f"no search, {none.reason}: {none}")
        return ExitCode.TOO_LITTLE_DATA
    except StageFailed as failed:
        return stage_failed(failed, local.home, local.display)
    except Interrupted:
        local.display.line("interrupted; the same command continues")
        return TERMINATED
    best = found.show(study, search)
    if best is None:
        return NOTHING_FOUND
    document = _with(manifest, local.asked, best)
    found.write(given.write, document, study, search)
    local.display.line(
        f"{given.write} is written. The best of several is always flattered by the rows on which "
        "it was chosen; `springtide-trainer run` judges it on the holdout"
    )
    return 0


def _with(
    manifest: Mapping[str, Any], asked: LocalRecipe, values: Mapping[str, Value]
) -> dict[str, Any]:
    """Return a manifest with other values, validated after as many rows as before."""
    changed = search_space.changed(manifest, values)
    training = asked.recipe.training
    options, stopping = training.hyperparameters, training.early_stopping
    assert stopping is not None
    size = int(values.get("batchSize", options.batch_size))
    passes = int(values.get("gradientAccumulation", options.gradient_accumulation))
    before = options.batch_size * options.gradient_accumulation
    if size * passes == before:
        return changed
    every = max(1, round(stopping.every_steps * before / (size * passes)))
    block = {**changed["spec"]["training"]["earlyStopping"], "everySteps": every}
    changed["spec"]["training"]["earlyStopping"] = block
    return changed


def _positive(text: str) -> int:
    try:
        value = int(text)
    except ValueError as wrong:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number") from wrong
    if value < 1:
        raise argparse.ArgumentTypeError(f"{value} trials; at least 1 is needed")
    return value
