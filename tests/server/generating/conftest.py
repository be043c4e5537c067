"""A tiny decoder whose responses differ, served."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from server.conftest import Made
from trainer import decoders

from springtide_api.update.task import CausalLMOptions
from springtide_server.settings import Settings
from springtide_trainer.artifact import manifest
from springtide_trainer.artifact.preprocess import Preprocess
from springtide_trainer.storage import Home

if TYPE_CHECKING:
    from pathlib import Path


def make(home: Path, *, new: int = 6, **reads: Any) -> Made:
    """Commit a random decoder."""
    folder = decoders.publish(home / "tmp" / "made", spread=0.4)
    Preprocess(
        max_length=24, task="CausalLM", causal_lm=CausalLMOptions(max_new_tokens=new), **reads
    ).write(folder)
    committed = manifest.commit(folder, Home(home))
    uri, digest = committed.uri, committed.digest
    return Made(
        committed, Settings(model_uri=uri, model_digest=digest, generation="3", max_batch=16)
    )


@pytest.fixture(scope="session")
def responder(tmp_path_factory: pytest.TempPathFactory) -> Made:
    """A model that responds to `text`."""
    return make(tmp_path_factory.mktemp("responder"), text="prompt")


@pytest.fixture(scope="session")
def of_features(tmp_path_factory: pytest.TempPathFactory) -> Made:
    """A model that responds to the features `history` and `question`."""
    return make(
        tmp_path_factory.mktemp("features"),
        features=["history", "question"],
        template="{history} small {question}",
    )
