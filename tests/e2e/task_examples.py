"""Updates of four tasks up to their first generation, which begin side by side.

Their Jobs and rollouts wait more than they compute, so together they take little longer than one.
Model, columns and gate are those of `examples/tasks/`; models and months are small.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager
from typing import Any

import yaml
from demo.cluster import EXAMPLES
from e2e import model_hub, small_model
from e2e.model_hub import ModelHub
from e2e.recordings import Recording, recorded
from e2e.sharing import ROWS_PER_SHARD
from e2e.small_example import MONTHS, Raw, SmallExample
from e2e.store_example import StoreExample
from trainer.hub.server import TOKEN

HUB_SECRET = "hub"
ADAPTER_WIDTH = 32


class SideBySide:
    """Contexts that are entered together; each is left at the end of its own block."""

    def __init__(self) -> None:
        self._begun: dict[str, tuple[ExitStack, Any]] = {}

    def begin(self, contexts: Mapping[str, AbstractContextManager[Any]]) -> None:
        """Enter all."""
        for name, context in contexts.items():
            stack = ExitStack()
            self._begun[name] = stack, stack.enter_context(context)

    @contextmanager
    def __call__(self, name: str) -> Iterator[Any]:
        """Give what a context gave, and leave it at the end of the block."""
        stack, given = self._begun.pop(name)
        with stack:
            yield given

    def end(self) -> None:
        """Leave those that no test has taken."""
        for stack, _ in self._begun.values():
            stack.close()


@contextmanager
def ranking(example: StoreExample) -> Iterator[Recording]:
    """A ranker without a claim, by bottleneck adapters, with rows for two pods; it is recorded."""

    def change(spec: Raw) -> None:
        _of_task(spec, "search", small_model.RANKING)
        # With adapters the word embeddings are fixed.
        del spec["training"]["hyperparameters"]["freeze"]
        spec["training"]["method"] = {"type": "Adapter", "adapter": {"width": ADAPTER_WIDTH}}
        _share_rows(spec)

    with recorded(example) as recording, _begun(example, lists, change, replicas=2):
        yield recording


def lists(month: str) -> bytes:
    """Make the file of a month of lists; training rows and holdout fill two shards each."""
    return small_model.searches(month, queries=300 if month == MONTHS[-1] else 220)


@contextmanager
def regression(example: SmallExample, hub: ModelHub) -> Iterator[tuple[SmallExample, ModelHub]]:
    """A model of prices that begins with a model of a hub."""

    def change(spec: Raw) -> None:
        columns = spec["data"]["source"]["columns"]
        _of_task(spec, "pricing", small_model.PRICING)
        spec["data"]["source"]["columns"] = columns
        spec["model"]["initial"] = {"uri": f"hf://{model_hub.NAME}@main"}
        spec["data"]["secretName"] = HUB_SECRET
        spec["gate"]["rules"][1]["maxRegression"] = {"relative": "0.5"}
        spec["training"]["earlyStopping"] = {"everySteps": 60, "patience": 9}
        replay, interpolation = {"ratio": "0.25"}, {"alphas": ["1", "0.8"]}
        spec["training"]["retention"] = {"replay": replay, "interpolation": interpolation}

    def publish() -> None:
        metadata = {"name": HUB_SECRET, "namespace": example.namespace}
        secret = {"apiVersion": "v1", "kind": "Secret", "metadata": metadata}
        example.kubectl.apply([secret | {"stringData": {"HF_TOKEN": TOKEN}}])
        hub.publish(example.folder("models") / "tiny")

    try:
        with _begun(example, prices, change, publish):
            yield example, hub
    finally:
        hub.stop()


def prices(month: str) -> bytes:
    """Make the file of a month of prices."""
    return small_model.month(month, label=small_model.price)


@contextmanager
def retrieval(example: SmallExample) -> Iterator[SmallExample]:
    """A bi-encoder whose model of queries is trained; the imported encoder is served meanwhile."""

    def change(spec: Raw) -> None:
        _of_task(spec, "retrieval", small_model.RETRIEVAL)

    with _begun(example, small_model.purchases, change):
        yield example


@contextmanager
def support(example: SmallExample) -> Iterator[Recording]:
    """A decoder that learns the answers of a support; the imported one is served meanwhile.

    Pods share its rows, on a claim; it is recorded.
    """

    def change(spec: Raw) -> None:
        _of_task(spec, "support", small_model.DIALOGUES | {"epochs": 4})
        _share_rows(spec)
        spec["model"] |= {"causalLm": {"maxNewTokens": 8}}
        spec["model"]["initial"]["uri"] = "file:///models/decoder"
        spec["gate"]["rules"][0]["max"] = "2"

    def publish() -> None:
        small_model.publish_decoder(example.folder("models") / "decoder")

    with recorded(example) as recording, _begun(example, dialogues, change, publish):
        yield recording


def dialogues(month: str) -> bytes:
    """Make the file of a month of dialogues; training rows and holdout fill two shards each."""
    return small_model.dialogues(month, rows=ROWS_PER_SHARD * 3 // 2)


@contextmanager
def _begun(
    example: SmallExample,
    month: Callable[[str], bytes],
    change: Callable[[Raw], None],
    publish: Callable[[], None] = lambda: None,
    *,
    replicas: int = 1,
) -> Iterator[None]:
    """Begin an example, and delete it at the end of the block.

    Args:
        example: What begins.
        month: Makes the file of a month.
        change: Changes the update's spec.
        publish: Publishes another initial model.
        replicas: Of the server.
    """

    def before() -> None:
        for name in MONTHS:
            example.deliver(f"{name}.csv.gz", month(name))
        publish()

    def server(deployment: Raw) -> None:
        deployment["replicas"] = replicas
        (container,) = deployment["template"]["spec"]["containers"]
        container["resources"]["requests"]["cpu"] = "50m"

    try:
        example.begin(head=False, months=(), change=change, server=server, before=before)
        yield
    finally:
        example.end()


def _share_rows(spec: Raw) -> None:
    window = spec["data"].setdefault("window", {})
    window["rowsPerShard"] = ROWS_PER_SHARD


def _of_task(spec: Raw, name: str, hyperparameters: Raw) -> None:
    """Take model, columns and gate of the example of a task, and train for a short time."""
    example = yaml.safe_load((EXAMPLES / "tasks" / f"{name}.yaml").read_text())["spec"]
    kept = {name: spec["model"][name] for name in ("initial", "maxLength")}
    spec["model"] = example["model"] | kept
    spec["data"]["source"]["columns"] = example["data"]["source"]["columns"]
    spec["gate"] = example["gate"]
    spec["training"]["hyperparameters"] = dict(hyperparameters)
    # Two of them are trained at a time, on two cores.
    spec["training"]["compute"]["resources"]["cpu"] = "700m"
