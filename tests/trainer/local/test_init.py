"""`springtide-trainer init`: manifests that the API server accepts."""

from __future__ import annotations

import gzip
import json
import shlex

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml

from springtide_trainer.local.commands import main
from springtide_trainer.local.starting import command
from springtide_trainer.local.validation import problems


@pytest.fixture
def encoder(tmp_path):
    """A model's folder with only what init reads."""
    folder = tmp_path / "minilm"
    folder.mkdir()
    config = {"architectures": ["BertModel"], "max_position_embeddings": 64}
    (folder / "config.json").write_text(json.dumps(config))
    return folder


@pytest.fixture
def clicks(tmp_path):
    folder = tmp_path / "clicks" / "dt=2026-01-31"
    folder.mkdir(parents=True)
    with gzip.open(folder / "part-0.csv.gz", "wt") as out:
        out.write("event_time,user_id,query,title,clicked,price\n")
        for number in range(4):
            out.write(f"2026-01-31 10:00:00,u{number},red shoe,a red shoe,{number % 2},1.5\n")
    (folder / "_SUCCESS").touch()
    return folder.parent


def test_a_starter_names_what_it_found_in_model_and_data(encoder, clicks, capsys):
    assert main(["init", "--model", str(encoder), "--data", str(clicks), "--name", "ranker"]) == 0

    out = capsys.readouterr().out
    spec = yaml.safe_load(out)["spec"]
    assert spec["model"]["labels"] == ["0", "1"]
    assert spec["model"]["maxLength"] == 64
    partition = {"period": "Day", "path": "dt=%Y-%m-%d", "successMarker": True}
    assert spec["data"]["source"]["partition"] == partition
    assert spec["data"]["source"]["columns"] == {
        "text": "query",
        "textPair": "title",
        "label": "clicked",
        "timestamp": "event_time",
        "entity": "user_id",
    }
    assert spec["training"]["hyperparameters"]["learningRate"] == "1e-4"
    assert spec["rollout"]["targets"][0]["targetRef"]["name"] == "ranker"
    assert "# guessed: rows of one customer or query depend on each other" in out
    assert "# Other columns: price" in out
    assert problems(yaml.safe_load(out)) == []


def test_a_trained_head_keeps_its_labels_and_the_default_learning_rate(encoder, clicks, capsys):
    config = {
        "architectures": ["BertForSequenceClassification"],
        "id2label": {"1": "1", "0": "0", "2": "2"},
    }
    (encoder / "config.json").write_text(json.dumps(config))

    assert main(["init", "--model", str(encoder), "--data", str(clicks)]) == 0

    spec = yaml.safe_load(capsys.readouterr().out)["spec"]
    assert spec["model"]["labels"] == ["0", "1", "2"]
    assert "learningRate" not in spec["training"]["hyperparameters"]
    assert spec["gate"]["rules"][0]["metric"] == "accuracy"


def test_parquet_of_one_file_is_divided_by_its_timestamp(encoder, tmp_path, capsys):
    rows = {"sentence": ["a b", "c d"], "intent": ["buy", "return"], "at": ["2026-01-01"] * 2}
    pq.write_table(pa.table(rows), tmp_path / "all.parquet")
    data = str(tmp_path / "all.parquet")

    assert main(["init", "--model", str(encoder), "--data", data]) == 0

    source = yaml.safe_load(capsys.readouterr().out)["spec"]["data"]["source"]
    assert (source["format"], source["uri"]) == ("Parquet", "file:///data/all.parquet")
    assert source["partition"] == {"period": "Month"}


