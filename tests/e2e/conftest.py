"""The operator on the full cluster, one run of the demo, and small examples for fault tests."""

import json
import subprocess
import sys
from collections.abc import Callable, Iterator

import pytest
from local_cluster.node import Node
from local_cluster.node_config import REGISTRY
from local_cluster.places import REPOSITORY

sys.path.insert(0, str(REPOSITORY / "examples"))

from demo import cluster, steps
from demo.example import Example
from e2e import model_hub, task_examples
from e2e.model_hub import ModelHub
from e2e.small_example import SmallExample
from e2e.store_example import StoreExample
from e2e.task_examples import SideBySide
from local_cluster.object_store import ObjectStore


@pytest.fixture(scope="session")
def printed(node_cluster: Node) -> str:
    """What `make images REGISTRY=localhost:5000` prints."""
    program = [sys.executable, str(REPOSITORY / "tests/local_cluster")]
    command = [*program, "publish", REGISTRY, f"--name={node_cluster.name}"]
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout


@pytest.fixture(scope="session")
def installed(
    node_cluster: Node, printed: str, tmp_path_factory: pytest.TempPathFactory
) -> cluster.Cluster:
    """The operator, installed with the printed commands into a namespace that is restricted.

    Its hub is the one of `model_hub`, as the cluster reaches no other.
    """
    where = cluster.local(node_cluster, print, tmp_path_factory.mktemp("checkout"))
    install = "helm upgrade --install springtide charts/springtide"
    assert install in printed
    hub = f"--set operator.hubEndpoint={model_hub.endpoint(node_cluster)}"
    cluster.install(where, printed.replace(install, f"{install} {hub}"))
    return where


@pytest.fixture(scope="module")
def example(installed: cluster.Cluster) -> Iterator[Example]:
    """The example of `examples/`. It goes in the end: its requests take a third of a core."""
    made = Example(installed)
    yield made
    made.kubectl("delete", "namespace", made.namespace, "--wait=false", "--ignore-not-found")


@pytest.fixture(scope="module")
def demo_run(example: Example) -> steps.DemoRun:
    """Generations 0, 1, 2, the month with shuffled labels and generation 3.

    The scene of replay needs no cluster: `test_demo_departments` runs it with the fault tests.
    """
    return steps.run(example, steps.Output(print, print, print), steps.MONTHS)


@pytest.fixture(scope="module")
def small(
    installed: cluster.Cluster, node_cluster: Node
) -> Iterator[Callable[[str], SmallExample]]:
    """Small examples by name, each in its own namespace; the module deletes them at its end."""
    made: dict[str, SmallExample] = {}

    def example_of(name: str) -> SmallExample:
        if name not in made:
            made[name] = SmallExample(installed, f"small-{name}", node=node_cluster)
        return made[name]

    yield example_of
    for example in made.values():
        example.end()


@pytest.fixture(scope="session")
def tasks(
    request: pytest.FixtureRequest,
    installed: cluster.Cluster,
    node_cluster: Node,
    node_object_store: ObjectStore,
) -> Iterator[SideBySide]:
    """The examples of the tasks that have a test in this run, which begin side by side."""

    def small(name: str) -> SmallExample:
        return SmallExample(installed, f"small-{name}", node=node_cluster)

    search = StoreExample(installed, "small-search", node=node_cluster, store=node_object_store)
    contexts = {
        "test_ranking": task_examples.ranking(search),
        "test_regression": task_examples.regression(small("pricing"), ModelHub(node_cluster)),
        "test_retrieval": task_examples.retrieval(small("retrieval")),
        "test_support": task_examples.support(small("support")),
    }
    tested = {item.path.stem for item in request.session.items if "tasks" in item.fixturenames}
    begun = SideBySide()
    try:
        begun.begin({name: context for name, context in contexts.items() if name in tested})
        yield begun
    finally:
        begun.end()


@pytest.fixture(scope="module")
def gpus(node_cluster: Node) -> Iterator[Callable[[int], None]]:
    """Report GPUs of the node that do not exist, as a device plugin would; none at the end."""

    def patch(change: dict[str, str]) -> None:
        patch = json.dumps([{**change, "path": "/status/capacity/nvidia.com~1gpu"}])
        whole = ("--subresource=status", "--type=json", f"--patch={patch}")
        node_cluster.kubectl("patch", "node", "node", *whole)

    yield lambda count: patch({"op": "add", "value": str(count)})
    patch({"op": "remove"})
