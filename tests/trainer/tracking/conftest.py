"""The tiny model and frozen rows of the tests of training."""

from trainer.training.conftest import one_thread, prepared, published, world

__all__ = ["one_thread", "prepared", "published", "world"]
