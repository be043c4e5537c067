"""The page of a fleet's needs is computed, and its figures follow from what it names."""

import pytest
from bench.fleet import network, page, storage
from docs.pages import ROOT


def test_the_page_is_what_is_computed():
    text = (ROOT / page.PAGE).read_text(encoding="utf-8")
    assert text == page.page(), "run python -m bench.fleet.page with PYTHONPATH=tests"


def test_an_all_reduce_sends_the_gradients_almost_twice_and_fsdp_the_parameters_too():
    assert network.all_reduced(8, 1e6) == pytest.approx(2 * 7 / 8 * 4e6)
    assert network.sharded(8, 1e6, 1e6) == pytest.approx(7 / 8 * 12e6)


def test_the_share_of_computing_is_that_without_and_with_overlap():
    """1 s of computing, and 400 GB over a node's network of 400 GB/s."""
    assert network._cell(1.0, network.FAST, 400e9) == "400,000 MB; 50% to 100%"
    assert network._cell(1.0, network.FAST, 800e9) == "800,000 MB; 33% to 50%"


def test_weights_are_kept_by_generation_and_moved_by_run():
    """A million updates with 2 generations of 4 MB; each run moves 4 MB 6 times."""
    fleet = storage.Fleet(updates=10**6, gpus=0, generations=2, runs_a_day=0.5)
    cells = storage._row(fleet, "small", 1e6).split("|")
    assert [each.strip() for each in cells[2:5]] == ["8.0 TB", "0.0 TB", "12.0 TB"]
