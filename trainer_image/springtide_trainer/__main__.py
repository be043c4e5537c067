"""Entry point of the trainer's pods: `python -m springtide_trainer`."""

from __future__ import annotations

import os
import sys


def main() -> int:
    """Do the stage of the run file; return the exit code of the contract."""
    os.environ["HF_HUB_OFFLINE"] = "1"
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    from springtide_trainer.stage import run_pod  # after the settings: libraries read them once

    return run_pod(os.environ)


if __name__ == "__main__":
    sys.exit(main())
