"""The tiny model and frozen rows of the tests of training."""

from trainer.training.conftest import one_thread, published, world

__all__ = ["one_thread", "published", "world"]
