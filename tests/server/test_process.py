"""The server as a process: refused settings and artifacts, readiness, shutdown."""

import fcntl
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path
from shutil import copytree

import httpx
import pytest
from safetensors.torch import load_file, save_file

from springtide_server.settings import Settings
from springtide_trainer.artifact import manifest
from springtide_trainer.storage import local_path, uri_of

INFER = "/v2/models/model/infer"


def model_env(made, **more: str) -> dict[str, str]:
    return {
        "MODEL_URI": made.artifact.uri,
        "MODEL_DIGEST": made.artifact.digest,
        "SPRINGTIDE_GENERATION": "3",
        **more,
    }


@pytest.mark.survives(
    "Model",
    "one flipped bit in the artifact that a server is to load",
    "the server does not start and reports why; pods of the old generation keep serving",
)
def test_a_flipped_bit_is_refused_with_exit_code_3(texts, start_program, tmp_path):
    folder = tmp_path / "copy"
    copytree(local_path(texts.artifact.uri), folder)
    weights = folder / "model.safetensors"
    content = bytearray(weights.read_bytes())
    content[-7] ^= 1
    weights.write_bytes(content)
    termination_log = tmp_path / "termination-log"
    termination_log.touch()

    server = start_program(MODEL_URI=uri_of(folder), MODEL_DIGEST=texts.artifact.digest)
    log = server.output()

    assert server.popen.returncode == 3
    reason = f"DigestMismatch: model.safetensors in {folder} does not match its manifest"
    assert log[-1]["message"].startswith(f"refused: {reason} (")
    assert termination_log.read_text() == log[-1]["message"].removeprefix("refused: ")
    assert termination_log.read_text().endswith("; restore the folder from a copy")


@pytest.mark.survives(
    "Model",
    "weights that give NaN",
    "the server does not start and reports why",
)
def test_weights_with_nan_scores_are_refused(texts, start, tmp_path):
    folder = tmp_path / "copy"
    copytree(local_path(texts.artifact.uri), folder)
    weights = load_file(folder / "model.safetensors")
    weights["classifier.bias"][0] = float("nan")
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    digest = manifest.write_manifest(folder)

    server = start(MODEL_URI=uri_of(folder), MODEL_DIGEST=digest)
    log = server.output()

    assert server.popen.returncode == 3
    assert log[-1]["message"].startswith(f"refused: NotFinite: model {digest} is not usable: ")


def test_a_failure_to_load_is_one_line_in_the_log(texts, start, tmp_path):
    folder = tmp_path / "copy"
    copytree(local_path(texts.artifact.uri), folder)
    (folder / "config.json").write_text('{"model_type": "unheard-of"}')
    digest = manifest.write_manifest(folder)

    server = start(MODEL_URI=uri_of(folder), MODEL_DIGEST=digest)
    log = server.output()

    assert server.popen.returncode != 0
    assert log[-1]["level"] == "error"
    assert "unheard-of" in log[-1]["message"]


@pytest.mark.survives(
    "Requests",
    "invalid settings of the server",
    "exit code 3 with the variable, its value and its bounds",
)
@pytest.mark.parametrize(
    ("env", "reason"),
    [
        ({"MODEL_URI": "file:///m"}, "InvalidDigest: MODEL_DIGEST is ''; MODEL_URI is set, so"),
        (
            {"MODEL_URI": "ftp://b/m", "MODEL_DIGEST": f"sha256:{'0' * 64}"},
            "InvalidUri: 'ftp://b/m' must be file:///path, s3://bucket/path, gs://bucket/path or "
            "az://container/path, without '..' and '?' (MODEL_URI)",
        ),
        (
            {"MODEL_URI": "file:///absent", "MODEL_DIGEST": f"sha256:{'0' * 64}"},
            "DigestMismatch: /absent is not a folder; expected artifact sha256:000",
        ),
        (
            {"SPRINGTIDE_MAX_BATCH": "0"},
            "InvalidSetting: SPRINGTIDE_MAX_BATCH is '0'; it must be an integer from 1 to 4096",
        ),
        (
            {"MODEL_NAME": "shop/ranker"},
            "InvalidSetting: MODEL_NAME is 'shop/ranker'; it is one part of the path",
        ),
        (
            {"DRAIN_SECONDS": "nan"},
            "InvalidSetting: DRAIN_SECONDS is 'nan'; it must be a number from 0 to 3600",
        ),
    ],
    ids=["no digest", "scheme", "no folder", "batch", "name", "drain"],
)
def test_invalid_settings_are_refused_with_exit_code_3(start, env, reason):
    server = start(**env)
    log = server.output()

    assert server.popen.returncode == 3
    assert log[-1]["message"].startswith(f"refused: {reason}")


def test_an_address_that_another_process_has_is_reported_in_the_termination_message(
    start, tmp_path
):
    (tmp_path / "termination-log").touch()
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        server = start(SPRINGTIDE_PORT=port)
        server.output()

    assert server.popen.returncode == 1
    assert (tmp_path / "termination-log").read_text() == (
        f"failed: OSError: cannot listen on 127.0.0.1:{port}; set SPRINGTIDE_HOST and "
        "SPRINGTIDE_PORT to an address of the pod that no other container of it has"
    )


