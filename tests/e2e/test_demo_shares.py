"""The plot of the demo's requests: what the client records, and what is drawn from it."""

import csv
import gzip
import importlib.util
import json
import xml.etree.ElementTree as ElementTree
from collections import Counter

import pytest
from demo.cluster import EXAMPLES
from demo.traffic import picture, shares
from demo.traffic.shares import FAILED, Column

SVG = "{http://www.w3.org/2000/svg}"
BEGAN = 1_700_000_000
MARKS = {"May arrives": BEGAN + 4, "pinned <3": BEGAN + 24}


def entry(after, failed=0, **answers):
    found = {name.removeprefix("g"): count for name, count in answers.items()}
    return {"at": BEGAN + after, "answers": found, "failed": failed}


TIMELINE = [
    *(entry(after, g2=40) for after in range(0, 8, 2)),
    *(entry(after, g2=36, g3=4) for after in range(8, 16, 2)),
    *(entry(after, g3=40) for after in range(16, 32, 2)),
]
COLUMNS = shares.columns(TIMELINE, since=BEGAN, until=BEGAN + 32, seconds=4)


@pytest.fixture
def client():
    """The program of the load generator."""
    file = EXAMPLES / "load-generator" / "load_generator.py"
    spec = importlib.util.spec_from_file_location("load_generator", file)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_client_records_who_answered_every_two_seconds(client, tmp_path, monkeypatch):
    now = BEGAN + 0.5
    monkeypatch.setattr(client.time, "time", lambda: now)
    totals = client.Totals()
    totals.answered("2", 0.03)
    now += 1
    totals.answered("2", 0.03)
    totals.answered("3", 0.03)
    now += 4
    totals.failed("503")
    totals.write(tmp_path / "totals.json")

    recorded = json.loads((tmp_path / "totals.json").read_text())["timeline"]

    assert recorded == [entry(0, g2=2, g3=1), entry(4, failed=1)]
    assert client.PERIOD == shares.PERIOD


def test_the_client_keeps_an_hour(client, tmp_path, monkeypatch):
    moments = iter(range(BEGAN, BEGAN + 8000, client.PERIOD))
    totals = client.Totals()
    for moment in moments:
        monkeypatch.setattr(client.time, "time", lambda at=moment: at)
        totals.failed("503")
    totals.write(tmp_path / "totals.json")

    recorded = json.loads((tmp_path / "totals.json").read_text())["timeline"]

    assert len(recorded) * client.PERIOD == 3600
    assert recorded[-1]["at"] == BEGAN + 7998


def test_a_long_history_has_the_purchases_of_many_visits(client, tmp_path, monkeypatch):
    monkeypatch.setattr(client, "DATA", tmp_path)
    with gzip.open(tmp_path / "2026-01.csv.gz", "wt", newline="") as text:
        rows = [(f"bought: {number}", "lamp") for number in range(40)]
        csv.writer(text).writerows([("query", "item"), *rows])

    usual, long = (client._bodies(visits) for visits in (1, client.VISITS))

    assert len(usual) == len(long) == 40
    texts = [[one["data"][0] for one in json.loads(body[39])["inputs"]] for body in (usual, long)]
    assert texts[0] == ["bought: 39", "lamp"]
    assert texts[1][0].startswith("bought: 39; bought: 0; bought: 1")
    assert texts[1][0].count("bought") == client.VISITS


def test_entries_are_added_to_the_columns_of_their_time():
    assert [column.at for column in COLUMNS] == list(range(BEGAN, BEGAN + 32, 4))
    assert [dict(column.counts) for column in COLUMNS[1:5]] == [
        {2: 80},
        {2: 72, 3: 8},
        {2: 72, 3: 8},
        {3: 80},
    ]


def test_what_is_before_and_after_is_left_out():
    (first, last) = shares.columns(TIMELINE, since=BEGAN + 6, until=BEGAN + 10, seconds=2)

    assert (dict(first.counts), dict(last.counts)) == ({2: 40}, {2: 36, 3: 4})


