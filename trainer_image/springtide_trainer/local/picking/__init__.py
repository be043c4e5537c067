"""`springtide-trainer pick`: chooses the rows without labels that people should label next."""

from springtide_trainer.local.picking.command import add_command

__all__ = ["add_command"]
