"""The sidecar: it is ready once another server answered the queries, and warms it up again."""

import asyncio
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import httpx
import pytest
import yaml
from local_cluster.ports import free_port
from prometheus_client import CollectorRegistry, generate_latest

from springtide_api.names import ANNOTATION_DIGEST
from springtide_server.warm_up import sidecar as module
from springtide_server.warm_up.command import _parser
from springtide_server.warm_up.http import Address
from springtide_server.warm_up.metrics import WarmUpMetrics
from springtide_server.warm_up.sidecar import Options, Sidecar
from springtide_trainer.errors import Refused

DIGEST = f"sha256:{'a' * 64}"
FILE = f"sha256-{'a' * 64}.warm-up.json"
PASSED_ON = {"PATH", "PYTHONPATH", "PYTHONPYCACHEPREFIX", "PYTHONDONTWRITEBYTECODE"}
MODEL = "/v2/models/model"
READY, INFER = f"{MODEL}/ready", f"{MODEL}/infer"
TEXTS = ["red", "a longer shoe", "lamp"]


@pytest.fixture(autouse=True)
def polling_often(monkeypatch):
    monkeypatch.setattr(module, "POLL_SECONDS", 0.02)


@pytest.fixture
def artifacts(tmp_path):
    """The folder of the artifacts, with queries beside one of them."""
    asked = [{"inputs": [tensor(text)]} for text in TEXTS]
    (tmp_path / FILE).write_text(json.dumps({"digest": DIGEST, "requests": asked}))
    return tmp_path


def tensor(text):
    return {"name": "text", "shape": [1], "datatype": "BYTES", "data": [text]}


class Server:
    """A server of another make: it answers what the test says, and records what it was asked."""

    def __init__(self):
        self.status = {READY: 200, INFER: 200, MODEL: 404}
        self.model = b"{}"
        self.asked = []
        self.port = 0
        self.silent = False
        self._answering = set()

    @property
    def infers(self):
        return [json.loads(body) for path, body in self.asked if path == INFER]

    @asynccontextmanager
    async def listening(self):
        server = await asyncio.start_server(self._serve, "127.0.0.1", self.port)
        self.port = server.sockets[0].getsockname()[1]
        try:
            yield
        finally:
            server.close()
            await server.wait_closed()
            for task in self._answering:
                task.cancel()
            await asyncio.gather(*self._answering, return_exceptions=True)

    async def _serve(self, reader, writer):
        task = asyncio.current_task()
        self._answering.add(task)
        task.add_done_callback(self._answering.discard)
        try:
            await self._answer(reader, writer)
        finally:
            writer.close()
            with suppress(ConnectionError):
                await writer.wait_closed()

    async def _answer(self, reader, writer):
        head = (await reader.read(1 << 16)).decode()
        if head:
            head, _, body = head.partition("\r\n\r\n")
            path = head.split()[1]
            length = next(int(x[15:]) for x in head.lower().splitlines() if "content-length" in x)
            body += (await reader.readexactly(length - len(body))).decode()
            self.asked.append((path, body))
            if self.silent and path == INFER:
                await reader.read()
            answer = self.model if path == MODEL else b"{}"
            status = self.status[path]
            writer.write(b"HTTP/1.1 %d x\r\ncontent-length: %d\r\n\r\n" % (status, len(answer)))
            writer.write(answer)


@asynccontextmanager
async def beside(server, artifacts, /, **options):
    """Run a sidecar of a server; yields it and a function that reads its metrics."""
    registry = CollectorRegistry()
    given = {
        "server": Address("127.0.0.1", server.port),
        "model": "model",
        "artifacts": artifacts,
        "digest": DIGEST,
        "seconds": 30.0,
    }
    made = Sidecar(Options(**{**given, **options}), WarmUpMetrics(registry))
    running = asyncio.create_task(made.run())
    try:
        yield made, lambda: counts(generate_latest(registry).decode())
    finally:
        running.cancel()
        await asyncio.wait({running})


