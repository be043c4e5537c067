"""Reading warm-up queries: whatever lies there is refused with a reason, or is empty."""

import asyncio
import json
import os
import threading
import tracemalloc

import pytest

from springtide_api.warm_up import MAX_BYTES
from springtide_server.warm_up import asking
from springtide_server.warm_up.asking import Target
from springtide_server.warm_up.queries import Unusable, encode, read

DIGEST = f"sha256:{'a' * 64}"
QUERY = {"inputs": [{"name": "text", "shape": [1], "datatype": "BYTES", "data": ["secret"]}]}


def content(**changes: object) -> bytes:
    return json.dumps({"digest": DIGEST, "requests": [QUERY], **changes}).encode()


@pytest.fixture
def file(tmp_path):
    return tmp_path / "queries.warm-up.json"


def test_the_queries_are_those_of_the_file(file):
    file.write_bytes(content(written_by="a later version"))

    assert read(file, DIGEST) == [QUERY]


def test_no_file_is_no_query(file):
    assert read(file, DIGEST) == []


@pytest.mark.survives(
    "Model",
    "a file of warm-up queries that is of another model, too large, not JSON, a pipe or a link",
    "the server is ready without them; log and metric say why, without texts",
)
@pytest.mark.parametrize(
    ("written", "reason"),
    [
        (b"", "is not valid: content: it is not JSON"),
        (b'{"digest": "secret', "is not valid: content: it is not JSON"),
        (b"\xff\xfe secret", "is not valid: content: it is not JSON"),
        (b"[" * 100_000, "is not valid: content: it is not JSON"),
        (b'["secret"]', "is not valid: content: Input should be an object"),
        (b'{"secret": 1}', "is not valid: digest: Field required"),
        (content(requests={"secret": 1}), "is not valid: requests: Input should be a valid array"),
        (content(requests=["secret"]), "is not valid: requests.0: Input should be an object"),
        (content(requests=[{}] * 258), "is not valid: requests: List should have at most 257"),
        (content(digest="secret"), "is not valid: digest: String should match"),
        (content(digest=f"sha256:{'b' * 64}"), f"not of {DIGEST}"),
    ],
    ids=[
        "empty", "cut", "bytes", "nested", "list", "foreign", "object", "text", "many", "digest",
        "other",
    ],
)  # fmt: skip
def test_what_is_not_valid_is_refused_with_its_path_and_without_texts(file, written, reason):
    file.write_bytes(written)

    with pytest.raises(Unusable) as refused:
        read(file, DIGEST)
    assert reason in str(refused.value)
    assert "secret" not in str(refused.value)


def test_of_100_mb_no_more_than_the_limit_is_read(file):
    with file.open("wb") as sparse:
        sparse.truncate(100_000_000)
    tracemalloc.start()

    with pytest.raises(Unusable, match=f"is larger than {MAX_BYTES} bytes"):
        read(file, DIGEST)
    assert tracemalloc.get_traced_memory()[1] < 4 * MAX_BYTES
    tracemalloc.stop()


def test_a_pipe_a_link_and_a_folder_are_not_read(tmp_path):
    (tmp_path / "real").write_bytes(content())
    (tmp_path / "link").symlink_to(tmp_path / "real")
    (tmp_path / "folder").mkdir()
    os.mkfifo(tmp_path / "pipe")

    for name in ("link", "folder", "pipe"):
        with pytest.raises(Unusable, match=f"{name} cannot be read: "):
            read(tmp_path / name, DIGEST)


@pytest.mark.parametrize("digest", ["3", "sha256:../../secret", DIGEST.upper()])
def test_a_digest_that_is_none_is_refused(file, digest):
    with pytest.raises(Unusable, match="is not sha256: and 64 hex digits"):
        read(file, digest)


def test_a_server_that_wants_columns_gets_columns():
    assert json.loads(encode(QUERY, ["text"]))["inputs"][0]["shape"] == [1, 1]
    assert json.loads(encode(QUERY, ["other"])) == QUERY
    for broken in ({}, {"inputs": 3}, {"inputs": [3, {"name": "text"}]}):
        assert json.loads(encode(broken, ["text"])) == broken


async def no_server() -> Target:
    raise AssertionError("there are no queries")


def test_storage_that_never_answers_does_not_keep_a_process_from_ending(file, monkeypatch):
    answers, asked = threading.Event(), []
    monkeypatch.setattr(asking, "read", lambda *_: answers.wait(600))

    def end() -> None:
        asked.append(asyncio.run(asking.warm_up(file, DIGEST, no_server, seconds=0.01)))

    ending = threading.Thread(target=end)
    ending.start()
    ending.join(timeout=60)
    waits = ending.is_alive()
    answers.set()
    ending.join()

    assert not waits
    assert [each.problem for each in asked] == [f"{file} was not read within 0.01 s"]
