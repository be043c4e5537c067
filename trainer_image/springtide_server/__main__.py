"""`python -m springtide_server`: serves one generation of a model over HTTP.

Exits with 0 after draining, 3 if the artifact or a setting is refused, and 1 after another failure.
The reason is in the log and in the pod's termination message.
"""

from __future__ import annotations

import asyncio
import logging
import os
import sys
from pathlib import Path

# Set before imports that read them: no downloads, and tokenizers respect the CPU limit.
os.environ.setdefault("HF_HUB_OFFLINE", "1")
if threads := os.environ.get("OMP_NUM_THREADS"):
    os.environ.setdefault("RAYON_NUM_THREADS", threads)

from springtide_api.contract import TERMINATION_LIMIT, TERMINATION_MESSAGE, ExitCode
from springtide_server import logs
from springtide_server.process import serve
from springtide_server.settings import read_settings
from springtide_trainer.errors import Refused


def main() -> int:
    """Serve; return the exit code."""
    logs.configure()
    try:
        asyncio.run(serve(read_settings(os.environ)))
    except Refused as refused:
        logging.getLogger("springtide.server").error("refused: %s", refused)
        _write_termination_message(str(refused))
        return refused.code
    except Exception as failed:
        # Mostly failures to load the model; failures of requests are handled elsewhere.
        message = f"failed: {type(failed).__name__}: {failed}"
        logging.getLogger("springtide.server").exception(message)
        _write_termination_message(message)
        return 1
    return ExitCode.DONE


def _write_termination_message(message: str) -> None:
    """Write the reason to the pod's termination message, if this is a pod."""
    file = Path(os.environ.get("SPRINGTIDE_TERMINATION_LOG", TERMINATION_MESSAGE))
    if file.exists():
        file.write_bytes(message.encode()[:TERMINATION_LIMIT])


if __name__ == "__main__":
    sys.exit(main())
