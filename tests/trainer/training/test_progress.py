"""Progress is reported to the operator, and an unreachable operator does not delay training."""

from __future__ import annotations

import json
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any

import pytest

from springtide_trainer.progress import Progress, Reporter

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


class Operator(ThreadingHTTPServer):
    """An endpoint that records the reports."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.reports: list[tuple[str, dict[str, Any]]] = []
        self.url = f"http://127.0.0.1:{self.server_address[1]}/progress"


class Handler(BaseHTTPRequestHandler):
    server: Operator

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.reports.append((self.headers["Authorization"], json.loads(body)))
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *arguments: object) -> None:
        pass


@pytest.fixture
def operator() -> Iterator[Operator]:
    with Operator() as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def test_a_report_has_percentage_remaining_seconds_and_metrics(operator, tmp_path):
    token = tmp_path / "token"
    token.write_text("first\n")
    reporter = Reporter(operator.url, token, None)
    now = [100.0]
    progress = Progress(reporter, first=0, total=40, clock=lambda: now[0])
    now[0] = 110.0
    reporter.post(progress.status(10, 0.51234, now[0]))
    token.write_text("second\n")
    reporter.post(progress.status(40, 0.5, now[0]))

    (first, body), (second, last) = operator.reports
    assert (first, second) == ("Bearer first", "Bearer second")
    assert body["trainerStatus"] == {
        "progressPercentage": 25,
        "estimatedRemainingSeconds": 30,
        "metrics": [
            {"name": "step", "value": "10"},
            {"name": "total_steps", "value": "40"},
            {"name": "loss", "value": "0.5123"},
        ],
    }
    assert last["trainerStatus"]["progressPercentage"] == 100


def test_a_report_and_its_token_go_to_the_operator_and_not_to_the_proxy_of_the_pod(
    operator, tmp_path, monkeypatch
):
    for name in ("NO_PROXY", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
    with Operator() as proxy:
        threading.Thread(target=proxy.serve_forever, daemon=True).start()
        monkeypatch.setenv("http_proxy", proxy.url.removesuffix("/progress"))
        token = tmp_path / "token"
        token.write_text("secret")
        Reporter(operator.url, token, None).post({"progressPercentage": 1})
        proxy.shutdown()
    assert proxy.reports == []
    assert [header for header, _ in operator.reports] == ["Bearer secret"]


def test_the_remaining_time_is_estimated_from_the_steps_of_this_pod():
    progress = Progress(None, first=90, total=100, clock=lambda: 0.0)
    assert progress.status(95, 0.1, 10.0)["estimatedRemainingSeconds"] == 10


def test_reports_are_sent_at_most_every_five_seconds(operator):
    now = [0.0]
    progress = Progress(Reporter(operator.url, None, None), first=0, total=99, clock=lambda: now[0])
    for step in range(1, 13):
        now[0] = float(step)
        progress.observe(step, 0.5)
        if progress._sending:
            progress._sending.join()
    assert [report["trainerStatus"]["metrics"][0]["value"] for _, report in operator.reports] == [
        "1",
        "6",
        "11",
    ]


@pytest.mark.parametrize("url", ["http://127.0.0.1:9/gone", "http://[broken"])
def test_an_unreachable_operator_is_not_a_failure(url, tmp_path):
    Reporter(url, None, None).post({"progressPercentage": 1})
    Reporter(url, tmp_path / "no-token", tmp_path / "no-ca").post({"progressPercentage": 1})


def test_without_an_endpoint_nothing_is_sent(tmp_path: Path):
    assert Reporter.of({}) is None
    assert Reporter.of({"KUBEFLOW_TRAINER_SERVER_URL": "file:///etc/passwd"}) is None
    found = Reporter.of(
        {
            "KUBEFLOW_TRAINER_SERVER_URL": "https://operator",
            "KUBEFLOW_TRAINER_SERVER_TOKEN": "/token",
            "KUBEFLOW_TRAINER_SERVER_CA_CERT": "/ca",
        }
    )
    assert found is not None
    assert (str(found.token_file), str(found.ca_file)) == ("/token", "/ca")


def test_a_training_reports_to_the_operator(operator, world, monkeypatch):
    monkeypatch.setenv("KUBEFLOW_TRAINER_SERVER_URL", operator.url)
    world.train(world.run_file(hyperparameters={"epochs": 1, "batchSize": 16}))
    deadline = time.monotonic() + 10
    while not operator.reports and time.monotonic() < deadline:  # it is sent beside the training
        time.sleep(0.05)
    (_, report), *_ = operator.reports
    assert 0 < report["trainerStatus"]["progressPercentage"] <= 100
