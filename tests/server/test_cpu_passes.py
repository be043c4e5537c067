"""Forward passes on a CPU: cut where they take the least time, and computed side by side."""

import itertools
import threading

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from springtide_server import cpu_passes
from springtide_server.cpu_passes import PASS_TOKENS, CpuPasses, cut
from springtide_trainer.artifact import models
from springtide_trainer.storage import local_path

TEXTS = ["red shoe", "lamp", "a very good shoe " * 6, "a lamp " * 9, "", "bad", "shoe " * 20] * 3


def seconds(lengths, passes):
    """The time of passes, in tokens."""
    return sum(PASS_TOKENS + (part.stop - part.start) * lengths[part.stop - 1] for part in passes)


def every_cut(count, most):
    """All ways to cut rows into passes."""
    for inner in itertools.product([False, True], repeat=count - 1):
        ends = [number + 1 for number, ends in enumerate(inner) if ends] + [count]
        passes = [slice(start, end) for start, end in itertools.pairwise([0, *ends])]
        if all(part.stop - part.start <= most for part in passes):
            yield passes


@given(st.lists(st.integers(1, 300), min_size=1, max_size=9), st.integers(1, 5))
def test_no_other_cut_takes_less_time(lengths, most):
    lengths = np.sort(np.array(lengths))
    found = cut(lengths, most)

    assert found in list(every_cut(len(lengths), most))
    assert seconds(lengths, found) == min(
        seconds(lengths, other) for other in every_cut(len(lengths), most)
    )


def test_rows_of_one_length_share_a_pass_and_a_long_one_has_its_own():
    assert cut(np.array([8, 8, 8, 8, 120]), 16) == [slice(0, 4), slice(4, 5)]


@pytest.mark.parametrize("threads", [1, 2, 3, 64], indirect=True)
@pytest.mark.parametrize("count", [1, 2, 3, len(TEXTS)])
def test_scores_are_those_of_the_evaluation_in_the_order_of_the_rows(scorer, threads, count):
    pairs = [(text, None) for text in TEXTS[:count]]
    passes = CpuPasses()

    found = scorer.predict(pairs, 16, passes.predict)

    np.testing.assert_allclose(found, scorer.predict(pairs, 1), atol=1e-6)
    assert torch.get_num_threads() == threads


@pytest.mark.parametrize("threads", [2], indirect=True)
def test_passes_of_many_rows_are_side_by_side_and_a_single_row_has_all_threads(
    scorer, monkeypatch, threads
):
    both, seen = threading.Barrier(2, timeout=60), []
    predict = models.predict

    def observed(*given, rows, batch_size):
        seen.append((len(rows), torch.get_num_threads()))
        if batch_size > 1:
            both.wait()
        return predict(*given, rows=rows, batch_size=batch_size)

    monkeypatch.setattr(cpu_passes.models, "predict", observed)
    passes = CpuPasses()
    scorer.predict([("red shoe", None)] * 8, 16, passes.predict)
    scorer.predict([("red shoe", None)], 16, passes.predict)

    assert seen == [(4, 1), (4, 1), (1, threads)]


@pytest.fixture
def threads(request):
    before = torch.get_num_threads()
    torch.set_num_threads(request.param)
    yield request.param
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def scorer(texts):
    return models.load(local_path(texts.artifact.uri), texts.artifact.digest)
