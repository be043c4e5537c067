"""Answers that are no predictions: JSON with the reason under `error`, as the protocol has it."""

from __future__ import annotations

from typing import Literal

from starlette.responses import JSONResponse

Outcome = Literal["ok", "invalid", "overloaded", "unready", "disconnected", "error"]
"""How a request ended, as a label of metrics."""


class Rejected(Exception):
    """A request that gets no prediction.

    Args:
        status: HTTP status. With 503 the client is told to try again after a second.
        message: What is wrong and what to do.
        outcome: How metrics count it.
    """

    def __init__(self, status: int, message: str, outcome: Outcome = "invalid") -> None:
        super().__init__(message)
        self.status = status
        self.outcome: Outcome = outcome

    def response(self) -> JSONResponse:
        """Write the answer."""
        headers = {"Retry-After": "1"} if self.status == 503 else None
        return JSONResponse({"error": str(self)}, self.status, headers=headers)
