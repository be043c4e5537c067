"""Evaluation: datasets, metrics, confidence intervals, the report."""
