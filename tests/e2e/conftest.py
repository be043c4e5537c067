"""The chart on the full cluster, one life of a model on it, and small scenes to break."""

import sys
from collections.abc import Callable, Iterator

import pytest
from local_cluster.node import Node
from local_cluster.places import REPOSITORY

sys.path.insert(0, str(REPOSITORY / "examples"))

from demo import cluster, steps
from demo.example import Example
from e2e.small_example import SmallExample


@pytest.fixture(scope="session")
def installed(node_cluster: Node) -> cluster.Cluster:
    """The chart installed, under Pod Security restricted."""
    where = cluster.local(node_cluster, print)
    cluster.install(where)
    return where


@pytest.fixture(scope="module")
def example(installed: cluster.Cluster) -> Example:
    """The shop of the demo."""
    return Example(installed)


@pytest.fixture(scope="module")
def demo_run(example: Example) -> steps.DemoRun:
    """Generations 0, 1, 2, the shuffled month and generation 3."""
    return steps.run(example, steps.Output(print, print))


@pytest.fixture(scope="module")
def small(
    installed: cluster.Cluster, node_cluster: Node
) -> Iterator[Callable[[str], SmallExample]]:
    """Small scenes by name, each in a namespace of its own; they end with the module."""
    made: dict[str, SmallExample] = {}

    def scene_of(name: str) -> SmallExample:
        if name not in made:
            made[name] = SmallExample(installed, f"small-{name}", node=node_cluster)
        return made[name]

    yield scene_of
    for example in made.values():
        example.end()
