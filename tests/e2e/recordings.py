"""Records what a namespace shows to whoever may read it: objects, Events, status and logs.

Jobs and their pods are deleted once their result is in a status, and their logs with them. So each
change of an object is written down, and each log is kept by a second name of its file.
"""

import contextlib
import os
import subprocess
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from e2e.small_example import SmallExample

WATCHED = {
    "pods": "/api/v1",
    "events": "/api/v1",
    "jobs": "/apis/batch/v1",
    "incrementalupdates": "/apis/springtide.dev/v1alpha1",
    "modelgenerations": "/apis/springtide.dev/v1alpha1",
}
LISTED = "deployments,replicasets,services,endpointslices,configmaps,serviceaccounts"
"""These are not deleted meanwhile."""
PAUSE = 0.2


@dataclass(frozen=True)
class Recording:
    """The texts so far, by what they are."""

    example: SmallExample
    folder: Path

    def objects(self) -> dict[str, str]:
        """Every state of every object, by kind; Secrets are not read."""
        changes = {kind: (self.folder / kind).read_text() for kind in WATCHED}
        return changes | {LISTED: self.example.show("get", LISTED, "--output=json")}

    def logs(self) -> dict[str, str]:
        """The log of each container that ran, by <pod>/<container>/<number of the start>."""
        return {
            file.name.replace(":", "/"): file.read_text(errors="replace")
            for file in (self.folder / "logs").iterdir()
        }

    def metrics(self, service: str, namespace: str) -> str:
        """The metrics of a Service's pod, by the API server's proxy."""
        path = f"/api/v1/namespaces/{namespace}/services/{service}/proxy/metrics"
        return self.example.kubectl("get", "--raw", path)


@contextmanager
def recorded(example: SmallExample) -> Iterator[Recording]:
    """Record a namespace, which need not exist yet, until the end of the block."""
    over = threading.Event()
    # A second name of a file must be on the same disk.
    with (
        tempfile.TemporaryDirectory(dir=example.node.home) as folder,
        contextlib.ExitStack() as ended,
    ):
        (Path(folder) / "logs").mkdir()
        for kind, api in WATCHED.items():
            path = f"{api}/namespaces/{example.namespace}/{kind}?watch=true"
            file = ended.enter_context((Path(folder) / kind).open("w"))
            watch = subprocess.Popen([*example.kubectl.argv, "get", "--raw", path], stdout=file)
            ended.callback(watch.wait)
            ended.callback(watch.terminate)
        keeping = threading.Thread(target=_keep_logs, args=(example, Path(folder), over))
        keeping.start()
        ended.callback(keeping.join)
        ended.callback(over.set)
        yield Recording(example, Path(folder))


def _keep_logs(example: SmallExample, folder: Path, over: threading.Event) -> None:
    """Give each log file of the namespace's pods a second name, by which it stays."""
    prefix = f"{example.namespace}_"
    while not over.wait(PAUSE):
        for file in (example.node.home / "pods").glob(f"{prefix}*/*/*.log"):
            pod, container = file.parts[-3].removeprefix(prefix), file.parts[-2]
            kept = folder / "logs" / f"{pod.rpartition('_')[0]}:{container}:{file.stem}"
            with contextlib.suppress(FileExistsError, FileNotFoundError):
                os.link(file, kept)
