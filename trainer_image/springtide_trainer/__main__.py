"""Entry points: `python -m springtide_trainer` of the pods, and `springtide-trainer`."""

from __future__ import annotations

import logging
import os
import sys


def main() -> int:
    """Run the stage of the run file, or the command of the arguments; return the exit code."""
    if len(sys.argv) > 1:
        return command_line()
    _set_environment()
    # Imported here, because libraries read the environment when they are imported.
    from springtide_trainer.stages.runner import run_pod

    return _ended(run_pod(os.environ))


def command_line() -> int:
    """Run a command such as `springtide-trainer run`; return the exit code."""
    _set_environment()
    from springtide_trainer.local.commands import main as run_command

    return _ended(run_command(sys.argv[1:] or ["--help"]))


def _ended(code: int) -> int:
    """Return the exit code; where a tracker hangs, end here, because its package would wait."""
    from springtide_trainer.tracking.sending import hangs

    if hangs():
        logging.shutdown()
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
    return code


def _set_environment() -> None:
    os.environ["HF_HUB_OFFLINE"] = "1"  # only springtide_trainer.hub asks a hub
    os.environ["HF_HUB_DISABLE_TELEMETRY"] = "1"
    os.environ["HF_HUB_DISABLE_XET"] = "1"  # another protocol, to other hosts than the endpoint
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # deterministic cuBLAS
    if threads := os.environ.get("OMP_NUM_THREADS"):
        os.environ.setdefault("RAYON_NUM_THREADS", threads)  # the tokenizer's


if __name__ == "__main__":
    sys.exit(main())
