"""Weights & Biases: a run for each generation, in a group for each update."""

from __future__ import annotations

import hashlib
import os
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence

    from springtide_trainer.tracking.tracker import Ending, Point, TrackedRun

PROJECT = "springtide"
EXIT_CODES = {"finished": 0, "interrupted": 143, "failed": 1}
SECONDS = 15
"""Time for the connection, and for what is left at the end."""


class WandB:
    """A run whose id follows from the generation, so every pod goes on in the same one.

    Without WANDB_API_KEY it is written below the storage, for `wandb sync`: a folder for each pod.
    """

    def __init__(self, run: TrackedRun) -> None:
        os.environ.setdefault("WANDB_ERROR_REPORTING", "false")
        import wandb

        offline = not os.environ.get("WANDB_API_KEY")
        if offline and not run.on_claim:
            raise LookupError("no WANDB_API_KEY, and the storage is an object store")
        folder = run.folder if offline else run.scratch
        folder.mkdir(parents=True, exist_ok=True)
        settings: dict[str, Any] = {
            "console": "off",
            "silent": True,
            "disable_git": True,
            "save_code": False,
            "init_timeout": SECONDS,
            "finish_timeout": SECONDS,
            "x_disable_meta": True,
            "x_disable_stats": True,
            "x_disable_machine_info": True,
        }
        try:
            self._run = wandb.init(
                project=os.environ.get("WANDB_PROJECT") or PROJECT,
                group=run.update,
                name=run.title,
                id=hashlib.sha256(f"{run.update}/{run.name}".encode()).hexdigest()[:16],
                resume="allow",
                reinit="create_new",
                mode="offline" if offline else "online",
                dir=str(folder),
                config=dict(run.parameters) or None,
                settings=wandb.Settings(**settings),
            )
        except BaseException:
            wandb.teardown()  # its process keeps the id of a run that it could not open
            raise
        self._run.define_metric("*", step_metric="step")

    def log(self, points: Sequence[Point]) -> None:
        """Send points, all of a step together; the package sends in the background."""
        steps: dict[int, dict[str, float]] = {}
        for point in points:
            steps.setdefault(point.step, {})[point.name] = point.value
        for step, values in steps.items():
            self._run.log({**values, "step": step})

    def close(self, ending: Ending) -> None:
        """End the run with an exit code, as its pod does, and the process that writes its file.

        The package only asks that process to write, and a pod may end before it has.
        """
        import wandb

        self._run.finish(exit_code=EXIT_CODES[ending])
        wandb.teardown()
