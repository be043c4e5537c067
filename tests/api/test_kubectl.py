"""What users see: `kubectl explain`, `kubectl get` and the refusal of `kubectl apply`."""

import re
from datetime import UTC, datetime, timedelta

import pytest
import yaml
from local_cluster.control_plane import KubectlError

pytestmark = pytest.mark.apiserver


def words(text):
    return " ".join(text.split())


def table(printed):
    """Cut what `kubectl get` printed by the places of its headings: a list of rows by heading."""
    head, *lines = printed.rstrip("\n").split("\n")
    names = head.split()
    starts = [found.start() for found in re.finditer(r"\S+", head)]
    ends = [*starts[1:], None]
    cut = [
        {name: line[a:b].strip() for name, a, b in zip(names, starts, ends, strict=True)}
        for line in lines
    ]
    return names, cut


def ago(**time):
    return (datetime.now(UTC) - timedelta(**time)).strftime("%Y-%m-%dT%H:%M:%SZ")


@pytest.mark.parametrize(
    ("path", "text"),
    [
        ("iu", "evaluated against the live model on the same rows"),
        ("iu.spec.gate", "Accepted: all Required rules pass."),
        ("iu.spec.gate", "Default: ExtendHoldout with 3 interim analyses."),
        ("iu.spec.gate", "Manual: it waits until spec.approval of its ModelGeneration is set"),
        ("iu.spec.mode", "Observe: train and evaluate, and report what would be rolled out;"),
        ("mg.spec.approval", "Rejected: it is retired, and the live generation stays."),
        (
            "iu.spec.gate.rules",
            "Minimum number of contributing entities; with fewer, the rule is inconclusive.",
        ),
        ("iu.spec.gate.rules.minImprovement", 'In units of the metric, such as "0.005".'),
        ("iu.spec.data.source.partition", "A week starts on Monday. Default Month."),
        ("iu.spec.data.holdout.strategy", "enum: LatestPartitions, Tail"),
        ("iu.spec.trigger.onData", "Time between two probes, at least 1m."),
        (
            "iu.spec.training.hyperparameters",
            "Number of optimizer steps. Set either maxSteps or epochs.",
        ),
        ("iu.spec.rollout.targets", "Springtide owns two environment variables of the container"),
        ("iu.status.cursor", "springtide.dev/request=quarantine@<token>"),
        ("mg.spec", "Number, unique for the update and never reused."),
        (
            "mg.status.evaluation.results",
            "Candidate minus live model; positive is better, whatever the metric.",
        ),
    ],
)
def test_explain_reads_as_documentation(server, path, text):
    assert text in words(server.kubectl("explain", path))


CONDITIONS = [
    {"type": kind, "status": status, "reason": "R", "lastTransitionTime": "2026-03-01T00:00:00Z"}
    for kind, status in (("Serving", "False"), ("Ready", "True"), ("TargetsInSync", "Unknown"))
]


def test_the_columns_of_an_update_show_its_state(server, namespace, objects, store, minimal):
    objects.write_status(
        store(minimal),
        {
            "phase": "Training",
            "conditions": CONDITIONS,
            "live": {"name": "ranker-g3", "number": 3},
            "pinned": {"name": "ranker-g2", "number": 2},
            "candidate": {"name": "ranker-g4", "number": 4},
            "progress": {"summary": "40 %, 12m left", "waitingFor": "more data"},
            "lastRun": {"generation": "ranker-g3", "verdict": "Accepted", "summary": "Live g3"},
            "freshness": {"servedDataThrough": ago(days=12)},
            "cursor": {"pendingRows": 2400},
            "counters": {"gpuSeconds": 61},
            "gpuSecondsLastDay": 17,
        },
        dry_run=False,
    )

    names, (row,) = table(server.kubectl("get", "iu", "-n", namespace))
    wide_names, (wide,) = table(server.kubectl("get", "iu", "-n", namespace, "-o", "wide"))

    assert " ".join(names) == "NAME PHASE READY LIVE CANDIDATE PROGRESS LAST-RUN DATA-AGE AGE"
    assert row["PHASE"] == "Training"
    assert row["READY"] == "True"
    assert (row["LIVE"], row["CANDIDATE"]) == ("3", "4")
    assert row["PROGRESS"] == "40 %, 12m left"
    assert (row["LAST-RUN"], row["DATA-AGE"]) == ("Live g3", "12d")
    assert set(wide_names) - set(names) == {
        "MODE",
        "WAITING-FOR",
        "PINNED",
        "PENDING-ROWS",
        "GPU-SECONDS",
        "GPU-LAST-DAY",
    }
    assert wide["PINNED"] == "2"
    assert wide["WAITING-FOR"] == "more data"
    assert (wide["PENDING-ROWS"], wide["GPU-SECONDS"]) == ("2400", "61")
    assert wide["GPU-LAST-DAY"] == "17"


def test_the_columns_of_a_generation_show_its_origin(server, namespace, objects, store, generation):
    parent = {"name": "ranker-g3", "digest": "sha256:" + 64 * "a"}
    spec = {**generation["spec"], "number": 4, "origin": "Trained", "parent": parent, "data": {}}
    del spec["initial"]
    stored = store({**generation, "metadata": {"name": "ranker-g4"}, "spec": spec})
    through = "2026-03-01T00:00:00Z"
    status = {"phase": "Promoted", "outcome": "Live", "trainedThrough": through}
    objects.write_status(stored, status, dry_run=False)

    names, (row,) = table(server.kubectl("get", "mg", "-n", namespace))

    assert " ".join(names) == "NAME UPDATE NO. PARENT PHASE OUTCOME TRAINED-TO AGE"
    assert (row["NAME"], row["UPDATE"], row["NO."]) == ("ranker-g4", "ranker", "4")
    assert (row["PARENT"], row["PHASE"], row["OUTCOME"]) == ("ranker-g3", "Promoted", "Live")
    assert row["TRAINED-TO"] == through


def test_the_category_lists_both_kinds(server, namespace, store, minimal, generation):
    store(minimal)
    store(generation)

    listed = server.kubectl("get", "springtide", "-n", namespace, "-o", "name")

    assert listed.split() == [
        "incrementalupdate.springtide.dev/ranker",
        "modelgeneration.springtide.dev/ranker-g0",
    ]


def test_a_refused_apply_says_what_to_do(server, namespace, minimal):
    minimal["spec"]["gate"]["rules"] = [
        {"name": "better", "metric": "auc", "minImprovement": {"absolute": "0"}}
    ]

    with pytest.raises(KubectlError) as refusal:
        server.kubectl("apply", "-n", namespace, "-f", "-", input=yaml.safe_dump(minimal))

    assert "add one such as {name: floor, metric: auc, min: '0.6'}" in str(refusal.value)
