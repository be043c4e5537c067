"""The training run: batches, loop, optimizer, checkpoints, early stopping."""
