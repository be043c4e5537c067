"""Metrics as functions of entity weights, and the scores of trivial baselines."""
