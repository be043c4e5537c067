"""Prepares the parent's weights for training: outputs, trained parameters, dropout."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any

from transformers import AutoConfig

from springtide_trainer.errors import Refused

if TYPE_CHECKING:
    from pathlib import Path

    from transformers import PreTrainedModel

    from springtide_api.update.training import Training
    from springtide_trainer.methods.adapter import Continued
    from springtide_trainer.methods.method import Method
    from springtide_trainer.tasks.task import Learning


def load(
    folder: Path,
    training: Training,
    *,
    task: Learning,
    method: Method,
    salt: str,
    continued: Continued | None = None,
) -> PreTrainedModel:
    """Load a verified parent for training.

    Args:
        folder: Folder of the parent's artifact.
        training: The recipe's training.
        task: What is learnt.
        method: Which parameters are trained.
        salt: Identifies the rows, so that new parameters of a method differ between generations.
        continued: The adapter whose training continues.

    Raises:
        Refused: the parent does not fit the task or the method, or does not support gradient
            checkpointing.
    """
    options = training.hyperparameters
    dropouts = dict.fromkeys(_dropouts(folder), float(options.dropout))
    model = task.load(folder, **dropouts)
    task.extend(model, options.seed)
    seed = _seed(options.seed, salt)
    model = method.prepare(model, training, seed=seed, continued=continued)
    if options.gradient_checkpointing:
        _checkpoint_activations(model)
    return model


def restore_dropout(model: PreTrainedModel, folder: Path) -> None:
    """Set the dropout of the configuration back to the parent's: training's is not saved."""
    for name, value in _dropouts(folder).items():
        setattr(model.config, name, value)


def _seed(seed: int, salt: str) -> int:
    """Return a seed of 63 bits."""
    return int.from_bytes(hashlib.sha256(f"{seed}/{salt}".encode()).digest()[:8], "big") >> 1


def _dropouts(folder: Path) -> dict[str, Any]:
    """Return all dropout probabilities of a configuration, by name."""
    config = AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    return {
        name: value
        for name, value in config.to_dict().items()
        if ("dropout" in name or name.endswith("pdrop"))
        and (value is None or isinstance(value, int | float))
        and not isinstance(value, bool)
    }


def _checkpoint_activations(model: PreTrainedModel) -> None:
    try:
        model.activation_checkpointing_enable({"use_reentrant": False})
    except ValueError as unable:
        raise Refused(
            "UnsupportedModel", str(unable), "spec.training.hyperparameters.gradientCheckpointing"
        ) from unable
