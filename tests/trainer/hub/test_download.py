"""What is downloaded from a hub: the needed files of one commit, compared with their digests."""

from __future__ import annotations

import json
import logging
import shutil

import pytest
from huggingface_hub import get_session
from huggingface_hub.errors import OfflineModeIsEnabled
from trainer.hub.conftest import UNWANTED, WANTED, in_shards
from trainer.hub.server import SIGNATURE, TOKEN, Model

from springtide_api.contract import ExitCode
from springtide_trainer.artifact.huggingface_folder import TOKENIZERS
from springtide_trainer.errors import Refused
from springtide_trainer.hub.client import Hub, online
from springtide_trainer.hub.download import SETTINGS, download

URI = "hf://shop/minilm@main"
FIELD = "spec.model.initial.uri"


@pytest.fixture
def get(hub, tmp_path):
    """Download a model; return its commit, and its files with their content."""

    def get(uri: str = URI) -> tuple[str, dict[str, bytes]]:
        folder = tmp_path / "model"
        shutil.rmtree(folder, ignore_errors=True)
        commit = download(uri, folder, FIELD)
        return commit, {path.name: path.read_bytes() for path in folder.iterdir()}

    return get


@pytest.fixture
def refusal(get):
    """Download a model; return why it is refused."""

    def refusal(uri: str = URI) -> Refused:
        with pytest.raises(Refused) as refused:
            get(uri)
        return refused.value

    return refusal


def test_only_settings_vocabularies_and_safetensors_are_downloaded(hub, get):
    commit = hub.publish("shop/minilm", {**UNWANTED, **WANTED})
    assert get() == (commit, WANTED)
    asked = {path.rpartition("/")[2] for path in hub.asked() if "/resolve/" in path}
    assert asked == {*WANTED}
    assert [request.path for request in hub.requests if request.large] != []
    assert not [path for path in hub.asked("HEAD") if path.endswith((".py", ".bin", ".onnx"))]


def test_every_tokenizer_that_an_import_accepts_is_downloaded():
    assert TOKENIZERS < SETTINGS


def test_how_the_model_pools_is_downloaded_with_it(hub, tmp_path):
    """Else an import of task Embedding could not refuse another pooling, as of a folder."""
    pooling = {"1_Pooling/config.json": b'{"pooling_mode": "cls"}'}
    hub.publish("shop/minilm", {**UNWANTED, **WANTED, **pooling, "2_Dense/config.json": b"{}"})
    download(URI, tmp_path / "model", FIELD)
    written = [path for path in (tmp_path / "model").rglob("*") if path.is_file()]
    found = {str(path.relative_to(tmp_path / "model")): path.read_bytes() for path in written}
    assert found == WANTED | pooling


def test_weights_in_several_files_are_downloaded_with_their_index(hub, get):
    files = in_shards(3)
    commit = hub.publish("shop/minilm", {**UNWANTED, **files})
    assert get() == (commit, files)


@pytest.mark.parametrize("revision", ["main", "v1.0", "commit"])
def test_a_branch_a_tag_or_a_commit_is_downloaded(hub, get, revision):
    first = hub.publish("shop/minilm", WANTED)
    hub.models["shop/minilm"].revisions["v1.0"] = first
    if revision == "commit":
        hub.publish("shop/minilm", {**WANTED, "config.json": b"{}"})
    uri = f"hf://shop/minilm@{first if revision == 'commit' else revision}"
    assert get(uri) == (first, WANTED)


def test_a_branch_that_moves_during_a_download_gives_the_files_of_one_commit(hub, get):
    first = hub.publish("shop/minilm", WANTED)

    def moved(request):
        if "/resolve/" in request.path and len(hub.models["shop/minilm"].commits) == 1:
            hub.publish("shop/minilm", dict.fromkeys(WANTED, b"{}"))
        return "pass"

    hub.fault = moved
    assert get() == (first, WANTED)
    assert get()[0] == hub.models["shop/minilm"].revisions["main"] != first


