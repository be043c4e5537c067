"""Expected failures of a stage, as exceptions with a reason and a message for the user."""

from __future__ import annotations

from springtide_api.contract import ExitCode, Failure


class Refused(Exception):
    """The input is not acceptable; the stage cannot succeed until the user changes something.

    Args:
        reason: Machine-readable reason in CamelCase, such as MissingColumn or UnsafeArtifact.
        message: What is wrong, where, the value and its limit, and what to do.
        field: Path of the field to change, if there is one.
        code: Exit code of the process.
    """

    def __init__(
        self,
        reason: str,
        message: str,
        field: str = "",
        code: int = ExitCode.INVALID_INPUT,
    ) -> None:
        super().__init__(message)
        self.code = code
        self.failure = Failure(reason=reason, message=message, field=field)

    def __str__(self) -> str:
        where = f" ({self.failure.field})" if self.failure.field else ""
        return f"{self.failure.reason}: {self.failure.message}{where}"


class Diverged(Refused):
    """The loss, a gradient or a weight is not finite: no weights of this run are kept.

    Args:
        step: Number of the step.
        found: What was found, such as `loss is nan`.
    """

    def __init__(self, step: int, found: str) -> None:
        super().__init__(
            "Diverged",
            f"{found} at step {step:,}; lower training.hyperparameters.learningRate",
            "spec.training.hyperparameters.learningRate",
            ExitCode.DIVERGED,
        )


class NoStepTaken(Refused):
    """FP16 skipped every step, because no gradient was finite at any loss scale."""

    def __init__(self, step: int) -> None:
        super().__init__(
            "Diverged",
            f"FP16 skipped every step up to step {step}: no gradient was finite; set "
            "training.hyperparameters.precision to Auto, or lower learningRate",
            "spec.training.hyperparameters.precision",
            ExitCode.DIVERGED,
        )


class Interrupted(Exception):
    """SIGTERM was received. A checkpoint is saved where the stage has one; a new pod resumes."""
