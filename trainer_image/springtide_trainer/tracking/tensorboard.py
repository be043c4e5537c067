"""TensorBoard: a folder of event files for each generation; a folder above them shows all."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from springtide_trainer.storage import replace_file

if TYPE_CHECKING:
    from collections.abc import Sequence

    from springtide_trainer.tracking.tracker import Ending, Point, TrackedRun


class TensorBoard:
    """Event files, written by PyTorch's `SummaryWriter`.

    Each pod adds a file. TensorBoard itself drops what an earlier file has after the step at which
    a resumed one begins (`purge_step`).
    """

    def __init__(self, run: TrackedRun) -> None:
        from torch.utils.tensorboard import SummaryWriter

        self._final = run.folder / "tensorboard" / run.name
        self._written = self._final if run.on_claim else run.scratch / "tensorboard"
        self._on_claim = run.on_claim
        purge = run.first + 1 if run.first else None
        connect: Any = SummaryWriter  # typed only where the package is installed
        self._writer = connect(log_dir=str(self._written), purge_step=purge)
        if run.parameters:
            rows = [f"| {name} | {value} |" for name, value in run.parameters.items()]
            table = "\n".join(["| parameter | value |", "|---|---|", *rows])
            self._writer.add_text("parameters", table)

    def log(self, points: Sequence[Point]) -> None:
        """Write points and flush the file."""
        for point in points:
            self._writer.add_scalar(point.name, point.value, point.step, point.at)
        self._writer.flush()

    def close(self, ending: Ending) -> None:
        """Close the file, and upload it to an object store."""
        self._writer.close()
        if not self._on_claim:
            for file in sorted(self._written.iterdir()):
                replace_file(file, self._final / file.name)
