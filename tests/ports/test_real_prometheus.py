"""The client against a real Prometheus."""

import pytest

from springtide_operator.ports.prometheus import Answer, Prometheus

pytestmark = pytest.mark.prometheus


@pytest.fixture
async def asked(prometheus, samples):
    """Asks the Prometheus of the session, which has two series of `analysed`."""
    samples.set('analysed{generation="1",role="live"}', 0.25)
    samples.set('analysed{generation="2",role="live"}', 0.5)
    prometheus.wait_for("count(analysed) == 2")
    client = Prometheus(frozenset({prometheus.url.removeprefix("http://")}))

    async def ask(expression: str) -> Answer:
        return await client.ask(prometheus.url, expression)

    yield ask
    await client.close()


@pytest.mark.parametrize(
    ("expression", "answer"),
    [
        ('analysed{generation="1"}', Answer(0.25)),
        ("sum(analysed)", Answer(0.75)),
        ("scalar(sum(analysed))", Answer(0.75)),
        ('analysed{generation="3"}', Answer(None, "no series")),
        ("sum(analysed) / 0 * 0", Answer(None, "the value is nan")),
        ("sum(analysed) / 0", Answer(None, "the value is inf")),
        ("analysed", Answer(None, "2 series; aggregate them, such as with sum()", True)),
        (
            "analysed[1m]",
            Answer(None, "the query returns a range or a text; it must return one number", True),
        ),
    ],
)
async def test_a_query_is_a_number_or_says_why_it_is_none(asked, expression, answer):
    assert await asked(expression) == answer


@pytest.mark.parametrize("expression", ["sum(analysed", "analysed{", "sum by", "rate(analysed)"])
async def test_a_syntax_error_is_told_in_the_words_of_prometheus(asked, expression):
    found = await asked(expression)
    assert found.invalid
    assert found.problem.startswith('Prometheus: invalid parameter "query": ')
    assert "parse error" in found.problem or "expected type" in found.problem


async def test_series_that_do_not_match_are_an_error_of_the_query(asked):
    found = await asked("analysed * ignoring(generation) group_right() analysed")
    assert found.invalid
    assert "many-to-many" in found.problem or "duplicate series" in found.problem
