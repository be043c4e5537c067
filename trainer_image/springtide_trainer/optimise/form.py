"""Writes the optimized form of an artifact: a second folder, which evaluation and server load.

It has tokenizer, configuration and preprocessing of the artifact, and in place of its weights the
pruned ones, the quantized model, or both in one: pruned first. Equal weights give equal bytes.
"""

from __future__ import annotations

import logging
import shutil
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

from springtide_api.contract import ServedForm
from springtide_trainer.artifact import manifest, saving
from springtide_trainer.artifact.models import load_tokenizer
from springtide_trainer.artifact.onnx_model import ONNX_MODEL
from springtide_trainer.artifact.preprocess import PREPROCESS, Preprocess
from springtide_trainer.artifact.tokens import input_types
from springtide_trainer.optimise.export import export
from springtide_trainer.optimise.pruning import prune
from springtide_trainer.tasks.table import task_of

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from springtide_api.contract import CommittedArtifact
    from springtide_api.generation.spec import Recipe
    from springtide_api.update.model import Optimise
    from springtide_trainer.storage import Home

log = logging.getLogger(__name__)


def commit_form(
    made: CommittedArtifact, recipe: Recipe, home: Home, scratch: Path
) -> CommittedArtifact:
    """Write and commit the form that `serving.optimise` asks for, if it does.

    Args:
        made: The committed artifact.
        recipe: The recipe.
        home: The storage of the update.
        scratch: A folder of this pod on the same file system.

    Returns:
        The artifact with its form.

    Raises:
        Refused: the model cannot be optimized.
    """
    optimise = recipe.serving.optimise if recipe.serving else None
    if optimise is None or not optimise.describe():
        return made
    began, folder = time.monotonic(), scratch / "served"
    write(home.artifact(made.digest), folder, optimise)
    form = manifest.commit(folder, home)
    seconds = round(time.monotonic() - began, 1)
    log.info("optimized", extra={"digest": form.digest, "bytes": form.bytes, "seconds": seconds})
    served = ServedForm(
        digest=form.digest,
        bytes=form.bytes,
        quantization=optimise.quantization,
        sparsity=optimise.pruning and optimise.pruning.sparsity,
    )
    return made.model_copy(update={"served": served})


def write(weights: Path, folder: Path, optimise: Optimise) -> None:
    """Write the optimized form of a verified artifact to a new folder.

    Args:
        weights: The folder of the artifact.
        folder: The new folder. The unquantized ONNX model is written beside it and deleted again.
        optimise: The form.

    Raises:
        Refused: the model cannot be optimized.
    """
    preprocess = Preprocess.read(weights)
    names = list(input_types(load_tokenizer(weights)))
    model = task_of(preprocess).load(weights)
    if optimise.pruning:
        zeros = prune(model, optimise.pruning.sparsity)
        log.info("pruned", extra={"sparsity": optimise.pruning.sparsity, "zeros": zeros})
    saving.copy_tokenizer(weights, folder)
    if optimise.quantization:
        full = folder.with_suffix(".full")
        export(model, names, full, max_length=preprocess.max_length)
        del model  # quantization needs memory for two further copies of the weights
        _quantize(full, folder / ONNX_MODEL)
        full.unlink()
    else:
        saving.save_model(model, folder)
    for name in ("config.json", PREPROCESS):
        shutil.copyfile(weights / name, folder / name)


def _quantize(full: Path, path: Path) -> None:
    """Quantize weights to integers now, and activations when a row is scored.

    Weights get 7 bits and a scale for each channel: the sums of products with 8-bit activations
    then fit the 16-bit integers that CPUs without VNNI instructions add them in, so every CPU has
    the same products.
    """
    import onnx
    from onnxruntime.quantization import QuantType, quantize_dynamic
    from onnxruntime.quantization.quant_utils import add_pre_process_metadata

    model = onnx.load(full)
    add_pre_process_metadata(model)  # else a warning recommends what a larger model would need
    onnx.save(model, full)
    del model
    with _without_root_records():
        quantize_dynamic(
            full,
            path,
            weight_type=QuantType.QInt8,
            per_channel=True,
            reduce_range=True,
        )


@contextmanager
def _without_root_records() -> Iterator[None]:
    """Drop what is logged without a logger: the quantizer reports each matrix that it skips."""
    root, handler = logging.getLogger(), logging.NullHandler()
    root.addFilter(_is_error)
    root.addHandler(handler)  # without any handler, the first record would add one for good
    try:
        yield
    finally:
        root.removeHandler(handler)
        root.removeFilter(_is_error)


def _is_error(record: logging.LogRecord) -> bool:
    return record.levelno >= logging.ERROR
