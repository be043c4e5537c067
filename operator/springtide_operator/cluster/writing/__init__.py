"""Writes a plan to the cluster."""
