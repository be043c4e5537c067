"""A termination message fits the kubelet's limit; less important parts are shortened first."""

from __future__ import annotations

import json
from datetime import UTC, datetime

import pytest

from springtide_api.contract import (
    CommittedAdapter,
    CommittedArtifact,
    EvaluateOutput,
    Failure,
    ProbeOutput,
    Result,
    ServedForm,
    TrainOutput,
    WindowFound,
)
from springtide_api.generation.spec import ReplayBuffer
from springtide_api.retained import PseudoLabelled, Replayed
from springtide_trainer.stages.termination_message import compact, write

DIGEST = "sha256:" + "a" * 64
NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)


def shortened(result: Result) -> Result:
    message = compact(result)
    assert len(message) <= 4096
    return Result.model_validate_json(message)


def test_a_small_result_is_not_shortened():
    made = CommittedArtifact(uri="file:///x", digest=DIGEST, bytes=7)
    output = TrainOutput(artifact=made, steps=3, rows=9, metrics={"loss": 0.5})
    result = Result(job="j", stage="train", number=1, ok=True, train=output)
    assert shortened(result) == result


def test_sixteen_rules_with_long_names_fit_and_none_is_removed():
    value = -0.12345678901234567
    rules = [(f"{'r' * 30}-{n}", *[value] * 10, None, 123456, 12345) for n in range(16)]
    output = EvaluateOutput(
        rules=rules,
        trivial_baseline=[value] * 16,
        versus_reference=[(value,) * 4] * 4 + [None] * 12,
        reference_digest=DIGEST,
        candidate_digest=DIGEST,
        baseline_digest=DIGEST,
        holdout_digest=DIGEST,
        report="file:///models/shop/ranker/reports/ranker-12345-g7-evaluate-1",
    )
    result = Result(job="j" * 63, stage="evaluate", number=7, ok=True, evaluate=output)
    found = shortened(result).evaluate
    assert found is not None
    assert len(found.rules) == 16
    assert found.rules[0][1] == pytest.approx(-0.123456789, abs=1e-6)


def test_the_longest_result_of_an_evaluation_fits_with_three_digits():
    value = -0.0012345678901234567
    rules = [(f"{number:02}" + "r" * 61, *[value] * 11, 1234567, 123456) for number in range(16)]
    output = EvaluateOutput(
        rules=rules,
        trivial_baseline=[value] * 16,
        versus_reference=[(value,) * 4] * 4 + [None] * 12,
        candidate_digest=DIGEST,
        baseline_digest=DIGEST,
        holdout_digest=DIGEST,
        reference_digest=DIGEST,
        report=f"file:///models/{'n' * 63}/{'u' * 32}/reports/{'j' * 63}",
    )
    result = Result(job="j" * 63, stage="evaluate", number=100_000, ok=True, evaluate=output)
    found = shortened(result).evaluate
    assert found is not None
    assert [row[0] for row in found.rules] == [row[0] for row in rules]
    assert found.rules[0][1] == pytest.approx(value, rel=5e-3)


@pytest.mark.parametrize("length", [300, 1024])
@pytest.mark.parametrize("method", ["LoRA", "Full"])
def test_a_training_with_all_that_it_leaves_fits_whatever_the_length_of_its_paths(length, method):
    """An adapter and Fisher information are of different methods."""
    place = "file:///" + "p" * (length - 8)
    missing = ", ".join("漢" * 32 + " 9,999" for _ in range(5))
    replayed = Replayed(
        rows=10**6,
        classes={"漢" * 100 + str(number): number for number in range(256)},
        slices={"漢" * 97 + str(number): number for number in range(256)},
        message=f"256 of 256 classes have fewer than 10,000 (rowsPerClass): {missing}, ...",
    )
    output = TrainOutput(
        artifact=CommittedArtifact(
            uri=place,
            digest=DIGEST,
            bytes=10**12,
            served=ServedForm(
                digest=DIGEST,
                bytes=10**12,
                quantization="Int8Dynamic",
                sparsity="0.5555",
            ),
        ),
        steps=10**8,
        rows=10**9,
        seconds=86400.123456,
        metrics={f"validation_alpha_0.{number}23456": 0.123456789 for number in range(8)},
        stop_reason="the metric ndcg@10 did not improve in 100 validations",
        replay=replayed,
        pseudo_labels=PseudoLabelled(
            offered=10**9,
            used=10**9,
            classes={"漢" * 100 + str(number): 10**6 for number in range(256)},
        ),
        buffer=ReplayBuffer(uri=place, digest=DIGEST, rows=10**6),
    )
    adapter = CommittedAdapter(uri=place, digest=DIGEST, bytes=10**10, base=DIGEST)
    left = {"adapter": adapter} if method == "LoRA" else {"fisher": DIGEST}
    output = output.model_copy(update=left)
    found = shortened(Result(job="j" * 63, stage="train", number=10**6, ok=True, train=output))
    assert found.train is not None
    assert (found.train.artifact, found.train.buffer) == (output.artifact, output.buffer)
    assert (found.train.adapter, found.train.fisher) == (output.adapter, output.fisher)
    assert found.train.replay is not None
    assert found.train.replay.rows == 10**6
    assert found.train.pseudo_labels is not None
    assert found.train.pseudo_labels.used == 10**9
    assert found.train.replay.message.startswith("256 of 256 classes have fewer than 10,000")


def test_a_long_list_of_partitions_keeps_the_newest():
    window = WindowFound(
        manifest="file:///x",
        digest=DIGEST,
        holdout_from=NOON,
        holdout_to=NOON,
        partitions=[f"2026-03-01T{n:05d}" for n in range(500)],
    )
    output = ProbeOutput(reason="WindowReady", message="ready", window=window)
    found = shortened(Result(job="j", stage="probe", ok=True, probe=output)).probe
    assert found is not None
    assert found.window is not None
    assert found.window.partitions[-1] == "2026-03-01T00499"


@pytest.mark.survives(
    "Results",
    "a result that is longer than a termination message may be",
    "the message is shortened; field and rules stay complete",
)
def test_a_long_message_of_a_failure_is_truncated():
    failure = Failure(reason="MissingColumn", message="é" * 5000, field="spec.x")
    found = shortened(Result(job="j", stage="probe", ok=False, failure=failure)).failure
    assert found is not None
    assert found.field == "spec.x"
    assert found.message == "é" * 900


def test_a_result_that_cannot_fit_raises_an_error():
    result = Result(job="j" * 5000, stage="probe", ok=True)
    with pytest.raises(ValueError, match="the limit of 4096"):
        compact(result)


def test_a_missing_termination_file_is_not_a_failure(tmp_path):
    write(Result(job="j", stage="probe", ok=True), str(tmp_path / "none" / "termination"))
    write(Result(job="j", stage="probe", ok=True), str(tmp_path / "termination"))
    assert json.loads((tmp_path / "termination").read_text())["ok"] is True
