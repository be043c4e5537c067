"""A real S3 server for tests: versitygw, its objects in files of a folder.

It listens on the loopback address, or in the network of a cluster, where pods reach it.
"""

import json
import shutil
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from local_cluster import processes
from local_cluster.node import Node
from local_cluster.places import program
from local_cluster.ports import free_port
from local_cluster.processes import Daemon, NotReadyError
from local_cluster.prometheus import DIRECT, WITH_ITS_PARENT

NAME = "versitygw"
ACCESS, SECRET = "springtide-test-access", "springtide-test-secret-7f3a9c"
ATTEMPTS = 3
NODE_PORT = 7070
"""On the address of a cluster's node."""


class ObjectStore:
    """One server; a restarted one has the same port and objects.

    Args:
        home: folder of its objects, log and pid.
        port: on which it listens.
        address: on which it listens.
        enter: prefix of the command.
    """

    def __init__(
        self,
        home: Path,
        port: int,
        *,
        address: str = "127.0.0.1",
        enter: Sequence[str] = WITH_ITS_PARENT,
    ) -> None:
        self.home = home
        self.files = home / "objects"
        self.endpoint = f"http://{address}:{port}"
        argv = [program(NAME), "--port", f"{address}:{port}", "--quiet"]
        argv += ["--access", ACCESS, "--secret", SECRET, "posix", str(self.files)]
        self._daemon = Daemon(NAME, argv, home, enter)

    @property
    def environment(self) -> dict[str, str]:
        """What a client needs, as a Secret has it."""
        return {
            "AWS_ENDPOINT_URL": self.endpoint,
            "AWS_ALLOW_HTTP": "true",
            "AWS_REGION": "us-east-1",
            "AWS_ACCESS_KEY_ID": ACCESS,
            "AWS_SECRET_ACCESS_KEY": SECRET,
        }

    def start(self) -> None:
        """Start it and return when it answers.

        Raises:
            NotReadyError: it ended or did not answer within a minute.
        """
        self.files.mkdir(parents=True, exist_ok=True)
        self._daemon.start_until(self._answers)

    def stop(self) -> None:
        """End it as a crash would; its objects stay."""
        processes.stop(self.home, [NAME])

    def bucket(self, name: str) -> Path:
        """Create a bucket; return the folder of its objects."""
        folder = self.files / name
        folder.mkdir(exist_ok=True)
        return folder

    def empty_bucket(self, name: str) -> None:
        """Create a bucket, or delete all its objects."""
        shutil.rmtree(self.files / name, ignore_errors=True)
        self.bucket(name)

    def put(self, uri: str, content: bytes | Path) -> None:
        """Write an object or a file to a URI such as s3://bucket/key, as a client does."""
        import obstore
        from obstore.store import S3Store

        bucket, _, key = uri.removeprefix("s3://").partition("/")
        store = S3Store(
            bucket,
            endpoint=self.endpoint,
            region="us-east-1",
            access_key_id=ACCESS,
            secret_access_key=SECRET,
            client_options={"allow_http": True},
        )
        obstore.put(store, key, content)

    def committed(self, uri: str) -> Path:
        """Return the folder of this machine with the files of a committed folder."""
        folder = self.files / uri.removeprefix("s3://")
        return folder / str(json.loads((folder / "commit.json").read_bytes())["writer"])

    def _answers(self) -> bool:
        try:
            DIRECT.open(self.endpoint, timeout=5).close()
        except urllib.error.HTTPError:
            return True
        except OSError:
            return False
        return True


@contextmanager
def in_cluster(cluster: Node) -> Iterator[ObjectStore]:
    """Run one for the pods of a cluster that is up."""
    network = cluster.network
    server = ObjectStore(cluster.home, NODE_PORT, address=network.node_address, enter=network.enter)
    try:
        server.start()
        yield server
    finally:
        server.stop()


def on_loopback(home: Path) -> ObjectStore:
    """Start one on a free port of the loopback address.

    Raises:
        NotReadyError: it did not start.
    """
    for attempt in range(1, ATTEMPTS + 1):
        server = ObjectStore(home, free_port())
        try:
            server.start()
            break
        except NotReadyError:  # another process may have taken the port meanwhile
            if attempt == ATTEMPTS:
                raise
            server.stop()
    return server
