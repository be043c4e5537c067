"""The example of a server that is not ours answers as the reference server does."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from importlib import import_module
from pathlib import Path
from shutil import copytree
from types import SimpleNamespace

import httpx
import numpy as np
import pytest
from local_cluster import kserve_environment
from local_cluster.ports import free_port
from server.conftest import PASSED_ON, Process, optimized
from server.test_inference import probabilities, sentences

from springtide_trainer.artifact import models
from springtide_trainer.artifact.preprocess import Preprocess
from springtide_trainer.storage import local_path, uri_of

EXAMPLE = Path(__file__).parents[2] / "examples" / "kserve"
MODEL = "/v2/models/model"
TOLERANCE = 1e-5
BEGUN = 'request_preprocess_seconds_count{model_name="model"} 7.0'
"""Two requests that are answered, four that are refused, and one that is in flight."""


@pytest.fixture(scope="module")
def example():
    """The modules of the example that need no KServe, in this process."""
    names = ("artifact", "classifier")
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(EXAMPLE)
        yield SimpleNamespace(**{name: import_module(name) for name in names})
    for name in names:
        del sys.modules[name]


@pytest.fixture
def start_kserve():
    """Start KServe's model server with an environment; it is killed at the end of the test."""
    started = []
    python = kserve_environment.ensure()

    def starting(**env):
        port = free_port()
        known = {name: value for name, value in os.environ.items() if name in PASSED_ON}
        popen = subprocess.Popen(
            [str(python), str(EXAMPLE / "server.py"), f"--http_port={port}"],
            env={**known, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", **env},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        started.append(popen)
        return Process(popen, port, client)

    with httpx.Client(
        verify=False, timeout=300, limits=httpx.Limits(max_keepalive_connections=0)
    ) as client:
        yield starting
        for popen in started:
            popen.kill()
            popen.communicate()


def model_env(artifact):
    return {
        "MODEL_URI": artifact.uri,
        "MODEL_DIGEST": artifact.digest,
        "SPRINGTIDE_GENERATION": "3",
    }


@pytest.mark.parametrize("form", ["FP32", "Int8Dynamic"])
@pytest.mark.parametrize("name", ["texts", "pairs", "features"])
def test_200_rows_are_scored_as_in_the_evaluation(name, form, request, tmp_path, example):
    made = request.getfixturevalue(name)
    if form == "Int8Dynamic":
        made = optimized(tmp_path / "form", made)
    scorer = models.load(local_path(made.artifact.uri), made.artifact.digest)
    rows = {each: sentences(200, n) for n, each in enumerate(scorer.preprocess.inputs)}
    expected = scorer.predict(scorer.preprocess.render(rows))

    folder = example.artifact.verified(made.artifact.uri, made.artifact.digest)
    found = example.classifier.Classifier(folder).probabilities([*rows.values()])

    assert expected.std(axis=0).min() > 0.01, "a model that answers the same to all proves nothing"
    np.testing.assert_allclose(found, expected, atol=TOLERANCE, rtol=0)


@pytest.mark.parametrize(
    "template", [None, "{title} for {price}", "{{{price}}} is {{price}}, {title}{title}"]
)
def test_features_become_the_text_of_the_evaluation(template, example):
    ours = Preprocess(features=["title", "price"], template=template, max_length=9, labels=["a"])
    rows = {"title": ["lamp {price}", "{{}}", ""], "price": ["3.50", "{title}", "a\\1"]}

    found = example.classifier.Columns(ours.plain()).texts([*rows.values()])

    assert found == ([text for text, _ in ours.render(rows)], None)


def append_to(file):
    file.write_bytes(file.read_bytes() + b" ")


CHANGES = {
    "a changed byte": (append_to, "model.safetensors", "does not match its manifest"),
    "a changed manifest": (append_to, "springtide-manifest.json", "has digest sha256:"),
    "a missing file": (Path.unlink, "preprocess.json", "only in its manifest"),
    "another file": (lambda file: file.write_text("{}"), "more.json", "is only in"),
}


@pytest.mark.parametrize("name", sorted(CHANGES))
def test_a_folder_with_other_content_is_refused(name, texts, tmp_path, example):
    change, file, reason = CHANGES[name]
    copytree(local_path(texts.artifact.uri), tmp_path / "copy")
    change(tmp_path / "copy" / file)

    with pytest.raises(example.artifact.Refused, match=reason):
        example.artifact.verified(uri_of(tmp_path / "copy"), texts.artifact.digest)


def test_another_digest_scheme_or_host_is_refused(texts, example):
    verified, refused = example.artifact.verified, example.artifact.Refused
    with pytest.raises(refused, match="MODEL_DIGEST is sha256:000"):
        verified(texts.artifact.uri, f"sha256:{'0' * 64}")
    with pytest.raises(refused, match="MODEL_DIGEST is not set"):
        verified(texts.artifact.uri, "")
    for uri in ("s3://bucket/model", "file://host/model"):
        with pytest.raises(refused, match="reads file:/// alone"):
            verified(uri, texts.artifact.digest)


@pytest.mark.parametrize("name", ["topics", "prices", "ranker"])
def test_a_model_of_another_task_is_refused(name, request, example):
    folder = local_path(request.getfixturevalue(name).artifact.uri)
    with pytest.raises(example.artifact.Refused, match="task Classification without multiLabel"):
        example.classifier.Classifier(folder)


async def answers_as_the_reference_server(process, made, serve, ask):
    """Compare metadata and the answers for 40 rows of a KServe process that is ready."""
    rows = {"text": sentences(40, 1), "text_pair": sentences(40, 2)}
    async with serve(made.settings) as client:
        described = (await client.get(MODEL)).json()
        expected = (await client.post(f"{MODEL}/infer", json=ask(**rows))).json()

    found = process.post(f"{MODEL}/infer", json={**ask(**rows), "id": "r-1"}).json()
    only = {**ask(**rows), "outputs": [{"name": "label"}]}
    (label,) = process.post(f"{MODEL}/infer", json=only).json()["outputs"]
    metadata = process.get(MODEL).json()

    same = {name: expected[name] for name in ("model_name", "model_version", "parameters")}
    assert found["id"] == "r-1"
    assert {name: found[name] for name in same} == same
    np.testing.assert_allclose(
        probabilities(found), probabilities(expected), atol=TOLERANCE, rtol=0
    )
    assert label["data"] == found["outputs"][1]["data"] == expected["outputs"][1]["data"]
    assert metadata["versions"] == described["versions"] == ["3"]
    for part in ("inputs", "outputs"):
        known = [{**one, "parameters": None} for one in described[part]]
        assert [{**one, "parameters": None} for one in metadata[part]] == known


@pytest.mark.kserve
async def test_kserve_answers_in_8_bit_integers_as_the_reference_server(
    pairs, tmp_path, start_kserve, serve, ask
):
    made = optimized(tmp_path / "form", pairs)
    process = start_kserve(**model_env(made.artifact))
    process.wait_for(200, f"{MODEL}/ready")
    await answers_as_the_reference_server(process, made, serve, ask)


@pytest.mark.kserve
async def test_kserve_answers_as_the_reference_server_until_the_last_request_in_flight(
    pairs, start_kserve, serve, ask
):
    process = start_kserve(**model_env(pairs.artifact))
    process.wait_for(200, f"{MODEL}/ready")
    await answers_as_the_reference_server(process, pairs, serve, ask)

    bad = [
        ask(text=["red"]),
        ask(text=["red"], text_pair=["lamp", "shoe"]),
        ask(text=[1], text_pair=["lamp"]),
        ask(text=[], text_pair=[]),
    ]
    assert [process.post(f"{MODEL}/infer", json=one).status_code for one in bad] == [400] * 4
    many = ask(text=sentences(2000, 1), text_pair=sentences(2000, 2))
    answers = []
    client = threading.Thread(
        target=lambda: answers.append(process.post(f"{MODEL}/infer", json=many)), daemon=True
    )

    client.start()
    while BEGUN not in process.get("/metrics").text:
        time.sleep(0.02)
    process.popen.terminate()
    assert not answers, "the request must be in flight"
    client.join()
    output, _ = process.popen.communicate(timeout=300)

    assert answers[0].status_code == 200
    assert len(answers[0].json()["outputs"][1]["data"]) == 2000
    assert process.popen.returncode == 0, output


@pytest.mark.kserve
@pytest.mark.survives(
    "Model",
    "one changed byte in the artifact that a server of another project is to load",
    "the server does not start and reports why",
)
def test_kserve_does_not_start_with_a_changed_model(texts, tmp_path, start_kserve):
    copytree(local_path(texts.artifact.uri), tmp_path / "copy")
    append_to(tmp_path / "copy" / "model.safetensors")

    process = start_kserve(MODEL_URI=uri_of(tmp_path / "copy"), MODEL_DIGEST=texts.artifact.digest)
    output, _ = process.popen.communicate(timeout=300)

    assert process.popen.returncode == 1
    assert output.splitlines()[-1].startswith("refused: model.safetensors in ")


@pytest.mark.kserve
def test_without_a_model_kserve_is_live_and_not_ready(start_kserve):
    process = start_kserve()

    assert process.wait_for(200, "/v2/health/live").json() == {"live": True}
    assert process.get(f"{MODEL}/ready").status_code == 404
