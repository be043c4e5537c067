"""The tensors of a checkpoint as files: one, or one for each process that has parts of them.

Both are safetensors: no format that runs code when it is loaded. Each process reads the rows of its
own parts from whichever files have them, so a run may go on with another number of processes.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import torch
from safetensors.torch import load_file, save_file

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from torch import Tensor
    from torch.distributed.device_mesh import DeviceMesh

    Empty = Callable[[torch.Size, torch.dtype], Tensor]
    """Returns a tensor of a shape, as a process holds it: whole, or a part of it."""

WHOLE = "state.safetensors"


class StateFiles(Protocol):
    """How the tensors of a checkpoint are written, and read by their names."""

    def write(self, tensors: Mapping[str, Tensor], folder: Path) -> None:
        """Write tensors to an empty folder. All processes call this; at the end all is written."""

    def read(self, folder: Path) -> dict[str, Tensor]:
        """Read a folder of either kind. Each process calls this on its own.

        Raises:
            SafetensorError: a file is damaged.
        """


@dataclass(frozen=True)
class OneFile:
    """Whole tensors, the same in each process: the first one writes them.

    Attributes:
        leads: Whether this is the first process.
    """

    leads: bool = True

    def write(self, tensors: Mapping[str, Tensor], folder: Path) -> None:
        """Write one file."""
        if self.leads:
            whole = {name: tensor.detach().contiguous() for name, tensor in tensors.items()}
            save_file(whole, folder / WHOLE)

    def read(self, folder: Path) -> dict[str, Tensor]:
        """Read whole tensors."""
        if (folder / WHOLE).exists():
            return load_file(folder / WHOLE)
        return _read_parts(folder, lambda size, dtype: torch.empty(size, dtype=dtype))


@dataclass(frozen=True)
class PartFiles:
    """Tensors of which each process has some rows, and writes them: no process holds more.

    Numbers, as tensors without dimension, are whole in each process and written by one.

    Attributes:
        mesh: The processes.
        patient: The group in which they wait for the files of each other; None: that of the mesh.
    """

    mesh: DeviceMesh
    patient: Any = None

    def write(self, tensors: Mapping[str, Tensor], folder: Path) -> None:
        """Write a file in each process: its rows, and in its header where they begin.

        What the processes tell each other meanwhile is pickled, but nothing in a file is.
        """
        from torch.distributed.checkpoint.hf_storage import HuggingFaceStorageWriter
        from torch.distributed.checkpoint.state_dict_saver import save

        writer = HuggingFaceStorageWriter(str(folder), save_distributed=True)
        save(dict(tensors), storage_writer=writer, process_group=self.patient)

    def read(self, folder: Path) -> dict[str, Tensor]:
        """Read the rows of this process."""
        from torch.distributed import tensor

        def part(size: torch.Size, dtype: torch.dtype) -> Tensor:
            if not size:
                return torch.empty(size, dtype=dtype)
            return tensor.empty(
                size, dtype=dtype, device_mesh=self.mesh, placements=[tensor.Shard(0)]
            )

        return _read_parts(folder, part)


def _read_parts(folder: Path, empty: Empty) -> dict[str, Tensor]:
    """Read the rows of each tensor that this process holds."""
    from torch.distributed.checkpoint.hf_storage import HuggingFaceStorageReader
    from torch.distributed.checkpoint.metadata import TensorStorageMetadata
    from torch.distributed.checkpoint.state_dict_loader import load

    reader = HuggingFaceStorageReader(str(folder))
    known = reader.read_metadata().state_dict_metadata
    tensors = {
        name: empty(each.size, each.properties.dtype)
        for name, each in known.items()
        if isinstance(each, TensorStorageMetadata)
    }
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="torch.distributed is disabled")  # it need not be
        load(tensors, storage_reader=reader, no_dist=True)
    return tensors
