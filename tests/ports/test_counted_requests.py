"""What a real Prometheus answers to the queries of a ratio metric: requests, none invented."""

from datetime import UTC, datetime

import pytest

from springtide_operator.lifecycle.analysis.queries import counted
from springtide_operator.ports.prometheus import Prometheus

pytestmark = pytest.mark.prometheus

SECONDS = 600


@pytest.fixture
async def count(prometheus):
    """Counts what a selector has counted in the last ten minutes."""
    client = Prometheus(frozenset({prometheus.url.removeprefix("http://")}))

    async def ask(selector, seconds=SECONDS, at=None):
        return await client.ask(prometheus.url, counted(selector, seconds), at)

    yield ask
    await client.close()


def scraped(prometheus, samples, series, *values):
    """Let a counter show values one after the other, each seen by a scrape."""
    for value in values:
        samples.set(series, value)
        prometheus.wait_for(f"{series} == {value}")


async def test_counters_are_summed_without_extrapolation(count, prometheus, samples):
    for pod, first in (("a", 0), ("b", 100)):
        series = f'answered{{pod="{pod}",test="plain"}}'
        scraped(prometheus, samples, series, first, first + 7, first + 41)
    found = await count('answered{test="plain"}')
    assert found.value == 82


async def test_increase_alone_invents_requests_right_after_the_start(count, prometheus, samples):
    series = 'answered{test="extrapolated"}'
    scraped(prometheus, samples, series, 0, 1000)
    (found,) = prometheus.query(f"increase({series}[{SECONDS}s])")
    assert float(found["value"][1]) >= (await count(series)).value == 1000


@pytest.mark.survives(
    "Deployments",
    "serving pods restart during a step of a canary, so that their counters begin again at 0",
    "what they counted before is kept, and the sums that are compared do not fall",
)
async def test_a_container_that_restarts_keeps_what_it_counted(count, prometheus, samples):
    series = 'answered{test="restarted"}'
    scraped(prometheus, samples, series, 0, 50)
    before = (await count('answered{test="restarted"}')).value
    scraped(prometheus, samples, series, 3, 20)
    after = (await count('answered{test="restarted"}')).value
    assert before == 50
    assert after >= 70  # extrapolated to the edges, as their values at the restart are not known


async def test_a_pod_that_is_gone_keeps_what_it_counted(count, prometheus, samples):
    series = 'answered{pod="gone",test="gone"}'
    scraped(prometheus, samples, series, 0, 30)
    samples.remove(series)
    prometheus.wait_for(f"absent({series})")
    assert (await count('answered{test="gone"}')).value == 30


async def test_a_counter_without_a_request_is_zero_and_one_that_is_not_there_is_no_series(
    count, prometheus, samples
):
    scraped(prometheus, samples, 'answered{test="idle"}', 0)
    assert (await count('answered{test="idle"}')).value == 0
    assert (await count('answered{test="never"}')).problem == "no series"


async def test_the_four_numbers_of_a_moment_do_not_change_afterwards(count, prometheus, samples):
    series = 'answered{test="moment"}'
    scraped(prometheus, samples, series, 0, 10)
    moment = datetime.now(UTC)
    scraped(prometheus, samples, series, 99)
    assert (await count(series, at=moment)).value == 10


@pytest.mark.parametrize(
    ("selector", "message"),
    [
        ('answered{code=~"5[.}"}', "error parsing regexp"),
        ('{code=~".*"}', "at least one non-empt"),
    ],
)
async def test_what_only_prometheus_can_refuse_is_told_in_its_words(count, selector, message):
    found = await count(selector)
    assert found.invalid
    assert message in found.problem
