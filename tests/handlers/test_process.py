"""The process itself: it starts by kopf, reports its health, and ends in order."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

import pytest
from local_cluster.ports import free_ports

pytestmark = pytest.mark.apiserver

DIRECT = urllib.request.build_opener(urllib.request.ProxyHandler({}))


@pytest.fixture
def start(kinds, tmp_path):
    """Start operators; the ports are free ones, the namespace of the Lease is the default."""
    running = []

    def start(**variables):
        free = free_ports(len(PORTS))
        ports = {
            f"SPRINGTIDE_{name}_PORT": str(port) for name, port in zip(PORTS, free, strict=True)
        }
        environment = {
            **os.environ,
            "KUBECONFIG": str(kinds.kubeconfig),
            "SPRINGTIDE_TRAINER_IMAGE": "trainer",
            "SPRINGTIDE_PROGRESS_URL": "http://operator:8080",
            "SPRINGTIDE_LEASE_SECONDS": "15",
            **ports,
            **variables,
        }
        log = (tmp_path / f"log-{len(running)}").open("wb")
        with log:
            process = subprocess.Popen(
                [sys.executable, "-m", "springtide_operator"], env=environment, stderr=log
            )
        process.ports = {name: ports[f"SPRINGTIDE_{name}_PORT"] for name in PORTS}
        process.log = Path(log.name)
        running.append(process)
        return process

    yield start
    for process in running:
        process.kill()
        process.wait()


PORTS = ("PROGRESS", "HEALTH", "METRICS")


def get(process, port, path):
    with DIRECT.open(f"http://127.0.0.1:{process.ports[port]}{path}", timeout=5) as answer:
        return answer.read().decode()


def until(condition, seconds=40.0):
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        try:
            if result := condition():
                return result
        except (OSError, urllib.error.URLError):
            pass
        time.sleep(0.1)
    raise AssertionError("did not come about")


def works(process):
    return lambda: '"event": "working"' in process.log.read_text()


@pytest.mark.survives(
    "Operator",
    "SIGTERM while another operator waits",
    "exit status 0 within 10 s, the Lease is released at once",
)
def test_it_works_reports_its_health_and_releases_the_lease(start, apiserver):
    first = start(SPRINGTIDE_IDENTITY="first")
    until(works(first))
    health = json.loads(until(lambda: get(first, "HEALTH", "/healthz")))
    # Another test may have installed the CRDs of these kinds on this API server.
    assert set(health["work"]["silence"]) - {"httproutes", "jobsets", "workloads"} == {
        "incrementalupdates",
        "modelgenerations",
        "jobs",
        "pods",
        "deployments",
    }
    assert health["work"]["scope"] == {"watched": "all"}
    assert "springtide_api_requests_total" in get(first, "METRICS", "/metrics")

    second = start(SPRINGTIDE_IDENTITY="second")
    until(lambda: get(second, "HEALTH", "/healthz"))  # a waiting operator is no dead one
    assert not works(second)()

    first.send_signal(signal.SIGTERM)
    assert first.wait(10) == 0
    until(works(second))
    lines = first.log.read_text().splitlines()
    assert all(isinstance(json.loads(line), dict) for line in lines)


@pytest.mark.survives(
    "Operator",
    "started without a setting that it needs",
    "one sentence that names the variable, exit status 2",
)
def test_it_reports_a_missing_setting_in_one_line():
    environment = {"PATH": os.environ["PATH"], "SPRINGTIDE_WORKERS": "2"}
    ran = subprocess.run(
        [sys.executable, "-m", "springtide_operator"],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode == 2
    assert ran.stderr.startswith("springtide: SPRINGTIDE_TRAINER_IMAGE is not set")


@pytest.mark.survives(
    "Operator",
    "started while another process has one of its ports",
    "one sentence that names variable and port, exit status 1; started again by the kubelet",
)
def test_it_exits_where_a_port_is_taken_and_names_it(start):
    with socket.create_server(("", 0)) as taken:
        port = taken.getsockname()[1]
        process = start(SPRINGTIDE_PROGRESS_PORT=str(port))
        assert process.wait(40) == 1
    assert f"SPRINGTIDE_PROGRESS_PORT: port {port}: " in process.log.read_text()
    assert not works(process)()
