"""Reads the cluster into an observation."""
