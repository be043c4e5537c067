"""Ends of a stage that are no defects, as exceptions with the words that a person needs."""

from __future__ import annotations

from springtide_api.contract import ExitCode, Failure


class Refused(Exception):
    """The input is not acceptable; a person must act before the stage can get through.

    Args:
        reason: One word for machines, such as MissingColumn or UnsafeArtifact.
        message: What is wrong, where, the number and its bound, and what to do.
        field: Path of the field that the user must change, if it is one.
        code: How the process exits.
    """

    def __init__(
        self,
        reason: str,
        message: str,
        field: str = "",
        code: ExitCode = ExitCode.INVALID_INPUT,
    ) -> None:
        super().__init__(message)
        self.code = code
        self.failure = Failure(reason=reason, message=message, field=field)

    def __str__(self) -> str:
        where = f" ({self.failure.field})" if self.failure.field else ""
        return f"{self.failure.reason}: {self.failure.message}{where}"


class Diverged(Refused):
    """The loss is no longer a finite number; the weights are as of the last good step."""

    def __init__(self, step: int, loss: float) -> None:
        super().__init__(
            "Diverged",
            f"loss is {loss} at step {step}; lower training.hyperparameters.learningRate",
            "spec.training.hyperparameters.learningRate",
            ExitCode.DIVERGED,
        )


class NoStepTaken(Refused):
    """FP16 left steps out until none was taken: their gradients were not finite at any scale."""

    def __init__(self, step: int) -> None:
        super().__init__(
            "Diverged",
            f"FP16 left out every step up to step {step}: no gradient was finite; set "
            "training.hyperparameters.precision to Auto, or lower learningRate",
            "spec.training.hyperparameters.precision",
            ExitCode.DIVERGED,
        )


class Interrupted(Exception):
    """SIGTERM came; what can be resumed is saved, and another pod goes on."""