def counts(text):
    values = dict(line.rsplit(" ", 1) for line in text.splitlines() if line[0] != "#")
    names = ("answered", "refused", "failed", "unanswered")
    found = {
        name: int(float(values[f'springtide_warm_up_queries_total{{outcome="{name}"}}']))
        for name in names
    }
    found = {name: count for name, count in found.items() if count}
    return found, int(float(values["springtide_warm_up_incomplete"]))


async def until(condition):
    async with asyncio.timeout(60):
        while not condition():
            await asyncio.sleep(0.01)


async def test_it_is_ready_once_the_server_answered_every_query(artifacts):
    server = Server()
    server.status[READY] = 503
    async with server.listening(), beside(server, artifacts) as (sidecar, metrics):
        await until(lambda: server.asked)
        assert sidecar.not_ready == f"waiting for the server at 127.0.0.1:{server.port}"
        assert not server.infers
        server.status[READY] = 200
        await until(lambda: not sidecar.not_ready)

        assert [body["inputs"][0]["data"] for body in server.infers] == [[x] for x in TEXTS]
        assert metrics() == ({"answered": 3}, 0)


async def test_a_server_that_says_503_to_a_query_is_asked_again(artifacts):
    server = Server()
    server.status[INFER] = 503
    async with server.listening(), beside(server, artifacts) as (sidecar, metrics):
        await until(lambda: len(server.infers) > 1)
        assert sidecar.not_ready == "the server is answering warm-up queries"
        server.status[INFER] = 200
        await until(lambda: not sidecar.not_ready)

        assert metrics() == ({"answered": 3}, 0)


@pytest.mark.survives(
    "Requests",
    "another server that refuses the warm-up queries, fails them, or never answers",
    "the sidecar is ready after all, within its time limit; its metric is 1",
)
@pytest.mark.parametrize(
    ("status", "outcome"), [(400, "refused"), (404, "refused"), (500, "failed"), (302, "failed")]
)
async def test_a_server_that_does_not_answer_them_gets_requests_all_the_same(
    artifacts, status, outcome
):
    server = Server()
    server.status[INFER] = status
    async with server.listening(), beside(server, artifacts) as (sidecar, metrics):
        await until(lambda: not sidecar.not_ready)

        assert metrics() == ({outcome: 3}, 1)


async def test_a_model_that_is_registered_later_is_waited_for(artifacts):
    server = Server()
    server.status[READY] = server.status[INFER] = 404
    async with server.listening(), beside(server, artifacts) as (sidecar, metrics):
        await until(lambda: len(server.asked) > 1)
        assert not server.infers
        server.status[READY] = server.status[INFER] = 200
        await until(lambda: not sidecar.not_ready)

        assert metrics() == ({"answered": 3}, 0)


async def test_a_model_that_is_never_known_is_asked_after_the_limit(artifacts):
    server = Server()
    server.status[READY] = server.status[INFER] = 404
    async with server.listening(), beside(server, artifacts, seconds=4) as (sidecar, metrics):
        await until(lambda: not sidecar.not_ready)

        assert metrics() == ({"refused": 3}, 1)


async def test_a_server_that_never_answers_is_waited_for_within_the_limit(artifacts):
    server = Server()
    server.silent = True
    async with server.listening(), beside(server, artifacts, seconds=4) as (sidecar, metrics):
        await until(lambda: not sidecar.not_ready)

        assert metrics() == ({"unanswered": 3}, 1)
        assert len(server.infers) == 1


