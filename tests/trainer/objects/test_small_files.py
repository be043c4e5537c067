"""Files of the storage that are replaced and deleted alone: kept indices and warm-up queries."""

from __future__ import annotations

import logging
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pytest
from trainer.objects.conftest import month

from springtide_api.contract import ArtifactRef, CollectInput, ExitCode, RunFile, Unreferenced
from springtide_api.warm_up import WarmUpQueries
from springtide_trainer.artifact.preprocess import Preprocess
from springtide_trainer.errors import Refused
from springtide_trainer.evaluation import warm_up
from springtide_trainer.evaluation.datasets import EvaluationDataset
from springtide_trainer.objects.mirror import Mirror
from springtide_trainer.objects.store import Store
from springtide_trainer.stages.collect import collect
from springtide_trainer.storage import Home, commit_content, kept_by, uri_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from springtide_api.contract import ProbeOutput

pytestmark = pytest.mark.object_store

HOME = "storage/shop/ranker"
LATER = {"now": "2100-01-01T00:00:00Z"}
"""A clock by which no file has just changed."""
DIGEST = f"sha256:{'a' * 64}"
QUERIES = f"{HOME}/artifacts/sha256-{'a' * 64}.warm-up.json"


@pytest.fixture
def probe(update, monkeypatch) -> Callable[[], tuple[set[str], ProbeOutput]]:
    """Probe in a new pod; return the keys of the source that it read, and its output."""
    update.recipe["data"]["holdout"] = {"minRows": 100_000}
    keys: set[str] = set()
    read_range = Store.read_range

    def recorded(self, key: str, *args: Any) -> bytes:
        keys.add(key)
        return read_range(self, key, *args)

    monkeypatch.setattr(Store, "read_range", recorded)
    numbers = iter(range(1, 100))

    def probe() -> tuple[set[str], ProbeOutput]:
        keys.clear()
        number = next(numbers)
        done = update.run("probe", f"probe-{number}", f"pod-{number}", probe=LATER)
        assert done.code == ExitCode.DONE, done.result
        return {key for key in keys if key.startswith("data/")}, done.result.probe

    return probe


@pytest.mark.survives(
    "Data",
    "probes of files in an object store that have not changed",
    "read the kept index, not the files",
)
def test_the_next_pod_reads_the_kept_index_and_of_the_source_only_what_changed(
    probe, bucket, deliver
):
    deliver(1, 2, 3)
    first = {f"data/clicks/2026-0{number}/part-0.csv" for number in (1, 2, 3)}
    read, found = probe()
    assert (read, found.pending_rows) == (first, 360)
    before = bucket.keys(f"{HOME}/index")
    assert len(before) == 3
    assert probe() == (set(), found)

    bucket.store.put("data/clicks/2026-02/part-0.csv", month(2, rows=100))
    deliver(4)
    read, found = probe()
    assert read == {f"data/clicks/2026-0{number}/part-0.csv" for number in (2, 4)}
    assert found.pending_rows == 460
    after = bucket.keys(f"{HOME}/index")
    assert (len(after), len({*before} & {*after})) == (4, 2)


@pytest.mark.survives(
    "Data",
    "a kept index in an object store is damaged, or can be neither read nor written",
    "the file is read again, with the same result",
)
def test_an_index_that_cannot_be_used_is_made_again(probe, bucket, deliver, monkeypatch, caplog):
    deliver(1, 2, 3)
    _, expected = probe()
    damaged, *_ = bucket.keys(f"{HOME}/index")
    bucket.store.put(damaged, b"damaged")
    read, found = probe()
    assert (len(read), found) == (1, expected)

    for name in ("read", "put"):
        monkeypatch.setattr(Store, name, failing(getattr(Store, name), f"{HOME}/index"))
    read, found = probe()
    assert (len(read), found) == (3, expected)
    assert "the index is not kept" in [record.message for record in caplog.records]


def failing(method: Callable[..., Any], room: str) -> Callable[..., Any]:
    """Return a method of the store that fails for the keys in a folder."""

    def fail(self, key: str, *args: Any) -> Any:
        if key.startswith(room):
            raise Refused("StorageUnavailable", "away", code=ExitCode.ENVIRONMENT)
        return method(self, key, *args)

    return fail


@pytest.fixture
def home(bucket, tmp_path: Path) -> Iterator[Home]:
    """The storage, with a committed model in it."""
    root, made = tmp_path / "home", tmp_path / "made"
    mirror = Mirror(tmp_path / "copies", root=root, home=f"{bucket.uri}/{HOME}", writer="pod")
    made.mkdir()
    Preprocess(text="text", max_length=16, labels=["no", "yes"]).write(made)
    with kept_by(mirror):
        home = Home(root)
        commit_content(made, home.artifact(DIGEST))
        yield home


@pytest.fixture
def evaluated(home: Home, update, tmp_path: Path) -> Callable[..., None]:
    """Write the queries of the model, as an evaluation of some rows does."""
    (tmp_path / "scratch").mkdir()
    candidate = ArtifactRef(uri=uri_of(home.artifact(DIGEST)), digest=DIGEST)

    def evaluated(*texts: str, queries: int = 32) -> None:
        update.recipe["serving"] = {"warmUp": {"queries": queries}}
        rows = EvaluationDataset("h", "Holdout", DIGEST, pa.table({"text": texts}))
        recipe = update.run_file("evaluate", "g1-evaluate-1").recipe
        warm_up.write([rows], candidate, recipe, tmp_path / "scratch")

    return evaluated


def test_queries_are_beside_the_model_replaced_and_deleted_as_on_a_claim(bucket, evaluated):
    for text in ("red shoe", "lamp"):
        evaluated(text)
        found = WarmUpQueries.model_validate_json(bucket.store.read(QUERIES))
        assert found.digest == DIGEST
        assert [each["inputs"][0]["data"] for each in found.requests] == [[text]]
    evaluated("lamp", queries=0)
    assert QUERIES not in bucket.keys(HOME)
    evaluated("lamp", queries=0)


@pytest.mark.survives(
    "Model",
    "the object store does not take the warm-up queries of a model",
    "logged; the evaluation has the same result",
)
def test_queries_that_the_store_does_not_take_are_only_logged(evaluated, monkeypatch, caplog):
    monkeypatch.setattr(Store, "put", failing(Store.put, QUERIES))
    evaluated("red shoe")
    (record,) = (each for each in caplog.records if each.levelno == logging.WARNING)
    assert record.message == "no warm-up queries"


@pytest.mark.parametrize("listed", [True, False])
def test_queries_are_deleted_with_their_model(home, bucket, evaluated, listed):
    evaluated("red shoe")
    assert QUERIES in bucket.keys(HOME)
    now, hour = datetime.now(UTC), timedelta(hours=1)
    if listed:
        asked = CollectInput(delete=[uri_of(home.artifact(DIGEST))])
    else:
        unnamed = Unreferenced(kept=[], since=now - hour, until=now + hour)
        asked = CollectInput(delete=[], unreferenced=unnamed)
    collect(RunFile.model_construct(job="ranker-collect-1", collect=asked), home)
    assert bucket.keys(HOME) == []
