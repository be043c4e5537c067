"""The operator is killed repeatedly during its work: at intervals, and at every write."""

import asyncio
import threading
from contextlib import asynccontextmanager, contextmanager

import pytest
from demo.cluster import SYSTEM
from demo.example import UPDATE
from e2e import small_model
from e2e.monitors import RATE, sending_requests
from faults.process import Process
from faults.proxy import Cut, Proxy

pytestmark = [pytest.mark.cluster, pytest.mark.faults, pytest.mark.timeout(1800)]

EVERY = 20.0
UNDISTURBED = [
    ("0", "import", "1"),
    ("1", "evaluate", "1"),
    ("1", "train", "1"),
    ("2", "evaluate", "1"),
    ("2", "train", "1"),
]
"""Generation, stage and attempt of every Job, except probes, when no process is killed."""


@contextmanager
def deleted_repeatedly(kubectl):
    """Delete the operator's pod every 20 s, every other time without a grace period."""
    over, deaths = threading.Event(), []

    def go_on():
        while not over.wait(EVERY):
            rough = ("--grace-period=0", "--force") if len(deaths) % 2 else ()
            chosen = "--selector=app.kubernetes.io/name=springtide"
            gone = kubectl(f"--namespace={SYSTEM}", "delete", "pod", chosen, "--wait=false", *rough)
            deaths.append(gone)

    thread = threading.Thread(target=go_on)
    thread.start()
    try:
        yield deaths
    finally:
        over.set()
        thread.join()


def by_canary(spec):
    """Let each generation pass two steps of a canary."""
    steps = [{"weight": weight, "duration": "10s"} for weight in (33, 50)]
    spec["rollout"]["strategy"] = {"type": "Canary", "canary": {"steps": steps}}


def two_updates(example, rate=RATE):
    """Serve generations 0, 1 and 2; return their Jobs and the counts of the client."""
    seen = {}

    def look():
        for job in example.jobs():
            labels = job["metadata"]["labels"]
            if labels["springtide.dev/stage"] == "probe":
                continue
            seen[job["metadata"]["uid"]] = tuple(
                labels.get(f"springtide.dev/{name}") for name in ("generation", "stage", "attempt")
            )

    def live(number):
        def reached(now):
            look()
            return now.get("live", {}).get("number") == number

        return reached

    example.wait(live(0), what="generation 0", seconds=400)
    with sending_requests(example, rate) as client:
        example.wait(live(1), what="generation 1", seconds=600)
        example.deliver("2026-03.csv.gz", small_model.month("2026-03"))
        example.wait(live(2), what="generation 2", seconds=900)
        client.wait_for(more=20)
        totals = client.totals()
    return sorted(seen.values()), totals


@pytest.mark.survives(
    "Operator",
    "its pod is deleted every 20 s during a lifecycle, every second time without a grace period",
    "the lifecycle ends with the Jobs and Deployment revisions of an undisturbed one; no "
    "request to the server fails",
)
def test_an_operator_deleted_every_20_seconds_still_brings_two_generations_live(small):
    example = small("chaos")
    example.begin()
    with deleted_repeatedly(example.kubectl) as deaths:
        jobs, totals = two_updates(example)
    assert len(deaths) >= 5
    assert_undisturbed(example, jobs, totals)


def assert_undisturbed(example, jobs, totals):
    assert jobs == UNDISTURBED
    assert totals["failures"] == []
    assert {"0", "1", "2"} <= set(totals["generations"])
    assert example.served()["revision"] == "4"
    assert example.get(f"deployment/{UPDATE}")["status"]["availableReplicas"] == 2


class OneWriteEach:
    """Kills each process alternately after its first write and before its second one."""

    def __init__(self, process):
        self.process, self.deaths, self._written = process, 0, 0

    async def __call__(self, call, pass_on):
        if not call.number:
            return await pass_on()
        if self._written == 1:
            self._kill()
        answer = await pass_on()
        if answer.status < 300:
            self._written += 1
            if self.deaths % 2:
                self._kill()
        return answer

    def _kill(self):
        self.process.kill()
        self.deaths += 1
        self._written = 0
        raise Cut


@asynccontextmanager
async def of_one_write_each(example, folder):
    """Replace the chart's operator by processes of this machine, one write each."""
    scale = (f"--namespace={SYSTEM}", "scale", "deployment/springtide")
    example.kubectl(*scale, "--replicas=0")
    example.kubectl(
        f"--namespace={SYSTEM}",
        "wait",
        "--for=delete",
        "pod",
        "--selector=app.kubernetes.io/name=springtide",
        "--timeout=60s",
    )
    async with Proxy(example.node.kubeconfig, folder) as proxy:
        image = example.cluster.trainer_image
        process = Process(example, folder / "log", proxy.kubeconfig, trainer=image)
        deaths = OneWriteEach(process)
        proxy.rules.append(deaths)
        await process.start()
        keeping = asyncio.create_task(process.keep(longest=0))
        try:
            yield deaths
        finally:
            keeping.cancel()
            await process.close()
            example.kubectl(*scale, "--replicas=1")


@pytest.mark.survives(
    "Operator",
    "on a real cluster, each process is killed after its first write or before its second, while "
    "generations pass the steps of a canary at 50 requests/s",
    "the lifecycle ends with the Jobs and Deployment revisions of an undisturbed one; no "
    "request to the server fails",
)
async def test_operators_killed_after_one_write_each_bring_two_generations_live(small, tmp_path):
    example = small("deaths")
    async with of_one_write_each(example, tmp_path) as killed:
        await asyncio.to_thread(example.begin, change=by_canary, shared=True)
        jobs, totals = await asyncio.to_thread(two_updates, example, 50)
        assert killed.deaths > 40
        assert_undisturbed(example, jobs, totals)
