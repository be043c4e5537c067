"""A row is rendered identically in training, evaluation and serving."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from springtide_trainer.artifact.preprocess import PREPROCESS, Preprocess
from springtide_trainer.errors import Refused

if TYPE_CHECKING:
    from pathlib import Path

LABELS = ["no", "yes"]


def features(template: str | None, names: list[str]) -> Preprocess:
    return Preprocess(features=names, template=template, max_length=16, labels=LABELS)


def test_a_single_text_and_a_pair_are_rendered_unchanged():
    alone = Preprocess(text="query", max_length=16, labels=LABELS)
    pair = Preprocess(text="query", text_pair="item", max_length=16, labels=LABELS)
    columns = {"text": ["a", "b"], "text_pair": ["c", "d"]}
    assert (alone.inputs, pair.inputs) == (["text"], ["text", "text_pair"])
    assert alone.render(columns) == [("a", None), ("b", None)]
    assert pair.render(columns) == [("a", "c"), ("b", "d")]


def test_features_are_rendered_by_the_template_and_doubled_braces_are_literal():
    made = features("{title} for {{{price}}} in {a b}", ["title", "price", "a b"])
    columns = {"title": ["shoe"], "price": ["{title}"], "a b": ["x"]}
    assert made.render(columns) == [("shoe for {{title}} in x", None)]


def test_without_a_template_features_are_rendered_with_their_names():
    made = features(None, ["title", "price"])
    assert made.render({"price": ["3"], "title": ["shoe"]}) == [("title: shoe; price: 3", None)]


def test_classification_is_written_without_its_task_as_before_there_was_another(tmp_path: Path):
    Preprocess(text="query", max_length=16, labels=LABELS).write(tmp_path)
    written = {"features": [], "labels": LABELS, "maxLength": 16, "text": "query"}
    assert json.loads((tmp_path / PREPROCESS).read_bytes()) == written
    assert Preprocess.read(tmp_path).task == "Classification"


@pytest.mark.survives(
    "Data",
    "texts with braces and format codes",
    "treated as text, never as a template",
)
@given(st.text(), st.text())
def test_values_are_never_interpreted_as_a_template(first, second):
    made = features("{a}|{b}", ["a", "b"])
    assert made.render({"a": [first], "b": [second]}) == [(f"{first}|{second}", None)]


@pytest.mark.survives(
    "Update",
    "a template that names attributes, indices or other columns",
    "refused with the position in the template and the allowed features",
)
@pytest.mark.parametrize(
    "template",
    ["{other}", "{a.__class__}", "{a!r}", "{a:>9}", "{", "}", "{}", "{0}", "{{a}", "{a}}"],
)
def test_only_features_are_allowed_in_braces(template):
    with pytest.raises(Refused, match="not one of the features") as refused:
        features(template, ["a"]).render({"a": ["x"]})
    assert refused.value.failure.field == "spec.data.source.columns.template"


def test_a_missing_column_and_unequal_columns_are_refused():
    made = features("{a}{b}", ["a", "b"])
    with pytest.raises(Refused, match=r"missing \['b'\]"):
        made.render({"a": ["x"]})
    with pytest.raises(Refused, match="'a': 1, 'b': 2"):
        made.render({"a": ["x"], "b": ["x", "y"]})


def test_equal_preprocessing_gives_equal_bytes(tmp_path):
    made = features("{a}", ["a"])
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        made.write(tmp_path / name)
    first = (tmp_path / "one" / "preprocess.json").read_bytes()
    assert first == (tmp_path / "two" / "preprocess.json").read_bytes()
    assert Preprocess.read(tmp_path / "one") == made
