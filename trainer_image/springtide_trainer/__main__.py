"""Entry point of the trainer's pods: `python -m springtide_trainer`."""

from __future__ import annotations

import os
import sys


def main() -> int:
    """Do the stage of the run file; return the exit code of the contract."""
    os.environ["HF_HUB_OFFLINE"] = "1"
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # the GPU's sums in one order
    if threads := os.environ.get("OMP_NUM_THREADS"):
        os.environ.setdefault("RAYON_NUM_THREADS", threads)  # the tokenizer's
    from springtide_trainer.stages.runner import (
        run_pod,  # after the settings: libraries read them once
    )

    return run_pod(os.environ)


if __name__ == "__main__":
    sys.exit(main())
