"""`springtide-trainer pick`: rows for people to label, by uncertainty or by distance."""

from __future__ import annotations

import csv
import json
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from trainer import decoders
from trainer.training.conftest import LABELS, PLAIN, imported, publish, toy_rows
from trainer.training.test_embedding import imported as bi_encoder

from springtide_api.contract import ExitCode
from springtide_trainer.artifact.models import load
from springtide_trainer.local.commands import main
from springtide_trainer.local.picking.strategies import by_entropy, by_margin, diverse
from springtide_trainer.storage import Home, local_path

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a published model whose input is the column `text`."""
    folder = tmp_path_factory.mktemp("models")
    made = imported(publish(folder / "published", LABELS), Home(folder / "home"))
    return local_path(made.uri)


@pytest.fixture
def rows(tmp_path: Path) -> Path:
    """Forty rows with ids, and the first of them again."""
    texts = toy_rows(40)["text"]
    file = tmp_path / "rows.csv"
    with file.open("w", newline="") as out:
        table = csv.writer(out)
        table.writerow(["id", "text"])
        table.writerows((f"q{number}", text) for number, text in enumerate(texts, start=1))
        table.writerow(["again", texts[0]])
    return file


def read(file: Path) -> list[dict[str, str]]:
    with file.open(newline="") as lines:
        return [*csv.DictReader(lines)]


def picked(model: Path, rows: Path, output: Path, *more: str) -> list[dict[str, str]]:
    assert main(["pick", str(model), str(rows), "--output", str(output), *more]) == 0
    return read(output)


def test_the_rows_that_the_model_is_least_sure_of_come_first(model, rows, tmp_path, capsys):
    found = picked(model, rows, tmp_path / "picks.csv", "--count", "7", "--keep", "id")
    out = capsys.readouterr().out
    assert f"pick: 7 of 40 rows by Entropy (left out 1 repeated): {tmp_path}" in out

    scorer = load(model, f"sha256:{model.name.removeprefix('sha256-')}")
    whole = read(rows)[:40]
    chances = scorer.predict([(row["text"], None) for row in whole]).astype(np.float64)
    entropies = -(chances * np.log(chances)).sum(axis=1)
    expected = np.argsort(-entropies, kind="stable")[:7]
    assert [each["id"] for each in found] == [whole[index]["id"] for index in expected]
    assert [int(each["row"]) for each in found] == [index + 1 for index in expected]
    assert [float(each["score"]) for each in found] == pytest.approx(entropies[expected], abs=1e-5)
    labels = [LABELS[index] for index in chances[expected].argmax(axis=1)]
    assert [each["prediction"] for each in found] == labels
    assert {each["label"] for each in found} == {""}
    assert [*found[0]] == ["pick", "row", "score", "prediction", "text", "id", "label"]


def test_diverse_picks_are_far_from_each_other_and_from_labelled_rows(model, rows, tmp_path):
    alone = picked(model, rows, tmp_path / "alone.csv", "--strategy", "Diverse", "--count", "5")
    distances = [float(each["score"]) for each in alone]
    assert distances == sorted(distances, reverse=True)
    assert len({each["text"] for each in alone}) == 5

    known = tmp_path / "known.jsonl"
    with known.open("w") as out:
        for each in alone[:3]:
            out.write(json.dumps({"text": each["text"], "label": "yes"}) + "\n")
    more = ("--strategy", "Diverse", "--count", "40", "--labelled", str(known))
    beside = picked(model, rows, tmp_path / "beside.csv", *more)
    assert len(beside) == 37  # rows that equal a labelled one are covered
    assert not {each["text"] for each in beside} & {each["text"] for each in alone[:3]}


def test_parquet_is_read_and_jsonl_is_written(model, tmp_path):
    file, output = tmp_path / "rows.parquet", tmp_path / "picks.jsonl"
    pq.write_table(pa.table({"text": [*toy_rows(9)["text"], None], "n": [*range(10)]}), file)
    options = ["--strategy", "Margin", "--count", "100", "--keep", "n", "--output", str(output)]
    assert main(["pick", str(model), str(file), *options]) == 0
    found = [json.loads(line) for line in output.read_text().splitlines()]
    assert sorted(int(each["n"]) for each in found) == [*range(9)]  # one has no text
    margins = [each["score"] for each in found]
    assert margins == sorted(margins)
    assert found[0]["label"] == ""


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["{model}", "{rows}", "--output", "{rows}"], "exists and may have labels of people"),
        (["{model}", "{rows}", "--output", "p.txt"], "must end in .csv, .jsonl"),
        (["{model}", "{rows}", "--output", "no/p.csv"], "its folder does not exist"),
        (["{model}", "{rows}", "--keep", "label", "--output", "p.csv"], "rename 'label'"),
        (["{model}", "{rows}", "--keep", "sku", "--output", "p.csv"], "has no column 'sku'"),
        (["{model}", "none.csv", "--output", "p.csv"], "none.csv is no file"),
        (["{folder}", "{rows}", "--output", "p.csv"], "name a folder below artifacts/"),
        (["{model}", "{rows}", "--labelled", "{rows}", "--output", "p.csv"], "to --strategy Div"),
    ],
)
def test_what_cannot_be_picked_is_refused(
    model, rows, tmp_path, monkeypatch, capsys, arguments, message
):
    monkeypatch.chdir(tmp_path)
    places = {"model": model, "rows": rows, "folder": tmp_path}
    filled = [each.format(**places) for each in arguments]
    assert main(["pick", *filled]) == ExitCode.INVALID_INPUT
    assert message in capsys.readouterr().err
    assert not (tmp_path / "p.csv").exists()


def test_a_damaged_model_is_refused(model, rows, tmp_path, capsys):
    other = model.with_name("sha256-" + 64 * "0")
    other.mkdir(exist_ok=True)
    for file in model.iterdir():
        (other / file.name).write_bytes(file.read_bytes())
    assert main(["pick", str(other), str(rows), "--output", str(tmp_path / "p.csv")]) == 3
    assert "DigestMismatch" in capsys.readouterr().err


def without_labels(name: str, tmp_path: Path) -> Path:
    """Return the folder of a model of a task whose predictions are no probabilities."""
    home = Home(tmp_path / "home")
    if name == "CausalLM":
        source = decoders.publish(tmp_path / "m", PLAIN)
        return local_path(imported(source, home, model={"task": name}).uri)
    if name == "Embedding":
        return local_path(bi_encoder(publish(tmp_path / "m"), home, {}).uri)
    model = {"task": name, "regression": {"location": "0", "spread": "1"}}
    return local_path(imported(publish(tmp_path / "m"), home, model=model).uri)


@pytest.mark.parametrize("name", ["Regression", "CausalLM", "Embedding"])
def test_a_task_without_probabilities_has_diverse_picks_alone(name, tmp_path, rows, capsys):
    folder = without_labels(name, tmp_path)
    for strategy in ("Entropy", "Margin"):
        more = ["--strategy", strategy, "--output", str(tmp_path / "p.csv")]
        assert main(["pick", str(folder), str(rows), *more]) == ExitCode.INVALID_INPUT
        assert f"model.task {name} has none; use --strategy Diverse" in capsys.readouterr().err
    found = picked(folder, rows, tmp_path / "p.csv", "--strategy", "Diverse", "--count", "3")
    assert [each["prediction"] for each in found] == ["", "", ""]
    assert len({each["text"] for each in found}) == 3


def test_entropy_and_margin_are_those_of_the_survey():
    """With three labels the two measures do not agree (Settles 2009, section 3.1)."""
    chances = np.array([[0.5, 0.5, 0.0], [0.4, 0.3, 0.3], [0.9, 0.05, 0.05]], np.float32)
    entropy = by_entropy(chances, 3, exclusive=True)
    assert entropy.rows.tolist() == [1, 0, 2]
    assert entropy.scores == pytest.approx([1.0889, 0.6931, 0.3944], abs=1e-4)
    margin = by_margin(chances, 3, exclusive=True)
    assert margin.rows.tolist() == [0, 1, 2]
    assert margin.scores == pytest.approx([0.0, 0.1, 0.85], abs=1e-6)
    several = np.array([[0.9, 0.1], [0.5, 1.0]], np.float32)
    assert by_margin(several, 1, exclusive=False).rows.tolist() == [1]
    of_labels = by_entropy(several, 2, exclusive=False)
    assert of_labels.rows.tolist() == [1, 0]
    assert of_labels.scores == pytest.approx([np.log(2.0), 2 * 0.32508], abs=1e-4)


def test_diverse_picks_leave_no_row_farther_than_twice_the_best_choice():
    """The bound of k-centre greedy (Sener and Savarese 2018), against all choices of three rows."""
    from itertools import combinations

    points = np.random.default_rng(5).normal(size=(14, 2)).astype(np.float32)
    known = points[:1]

    def radius(rows: list[int]) -> float:
        centres = np.concatenate([known, points[rows]])
        return float(np.linalg.norm(points[:, None] - centres[None], axis=2).min(axis=1).max())

    greedy = diverse(points, 3, labelled=known)
    best = min(radius([*rows]) for rows in combinations(range(14), 3))
    assert best <= radius(greedy.rows.tolist()) <= 2 * best
    assert greedy.scores.tolist() == sorted(greedy.scores, reverse=True)


def test_rows_that_equal_a_pick_are_not_picked():
    points = np.array([[0, 0], [0, 0], [3, 4], [3, 4], [3, 4]], np.float32)
    found = diverse(points, 5, labelled=np.zeros((1, 2), np.float32))
    assert (found.rows.tolist(), found.scores.tolist()) == ([2], [5.0])
    assert len(diverse(np.ones((3, 2), np.float32), 2).rows) == 0
