"""A manifest means here what it means to kubectl, read and written."""

from __future__ import annotations

import json
import subprocess

import pytest
import yaml
from local_cluster.places import program

from springtide_trainer.local import kubectl_yaml
from springtide_trainer.local.commands import main

HEAD = "apiVersion: springtide.dev/v1alpha1\nkind: IncrementalUpdate\nmetadata: {name: x}\n"
SPELLINGS = [
    *("1e-4", "2E5", "1.0e4", "1.5e-3", ".5e-3", "12e03", "1.e3", "1e-05", "0.1", "1.", "-.5"),
    *("+.5", "0.", "1_0.5", "1_000", "1__0", "1_", "+1", "-0", "0", "08", "017", "007", "0o17"),
    *("0x1F", "0b11", "1:30", "190:20:30", "190:20:30.15", "2026-01-01", "2026-01-01T00:00:00Z"),
    *("y", "Y", "n", "N", "yes", "No", "on", "OFF", "true", "False", "tRUE", "~", "null", "Null"),
    *("", "e1", "1e", "_1", "0x", "0o", "x", "a b", "ü", '"1e-4"', "'y'", "inf", "nan"),
]
TEXTS = [each for each in SPELLINGS if not each.startswith(("'", '"'))] + [
    *("=", "<<", "a: b", "# no", ".inf", "-.INF", ".nan", "two\nlines", " ", "no ", "- x"),
]


@pytest.fixture
def by_kubectl(tmp_path):
    """Reads the spec of an object with kubectl, without a server."""

    def read(text: str) -> dict:
        (tmp_path / "read.yaml").write_text(text, encoding="utf-8")
        file = str(tmp_path / "read.yaml")
        argv = [program("kubectl"), "annotate", "--local", "-f", file, "a=b", "-o", "json"]
        done = subprocess.run(argv, check=True, capture_output=True, text=True)
        return json.loads(done.stdout)["spec"]

    return read


def test_a_value_without_quotes_has_the_type_that_kubectl_gives_it(by_kubectl):
    text = f"{HEAD}spec:\n" + "".join(f"  k{n}: {each}\n" for n, each in enumerate(SPELLINGS))

    read, wanted = yaml.load(text, kubectl_yaml.Loader)["spec"], by_kubectl(text)

    # JSON has one kind of number: 1.0 is 1 there.
    kinds = {float: int}
    for name, value in wanted.items():
        spelled = SPELLINGS[int(name[1:])]
        assert read[name] == value, spelled
        assert kinds.get(type(read[name]), type(read[name])) is kinds.get(
            type(value), type(value)
        ), spelled
    assert len(wanted) == len(SPELLINGS)


def test_a_text_that_is_written_is_a_text_for_kubectl_and_for_pyyaml(by_kubectl):
    spec = {f"k{n}": each for n, each in enumerate(TEXTS)}

    text = HEAD + kubectl_yaml.dump({"spec": spec})

    assert by_kubectl(text) == spec
    assert yaml.load(text, kubectl_yaml.Loader)["spec"] == spec
    assert yaml.safe_load(text)["spec"] == spec


def test_mappings_are_merged_as_by_kubectl(by_kubectl):
    text = HEAD + "spec: {base: &b {a: 1, c: 3}, other: {<<: *b, a: 2}}\n"

    read = yaml.load(text, kubectl_yaml.Loader)["spec"]

    assert read == by_kubectl(text)
    assert read["other"] == {"a": 2, "c": 3}


@pytest.mark.parametrize(
    ("old", "new", "field"),
    [
        ('learningRate: "1e-4"', "learningRate: 1e-4", "hyperparameters.learningRate"),
        ("label: label", "label: y", "columns.label"),
        ('labels: ["0", "1"]', "labels: [no, yes]", "labels"),
    ],
)
def test_a_number_or_truth_value_in_place_of_a_text_is_refused_as_by_the_api_server(
    tmp_path, capsys, old, new, field
):
    whole = MANIFEST.replace(old, new)
    assert whole != MANIFEST
    (tmp_path / "update.yaml").write_text(whole)

    assert main(["run", str(tmp_path / "update.yaml")]) == 3

    assert field in (err := capsys.readouterr().err)
    assert "should be a valid string" in err


MANIFEST = """\
apiVersion: springtide.dev/v1alpha1
kind: IncrementalUpdate
metadata: {name: recommender}
spec:
  model:
    initial: {uri: file:///models/minilm}
    labels: ["0", "1"]
  data:
    source:
      uri: file:///data
      format: CSV
      partition: {period: Month}
      columns: {text: item, label: label, timestamp: ts}
    volume: {claimName: data}
  training:
    hyperparameters:
      learningRate: "1e-4"
  gate:
    rules: [{name: useful, metric: auc, min: "0.6"}]
"""
