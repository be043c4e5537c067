"""Very long texts are shortened before they are tokenized, with the same scores."""

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from springtide_trainer.artifact import models
from springtide_trainer.artifact.long_texts import SHORTEST_PIECE, shorten
from springtide_trainer.artifact.tokens import tokenize
from springtide_trainer.storage import local_path

MAX_LENGTH = 32


@pytest.fixture(scope="module")
def tokens(texts):
    made = models.load_tokenizer(local_path(texts.artifact.uri))
    return lambda text: made(text, add_special_tokens=False, verbose=False)["input_ids"]


PIECES = st.sampled_from(["a", "ab", " ", "   ", "\n", "shoe", "中", ",", "x" * 99, "y" * 101])
RUNS = st.tuples(PIECES, st.integers(1, 400), st.sampled_from(["", " "]))


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(runs=st.lists(RUNS, max_size=5))
def test_a_shortened_text_has_the_same_first_tokens(tokens, runs):
    text = "".join((piece + gap) * times for piece, times, gap in runs)

    cut = shorten(text, MAX_LENGTH, lambda part: len(tokens(part)))

    assert tokens(cut)[:MAX_LENGTH] == tokens(text)[:MAX_LENGTH]


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(runs=st.lists(RUNS, max_size=5))
def test_a_text_that_is_truncated_on_the_left_keeps_its_last_tokens(tokens, runs):
    text = "".join((piece + gap) * times for piece, times, gap in runs)

    cut = shorten(text, MAX_LENGTH, lambda part: len(tokens(part)), keep_end=True)

    assert tokens(cut)[-MAX_LENGTH:] == tokens(text)[-MAX_LENGTH:]


def test_a_tokenizer_that_truncates_on_the_left_reads_the_end_of_a_long_text(texts):
    made = models.load_tokenizer(local_path(texts.artifact.uri))
    made.truncation_side = "left"

    read = tokenize(made, [("shoe " * 9000 + "red lamp", None), ("red lamp", None)], 4)

    rows = [each["input_ids"].tolist() for each in map(read.of_rows, np.array([[0], [1]]))]
    assert rows[0] == rows[1], "[CLS] red lamp [SEP]"


@pytest.mark.survives(
    "Requests",
    "a text of several megabytes",
    "truncated before tokenization; scored as in the evaluation",
)
@pytest.mark.parametrize(
    "text",
    ["a " * 2_000_000, "shoe, " * 600_000, "中" * 1_300_000, " " * 1_000_000 + "a " * 1_000_000],
    ids=["words", "punctuation", "no spaces", "late"],
)
def test_at_most_two_pieces_of_words_are_tokenized(tokens, text):
    read = []

    def count(part):
        read.append(len(part.strip()))
        return len(tokens(part))

    cut = shorten(text, MAX_LENGTH, count)

    assert sum(read) <= 2 * SHORTEST_PIECE
    assert len(cut.strip()) <= 2 * SHORTEST_PIECE


@pytest.mark.parametrize(
    "text",
    ["shoe " * 25 + "x" * 400_000, ("x" * 4000 + ",") * 100, ("x" * 4046 + " ") * 100 + "shoe"],
    ids=["one word", "with commas", "cut near its end"],
)
def test_long_words_are_tokenized_once_and_count_as_one_token(tokens, text):
    read = []

    def count(part):
        read.append(len(part))
        return len(tokens(part))

    cut = shorten(text, MAX_LENGTH, count)

    assert sum(read) <= len(text)
    assert tokens(cut)[:MAX_LENGTH] == tokens(text)[:MAX_LENGTH]


def test_a_text_of_usual_length_is_not_changed():
    text = "a " * (SHORTEST_PIECE // 2)

    assert shorten(text, MAX_LENGTH, count=lambda part: pytest.fail("was tokenised")) == text


@pytest.mark.parametrize("text", ["red shoe " * 11_000, "x" * 100_000], ids=["words", "word"])
async def test_a_text_of_100_000_characters_has_the_score_of_the_evaluation(
    texts, serve, ask, text
):
    scorer = models.load(local_path(texts.artifact.uri), texts.artifact.digest)
    expected = scorer.predict([(text, None)])

    async with serve(texts.settings) as client:
        answer = (await client.post("/v2/models/model/infer", json=ask(text=[text]))).json()

    assert answer["outputs"][0]["data"] == pytest.approx(expected[0], abs=1e-5)


async def test_a_pair_with_one_long_text_has_the_score_of_the_evaluation(pairs, serve, ask):
    row = {"text": ["garden lamp for winter " * 3], "text_pair": ["red shoe, " * 10_000]}
    scorer = models.load(local_path(pairs.artifact.uri), pairs.artifact.digest)
    expected = scorer.predict(scorer.preprocess.render(row))

    async with serve(pairs.settings) as client:
        answer = (await client.post("/v2/models/model/infer", json=ask(**row))).json()

    assert answer["outputs"][0]["data"] == pytest.approx(expected[0], abs=1e-5)


async def test_a_body_of_the_maximum_size_is_scored(pairs, serve, ask):
    half = "a " * ((2 << 20) // 2 - 200)

    async with serve(pairs.settings) as client:
        answer = await client.post(
            "/v2/models/model/infer", json=ask(text=[half], text_pair=[half])
        )

    assert answer.status_code == 200
