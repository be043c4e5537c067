"""Kernels and number formats of a device. The settings for a GPU are visible without one."""

from __future__ import annotations

import os

import pytest
import torch

from springtide_api.update.training import Hyperparameters, Training
from springtide_trainer.training.engine import kernels
from springtide_trainer.training.precision import Precision

CPU, GPU = torch.device("cpu"), torch.device("cuda")
PLAIN = Hyperparameters()
DETERMINISTIC = Hyperparameters(deterministic=True)


@pytest.fixture(autouse=True)
def _restored(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CUBLAS_WORKSPACE_CONFIG", raising=False)


def flags() -> tuple[bool, bool]:
    return torch.are_deterministic_algorithms_enabled(), torch.backends.cudnn.deterministic


@pytest.mark.parametrize("options", [PLAIN, Hyperparameters(deterministic=False), DETERMINISTIC])
def test_a_cpu_is_always_deterministic(options):
    with kernels.training_kernels(CPU, 40, options):
        assert flags()[0]
    assert flags() == (False, False)


@pytest.mark.parametrize(
    ("name", "longest", "flash"),
    [("FP32", 8, True), ("FP32", 400, True), ("BF16", 128, False), ("BF16", 256, True)],
)
def test_a_cpu_uses_flash_attention_except_for_short_rows_in_bf16(name, longest, flash):
    with kernels.training_kernels(CPU, longest, Hyperparameters(precision=name)):
        assert torch.backends.cuda.flash_sdp_enabled() is flash  # the switch of all devices
        assert torch.backends.cuda.math_sdp_enabled()
    assert torch.backends.cuda.flash_sdp_enabled()


def test_a_gpu_is_deterministic_where_the_recipe_asks_for_it():
    with kernels.training_kernels(GPU, 40, PLAIN):
        assert flags() == (False, False)
        assert "CUBLAS_WORKSPACE_CONFIG" not in os.environ
    with kernels.training_kernels(GPU, 40, DETERMINISTIC):
        assert flags() == (True, True)
        assert os.environ["CUBLAS_WORKSPACE_CONFIG"] == ":4096:8"
        assert not torch.backends.cuda.cudnn_sdp_enabled()
    assert flags() == (False, False)
    assert torch.backends.cuda.cudnn_sdp_enabled()


def test_fp32_on_a_gpu_computes_products_with_tf32_in_training_passes_alone():
    on_gpu, on_cpu = Precision("FP32", GPU), Precision("FP32", CPU)
    before = torch.get_float32_matmul_precision()
    assert before == "highest"
    with on_gpu.forward():
        assert torch.get_float32_matmul_precision() == "high"
    with on_cpu.forward():
        assert torch.get_float32_matmul_precision() == "highest"
    seen = []
    value = torch.ones((), requires_grad=True)
    value.register_hook(lambda gradient: seen.append(torch.get_float32_matmul_precision()))
    on_gpu.backward(value * 1)
    assert seen == ["high"]
    assert torch.get_float32_matmul_precision() == "highest"


def test_an_error_in_a_pass_restores_the_precision():
    with pytest.raises(ArithmeticError), Precision("FP32", GPU).forward():
        raise ArithmeticError
    assert torch.get_float32_matmul_precision() == "highest"


def test_the_environment_of_a_gpu_names_what_its_weights_depend_on(monkeypatch):
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda: "H100")
    known = kernels.environment(Precision("FP32", GPU), DETERMINISTIC)
    assert (known["device"], known["deterministic"], known["matmul"]) == ("H100", 1, "high")
    assert kernels.environment(Precision("FP32", GPU), PLAIN)["deterministic"] == 0
    # On a CPU nothing is added: checkpoints of earlier versions stay those of this environment.
    expected = {"device", "instructions", "precision", "threads", "torch"}
    assert kernels.environment(Precision("FP32", CPU), PLAIN).keys() == expected
    assert kernels.environment(Precision("FP32", CPU), PLAIN, processes=2)["processes"] == 2


def test_a_checkpoint_of_deterministic_training_is_not_continued_without(world, caplog):
    def train(job: str, **more: bool) -> None:
        options = {"maxSteps": 4, "batchSize": 16, **more}
        run = world.run_file(job, hyperparameters=options, checkpoint={"everySteps": 2})
        world.train(run)

    train("with", deterministic=True)
    assert "checkpoint belongs to another run" not in caplog.text
    train("without")
    assert "checkpoint belongs to another run" in caplog.text


def test_a_gpu_does_without_cudnns_attention_for_short_rows():
    for longest, enabled in ((255, False), (256, True)):
        with kernels.training_kernels(GPU, longest, PLAIN):
            assert torch.backends.cuda.cudnn_sdp_enabled() is enabled
    assert torch.backends.cuda.cudnn_sdp_enabled()


@pytest.mark.filterwarnings("ignore:torch.cuda.amp.GradScaler is enabled")
@pytest.mark.parametrize(
    ("device", "name", "options", "robustness", "expected"),
    [
        (GPU, "BF16", PLAIN, {}, True),
        (GPU, "FP32", PLAIN, {}, True),
        (CPU, "BF16", PLAIN, {}, False),
        (GPU, "FP16", PLAIN, {}, False),
        (GPU, "BF16", DETERMINISTIC, {}, False),
        (GPU, "BF16", Hyperparameters(optimizer="SGD"), {}, False),
        (GPU, "BF16", Hyperparameters(gradient_checkpointing=True), {}, False),
        (GPU, "BF16", PLAIN, {"averaging": {"ema": "0.9"}}, True),
        (GPU, "BF16", PLAIN, {"adversarial": {}}, False),
    ],
)
def test_steps_are_recorded_on_a_gpu_where_nothing_forbids_it(
    device, name, options, robustness, expected
):
    training = Training.model_validate({"hyperparameters": options, "robustness": robustness})
    assert kernels.recorded(Precision(name, device), training) is expected
    assert not kernels.recorded(Precision(name, device), training, processes=2)


def test_steps_whose_gradients_rank_adapters_are_not_recorded():
    methods = ({"type": "LoRA", "lora": {}}, {"type": "AdaLoRA", "adaLora": {}})
    found = [
        kernels.recorded(Precision("BF16", GPU), Training.model_validate({"method": method}))
        for method in methods
    ]
    assert found == [True, False]
