"""Checks before anything new starts."""
