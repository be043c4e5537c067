"""Servers as processes, as the pods of one node: one of them copies the artifact."""

from __future__ import annotations

import os
import shutil
import signal
from shutil import copytree

import pytest

from springtide_server.settings import Settings, read_settings
from springtide_trainer.errors import Refused
from springtide_trainer.storage import local_path, uri_of

INFER = "/v2/models/model/infer"


@pytest.fixture
def env(texts, cache, tmp_path):
    copytree(local_path(texts.artifact.uri), tmp_path / "claim")
    return {
        "MODEL_URI": uri_of(tmp_path / "claim"),
        "MODEL_DIGEST": texts.artifact.digest,
        "MODEL_CACHE": str(cache),
        "DRAIN_SECONDS": "0",
    }


def sources(server):
    """Where a server loaded from, by its metric and, after it ended, by its log."""
    text = server.get("/metrics").text
    server.popen.send_signal(signal.SIGTERM)
    log = server.output()
    (ready,) = [line for line in log if line["message"] == "ready"]
    assert f'springtide_server_loaded_from{{source="{ready["loaded_from"]}"}} 1.0' in text
    assert text.count("springtide_server_loaded_from{") == 4
    return ready["loaded_from"], [line["message"] for line in log if line["level"] == "warning"]


def test_of_the_servers_of_a_node_one_copies_and_all_answer_the_same(env, start, ask, tmp_path):
    servers = [start(**env) for _ in range(3)]
    answers = []
    for server in servers:
        server.wait_for(200)
        answers.append(server.post(INFER, json=ask(text=["red shoe"])).json())
    assert answers[0]["outputs"][0]["data"]
    assert answers == [answers[0]] * 3
    assert sorted(sources(server) for server in servers) == [
        ("cache", []),
        ("cache", []),
        ("copied", []),
    ]

    shutil.rmtree(tmp_path / "claim")
    restarted = start(**env)
    restarted.wait_for(200)
    assert sources(restarted) == ("cache", [])


@pytest.mark.survives(
    "Model",
    "the folder of the node's cache is read-only",
    "what is in it is used; else the model is loaded from the storage, log and metric say so",
)
def test_a_read_only_cache_is_used_but_not_filled(env, start, start_program, cache):
    # As in a pod: root without capabilities may not write to what is read-only.
    before = ["setpriv", "--bounding-set=-all", "--inh-caps=-all"] if os.geteuid() == 0 else []
    cache.chmod(0o555)
    server = start_program(*before, **env)
    server.wait_for(200)
    source, warnings = sources(server)
    assert source == "fallback"
    assert len(warnings) == 1
    assert "PermissionError: [Errno 13] Permission denied" in warnings[0]

    cache.chmod(0o755)
    filling = start(**env)
    filling.wait_for(200)
    assert sources(filling)[0] == "copied"

    cache.chmod(0o555)
    server = start_program(*before, **env)
    server.wait_for(200)
    assert sources(server) == ("cache", [])
    cache.chmod(0o755)


def test_settings_of_the_cache_are_read_and_checked():
    assert read_settings({}).model_cache == ""
    read = read_settings({"MODEL_CACHE": "/cache", "MODEL_CACHE_BYTES": "5000000"})
    assert (read.model_cache, read.model_cache_bytes) == ("/cache", 5_000_000)
    assert Settings().model_cache_bytes == 10 * 2**30
    with pytest.raises(Refused, match="MODEL_CACHE_BYTES is '10Gi'; it must be an integer"):
        read_settings({"MODEL_CACHE_BYTES": "10Gi"})
