"""`python -m springtide_server`: serves one generation of a model over HTTP.

With the argument `warm-up` it is the sidecar of another server (`warm_up/command.py`).

Exits with 0 after draining, 3 if the artifact or a setting is refused, and 1 after another failure.
The reason is in the log and in the pod's termination message.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import sys
from pathlib import Path

# Set before imports that read them: no downloads, and tokenizers respect the CPU limit.
os.environ.setdefault("HF_HUB_OFFLINE", "1")
if threads := os.environ.get("OMP_NUM_THREADS"):
    os.environ.setdefault("RAYON_NUM_THREADS", threads)

from springtide_api.contract import TERMINATION_LIMIT, TERMINATION_MESSAGE, ExitCode
from springtide_server import logs
from springtide_trainer.errors import Refused


def main() -> int:
    """Serve; return the exit code."""
    # Until the server handles it: process 1 of a container ignores a signal without a handler.
    signal.signal(signal.SIGTERM, lambda number, frame: os._exit(ExitCode.DONE))
    logs.configure()
    try:
        _warm_up(sys.argv[1:]) if len(sys.argv) > 1 else _serve()
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


def _serve() -> None:
    from springtide_server.process import serve
    from springtide_server.settings import read_settings

    asyncio.run(serve(read_settings(os.environ)))


def _warm_up(arguments: list[str]) -> None:
    # It imports less than the server, so that a sidecar needs little memory.
    from springtide_server.warm_up.command import main as run

    run(arguments)


def _write_termination_message(message: str) -> None:
    """Write the reason to the pod's termination message, if this is a pod."""
    file = Path(os.environ.get("SPRINGTIDE_TERMINATION_LOG", TERMINATION_MESSAGE))
    if file.exists():
        file.write_bytes(message.encode()[:TERMINATION_LIMIT])


if __name__ == "__main__":
    code = main()
    sys.stdout.flush()
    # Not sys.exit: a thread that still loads a model is inside of libraries, which may abort then.
    os._exit(code)
