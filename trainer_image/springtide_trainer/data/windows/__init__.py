"""Selects the next window of training rows and holdout rows. Reads no files."""
