"""Each worker collects the same tests, or none of them runs."""

import gzip
import os

import pytest
from side_by_side import CLUSTER, COMPUTING, LONGEST, ROOT, group_of, next_of, place_of


@pytest.mark.parametrize("content", [gzip.compress(b"", mtime=os.getpid())])
def test_the_name_of_a_test_does_not_depend_on_the_process_that_collects_it(request, content):
    assert content
    assert request.node.callspec.id == "content"


def test_one_worker_runs_what_needs_the_cluster_and_nothing_else():
    files = {str(each.relative_to(ROOT)) for each in ROOT.glob("tests/*/**/test_*.py")}
    marked = {each for each in files if "mark.cluster" in (ROOT / each).read_text("utf-8")}
    groups = {each: group_of(f"{each}::test_it[a/b]") for each in files}

    assert {each for each, group in groups.items() if group == "cluster"} == marked
    assert groups["tests/e2e/test_demo.py"] == "cluster"
    assert groups["tests/e2e/test_demo_departments.py"] == "tests/e2e"


@pytest.mark.parametrize("folder", ["cluster", "faults", "handlers"])
def test_tests_that_wait_for_an_api_server_are_given_out_one_by_one(folder):
    (name, *_) = sorted((ROOT / "tests" / folder).glob("test_*.py"))
    nodeid = f"tests/{folder}/{name.name}::test_it"

    assert group_of(nodeid) == nodeid


def test_the_longest_folders_come_first():
    files = [next((ROOT / folder).glob("test_*.py")).relative_to(ROOT) for folder in LONGEST]

    assert [place_of(f"{file}::test_it") for file in files] == [0, 1, 2, 3]
    assert place_of("tests/api/test_rules.py::test_it") == len(LONGEST)


WAITS = "tests/faults/test_kill.py::test_it"


@pytest.mark.parametrize(
    ("computing", "expected"), [(0, "cluster"), (COMPUTING - 1, "cluster"), (COMPUTING, WAITS)]
)
def test_more_workers_than_compute_get_what_waits(computing, expected):
    given = [["tests/api"]] * computing + [[WAITS]] * 2

    assert next_of([CLUSTER, "tests/server", WAITS], given) == expected


def test_what_is_left_is_given_to_whichever_worker_is_free():
    assert next_of(["tests/api", "tests/server"], [["tests/docs"]] * COMPUTING) == "tests/api"
    assert next_of([WAITS], []) == WAITS
