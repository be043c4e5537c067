"""Checkpoints on disk: whole or not there, of this very run or not used.

A checkpoint is tensors and numbers, no pickle. It is written aside, then moved into place with one
rename; what a crash leaves behind is never at a checkpoint's place.
"""

from __future__ import annotations

import hashlib
import json
import logging
import shutil
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from springtide_trainer.artifact.manifest import MANIFEST, verify, write_manifest
from springtide_trainer.errors import Refused
from springtide_trainer.storage import commit_folder

if TYPE_CHECKING:
    from pathlib import Path

    from torch import Tensor

log = logging.getLogger(__name__)

_PREFIX = "step-"


@dataclass(frozen=True)
class State:
    """Everything that the rest of a run depends on.

    Attributes:
        step: Steps that are done.
        tensors: Weights, moments and the like, by name.
        numbers: What is no tensor, as JSON has it.
    """

    step: int
    tensors: dict[str, Tensor]
    numbers: dict[str, Any]


@dataclass(frozen=True)
class Checkpoints:
    """The checkpoints of one generation, shared by its attempts.

    Attributes:
        folder: Where they lie.
        scratch: A folder of this pod on the same file system.
        identity: What makes a run this run: recipe, rows, parent.
        environment: What decides the last bits: threads, instructions, precision.
        keep: How many stay.
    """

    folder: Path
    scratch: Path
    identity: dict[str, Any]
    environment: dict[str, Any]
    keep: int

    def save(self, state: State) -> None:
        """Commit a state; the oldest beyond `keep` go. Another pod's of the same step stays."""
        final = self.folder / f"{_PREFIX}{state.step:09d}"
        if final.exists():
            return
        aside = self.scratch / "checkpoint"
        shutil.rmtree(aside, ignore_errors=True)
        aside.mkdir(parents=True)
        tensors = {name: tensor.detach().contiguous() for name, tensor in state.tensors.items()}
        save_file(tensors, aside / "state.safetensors")
        described = {
            "step": state.step,
            "numbers": state.numbers,
            "identity": self.identity,
            "environment": self.environment,
        }
        (aside / "state.json").write_text(json.dumps(described), encoding="utf-8")
        write_manifest(aside)
        if commit_folder(aside, final):
            log.info("checkpoint saved", extra={"step": state.step})
        for old in self._newest_first()[self.keep :]:
            self._remove(old)

    def newest(self) -> State | None:
        """Read the newest checkpoint that is whole and of this run; say why others are not."""
        for folder in self._newest_first():
            try:
                if state := self._read(folder):
                    return state
            except (Refused, SafetensorError, ValueError, KeyError, OSError) as damaged:
                log.warning(
                    "checkpoint is damaged and set aside",
                    extra={"folder": folder.name, "error": str(damaged)},
                )
                self._remove(folder)
        return None

    def _read(self, folder: Path) -> State | None:
        verify(folder, f"sha256:{hashlib.sha256((folder / MANIFEST).read_bytes()).hexdigest()}")
        described = json.loads((folder / "state.json").read_bytes())
        if described["identity"] != self.identity:
            log.warning("checkpoint is of another run", extra={"folder": folder.name})
            return None
        if described["environment"] != self.environment:
            log.warning(
                "checkpoint is of another environment: weights will not be equal to the last bit",
                extra={"saved": described["environment"], "now": self.environment},
            )
        tensors = load_file(folder / "state.safetensors")
        return State(int(described["step"]), tensors, described["numbers"])

    def _newest_first(self) -> list[Path]:
        if not self.folder.is_dir():
            return []
        found = (path for path in self.folder.iterdir() if path.name.startswith(_PREFIX))
        return sorted(found, key=lambda path: path.name, reverse=True)

    def _remove(self, folder: Path) -> None:
        """Take a checkpoint away at once, then delete it: no reader sees half of it."""
        aside = self.scratch / f"old-{folder.name}"
        shutil.rmtree(aside, ignore_errors=True)
        try:
            folder.rename(aside)
        except FileNotFoundError:
            return
        shutil.rmtree(aside, ignore_errors=True)