def test_a_recipe_is_completed_with_its_comments(encoder, clicks, tmp_path, capsys):
    whole, recipe = tmp_path / "whole.yaml", tmp_path / "recipe.yaml"
    arguments = ["init", "--model", str(encoder), "--data", str(clicks)]
    assert main([*arguments, "--output", str(whole)]) == 0
    text = whole.read_text()
    recipe.write_text(text[: text.index("  rollout:")])

    assert main(["init", str(recipe), "--deployment", "shop", "--claim", "weights"]) == 0

    out = capsys.readouterr().out
    assert "# guessed: the text of an example" in out
    spec = yaml.safe_load(out)["spec"]
    assert spec["rollout"]["targets"][0]["targetRef"]["name"] == "shop"
    assert spec["storage"]["volume"]["claimName"] == "weights"

    assert main(["init", str(whole)]) == 3
    assert "rollout and storage are set; the manifest is complete" in capsys.readouterr().err
    assert main([*arguments, "--output", str(whole)]) == 75
    assert "File exists" in capsys.readouterr().err


def test_the_next_command_that_is_shown_can_be_copied_where_paths_have_spaces(
    encoder, clicks, tmp_path, capsys
):
    data, output = clicks.rename(tmp_path / "my clicks"), tmp_path / "my update.yaml"

    arguments = ["--model", str(encoder), "--data", str(data)]
    assert main(["init", *arguments, "--output", str(output)]) == 0

    _, _, command = capsys.readouterr().err.partition("; next: ")
    wanted = ["run", str(output), "--data", str(data), "--model", str(encoder)]
    assert shlex.split(command) == ["springtide-trainer", *wanted]


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({}, "has no file that ends in .csv"),
        ({"a.csv": ""}, "a.csv has no rows"),
        ({"a.parquet": "no"}, "a.parquet cannot be read as Parquet"),
        ({"a.jsonl": "{"}, "a.jsonl cannot be read as JSONL"),
        ({"a.jsonl": "[1]"}, "a.jsonl cannot be read as JSONL: a row is not an object"),
    ],
)
def test_data_that_cannot_be_read_is_refused(encoder, tmp_path, files, message, capsys):
    folder = tmp_path / "data"
    folder.mkdir()
    for name, text in files.items():
        (folder / name).write_text(text)

    assert main(["init", "--model", str(encoder), "--data", str(folder)]) == 3
    assert message in capsys.readouterr().err


def test_what_was_not_found_is_marked_to_be_changed(encoder, tmp_path, capsys):
    (tmp_path / "x.csv").write_text("a,b\n1,2\n")

    assert main(["init", "--model", str(encoder), "--data", str(tmp_path / "x.csv")]) == 0

    out = capsys.readouterr().out
    assert "text: CHANGE-ME-text  # not found: the text of an example" in out


@pytest.mark.parametrize(
    "arguments", [[], ["--model", "x"], ["r.yaml", "--data", "x", "--model", "y"]]
)
def test_init_needs_either_a_recipe_or_model_and_data(arguments, capsys):
    with pytest.raises(SystemExit) as ended:
        main(["init", *arguments])
    assert ended.value.code == 2
    assert "either a recipe, or --model and --data" in capsys.readouterr().err


@pytest.mark.apiserver
def test_the_api_server_accepts_what_init_writes(encoder, clicks, kinds, capsys):
    assert main(["init", "--model", str(encoder), "--data", str(clicks)]) == 0

    kinds.kubectl(
        "create", "--dry-run=server", "--validate=strict", "-f", "-", input=capsys.readouterr().out
    )


@pytest.mark.parametrize(("error", "code"), [(ZeroDivisionError, 70), (KeyboardInterrupt, 130)])
def test_what_ends_a_command_unexpectedly_has_not_the_exit_code_of_a_verdict(
    encoder, clicks, capsys, monkeypatch, error, code
):
    def fail(source):
        raise error

    monkeypatch.setattr(command, "guess", fail)

    assert main(["init", "--model", str(encoder), "--data", str(clicks)]) == code
    assert ("Traceback" in capsys.readouterr().err) == (code == 70)


def written(folder, name: str, content: bytes):
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


def starter(encoder, data, capsys) -> dict:
    assert main(["init", "--model", str(encoder), "--data", str(data)]) == 0
    found = yaml.safe_load(capsys.readouterr().out)
    assert problems(found) == []
    return found["spec"]


