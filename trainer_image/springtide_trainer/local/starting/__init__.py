"""`springtide-trainer init`: writes a manifest, and guesses what it can from model and data."""

from springtide_trainer.local.starting.command import add_command

__all__ = ["add_command"]
