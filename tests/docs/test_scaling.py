"""The page of a fleet's needs is computed, and its figures follow from what it names."""

import json
from dataclasses import replace

import pytest
from bench.fleet import network, page, storage
from bench.fleet.control import Costs, Fleet, Load
from docs.pages import ROOT

MEASURED = json.loads(page.MEASURED.read_text(encoding="utf-8"))
COSTS = Costs.of(MEASURED)


def test_the_page_is_what_is_computed():
    text = (ROOT / page.PAGE).read_text(encoding="utf-8")
    assert text == page.page(), "run python -m bench.fleet.page with PYTHONPATH=tests"


@pytest.mark.parametrize("population", MEASURED["populations"])
def test_the_costs_give_back_what_was_measured(population):
    """A fleet as large as a population needs the memory that this one had."""
    load = Load(Fleet(updates=population["updates"], generations=3), COSTS)
    assert load.memory(1) == pytest.approx(population["own"]["start"]["megabytes"])


def test_progress_and_runs_are_the_writes():
    """100 Jobs that report every 10 s, and 8,640 runs a day of 10 writes each."""
    fleet = Fleet(updates=8_640, gpus=100, writes_a_run=10)
    assert Load(fleet, COSTS).writes == pytest.approx(10 + 1)


def test_releases_share_work_and_memory_but_not_the_events_of_others():
    costs = replace(COSTS, write=0.004, idle=0.0, rest=0.0, foreign=0.001, base=100.0)
    load = Load(Fleet(updates=0, gpus=1_000), costs)
    assert load.cores(1) == pytest.approx(0.4)
    assert load.cores(4) == pytest.approx(0.1 + 0.075)
    assert load.memory(4) == pytest.approx(100)
    assert load.listed(2) == 0
    one = replace(COSTS, base=0.0, expansion=4.0, expansion_foreign=2.0)
    load = Load(Fleet(updates=1_000), one)
    assert load.memory(4) / load.memory(1) == pytest.approx((4 / 4 + 3 / 4 * 2) / 4)


def test_the_fewest_releases_are_chosen_that_fit():
    costs = replace(
        COSTS, write=0.01, idle=0.0, rest=0.0, foreign=0.0001, start=0.0, start_foreign=0.0
    )
    load = Load(Fleet(updates=0), costs)
    assert load.releases() == 3  # 100 writes a second are 1.0 cores; 2 releases have more than 0.5
    assert Load(Fleet(updates=0), replace(costs, foreign=0.01)).releases() == 0


def test_an_all_reduce_sends_the_gradients_almost_twice_and_fsdp_the_parameters_too():
    assert network.all_reduced(8, 1e6) == pytest.approx(2 * 7 / 8 * 4e6)
    assert network.sharded(8, 1e6, 1e6) == pytest.approx(7 / 8 * 12e6)


def test_the_share_of_computing_is_that_without_and_with_overlap():
    """1 s of computing, and 400 GB over a node's network of 400 GB/s."""
    assert network._cell(1.0, network.FAST, 400e9) == "400,000 MB; 50% to 100%"
    assert network._cell(1.0, network.FAST, 800e9) == "800,000 MB; 33% to 50%"


def test_weights_are_kept_by_generation_and_moved_by_run():
    """A million updates with 2 generations of 4 MB; each run moves 4 MB 6 times."""
    fleet = Fleet(updates=10**6, gpus=0, generations=2, runs_a_day=0.5)
    cells = storage._row(fleet, "small", 1e6).split("|")
    assert [each.strip() for each in cells[2:5]] == ["8.0 TB", "0.0 TB", "12.0 TB"]