def test_labels_are_spelled_as_the_trainer_reads_them(encoder, tmp_path, capsys):
    rows = {"text": ["a b", "c d"], "at": ["2026-01-01"] * 2}
    for name, labels, expected in (
        ("flags", [True, False], ["false", "true"]),
        ("whole", [1.0, 0.0], ["0", "1"]),
        ("parts", [0.5, 1.0], ["0.5", "1"]),
    ):
        path = tmp_path / f"{name}.parquet"
        pq.write_table(pa.table(rows | {"label": labels}), path)
        assert starter(encoder, path, capsys)["model"]["labels"] == expected
        lines = [
            json.dumps({"text": "a b", "label": label, "at": "2026-01-01"}) for label in labels
        ]
        path = written(tmp_path, f"{name}.jsonl", "\n\n".join(lines).encode())
        assert starter(encoder, path, capsys)["model"]["labels"] == expected


def test_a_mark_of_the_byte_order_is_no_part_of_a_column(encoder, tmp_path, capsys):
    path = written(
        tmp_path, "a.csv", b"\xef\xbb\xbftext,label,at\na b,x,2026-01-01\nc d,y,2026-01-01\n"
    )
    assert starter(encoder, path, capsys)["data"]["source"]["columns"]["text"] == "text"


def test_files_of_which_no_pattern_names_all_are_divided_by_their_timestamps(
    encoder, tmp_path, capsys
):
    rows = b"text,label,at\na b,x,2026-01-01\nc d,y,2026-01-01\n"
    for name in ("2026-01-01-a.csv", "2026-01-01-b.csv"):
        written(tmp_path / "data", name, rows)
    partition = starter(encoder, tmp_path / "data", capsys)["data"]["source"]["partition"]
    assert partition == {"period": "Day"}


def test_many_different_numbers_are_learnt_by_regression(encoder, tmp_path, capsys):
    lines = [f"a shoe,{number / 8},2026-01-01" for number in range(300)]
    path = written(tmp_path, "prices.csv", "\n".join(["text,label,at", *lines]).encode())
    spec = starter(encoder, path, capsys)
    assert spec["model"]["task"] == "Regression"
    assert "labels" not in spec["model"]
    assert [rule["metric"] for rule in spec["gate"]["rules"]] == ["r2", "r2"]
    assert "learningRate" in spec["training"]["hyperparameters"]


def test_a_label_that_was_not_found_is_marked_to_be_changed(encoder, tmp_path, capsys):
    path = written(tmp_path, "a.csv", b"text,label,at\na b,x,2026-01-01\nc d,x,2026-01-01\n")
    assert starter(encoder, path, capsys)["model"]["labels"] == ["x", "CHANGE-ME-0"]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.csv", b"text,label\na,b,c\n", "a row has more or fewer fields than the header"),
        ("a.csv", b'text,label\n"a,b\n', "a.csv cannot be read as CSV"),
        ("a.csv.gz", gzip.compress(b"text,label\n" * 99, mtime=0)[:-9], "cannot be read as CSV"),
        ("a.csv.gz", b"\x1f\x8b\x08" + b"\0" * 7 + b"\xff" * 99, "cannot be read as CSV"),
        ("a.jsonl", b"[" * 100_000, "a.jsonl cannot be read as JSONL"),
        (
            "a.csv",
            b"text,label\n" + b"".join(b"a b,id-%d\n" % number for number in range(300)),
            "TooManyLabels: column 'label' has 300 different values in the first rows",
        ),
    ],
)
def test_damaged_data_and_labels_of_no_task_are_refused(
    encoder, tmp_path, name, content, message, capsys
):
    path = written(tmp_path, name, content)
    assert main(["init", "--model", str(encoder), "--data", str(path)]) == 3
    assert message in capsys.readouterr().err


def test_a_manifest_nested_too_deeply_is_refused(tmp_path, capsys):
    path = written(tmp_path, "deep.yaml", b"[" * 100_000)
    assert main(["init", str(path)]) == 3
    assert "deep.yaml: YAML: " in capsys.readouterr().err
