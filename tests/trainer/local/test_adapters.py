"""Local runs continue the adapter of the local live generation, as the operator's do."""

from __future__ import annotations

import json

import pytest
import torch
import yaml
from safetensors.torch import load_file
from trainer.local.conftest import deliver

from springtide_trainer.storage import local_path

METHOD = {
    "type": "LoRA",
    "lora": {
        "rank": 4,
        "continuation": "Continue",
        "rebaseEvery": 2,
        "rebaseLearningRate": "3e-3",
    },
}


def test_runs_continue_one_adapter_and_then_train_all_weights(laptop, capsys):
    for month in (5, 6):
        deliver(laptop.data, month)
    laptop.write(learningRate="1e-2")
    manifest = yaml.safe_load(laptop.manifest.read_text())
    manifest["spec"]["training"]["method"] = METHOD
    laptop.manifest.write_text(json.dumps(manifest))
    for through in ("2026-03-01", "2026-04-01", "2026-05-01", "2026-06-01"):
        assert laptop.run("--through", through) == 0, capsys.readouterr()
    out = capsys.readouterr().out
    imported, one, two, three, four = laptop.generations()

    bases = {each.adapter.base for each in (one, two)}
    assert bases == {imported.artifact.digest}
    assert [each.adapter.generations for each in (one, two)] == [1, 2]
    assert three.adapter is None
    assert (four.adapter.base, four.adapter.generations) == (three.artifact.digest, 1)
    assert "; it starts a new adapter: g0 left none\n" in out
    assert "; it continues the adapter of g1, trained by 1 generation\n" in out
    full = "is a Full update instead of the adapter of g2, trained by 2 generations (rebaseEvery 2)"
    assert f"; it {full}\n" in out
    page = (local_path(three.report) / "report.html").read_text()
    assert f"Full: the training {full}" in page


def test_a_recipe_of_another_rank_starts_a_new_adapter(laptop, capsys):
    laptop.write(learningRate="1e-2")
    manifest = yaml.safe_load(laptop.manifest.read_text())
    for rank, through in ((4, "2026-03-01"), (2, "2026-04-01")):
        lora = {"rank": rank, "continuation": "Continue"}
        manifest["spec"]["training"]["method"] = {"type": "LoRA", "lora": lora}
        laptop.manifest.write_text(json.dumps(manifest))
        assert laptop.run("--through", through) == 0, capsys.readouterr()
    _, one, two = laptop.generations()

    assert two.adapter.base == one.artifact.digest
    assert "that of g1 has other options: rank is 2, was 4" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("method", "file"),
    [
        ({"type": "PromptTuning", "promptTuning": {"tokens": 4}}, "prompt.safetensors"),
        ({"type": "PrefixTuning", "prefixTuning": {"tokens": 4}}, "prefixes.safetensors"),
    ],
    ids=["prompt", "prefixes"],
)
def test_a_second_run_trains_the_vectors_of_the_first_one_further(laptop, capsys, method, file):
    laptop.write(learningRate="1e-2")
    manifest = yaml.safe_load(laptop.manifest.read_text())
    manifest["spec"]["training"]["method"] = method
    laptop.manifest.write_text(json.dumps(manifest))
    for through in ("2026-03-01", "2026-04-01"):
        assert laptop.run("--through", through) == 0, capsys.readouterr()
    _, one, two = laptop.generations()

    first, second = (load_file(local_path(each.artifact.uri) / file) for each in (one, two))
    assert first.keys() == second.keys()
    for name, vectors in first.items():
        assert not torch.equal(vectors, second[name])
        # New ones would be as far apart as these vectors are long.
        assert (vectors - second[name]).norm() < 0.5 * vectors.norm(), name
