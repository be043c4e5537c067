import os
import socket
import struct
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from local_cluster import processes, prometheus
from local_cluster.prometheus import Page, Prometheus, Samples

pytestmark = pytest.mark.prometheus

STARTS_ONE = """
import sys
from pathlib import Path
from local_cluster import processes, prometheus
prometheus.on_loopback(Path(sys.argv[1]), prometheus.Samples())
print(processes.running(Path(sys.argv[1]), "prometheus"))
"""


def test_a_sample_is_scraped_changed_and_removed(prometheus: Prometheus, samples: Samples) -> None:
    series = 'changes{generation="3"}'
    samples.set(series, 0.02)

    (found,) = prometheus.wait_for("changes")
    assert found["metric"]["generation"] == "3"
    assert found["value"][1] == "0.02"
    samples.set(series, 0.04)
    prometheus.wait_for("changes == 0.04")
    samples.remove(series)
    prometheus.wait_for("absent(changes)")


def test_it_starts_again_with_its_data(tmp_path: Path) -> None:
    samples = Samples()
    samples.set("kept", 1)
    own = prometheus.on_loopback(tmp_path, samples)
    try:
        own.wait_for("kept")
        own.stop()
        assert processes.names(tmp_path) == []

        own.start()

        own.wait_for("kept")
    finally:
        own.stop()
        samples.close()


def test_it_ends_with_the_process_that_started_it(tmp_path: Path) -> None:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, "-c", STARTS_ONE, str(tmp_path)]
    ran = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)

    pid = int(ran.stdout)

    assert processes.waited(lambda: not processes.is_running(pid), seconds=60)


def test_a_reader_that_waits_no_longer_is_no_error(capfd: pytest.CaptureFixture[str]) -> None:
    asked, gone = threading.Event(), threading.Event()

    def content() -> str:
        asked.set()
        assert gone.wait(30)
        return "x" * 10_000_000

    page = Page(content)
    host, port = page.address.split(":")
    reader = socket.create_connection((host, int(port)))
    reader.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    reader.sendall(b"GET / HTTP/1.0\r\n\r\n")
    assert asked.wait(30)
    handler = next(one for one in threading.enumerate() if "process_request" in one.name)
    reader.close()  # with a reset
    gone.set()
    handler.join(30)
    page.close()

    assert capfd.readouterr().err == ""