async def test_what_does_not_speak_http_fails_the_queries(artifacts):
    async def babble(reader, writer):
        head = await reader.read(100)
        writer.write(b"HTTP/1.1 200 x\r\ncontent-length: 0\r\n\r\n" if b"/ready" in head else b"no")
        writer.close()

    server = Server()
    async with await asyncio.start_server(babble, "127.0.0.1", 0) as listening:
        server.port = listening.sockets[0].getsockname()[1]
        async with beside(server, artifacts) as (sidecar, metrics):
            await until(lambda: not sidecar.not_ready)
            assert metrics() == ({"failed": 3}, 1)


async def test_a_server_that_starts_again_is_warmed_up_again(artifacts):
    server = Server()
    async with server.listening():
        begun = beside(server, artifacts)
        sidecar, metrics = await begun.__aenter__()
        await until(lambda: not sidecar.not_ready)
    await until(lambda: sidecar.not_ready)
    assert sidecar.not_ready.startswith("waiting for the server")
    async with server.listening():
        await until(lambda: not sidecar.not_ready)
        assert metrics() == ({"answered": 6}, 0)
        await begun.__aexit__(None, None, None)


async def test_a_server_ends_where_its_name_has_several_addresses_and_none_is_listened_on(
    artifacts, monkeypatch
):
    # As in a pod, whose localhost is ::1, too; a test cannot rely on that.
    resolve = socket.getaddrinfo

    def both(host, *given, **options):
        hosts = ["127.0.0.2", "127.0.0.1"] if host == "localhost" else [host]
        return [found for each in hosts for found in resolve(each, *given, **options)]

    monkeypatch.setattr(socket, "getaddrinfo", both)
    server = Server()
    async with server.listening():
        begun = beside(server, artifacts, server=Address("localhost", server.port))
        sidecar, _ = await begun.__aenter__()
        await until(lambda: not sidecar.not_ready)
        await asyncio.sleep(0.1)
        assert not sidecar.not_ready
    await until(lambda: sidecar.not_ready)
    await begun.__aexit__(None, None, None)


async def test_a_server_that_is_only_slow_or_not_ready_stays_warm(artifacts):
    server = Server()
    async with server.listening(), beside(server, artifacts) as (sidecar, metrics):
        await until(lambda: not sidecar.not_ready)
        server.status[READY], server.silent = 503, True
        await asyncio.sleep(0.3)

        assert not sidecar.not_ready
        assert metrics() == ({"answered": 3}, 0)


async def test_before_the_first_generation_there_is_nothing_to_ask(artifacts):
    server = Server()
    async with server.listening(), beside(server, artifacts, digest="") as (sidecar, metrics):
        await until(lambda: not sidecar.not_ready)

        assert metrics() == ({}, 0)
        assert not server.infers


@pytest.mark.parametrize("digest", [f"sha256:{'b' * 64}", "sha256:../../etc/passwd"])
async def test_an_imported_model_has_no_queries_and_a_digest_that_is_none_is_reported(
    artifacts, digest
):
    server = Server()
    async with server.listening(), beside(server, artifacts, digest=digest) as (sidecar, metrics):
        await until(lambda: not sidecar.not_ready)

        assert metrics() == ({}, int(".." in digest))


@pytest.mark.parametrize(
    ("shape", "sent"), [([-1, 1], [1, 1]), ([-1, -1], [1, 1]), ([-1], [1]), ([1, 2], [1])]
)
async def test_a_server_whose_inputs_are_columns_gets_columns(artifacts, shape, sent):
    server = Server()
    server.status[MODEL] = 200
    inputs = [{"name": "text", "datatype": "BYTES", "shape": shape}]
    server.model = json.dumps({"name": "model", "inputs": inputs}).encode()
    async with server.listening(), beside(server, artifacts) as (sidecar, _):
        await until(lambda: not sidecar.not_ready)

        assert {tuple(body["inputs"][0]["shape"]) for body in server.infers} == {tuple(sent)}


