"""The rows to train on: read and split for validation, ordered, and cut into batches."""
