"""Which probes count for whom, and whose turn comes when one frees its place."""

from datetime import UTC, datetime, timedelta
from types import SimpleNamespace

import pytest

from springtide_operator.cluster.api.kinds import JOB, POD
from springtide_operator.cluster.reading.probe_slots import ProbeSlots
from springtide_operator.cluster.watching.watches import new_cache
from springtide_operator.lifecycle.state.observed import Defaults, ProbeCounts
from springtide_operator.metrics import Metrics
from springtide_operator.reconcile import Reconciler
from springtide_operator.work_queue import NamespacedName

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)


class Cluster:
    """Probe Jobs with their pods, as the cache holds them."""

    def __init__(self, **limits):
        self.cache, self.now, self.version = new_cache(), NOON, 0
        for store in self.cache.stores.values():
            store.replace([], 0)
        self.probes = ProbeSlots(
            self.cache, Defaults("image", "http://p", **limits), lambda: self.now
        )

    def probe(self, namespace, name, *, pod="running", ended=False):
        labels = {"springtide.dev/stage": "probe", "springtide.dev/update": name}
        conditions = [{"type": "Complete", "status": "True"}] if ended else []
        self._store(JOB, namespace, name, labels, {"conditions": conditions})
        if pod:
            labels = {**labels, "batch.kubernetes.io/job-name": name}
            scheduled = {"type": "PodScheduled", "status": "False", "message": "unbound claim"}
            statuses = {"running": {"phase": "Running"}, "unbound": {"conditions": [scheduled]}}
            self._store(POD, namespace, f"{name}-x", labels, statuses[pod])

    def end(self, namespace, name):
        self.probe(namespace, name, pod="", ended=True)

    def wait(self, namespace, *names):
        for name in names:
            self.probes.wait(namespace, name, waits=True)

    def _store(self, kind, namespace, name, labels, status):
        self.version += 1
        metadata = {"namespace": namespace, "name": name, "uid": f"{kind.name}-{name}"}
        metadata |= {"labels": labels, "creationTimestamp": "2026-03-01T12:00:00Z"}
        metadata["resourceVersion"] = str(self.version)
        self.cache.stores[kind].update_from_watch(
            {"metadata": metadata, "spec": {}, "status": status}
        )


@pytest.mark.survives(
    "Operator",
    "probes of one namespace whose claim is never bound",
    "they count against their namespace alone; all others probe as before",
)
def test_probes_that_cannot_run_count_against_their_namespace_alone():
    cluster = Cluster()
    for number in range(5):
        cluster.probe("broken", f"b{number}", pod="unbound")
    cluster.probe("fine", "f")
    assert cluster.probes.seen("broken", "u") == ProbeCounts(running=1, namespace=5)
    assert cluster.probes.seen("fine", "u") == ProbeCounts(running=1, namespace=1)


@pytest.mark.survives(
    "Operator",
    "Jobs of a user that have the label of probes, and never end",
    "they take the places of their namespace, never those of all namespaces",
)
def test_jobs_that_only_look_like_probes_leave_places_for_other_namespaces():
    cluster = Cluster(max_probes=10, max_probes_per_namespace=3)
    for number in range(12):
        cluster.probe("hostile", f"h{number}")
    assert cluster.probes.seen("fine", "u") == ProbeCounts(running=3, namespace=0)
    cluster.wait("fine", "u")
    assert cluster.probes.next() == [("fine", "u")]


def test_a_probe_without_a_pod_counts_for_a_minute_as_one_that_starts():
    cluster = Cluster()
    cluster.probe("n", "a", pod="")
    assert cluster.probes.seen("n", "u").running == 1
    cluster.now += timedelta(seconds=61)
    assert cluster.probes.seen("n", "u") == ProbeCounts(running=0, namespace=1)


def test_a_probe_that_was_decided_on_counts_before_it_is_created():
    cluster = Cluster()
    cluster.probes.start("n", 1)
    assert cluster.probes.seen("n", "u") == ProbeCounts(running=1, namespace=1)
    cluster.probes.start("n", -1)
    assert cluster.probes.seen("n", "u") == ProbeCounts()


def test_an_update_that_comes_late_does_not_overtake_those_that_wait():
    cluster = Cluster(max_probes=2)
    cluster.probe("n", "a")
    cluster.wait("n", "b", "c")
    assert cluster.probes.seen("n", "b").ahead == 0
    assert cluster.probes.seen("n", "c").ahead == 1
    assert cluster.probes.seen("n", "late").ahead == 1


def test_one_that_waits_is_woken_once_when_a_place_is_free():
    cluster = Cluster(max_probes=2)
    for name in ("a", "b"):
        cluster.probe("large", name)
    cluster.wait("large", "c", "d")
    cluster.wait("small", "x")
    assert cluster.probes.next() == []
    cluster.end("large", "a")
    assert cluster.probes.next() == [("small", "x")]
    assert cluster.probes.next() == []
    cluster.probes.wait("small", "x", waits=False)
    assert cluster.probes.next() == [("large", "c")]


def test_namespaces_with_equally_many_probes_take_turns():
    cluster = Cluster(max_probes=1)
    cluster.wait("large", "a", "b")
    cluster.wait("small", "x")
    for place in (("large", "a"), ("small", "x"), ("large", "b")):
        assert cluster.probes.next() == [place]
        cluster.probes.wait(*place, waits=False)
        cluster.probes.start(place[0], 1)
        cluster.probes.start(place[0], -1)


def test_an_update_that_was_woken_and_waits_again_is_woken_again():
    cluster = Cluster(max_probes=1)
    cluster.wait("n", "a")
    assert cluster.probes.next() == [("n", "a")]
    cluster.wait("n", "a")
    assert cluster.probes.next() == [("n", "a")]


async def test_an_update_that_fails_in_an_unexpected_way_keeps_no_other_from_its_turn():
    async def fail(*_):
        raise KeyError("spec")

    cluster = Cluster(max_probes=1)
    cluster.wait("n", "broken", "fine")
    assert cluster.probes.next() == [("n", "broken")]
    observer = SimpleNamespace(probe_slots=cluster.probes, observe=fail)
    reconciler = Reconciler(observer, None, None, Metrics(), None)
    result = await reconciler(NamespacedName("n", "broken"))
    assert result.failed
    assert list(result.other_keys) == [("n", "fine")]