@pytest.mark.survives(
    "Requests",
    "SIGTERM while the model is loading, from storage that does not answer",
    "the server ends at once, with exit code 0",
)
def test_a_server_that_is_stopped_while_it_loads_does_not_wait_for_that(
    texts, start_program, tmp_path
):
    cache = tmp_path / "cache"
    cache.mkdir()
    handle = os.open(cache, os.O_RDONLY)
    fcntl.flock(handle, fcntl.LOCK_EX)
    server = start_program(**model_env(texts, MODEL_CACHE=str(cache)))
    assert "is loading" in server.wait_for(503).json()["error"]
    server.popen.send_signal(signal.SIGTERM)
    log = server.output()
    os.close(handle)

    assert server.popen.returncode == 0
    assert [line["message"] for line in log if line["logger"] == "springtide.server"] == [
        "draining",
        "drained",
    ], "what loads would report in the end that the cache is locked"


def test_a_server_that_is_stopped_while_it_imports_its_libraries_ends_at_once():
    stopped = """
import os, signal, sys, time
from springtide_server import __main__ as program
program._serve = lambda: (os.kill(os.getpid(), signal.SIGTERM), time.sleep(60))
program.main()
sys.exit("it went on")
"""
    ended = subprocess.run([sys.executable, "-c", stopped])

    # Without a handler it is -15, and nothing at all for process 1 of a container.
    assert ended.returncode == 0


def test_without_a_model_the_server_is_live_not_ready_and_stops_at_once(start):
    server = start()
    server.wait_for(200, "/v2/health/live")
    assert server.wait_for(503).json()["error"].startswith("MODEL_URI is not set")

    server.popen.send_signal(signal.SIGTERM)
    server.output()

    assert server.popen.returncode == 0


def test_the_generation_can_be_read_from_a_file_of_the_downward_api(start, tmp_path):
    (tmp_path / "generation").write_text("12")
    server = start(SPRINGTIDE_GENERATION_FILE=str(tmp_path / "generation"))
    server.wait_for(200, "/v2/health/live")

    assert 'generation="12"' in server.get("/metrics").text


def test_after_sigterm_the_server_is_not_ready_and_no_request_fails(texts, start_program, ask):
    server = start_program(**model_env(texts, DRAIN_SECONDS="10"))
    server.wait_for(200)
    stop, statuses = threading.Event(), []

    def send_requests():
        while not stop.is_set():
            statuses.append(server.post(INFER, json=ask(text=["red"])).status_code)

    client = threading.Thread(target=send_requests, daemon=True)
    client.start()
    server.popen.send_signal(signal.SIGTERM)
    unready = server.wait_for(503)
    after = len(statuses)
    while len(statuses) < after + 3:
        assert server.popen.poll() is None
        time.sleep(0.01)
    stop.set()
    client.join()
    log = server.output()

    assert unready.json() == {"ready": False, "error": "the server is shutting down"}
    assert set(statuses) == {200}
    assert server.popen.returncode == 0
    assert log[-1]["message"] == "drained"


def test_a_second_signal_ends_the_grace_period_and_requests_in_flight_complete(texts, start, ask):
    server = start(**model_env(texts, DRAIN_SECONDS="3600", SPRINGTIDE_MAX_DELAY_MS="8000"))
    server.wait_for(200)
    answers = []

    def send_request():
        answers.append(server.post(INFER, json=ask(text=["red"])))

    client = threading.Thread(target=send_request, daemon=True)
    client.start()
    while "springtide_server_waiting_rows 1.0" not in server.get("/metrics").text:
        assert not answers
        time.sleep(0.02)
    server.popen.send_signal(signal.SIGTERM)
    server.wait_for(503)
    server.popen.send_signal(signal.SIGTERM)
    client.join()
    server.output()

    assert answers[0].status_code == 200
    assert server.popen.returncode == 0


def test_a_10_mb_body_gets_413_over_http_and_no_text_is_logged(texts, start, ask):
    server = start(**model_env(texts, DRAIN_SECONDS="0"))
    server.wait_for(200)

    with httpx.Client() as client:
        refused = client.post(server.url + INFER, content=b"secret" * 2_000_000)
        answered = client.post(server.url + INFER, json=ask(text=["a secret"]))
        unknown = client.post(server.url + INFER, json=ask(text=["a secret"], other=["secret"]))
    server.popen.send_signal(signal.SIGTERM)
    log = server.output()

    assert [r.status_code for r in (refused, answered, unknown)] == [413, 200, 400]
    ready = next(line for line in log if line["message"] == "ready")
    assert (ready["generation"], ready["digest"]) == ("3", texts.artifact.digest)
    assert all({"time", "level", "logger"} <= line.keys() for line in log)
    assert "secret" not in json.dumps(log)


def test_the_documented_defaults_are_the_actual_ones():
    page = Path(__file__).parents[2] / "docs/how-to/serve-with-the-reference-server.md"
    text = page.read_text(encoding="utf-8")
    defaults = Settings()

    for name, value in {
        "MODEL_NAME": defaults.model_name,
        "MODEL_CACHE_BYTES": defaults.model_cache_bytes,
        "SPRINGTIDE_PORT": defaults.port,
        "SPRINGTIDE_MAX_BATCH": defaults.max_batch,
        "SPRINGTIDE_MAX_DELAY_MS": f"{defaults.max_delay * 1000:g}",
        "SPRINGTIDE_MAX_WAITING": defaults.max_waiting,
        "SPRINGTIDE_MAX_BODY": defaults.max_body,
        "DRAIN_SECONDS": f"{defaults.drain_seconds:g}",
    }.items():
        assert f"| `{name}` | `{value}` |" in text
