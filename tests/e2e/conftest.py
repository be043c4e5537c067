"""One life of a model on the full cluster, lived once and looked at by all tests of this folder."""

import sys

import pytest
from local_cluster.node import Node
from local_cluster.places import REPOSITORY

sys.path.insert(0, str(REPOSITORY / "examples"))

from story import life, place
from story.scene import Scene


@pytest.fixture(scope="module")
def scene(node_cluster: Node) -> Scene:
    """The chart installed, under Pod Security restricted."""
    where = place.local(node_cluster, print)
    place.install(where)
    return Scene(where)


@pytest.fixture(scope="module")
def lived(scene: Scene) -> life.Life:
    """Generations 0, 1, 2, the poisoned month and generation 3."""
    return life.tell(scene, life.Telling(print, print))
