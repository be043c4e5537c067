"""A training says which device it runs on where that is not the one that was asked for."""

from __future__ import annotations

import pytest
import torch

from springtide_api.update.compute import Compute
from springtide_trainer.stages.train import device_of


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a GPU")
@pytest.mark.parametrize(("gpus", "warnings"), [(0, []), (1, [1])])
def test_a_training_with_a_gpu_that_it_does_not_see_warns_and_runs_on_the_cpu(
    caplog, gpus, warnings
):
    assert device_of(Compute(gpus_per_node=gpus)).type == "cpu"
    assert [record.gpusPerNode for record in caplog.records] == warnings
