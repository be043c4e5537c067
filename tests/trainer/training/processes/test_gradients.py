"""Several processes learn what one learns: the same gradients, and the same weights but rounding.

AdamW would hide gradients of a wrong scale, so gradients are compared before they are clipped, and
weights after plain SGD.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import torch
from trainer.training.conftest import World, freeze, imported, publish, toy_rows
from trainer.training.processes.group import Case, Found, together, train

from springtide_trainer.storage import Home

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from torch import Tensor

pytestmark = pytest.mark.timeout(1500)  # on a busy machine; one that hangs fails by itself

UNCHANGED = {
    "epochs": 1,
    "batchSize": 79,  # 240 rows: 3 steps, and one of 3 rows, which 4 processes share
    "optimizer": "SGD",
    "learningRate": "1e-12",
    "precision": "FP32",
    "weightDecay": "0",
}
MOVED = {
    "maxSteps": 50,
    "batchSize": 16,
    "optimizer": "SGD",
    "learningRate": "0.1",
    "schedule": "Constant",
    "warmup": "0",
    "precision": "FP32",
    "weightDecay": "0",
}
SLOW = {"optimizer": "AdamW", "learningRate": "1e-4"}
LORA = {"type": "LoRA", "lora": {"rank": 4}}
QLORA = {"type": "LoRA", "lora": {"rank": 4, "quantization": "NF4"}}
ADALORA = {"type": "AdaLoRA", "adaLora": {"rank": 2, "initialRank": 4}}
ADAPTER = {"type": "Adapter", "adapter": {"width": 4}}
PROMPT = {"type": "PromptTuning", "promptTuning": {"tokens": 4}}
PREFIXES = {"type": "PrefixTuning", "prefixTuning": {"tokens": 4}}
ADVERSARIAL = {"adversarial": {"epsilon": "0.5"}, "augmentation": {"tokenDropout": "0.2"}}
STOPPING = {"everySteps": 20, "patience": 9}
EMA = {"averaging": {"ema": "0.9"}}
SAME = ["full", "lora", "adapter", "prompt", "prefixes", "robust", "checkpointed"]
FIFTY_STEPS = ["full-50", "lora-50"]
HALF = ["fp16-sgd", "fp16-adam"]
FEW = {"full", "lora", "bf16", "state", "own", "mean"}
"""How gradients are added up, and what each process holds: each step of FSDP waits for all four."""
WHOLE = {"adalora", "qlora"}
"""With DDP alone."""
ALL = {*SAME, *FIFTY_STEPS, *HALF, *FEW, *WHOLE}


def cases(world: World, kind: str = "DDP") -> list[Case]:
    def case(name: str, broken: str | None = None, **training: Any) -> Case:
        # Few tokens of a pass, so that a process has several; of many steps each is one.
        many = name in (*FIFTY_STEPS, *HALF)
        training["parallelism"] = {"type": kind}
        run = world.run_file(f"g1-{name}-1", divisor=1 if many else 3, **training)
        assert run.train is not None
        own = {"checkpoints": str(world.home.path / "checkpoints" / name)}
        run = run.model_copy(update={"train": run.train.model_copy(update=own)})
        recorded = not many and name != "state"
        return Case(name, run, broken, half=name in HALF, recorded=recorded)

    saving = {**UNCHANGED, "gradientCheckpointing": True}
    rounded = {**UNCHANGED, "precision": "BF16"}
    adam = {**UNCHANGED, "optimizer": "AdamW"}
    whole = [
        case("adalora", hyperparameters=UNCHANGED, method=ADALORA),
        case("qlora", hyperparameters=UNCHANGED, method=QLORA),
    ]
    return [
        *(whole if kind == "DDP" else []),
        case("full", hyperparameters=UNCHANGED),
        case("lora", hyperparameters=UNCHANGED, method=LORA),
        case("adapter", hyperparameters=UNCHANGED, method=ADAPTER),
        case("prompt", hyperparameters=UNCHANGED, method=PROMPT),
        case("prefixes", hyperparameters=UNCHANGED, method=PREFIXES),
        case("robust", hyperparameters=UNCHANGED, robustness=ADVERSARIAL),
        case("checkpointed", hyperparameters=saving),
        case("full-50", hyperparameters=MOVED, earlyStopping=STOPPING),
        case("lora-50", hyperparameters=MOVED, method=LORA, robustness=EMA),
        case("bf16", hyperparameters=rounded),
        case("fp16-sgd", hyperparameters={**MOVED, "maxSteps": 20}),
        case("fp16-adam", hyperparameters={**MOVED, **SLOW, "maxSteps": 20}),
        case("state", hyperparameters=adam, robustness=EMA, earlyStopping=STOPPING),
        case("own", "own", hyperparameters=UNCHANGED),
        case("mean", "mean", hyperparameters=UNCHANGED),
    ]


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    folder: Path = tmp_path_factory.mktemp("world")
    rows = toy_rows(240)
    rows["weight"] = [1.0 + number % 5 for number in range(240)]
    home = Home(folder / "models" / "shop" / "ranker")
    return World(home, imported(publish(folder / "published"), home), freeze(home, rows))


@pytest.fixture(scope="module")
def one(world: World, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Found]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    folder: Path = tmp_path_factory.mktemp("one")
    made: dict[str, Found] = {}
    for case in cases(world):
        if case.broken is None:
            (folder / case.name).mkdir()
            made[case.name] = train(case, folder / case.name)
    torch.set_num_threads(before)
    return made


def difference(found: Mapping[str, Tensor], expected: Mapping[str, Tensor]) -> float:
    """Return the norm of the difference, as a share of the norm of what is expected."""
    assert found.keys() == expected.keys()
    apart = torch.stack([(found[name] - expected[name]).double().norm() for name in found])
    whole = torch.stack([expected[name].double().norm() for name in found])
    return float(apart.norm() / whole.norm())


def by_step(gradients: Mapping[str, Tensor]) -> dict[str, dict[str, Tensor]]:
    made: dict[str, dict[str, Tensor]] = {}
    for key, gradient in gradients.items():
        number, _, name = key.partition("/")
        made.setdefault(number, {})[name] = gradient
    return made


def differences(found: Found, expected: Found) -> dict[str, float]:
    """Return the difference of the gradients of each step."""
    ours, theirs = by_step(found.gradients), by_step(expected.gradients)
    assert ours.keys() == theirs.keys()
    return {number: difference(ours[number], theirs[number]) for number in theirs}


def update(found: Found) -> dict[str, Tensor]:
    return {key: found.after[key] - found.before[key] for key in found.before}


@pytest.mark.parametrize(
    ("kind", "count", "names"),
    [
        ("DDP", 4, ALL),
        ("FSDP", 2, ALL),
        ("FSDP", 4, FEW),
        pytest.param("DDP", 2, ALL, marks=pytest.mark.faults),
        pytest.param("FSDP", 4, ALL, marks=pytest.mark.faults),
    ],
)
def test_several_processes_learn_what_one_learns(world, one, kind, count, names, tmp_path):
    several = together(
        [case for case in cases(world, kind) if case.name in names], count, tmp_path / "run"
    )
    assert several.keys() == names - (WHOLE if kind == "FSDP" else set())

    for name in several.keys() & {*SAME, *WHOLE}:
        found = differences(several[name], one[name])
        assert len(found) == 4
        assert max(found.values()) < 1e-5, name
        assert several[name].measured["loss"] == pytest.approx(one[name].measured["loss"], rel=1e-5)
    assert max(differences(several["bf16"], one["bf16"]).values()) < 2e-2

    for broken in ("own", "mean"):
        found = differences(several[broken], one["full"])
        assert min(found.values()) > 1e-2, broken  # a thousand times what is allowed

    # Weights, both moments, average and best weights: of parts no process has more than its share.
    share = 1 / count + 0.04 if kind == "FSDP" else 1.0
    assert several["state"].measured["share"] <= share

    for name in several.keys() & HALF:  # the first steps are skipped by all processes alike
        assert difference(update(several[name]), update(one[name])) < 5e-2, name

    for name in several.keys() & FIFTY_STEPS:
        assert difference(several[name].before, one[name].before) == 0.0
        assert difference(update(several[name]), update(one[name])) < 1e-3, name

    if "full-50" in several:
        validated, expected = several["full-50"].measured, one["full-50"].measured
        assert validated["best_step"] == expected["best_step"]
        assert validated["validation"] == pytest.approx(expected["validation"], rel=1e-4)


def test_a_run_in_parts_is_resumed_by_fewer_processes(world, tmp_path):
    """By 4 to step 5, by 2 to step 11, and by 1 to the last; SGD has a momentum."""
    training = {
        "hyperparameters": {**MOVED, "maxSteps": 16, "schedule": "Linear"},
        "earlyStopping": {"everySteps": 4, "patience": 9},
        "robustness": EMA,
        "parallelism": {"type": "FSDP"},
    }

    def case(name: str, until: int | None = None) -> Case:
        run = world.run_file(f"g1-{name}-1", divisor=6, **training)
        assert run.train is not None
        own = {"checkpoints": str(tmp_path / "checkpoints" / name)}
        run = run.model_copy(update={"train": run.train.model_copy(update=own)})
        return Case(name, run, momentum=True, until=until)

    (tmp_path / "alone").mkdir()
    (tmp_path / "last").mkdir()
    expected = train(case("alone"), tmp_path / "alone")
    first = together([case("many", until=5)], 4, tmp_path / "four")["many"]
    second = together([case("many", until=11)], 2, tmp_path / "two")["many"]
    last = train(case("many"), tmp_path / "last")

    assert [len(by_step(each.gradients)) for each in (first, second, last)] == [5, 6, 5]
    moved = {key: last.after[key] - first.before[key] for key in first.before}
    assert difference(moved, update(expected)) < 1e-3
    assert last.measured["best_step"] == expected.measured["best_step"]
    saved = tmp_path / "checkpoints" / "many"
    parts = {path.name: sorted(each.name for each in path.iterdir()) for path in saved.iterdir()}
    beside = ["springtide-manifest.json", "state.json"]
    assert parts["step-000000011"] == sorted(
        [f"shard-0000{number}-model-00001-of-00001.safetensors" for number in (1, 2)] + beside
    )