def test_the_token_is_sent_to_the_endpoint_and_not_to_the_host_of_large_files(
    hub, get, monkeypatch
):
    monkeypatch.setenv("HF_TOKEN", f"{TOKEN}\n")
    hub.publish("shop/minilm", WANTED)
    hub.models["shop/minilm"].private = True
    assert get()[1] == WANTED
    assert {request.token for request in hub.requests if not request.large} == {TOKEN}
    assert {request.token for request in hub.requests if request.large} == {None}


@pytest.mark.parametrize("status", ["500", "503", "429"])
@pytest.mark.parametrize("which", ["/api/", "HEAD", "GET", "/lfs/"])
def test_a_request_that_fails_once_is_repeated(hub, get, which, status):
    hub.publish("shop/minilm", WANTED)
    failed = []

    def once(request):
        chosen = which in request.path or (which == request.method and "/resolve/" in request.path)
        if chosen and not failed:
            failed.append(request)
            return status
        return "pass"

    hub.fault = once
    assert get()[1] == WANTED
    assert len(failed) == 1


@pytest.mark.survives(
    "Model",
    "the connection breaks while a model is downloaded from a hub",
    "the download continues where it broke",
)
def test_a_broken_connection_continues_where_it_broke(hub, get):
    hub.publish("shop/minilm", WANTED)
    hub.fault = lambda request: "cut" if request.large and request.number == 1 else "pass"
    assert get()[1] == WANTED
    starts = [request.start for request in hub.requests if request.large]
    assert starts == [0, len(WANTED["model.safetensors"]) // 2 // 1000 * 1000]  # whole chunks


def test_connections_that_always_break_end_the_download(hub, refusal):
    """The hub ignores ranges, so each connection starts from the first byte."""
    hub.publish("shop/minilm", WANTED)

    def broken(request):
        if not request.large:
            return "pass"
        object.__setattr__(request, "start", 0)
        return "cut"

    hub.fault = broken
    refused = refusal()
    assert (refused.failure.reason, refused.code) == ("HubUnavailable", ExitCode.ENVIRONMENT)
    assert "was cut short" in refused.failure.message
    assert len([request for request in hub.requests if request.large]) < 12


def test_an_answer_that_is_shorter_than_the_file_is_repeated_then_refused(hub, get, refusal):
    hub.publish("shop/minilm", WANTED)
    hub.fault = lambda request: "short" if request.large and request.number == 1 else "pass"
    assert get()[1] == WANTED
    hub.fault = lambda request: "short" if request.large else "pass"
    refused = refusal()
    assert refused.code == ExitCode.ENVIRONMENT
    assert "was cut short" in refused.failure.message


@pytest.mark.survives(
    "Model",
    "a hub sends other content than it has a digest for",
    "refused before anything reads it; the import is repeated",
)
@pytest.mark.parametrize("name", ["model.safetensors", "config.json"])
def test_other_content_than_the_hub_has_a_digest_for_is_refused(hub, refusal, name):
    hub.publish("shop/minilm", WANTED)

    def other(request):
        chosen = request.large if name == "model.safetensors" else request.path.endswith(name)
        return "other" if chosen and request.method == "GET" else "pass"

    hub.fault = other
    refused = refusal()
    assert (refused.failure.reason, refused.code) == ("DigestMismatch", ExitCode.ENVIRONMENT)
    assert f"{name} of {URI} does not match the digest" in refused.failure.message


def test_a_model_that_is_larger_than_the_free_space_is_not_downloaded(hub, get, monkeypatch):
    hub.publish("shop/minilm", WANTED)
    size = sum(map(len, WANTED.values()))
    usage = shutil.disk_usage("/")
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=size - 1))
    with pytest.raises(
        OSError, match=f"No space left on device|{URI} takes {size:,} bytes"
    ) as full:
        get()
    assert full.value.errno == 28
    assert not [path for path in hub.asked() if "/resolve/" in path or "/lfs/" in path]


