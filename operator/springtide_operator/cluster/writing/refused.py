"""A write that the API server refuses until something else changes."""

from __future__ import annotations


class Refused(Exception):
    """A write that the API server refuses until something else changes; `decide` gets it."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(f"{reason}: {message}")
        self.reason = reason
        self.message = message
