"""Entry point of the trainer's pods: `python -m springtide_trainer`."""

from __future__ import annotations

import os
import sys


def main() -> int:
    """Run the stage of the run file; return the exit code of the contract."""
    os.environ["HF_HUB_OFFLINE"] = "1"
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # deterministic cuBLAS
    if threads := os.environ.get("OMP_NUM_THREADS"):
        os.environ.setdefault("RAYON_NUM_THREADS", threads)  # the tokenizer's
    # Imported here, because libraries read the environment when they are imported.
    from springtide_trainer.stages.runner import run_pod

    return run_pod(os.environ)


if __name__ == "__main__":
    sys.exit(main())