def test_an_answer_without_a_generation_counts_as_failed():
    odd = [{"at": BEGAN, "answers": {"none": 3}, "failed": 2}]

    (column,) = shares.columns(odd, since=BEGAN, until=BEGAN + 2, seconds=2)

    assert column.counts == {FAILED: 5}


@pytest.mark.parametrize(
    ("counts", "filled"),
    [
        ({}, {}),
        ({3: 7}, {3: 10}),
        ({2: 90, 3: 10}, {2: 9, 3: 1}),
        ({2: 50, 3: 50}, {2: 5, 3: 5}),
        ({2: 999, 3: 1}, {2: 9, 3: 1}),
        ({2: 998, 3: 1, FAILED: 1}, {2: 8, 3: 1, FAILED: 1}),
        ({1: 1, 2: 1, 3: 1}, {1: 4, 2: 3, 3: 3}),
    ],
)
def test_a_column_is_divided_by_the_shares_and_hides_nothing(counts, filled):
    stack = shares.cells(Column(BEGAN, counts))

    assert Counter(stack) == filled
    assert stack == sorted(stack, key=lambda number: (number == FAILED, number))


def test_the_plot_has_a_column_for_each_time_and_a_row_for_each_tenth():
    lines = shares.plot(COLUMNS, MARKS).plain.splitlines()

    assert lines[1] == " 100 % 22333333"
    assert lines[2:11] == [f"{tenth:4} % 22223333" for tenth in range(90, 0, -10)]
    assert lines[11] == "       |0:00"
    assert lines[12] == "        A    B"
    assert lines[13:] == ["       A May arrives", "       B pinned <3"]


def test_a_failed_request_is_seen_in_the_plot():
    failing = shares.columns(
        [*TIMELINE, entry(30, failed=1)], since=BEGAN, until=BEGAN + 32, seconds=4
    )

    top = shares.plot(failing, MARKS).plain.splitlines()[1]

    assert top == " 100 % 2233333!"


def drawn(columns):
    return ElementTree.fromstring(picture.svg(columns, MARKS, "Requests & more"))


def height_of(drawing, name):
    """Return for each column of a generation where it begins and how high it is, in pixels."""
    (path,) = [one for one in drawing.iter(f"{SVG}path") if one.get("class") == name]
    boxes = path.get("d").removesuffix("Z").split("Z")
    found = {}
    for box in boxes:
        start, right = box.removeprefix("M").split("H")[:2]
        left, top = map(float, start.split())
        found[left] = float(right.partition("V")[2]) - top
    return found


def test_the_picture_has_the_shares_as_heights():
    drawing = drawn(COLUMNS)

    old, new = (list(height_of(drawing, name).values()) for name in ("g2", "g3"))

    tenth = picture.PLOT_HEIGHT / 10
    assert old == pytest.approx([10 * tenth, 10 * tenth, 9 * tenth, 9 * tenth])
    assert new == pytest.approx([tenth, tenth, *[10 * tenth] * 4])


def test_the_picture_names_generations_and_what_began():
    words = {one.text for one in drawn(COLUMNS).iter(f"{SVG}text")}

    assert {"g2", "g3", "A", "A  May arrives", "B  pinned <3", "Requests & more"} <= words


def test_a_generation_with_a_small_share_is_named_above_the_columns():
    small = [Column(BEGAN, {2: 10}), Column(BEGAN + 4, {2: 9, 4: 1})]

    (label,) = [one for one in drawn(small).iter(f"{SVG}text") if one.text == "g4"]

    assert float(label.get("y")) < picture.TOP


def test_failed_requests_are_seen_in_the_picture():
    drawing = drawn([Column(BEGAN, {2: 9, FAILED: 1}), Column(BEGAN + 4, {2: 10})])

    (height,) = height_of(drawing, "failed").values()

    assert height == pytest.approx(picture.PLOT_HEIGHT / 10)
