"""`springtide-trainer tune`: searches hyperparameters on the validation part of a window."""

from springtide_trainer.local.tuning.command import add_command

__all__ = ["add_command"]
