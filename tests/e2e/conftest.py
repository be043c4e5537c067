"""The chart on the full cluster, one life of a model on it, and small scenes to break."""

import sys
from collections.abc import Callable, Iterator

import pytest
from local_cluster.node import Node
from local_cluster.places import REPOSITORY

sys.path.insert(0, str(REPOSITORY / "examples"))

from e2e.small import SmallScene
from story import life, place
from story.scene import Scene


@pytest.fixture(scope="session")
def installed(node_cluster: Node) -> place.Place:
    """The chart installed, under Pod Security restricted."""
    where = place.local(node_cluster, print)
    place.install(where)
    return where


@pytest.fixture(scope="module")
def scene(installed: place.Place) -> Scene:
    """The shop of the demo."""
    return Scene(installed)


@pytest.fixture(scope="module")
def lived(scene: Scene) -> life.Life:
    """Generations 0, 1, 2, the poisoned month and generation 3."""
    return life.tell(scene, life.Telling(print, print))


@pytest.fixture(scope="module")
def small(installed: place.Place, node_cluster: Node) -> Iterator[Callable[[str], SmallScene]]:
    """Small scenes by name, each in a namespace of its own; they end with the module."""
    made: dict[str, SmallScene] = {}

    def scene_of(name: str) -> SmallScene:
        if name not in made:
            made[name] = SmallScene(installed, f"small-{name}", node=node_cluster)
        return made[name]

    yield scene_of
    for scene in made.values():
        scene.end()
