"""Each worker collects the same tests, or none of them runs."""

import gzip
import os

import pytest
from side_by_side import ROOT, group_of


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
