"""Frozen rows: written once, addressed by digest, read by training and evaluation."""