@pytest.mark.parametrize("model", [b"", b"[1]", b'{"inputs": 3}', b'{"inputs": [{"shape": 1}]}'])
async def test_metadata_that_is_not_valid_changes_nothing(artifacts, model):
    server = Server()
    server.status[MODEL], server.model = 200, model
    async with server.listening(), beside(server, artifacts) as (sidecar, metrics):
        await until(lambda: not sidecar.not_ready)

        assert metrics() == ({"answered": 3}, 0)
        assert server.infers[0]["inputs"][0]["shape"] == [1]


@pytest.mark.parametrize(
    ("url", "host", "port"),
    [("http://127.0.0.1:8080", "127.0.0.1", 8080), ("http://[::1]:81/", "::1", 81)],
)
def test_an_address_is_read_from_a_url(url, host, port):
    assert Address.of(url) == Address(host, port)
    assert str(Address.of(url)) in url


@pytest.mark.parametrize(
    "url", ["https://x", "127.0.0.1:8080", "http://", "http://x:y", "http://x/v2"]
)
def test_other_urls_are_refused(url):
    with pytest.raises(Refused, match="must be a URL like http:"):
        Address.of(url)


def test_the_command_answers_its_probe_and_ends_with_a_signal(artifacts):
    port, server = free_port(), free_port()
    command = ["-m", "springtide_server", "warm-up", "--url", f"http://127.0.0.1:{server}"]
    command += ["--artifacts", str(artifacts), "--host", "127.0.0.1", "--port", str(port)]
    env = {name: value for name, value in os.environ.items() if name in PASSED_ON}
    popen = subprocess.Popen(
        [sys.executable, *command],
        env={**env, "MODEL_DIGEST": DIGEST},
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", verify=False) as client:
            answer = None
            while answer is None:
                assert popen.poll() is None
                try:
                    answer = client.get("/ready")
                except httpx.TransportError:
                    time.sleep(0.05)
            metrics = client.get("/metrics").text
        popen.send_signal(signal.SIGTERM)
        output, _ = popen.communicate(timeout=300)
    finally:
        popen.kill()
        popen.wait()

    waiting = f"waiting for the server at 127.0.0.1:{server}"
    assert (answer.status_code, answer.json()) == (503, {"ready": False, "error": waiting})
    assert counts(metrics) == ({}, 0)
    messages = [json.loads(line)["message"] for line in output.splitlines()]
    assert f"{waiting}: ConnectionRefusedError" in messages
    assert popen.returncode == 0


def test_the_documented_sidecar_can_be_run_and_is_one():
    page = Path(__file__).parents[2] / "docs/how-to/own-server.md"
    (text,) = re.findall(r"```yaml\n(initContainers:.*?)```", page.read_text("utf-8"), re.DOTALL)
    (container,) = yaml.safe_load(text)["initContainers"]
    given = _parser().parse_args([*container["command"][3:], *container["args"]])

    assert container["restartPolicy"] == "Always"
    assert container["command"][:3] == ["python", "-m", "springtide_server"]
    assert container["readinessProbe"]["httpGet"] == {"path": "/ready", "port": given.port}
    assert Address.of(given.url) == Address("127.0.0.1", 8080)
    (variable,) = container["env"]
    field = variable["valueFrom"]["fieldRef"]["fieldPath"]
    assert (variable["name"], field) == (
        "MODEL_DIGEST",
        f"metadata.annotations['{ANNOTATION_DIGEST}']",
    )


def test_the_command_needs_little_memory():
    code = "import springtide_server.warm_up.command, sys; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert "uvicorn" in done.stdout.split()
    assert not {"torch", "transformers", "numpy", "pyarrow"} & set(done.stdout.split())


def test_the_command_refuses_a_url_that_is_none(artifacts):
    command = ["-m", "springtide_server", "warm-up", "--url", "https://x", "--artifacts", "/x"]
    done = subprocess.run([sys.executable, *command], capture_output=True, text=True, check=False)

    assert done.returncode == 3
    assert json.loads(done.stdout)["message"].startswith("refused: InvalidSetting: 'https://x'")
