"""Checkpoints on disk: complete or absent, and only used by the run that they belong to.

A checkpoint is tensors and numbers, not a pickle. It is written to a scratch folder and then
renamed, so a crash never leaves an incomplete checkpoint.
"""

from __future__ import annotations

import hashlib
import json
import logging
import shutil
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from safetensors import SafetensorError

from springtide_trainer.artifact.manifest import MANIFEST, verify, write_manifest
from springtide_trainer.errors import Refused
from springtide_trainer.processes import ALONE
from springtide_trainer.storage import (
    commit_folder,
    committed_folders,
    forget,
    local_path,
    uri_of,
)
from springtide_trainer.training.engine.state_files import OneFile

if TYPE_CHECKING:
    from pathlib import Path

    from torch import Tensor

    from springtide_trainer.processes import Processes
    from springtide_trainer.training.engine.state_files import StateFiles

log = logging.getLogger(__name__)

_PREFIX = "step-"


@dataclass(frozen=True)
class State:
    """The state of a run after a step: everything that the remaining steps depend on.

    Attributes:
        step: Number of completed steps.
        tensors: Weights, optimizer state and best weights, by name.
        numbers: State that is not a tensor, as JSON values.
    """

    step: int
    tensors: dict[str, Tensor]
    numbers: dict[str, Any]


@dataclass(frozen=True)
class Checkpoints:
    """The checkpoints of one generation, shared by its attempts.

    Attributes:
        folder: The folder of the checkpoints.
        scratch: A folder of this pod on the same file system, which all its processes share.
        identity: Identifies the run: recipe, digest of the rows, parent.
        environment: Threads, instruction set and precision, on which bit-equal results depend.
        keep: Number of checkpoints to keep.
        files: How the tensors are written.
        processes: The processes of the run, of which the first one alone commits.
    """

    folder: Path
    scratch: Path
    identity: dict[str, Any]
    environment: dict[str, Any]
    keep: int
    files: StateFiles = field(default_factory=OneFile)
    processes: Processes = ALONE

    def save(self, state: State) -> None:
        """Commit a state and remove the oldest beyond `keep`. An existing one of the step stays.

        All processes call this, and go on when it is committed.
        """
        final = self.folder / f"{_PREFIX}{state.step:09d}"
        if self.processes.from_first(final.exists()):
            return
        scratch = self.scratch / "checkpoint"
        if self.processes.leads:
            shutil.rmtree(scratch, ignore_errors=True)
            scratch.mkdir(parents=True)
        self.processes.wait()
        self.files.write(state.tensors, scratch)
        if self.processes.leads:
            self._commit(state, scratch, final)
        self.processes.wait()

    def _commit(self, state: State, scratch: Path, final: Path) -> None:
        metadata = {
            "step": state.step,
            "numbers": state.numbers,
            "identity": self.identity,
            "environment": self.environment,
        }
        (scratch / "state.json").write_text(json.dumps(metadata), encoding="utf-8")
        write_manifest(scratch)
        if commit_folder(scratch, final):
            log.info("checkpoint saved", extra={"step": state.step})
        for old in self._newest_first()[self.keep :]:
            self._remove(old)

    def newest(self) -> State | None:
        """Read the newest complete checkpoint of this run; log why newer ones are not used.

        Raises:
            Refused, OSError: the storage cannot be read now. That says nothing of the checkpoint.
        """
        for folder in self._newest_first():
            try:
                if state := self._read(folder):
                    return state
            except (Refused, SafetensorError, ValueError, KeyError, OSError) as damaged:
                if not _is_damage(damaged):
                    raise
                log.warning(
                    "checkpoint is damaged and was removed",
                    extra={"folder": folder.name, "error": str(damaged)},
                )
                self._remove(folder)
        return None

    def _read(self, committed: Path) -> State | None:
        folder = local_path(uri_of(committed))
        verify(folder, f"sha256:{hashlib.sha256((folder / MANIFEST).read_bytes()).hexdigest()}")
        metadata = json.loads((folder / "state.json").read_bytes())
        if metadata["identity"] != self.identity:
            # It would take the place of a checkpoint of this run, of the same step.
            log.warning(
                "checkpoint belongs to another run and was removed", extra={"folder": folder.name}
            )
            self._remove(committed)
            return None
        if metadata["environment"] != self.environment:
            log.warning(
                "checkpoint was saved in another environment: weights will not be bit-equal",
                extra={"saved": metadata["environment"], "now": self.environment},
            )
        return State(int(metadata["step"]), self.files.read(folder), metadata["numbers"])

    def _newest_first(self) -> list[Path]:
        room = committed_folders(self.folder)
        found = (path for path in room if path.name.startswith(_PREFIX))
        return sorted(found, key=lambda path: path.name, reverse=True)

    def _remove(self, folder: Path) -> None:
        """Rename a checkpoint before deleting it, so no reader sees a partly deleted one."""
        forget(folder)
        scratch = self.scratch / f"old-{folder.name}"
        shutil.rmtree(scratch, ignore_errors=True)
        try:
            folder.rename(scratch)
        except FileNotFoundError:
            return
        shutil.rmtree(scratch, ignore_errors=True)


def _is_damage(error: Exception) -> bool:
    """Whether a file of a checkpoint is missing or has another content."""
    if isinstance(error, Refused):
        return error.failure.reason in {"DigestMismatch", "UnsafeArtifact", "MissingModel"}
    return not isinstance(error, OSError) or isinstance(error, FileNotFoundError)
