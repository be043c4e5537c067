"""One process of a training that has several: `launcher` starts it.

It takes its number from the variables of PyTorch's launcher, trains its share of each step, and
leaves how it ended in a file, because an exit code has no message.
"""

from __future__ import annotations

import json
import logging
import os
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from springtide_api.contract import ExitCode, Result, RunFile
from springtide_trainer.interruption import raise_on_sigterm
from springtide_trainer.panics import panics_as_errors
from springtide_trainer.processes import join, naming_a_hang
from springtide_trainer.stages import logs
from springtide_trainer.stages.runner import StageOutcome, commit, ended_by, mirror, with_uris
from springtide_trainer.stages.train import train_together
from springtide_trainer.storage import Home, kept_by
from springtide_trainer.tracking.sending import hangs

if TYPE_CHECKING:
    from collections.abc import Sequence


def main(arguments: Sequence[str]) -> int:
    """Run one process; return its exit code.

    Args:
        arguments: Folder of the run file and of the ends of the processes; folder of the storage;
            scratch folder of the pod; uid of the pod.
    """
    # Outside of the training the launcher's SIGTERM would take the reason of a failure away.
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    ends, root, tmp = (Path(each) for each in arguments[:3])
    rank, pod_uid = int(os.environ["RANK"]), arguments[3]
    logs.start()
    if rank:  # what all of them say, one says
        logging.getLogger("springtide_trainer").setLevel(logging.WARNING)
    run, home = RunFile.model_validate_json((ends / "run.json").read_bytes()), Home(root)
    with kept_by(mirror(run, home, pod_uid)):
        outcome = with_uris(_train(run, home, tmp / f"process-{rank}"), home)
    (ends / f"{rank}.json").write_text(json.dumps(outcome.result.plain()), encoding="utf-8")
    return outcome.code


def _train(run: RunFile, home: Home, scratch: Path) -> StageOutcome:
    """Train together with the other processes; the first one commits the result."""
    try:
        scratch.mkdir()
        with raise_on_sigterm(), panics_as_errors(), naming_a_hang():
            processes = join()
            made = train_together(processes, run, home, scratch)
            result = Result(job=run.job, stage=run.stage, number=run.number, ok=True, train=made)
            if processes.leads:
                result = commit(result, home.result(run.result or run.job), scratch / "result.json")
        return StageOutcome(result, ExitCode.DONE)
    except Exception as error:
        return ended_by(error, run, home)


if __name__ == "__main__":
    code = main(sys.argv[1:])
    logging.shutdown()
    sys.stdout.flush()
    if code or hangs():
        # Connections to processes that ended are not closed: on a GPU this can wait for them.
        # A tracker's package may wait as well.
        os._exit(code)
