"""Months that the trainer refuses, on a cluster: file, line and remedy are reported."""

import gzip

import pytest
from demo.example import UPDATE
from e2e import owner, small_model
from e2e.monitors import sending_requests

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(600)]

FILE = "2026-02.csv.gz"
LINE = 7


@pytest.fixture(scope="module")
def served(small):
    """An example that serves generation 0 and waits for the month of February."""
    example = small("data")
    example.begin(months=("2026-01",))
    example.goes_live(0)
    return example


def february(change):
    """The month with one of its lines changed."""
    lines = gzip.decompress(small_model.month("2026-02")).decode().splitlines()
    lines[LINE - 1] = change(lines[LINE - 1])
    return gzip.compress("\n".join([*lines, ""]).encode(), mtime=0)


def cut_off():
    return small_model.month("2026-02")[:-20]


def with_one_field_too_many():
    return february(lambda line: f"{line},1")


def with_a_label_of_its_own():
    return february(lambda line: f"{line[:-1]}2")


def with_a_row_of_march():
    return february(lambda line: line.replace("2026-02", "2026-03", 1))


REFUSED = {
    cut_off: (
        "TruncatedFile",
        f"spec.data.source: '{FILE}' line ",
        ": the gzip stream is truncated; deliver the whole file",
    ),
    with_one_field_too_many: (
        "RaggedRow",
        f"spec.data.source: '{FILE}' line {LINE}: 6 fields, but the header has 5",
        "; quote commas in texts",
    ),
    with_a_row_of_march: (
        "OutsidePartition",
        f"'{FILE}' line {LINE}: its timestamp 2026-03-",
        " is outside partition 2026-02; write the row to its own partition, or change ",
    ),
    with_a_label_of_its_own: (
        "UnknownLabel",
        "spec.data.source.columns.label: 1 of 480 holdout rows of 2026-02 ",
        "fix them or append the label to model.labels",
    ),
}


def data_ready(status, reason):
    def so(now):
        found = owner.condition(now, "DataReady")
        return (found["status"], found["reason"]) == (status, reason)

    return so


def decided(now):
    last = now["lastRun"]
    return last["generation"] == f"{UPDATE}-g1" and last["verdict"] != "Pending"


def deployed(example):
    """What would change with anything that is served."""
    target = example.get(owner.TARGET)
    return target["metadata"]["generation"], target["spec"], example.served()


@pytest.mark.survives(
    "Data",
    "on a real cluster with traffic: a month whose gzip is cut off, then with a ragged row, "
    "then with a row of another month, then with an unknown label",
    "each time DataReady is False with reason, file or month, line or count and remedy; no "
    "generation is created, the Deployment is unchanged, no request fails; once the file is "
    "corrected a `run` request leads to a verdict",
)
def test_bad_months_are_reported_one_after_the_other_and_the_corrected_one_is_evaluated(served):
    before = deployed(served)
    with sending_requests(served) as client:
        client.wait_for(more=5)
        for month, (reason, where, remedy) in REFUSED.items():
            served.deliver(FILE, month())
            served.request("run", reason)
            status = served.wait(data_ready("False", reason), what=reason)
            condition = owner.condition(status, "DataReady")
            assert condition["message"].startswith(where)
            assert remedy in condition["message"]
            assert owner.condition(status, "Serving")["status"] == "True"
        client.wait_for(more=5)
        assert deployed(served) == before
        assert list(served.generations()) == [0]
        served.deliver(FILE, small_model.month("2026-02"))
        served.request("run", "corrected")
        served.wait(data_ready("True", "WindowReady"), what="the corrected month")
        status = served.wait(decided, what="a verdict on generation 1")
        totals = client.totals()
    assert status["lastRun"]["verdict"] == "Accepted"
    assert totals["failures"] == []
