"""Reports of a stage to the trackers of its run file."""

from __future__ import annotations

import math
import time
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

from springtide_trainer.errors import Interrupted
from springtide_trainer.storage import remote_of
from springtide_trainer.tracking.mlflow import MLflow
from springtide_trainer.tracking.sending import Sending
from springtide_trainer.tracking.tensorboard import TensorBoard
from springtide_trainer.tracking.tracker import Point, TrackedRun
from springtide_trainer.tracking.wandb import WandB

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path

    from springtide_api.contract import RunFile
    from springtide_api.generation.spec import Recipe
    from springtide_api.update.tracking import Place
    from springtide_trainer.storage import Home
    from springtide_trainer.tracking.tracker import Ending, Tracker

TRACKERS: Mapping[Place, Callable[[TrackedRun], Tracker]] = {
    "TensorBoard": TensorBoard,
    "MLflow": MLflow,
    "WandB": WandB,
}
CURVE = 1000
"""Points of a curve at most: a long run reports every so many steps."""
SECONDS = 20.0
"""How long the end of a stage waits for all trackers together."""
SECONDS_OF_A_POD = 5.0
"""The same where the pod is being ended: its grace period is for the checkpoint."""


class Report:
    """Collects the numbers of a stage; without trackers it does nothing.

    Args:
        run: The generation.
        places: Names of the trackers.
        clock: Returns the time as seconds since 1970.
    """

    def __init__(
        self,
        run: TrackedRun | None = None,
        places: Mapping[Place, Callable[[TrackedRun], Tracker]] | None = None,
        *,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._run = run
        self._places = places or {}
        self._clock = clock
        self._sendings: list[Sending] = []
        self._every = 1

    def begin(self, first: int = 0, total: int = 0) -> None:
        """Open the trackers.

        Args:
            first: Steps completed before.
            total: Steps of the whole run.
        """
        self._every = max(1, math.ceil(total / CURVE))
        if self._run is None:
            return
        run = replace(self._run, first=first)
        for name, connect in self._places.items():
            self._sendings.append(Sending(name, partial(connect, run)))
            self._sendings[-1].start()

    def due(self, step: int) -> bool:
        """Return whether the curves get a point at a step."""
        return bool(self._sendings) and (step == 1 or step % self._every == 0)

    def add(self, step: int, values: Mapping[str, float]) -> None:
        """Report numbers at a step; what is not finite is left out."""
        now = self._clock()
        points = [
            Point(step, name, float(value), now)
            for name, value in values.items()
            if math.isfinite(value)
        ]
        for sending in self._sendings:
            sending.add(points)

    def end(self, ending: Ending, seconds: float = SECONDS) -> None:
        """Send what is left, all trackers at once, and wait for them."""
        for sending in self._sendings:
            sending.end(ending)
        limit = time.monotonic() + seconds
        for sending in self._sendings:
            sending.wait(max(0.0, limit - time.monotonic()))

    @property
    def warnings(self) -> list[str]:
        """What each tracker did not get, and why; empty if all was sent."""
        return [each.warning for each in self._sendings if each.warning]


@contextmanager
def reporting(run: RunFile, home: Home, scratch: Path, *, leads: bool = True) -> Iterator[Report]:
    """Report to the trackers of a run file in this block.

    Args:
        run: The run file.
        home: The storage.
        scratch: A folder of this pod.
        leads: Whether this is the first process, which alone reports.
    """
    names = run.tracking.report_to if run.tracking and leads else []
    report = Report(_tracked(run, home, scratch), {name: TRACKERS[name] for name in names})
    try:
        yield report
    except Interrupted:
        report.end("interrupted", SECONDS_OF_A_POD)
        raise
    except BaseException:
        report.end("failed", SECONDS_OF_A_POD)
        raise
    report.end("finished")


def _tracked(run: RunFile, home: Home, scratch: Path) -> TrackedRun:
    folder, result = home.path / "tracking", run.result or run.job
    return TrackedRun(
        update=f"{run.namespace}/{run.update}",
        # The result of an evaluation names its analysis, too: g3-0123abcd-evaluate-1-89ab.
        name=result.rpartition(f"-{run.stage}")[0] or result,
        title=f"{run.update} g{run.number}",
        folder=folder,
        scratch=scratch / "tracking",
        on_claim=remote_of(folder) is None,
        parameters=parameters(run.recipe) if run.train else {},
    )


def parameters(recipe: Recipe) -> dict[str, str]:
    """Return what a training was asked for, by dotted names, without any place or Secret."""
    training, model = recipe.training.resolved(), recipe.model
    blocks: dict[str, Any] = {
        "task": model.task,
        "maxLength": model.max_length,
        "keepLayers": model.keep_layers,
        "classification": model.classification,
        "regression": model.regression,
        "ranking": model.ranking,
        "embedding": model.embedding,
        "causalLm": model.causal_lm,
        "method": training.method,
        "hyperparameters": training.hyperparameters,
        "earlyStopping": training.early_stopping,
        "retention": training.retention,
        "robustness": training.robustness,
        "pruning": training.pruning,
        "unlabelled": training.unlabelled,
    }
    plain = {name: _plain(block) for name, block in blocks.items() if block is not None}
    return dict(_flat(plain))


def _plain(block: Any) -> Any:
    return block.plain() if hasattr(block, "plain") else block


def _flat(block: Mapping[str, Any], above: str = "") -> Iterator[tuple[str, str]]:
    for name, value in block.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{above}{name}.")
        else:
            yield f"{above}{name}", str(value)
