"""A namespace that is being deleted, and another one of the same name after it."""

from datetime import UTC, datetime, timedelta
from types import SimpleNamespace

import pytest
import yaml
from cluster.actuators import MINIMAL

from springtide_operator.cluster.api import errors
from springtide_operator.cluster.api.kinds import UPDATE
from springtide_operator.cluster.reading.live_reader import LiveReader
from springtide_operator.cluster.reading.observer import Observer
from springtide_operator.cluster.watching.watches import new_cache
from springtide_operator.lifecycle.state.observed import Defaults

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)


class NothingElseThere:
    clock = SimpleNamespace(now=lambda: NOON)

    async def get(self, kind, namespace, name):
        raise errors.NotFound("no such object")


def update(uid, created, version):
    raw = yaml.safe_load(MINIMAL.read_text())
    raw["metadata"] |= {
        "namespace": "shop",
        "uid": uid,
        "generation": 1,
        "resourceVersion": str(version),
        "creationTimestamp": f"{created:%Y-%m-%dT%H:%M:%SZ}",
    }
    return raw


@pytest.mark.survives(
    "People",
    "a namespace is deleted and created again with its updates, while the watch has a gap",
    "they are served as new ones: nothing is held back as in the namespace before",
)
async def test_an_update_of_another_namespace_of_that_name_is_not_in_the_one_that_was_deleted():
    reports, samples = SimpleNamespace(of=lambda *_: None), SimpleNamespace(of=lambda *_: ())
    defaults, cache = Defaults("trainer", "http://progress"), new_cache()
    observer = Observer(cache, LiveReader(NothingElseThere()), reports, samples, defaults, {})
    cache.stores[UPDATE].update_from_watch(update("u1", NOON, 1))
    assert not (await observer.observe("shop", "ranker")).namespace_terminating
    observer.terminating["shop"] = NOON + timedelta(minutes=5)
    assert (await observer.observe("shop", "ranker")).namespace_terminating

    cache.stores[UPDATE].update_from_watch(update("u2", NOON + timedelta(minutes=6), 2))
    assert not (await observer.observe("shop", "ranker")).namespace_terminating
    assert observer.terminating == {}, "so that Jobs and generations are created there, too"