def test_a_disk_that_becomes_full_is_not_taken_for_a_fault_of_the_hub(hub, get, monkeypatch):
    hub.publish("shop/minilm", WANTED)

    def full(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("huggingface_hub.file_download.http_get", full)
    with pytest.raises(OSError, match="No space left on device"):
        get()


def test_no_request_leaves_the_process_before_or_after_a_download(hub, get, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    hub.publish("shop/minilm", WANTED)
    assert get()[1] == WANTED
    with pytest.raises(OfflineModeIsEnabled):
        get_session().get(hub.endpoint)


def test_no_host_but_the_endpoint_gets_a_token_whoever_asks_it(hub):
    with online(Hub(hub.endpoint, TOKEN)):
        for host in (hub.endpoint, hub.large_files):
            url = f"{host}/api/models/shop/minilm/revision/main"
            get_session().get(url, headers={"authorization": f"Bearer {TOKEN}"})
    assert [request.token for request in hub.requests] == [TOKEN, None]


def test_a_redirect_from_https_to_http_is_not_followed(hub):
    import httpx2

    with online(Hub("https://hub.example", False)), pytest.raises(httpx2.UnsupportedProtocol):
        get_session().get(hub.endpoint)
    assert hub.requests == []


def test_the_progress_of_a_large_file_is_logged(hub, get, monkeypatch, caplog):
    monkeypatch.setattr("springtide_trainer.hub.download.LOGGED", 0.0)
    hub.publish("shop/minilm", WANTED)
    with caplog.at_level(logging.INFO, "springtide_trainer.hub"):
        get()
    size = len(WANTED["model.safetensors"])
    found = [(line.file, line.bytes, line.of) for line in caplog.records if hasattr(line, "of")]
    assert ("model.safetensors", size, size) in found


@pytest.mark.parametrize("fault", ["503", "cut", "401"])
def test_no_log_and_no_refusal_has_the_token_or_a_signed_url(
    hub, refusal, monkeypatch, caplog, capfd, fault
):
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    hub.publish("shop/minilm", WANTED)
    hub.fault = lambda request: fault if request.large else "pass"
    with caplog.at_level(logging.DEBUG, "springtide_trainer"):
        refused = refusal()
    shown = json.dumps([refused.failure.plain(), caplog.text, *capfd.readouterr()])
    assert TOKEN not in shown
    assert SIGNATURE not in shown


def publish(hub, **about: bool) -> Model:
    hub.publish("shop/minilm", WANTED)
    model = hub.models["shop/minilm"]
    for name, value in about.items():
        setattr(model, name, value)
    return model


REFUSALS = [
    ("hf://shop/other@main", {}, "", "MissingModel", "has no such repository, or it is private"),
    ("hf://shop/other@main", {}, TOKEN, "MissingModel", "has no such repository"),
    (URI, {"private": True}, "", "MissingModel", "that may read it into HF_TOKEN of the Secret"),
    (URI, {"gated": True}, "", "NoAccess", f"{URI} is gated: accept its terms"),
    (URI, {"gated": True}, TOKEN, "NoAccess", f"{URI} is gated: accept its terms"),
    (URI, {}, "hf_expired", "NoAccess", "denies access (401), the token may not read it"),
    (URI, {}, "hf_two words", "NoAccess", "HF_TOKEN of the Secret that data.secretName names has"),
    ("hf://shop/minilm@v2", {}, "", "UnknownRevision", "has no such branch, tag or commit"),
    ("hf://shop/minilm@" + "0" * 40, {}, "", "UnknownRevision", "has no such branch"),
    ("hf://shop/mini--lm@main", {}, "", "InvalidUri", "is no name of a repository"),
    ("hf://shop/minilm", {}, "", "InvalidUri", "must be hf://organization/name@revision"),
]


@pytest.mark.survives(
    "Model",
    "a hub has no such repository or revision, or it is private or gated, or the token is wrong",
    "the import fails at once and says which, and what to do",
)
@pytest.mark.parametrize(("uri", "about", "token", "reason", "says"), REFUSALS)
def test_what_only_a_user_can_change_is_refused_in_plain_words(
    hub, refusal, monkeypatch, uri, about, token, reason, says
):
    publish(hub, **about)
    monkeypatch.setenv("HF_TOKEN", token)
    refused = refusal(uri)
    assert (refused.failure.reason, refused.code) == (reason, ExitCode.INVALID_INPUT)
    assert refused.failure.field == FIELD
    assert says in refused.failure.message
    assert not token or token not in refused.failure.message


@pytest.mark.survives(
    "Model",
    "a repository of a hub has pickled weights only, and code",
    "refused before anything of it is downloaded",
)
@pytest.mark.parametrize(
    ("files", "reason", "says"),
    [
        (UNWANTED, "UnsafeArtifact", "only in pytorch_model.bin, a pickle file, which can run"),
        ({"config.json": b"{}"}, "MissingModel", "has no model.safetensors and no model.safet"),
        ({"adapter_model.safetensors": b"x"}, "MissingModel", "has no model.safetensors"),
    ],
)
def test_a_model_without_safetensors_is_refused_before_anything_is_downloaded(
    hub, refusal, files, reason, says
):
    hub.publish("shop/minilm", files)
    refused = refusal()
    assert (refused.failure.reason, refused.code) == (reason, ExitCode.INVALID_INPUT)
    assert says in refused.failure.message
    assert len(hub.requests) == 1


@pytest.mark.survives(
    "Model",
    "a hub is away, overloaded, behind a page for signing in, or no hub",
    "requests are repeated for a minute, then the import; the message has host and answer",
)
@pytest.mark.parametrize(
    ("action", "says"),
    [
        ("503", "answers with status 503"),
        ("429", "answers with status 429"),
        ("418", "answers with status 418, as no Hugging Face hub does; correct operator.hubEnd"),
        ("html", "answers as no Hugging Face hub does; correct operator.hubEndpoint"),
        ("403", "denies access (403), it needs a token"),
    ],
)
@pytest.mark.parametrize("where", ["/api/", "/resolve/"])
def test_an_endpoint_that_does_not_answer_as_a_hub_is_named(hub, refusal, where, action, says):
    hub.publish("shop/minilm", WANTED)
    hub.fault = lambda request: action if where in request.path else "pass"
    refused = refusal()
    if action == "html" and where == "/resolve/":
        says = "names no size and digest of config.json at"
    assert says in refused.failure.message
    assert refused.code == (ExitCode.INVALID_INPUT if action == "403" else ExitCode.ENVIRONMENT)


def test_an_endpoint_that_is_away_is_named(hub, refusal):
    hub.close()
    refused = refusal()
    assert (refused.failure.reason, refused.code) == ("HubUnavailable", ExitCode.ENVIRONMENT)
    host = hub.endpoint.removeprefix("http://")
    assert f"{URI}: a request to {host} failed (ConnectError: " in refused.failure.message


@pytest.mark.parametrize("endpoint", ["", "huggingface.co", "file:///models"])
def test_without_an_endpoint_nothing_is_asked(hub, refusal, monkeypatch, endpoint):
    monkeypatch.setenv("HF_ENDPOINT", endpoint)
    refused = refusal()
    assert (refused.failure.reason, refused.code) == ("HubNotAllowed", ExitCode.INVALID_INPUT)
    assert hub.requests == []


def test_a_hub_that_has_another_commit_for_a_commit_is_refused(hub, refusal):
    commit = hub.publish("shop/minilm", WANTED)
    hub.models["shop/minilm"].revisions["0" * 40] = commit
    refused = refusal("hf://shop/minilm@" + "0" * 40)
    assert refused.failure.reason == "HubUnavailable"
    assert "resolves 0000" in refused.failure.message
