"""Programs of this project as forks of a process that has imported their code.

Imports are most of a short life: 5 seconds of a core with PyTorch, 2 without. A fork has its own
environment and output, is signalled and killed, and ends as any process does; only its imports are
not its own. So each program is also started as it is, by the tests of its start.
"""

import importlib
import multiprocessing
import os
import subprocess
import sys
import tempfile

CONTEXT = multiprocessing.get_context("forkserver")
WITH_TORCH = [
    # It sets variables that the others read when they are imported.
    "springtide_server.__main__",
    "springtide_server.process",
    "springtide_trainer.stages.runner",
    "springtide_trainer.stages.train",
    "springtide_trainer.artifact.models",
    "transformers.models.bert.modeling_bert",
]
"""What servers and trainers import; the first fork of a worker decides what is imported for all."""


class Fork:
    """What `subprocess.Popen` returns, of a fork that runs `main` of a module.

    Args:
        module: Its `main` returns the exit status.
        environment: All its variables.
        log: The file that its output is added to.
        preloaded: Modules that it need not import.
    """

    def __init__(self, module, environment, log, preloaded=WITH_TORCH):
        CONTEXT.set_forkserver_preload(preloaded)
        self.log = log
        self._process = CONTEXT.Process(target=_run, args=(module, environment, log), daemon=True)
        self._process.start()
        self.pid = self._process.pid

    @property
    def returncode(self):
        return self._process.exitcode

    def poll(self):
        return self.returncode

    def send_signal(self, number):
        if self.returncode is None:
            os.kill(self.pid, number)

    def kill(self):
        self._process.kill()

    def terminate(self):
        self._process.terminate()

    def wait(self, timeout=None):
        self._process.join(timeout)
        if self.returncode is None:
            raise subprocess.TimeoutExpired(self._process.name, timeout)
        return self.returncode

    def communicate(self, timeout=None):
        self.wait(timeout)
        return self.log.read_text(), None

    @property
    def sentinel(self):
        """A file that can be read from once it has ended."""
        return self._process.sentinel


def _run(module, environment, log):
    os.environ.clear()
    os.environ.update(environment)
    with log.open("ab") as written:
        os.dup2(written.fileno(), 1)
        os.dup2(written.fileno(), 2)
    tempfile.tempdir = None  # what it was before is in no variable of this process
    sys.argv = [module]
    raise SystemExit(importlib.import_module(module).main())
