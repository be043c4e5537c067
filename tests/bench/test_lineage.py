"""What a benchmark's generation takes from its parent: the same as in a cluster."""

from __future__ import annotations

from bench.retention.lineage import Lineage
from trainer.training.conftest import recipe

from springtide_api.contract import ArtifactRef, CommittedArtifact, Result, TrainOutput
from springtide_api.generation.spec import Recipe, ReplayBuffer
from springtide_trainer.storage import Home

DIGESTS = [f"sha256:{number:064x}" for number in range(4)]


def test_a_generation_takes_buffer_and_fisher_information_of_its_parent(tmp_path, monkeypatch):
    home = Home(tmp_path)
    given = []

    def run(lineage, stage, made_from, *, train):
        given.append(train)
        buffer = ReplayBuffer(uri=f"{tmp_path.as_uri()}/buffer", digest=DIGESTS[2], rows=9)
        artifact = CommittedArtifact(uri=f"{tmp_path.as_uri()}/g1", digest=DIGESTS[1], bytes=1)
        made = TrainOutput(artifact=artifact, buffer=buffer, fisher=DIGESTS[3])
        return Result(job="j", stage=stage, number=1, ok=True, train=made)

    monkeypatch.setattr(Lineage, "run", run)
    lineage, made_from = Lineage(home), Recipe.model_validate(recipe())
    initial = CommittedArtifact(
        uri=f"{tmp_path.as_uri()}/g0", digest=DIGESTS[0], bytes=1, head="Seeded"
    )
    rows = ArtifactRef(uri=f"{tmp_path.as_uri()}/rows", digest=DIGESTS[0])
    first = lineage.trained(made_from, initial, rows)
    lineage.trained(made_from, first, rows)

    began, went_on = given
    assert (began.parent.digest, began.buffer, began.fisher) == (DIGESTS[0], None, None)
    assert (began.seeded_head, went_on.seeded_head) == (True, False)
    assert (went_on.parent.digest, went_on.buffer) == (DIGESTS[1], first.buffer)
    assert went_on.fisher == ArtifactRef(uri=home.artifact(DIGESTS[3]).as_uri(), digest=DIGESTS[3])
