"""Types and CRD agree: the operator reads what the API server accepts, and the reverse."""

import re

import pytest
from api.example import changed
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from springtide_api.crd.definitions import UPDATE
from springtide_api.crd.openapi import nodes
from springtide_api.generation.spec import GenerationSpec
from springtide_api.generation.status import GenerationStatus
from springtide_api.update.spec import UpdateSpec
from springtide_api.update.status import UpdateStatus

pytestmark = pytest.mark.apiserver

SCHEMA = dict(nodes(UPDATE.schema()["properties"]["spec"]))
few = settings(
    max_examples=60,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)


def leaves(value, path=""):
    """Yield the path of each plain value, such as gate.rules[0].min."""
    if isinstance(value, dict):
        for name, child in value.items():
            yield from leaves(child, f"{path}.{name}".lstrip("."))
    elif isinstance(value, list):
        for index, child in enumerate(value):
            yield from leaves(child, f"{path}[{index}]")
    else:
        yield path


def fitting(node):
    """Draw values that the schema of a plain field allows."""
    if "enum" in node:
        return st.sampled_from(node["enum"])
    if node["type"] == "boolean":
        return st.booleans()
    if node["type"] == "integer":
        return st.integers(node["minimum"], node["maximum"])
    if node.get("format") == "date-time":
        return st.datetimes().map(lambda moment: moment.isoformat() + "Z")
    longest = node["maxLength"]
    if "pattern" in node:
        texts = st.from_regex(node["pattern"], fullmatch=True)
        return texts.filter(lambda text: len(text) <= longest)
    return st.text(min_size=node.get("minLength", 0), max_size=longest)


def changes(spec, values):
    """Draw up to four plain fields of a spec, with new values."""
    paths = [path for path in leaves(spec) if re.sub(r"\[\d+\]", "[]", path) in SCHEMA]

    def of(chosen):
        return st.fixed_dictionaries(
            {path: values(SCHEMA[re.sub(r"\[\d+\]", "[]", path)]) for path in chosen}
        )

    return st.lists(st.sampled_from(paths), max_size=4, unique=True).flatmap(of)


@few
@given(data=st.data())
def test_what_the_server_stores_reads_back_equal(objects, complete, data):
    spec = changed(complete["spec"], data.draw(changes(complete["spec"], fitting)))

    stored = objects.create({**complete, "spec": spec})
    if not isinstance(stored, dict):
        assert stored.code == 422, stored  # by a rule over several fields
        return
    read = UpdateSpec.model_validate(stored["spec"])

    assert read == UpdateSpec.model_validate(spec)
    again = objects.create({**complete, "spec": read.plain()})
    assert isinstance(again, dict), again
    assert UpdateSpec.model_validate(again["spec"]) == read


anything = st.one_of(
    st.text(), st.none(), st.integers(), st.booleans(), st.floats(), st.sampled_from(["", {}, []])
)


@few
@given(data=st.data())
def test_the_operator_reads_whatever_the_server_accepts(objects, complete, data):
    spec = changed(complete["spec"], data.draw(changes(complete["spec"], lambda _: anything)))

    stored = objects.create({**complete, "spec": spec})

    if isinstance(stored, dict):
        UpdateSpec.model_validate(stored["spec"])
    else:
        assert stored.code in (400, 422), stored


def test_the_server_applies_the_defaults_of_the_types(objects, minimal):
    blocks = {"training": {"hyperparameters": {"freeze": {}}}, "trigger": {"onData": {}}}

    stored = objects.create({**minimal, "spec": {**minimal["spec"], **blocks}})

    read = UpdateSpec.model_validate(stored["spec"])
    assert read == UpdateSpec.model_validate(minimal["spec"] | {"trigger": {"onData": {}}})
    assert stored["spec"]["training"]["hyperparameters"]["schedule"] == "Linear"
    assert stored["spec"]["trigger"]["onData"] == {"pollInterval": "30m"}
    assert "limits" not in stored["spec"]["training"]  # an absent block stays absent


def test_a_status_as_the_operator_writes_it_reads_back_equal(objects, store, minimal):
    written = UpdateStatus.model_validate(
        {
            "phase": "RollingOut",
            "conditions": [
                {
                    "type": "Ready",
                    "status": "True",
                    "reason": "Resolved",
                    "lastTransitionTime": "2026-03-01T00:00:00Z",
                }
            ],
            "live": {"name": "ranker-g1", "number": 1, "since": "2026-03-01T00:00:00Z"},
            "cursor": {"trainedThrough": "2026-02-01T00:00:00Z", "quarantined": ["2026-01"]},
            "lastRequest": {"token": "a", "verb": "run", "result": "Accepted"},
            "lastProbe": {"finishedAt": "2026-03-01T00:00:00Z", "job": "j", "reason": "NoNewData"},
            "targets": [{"name": "ranker", "available": 1, "desired": 2}],
            "history": [{"number": 1, "verdict": "Accepted"}],
        }
    )

    answer = objects.write_status(store(minimal), written.plain())

    assert answer["status"] == written.plain()
    assert UpdateStatus.model_validate(answer["status"]) == written


def test_a_generation_as_the_operator_writes_it_reads_back_equal(objects, store, generation):
    digest = "sha256:" + 64 * "a"
    spec = GenerationSpec.model_validate(generation["spec"])
    result = {"rule": "floor", "candidate": "0.71", "low": "0.69", "verdict": "Pass"}
    status = GenerationStatus.model_validate(
        {
            "verdict": "Accepted",
            "artifact": {
                "uri": "file:///models/a",
                "weightsDigest": digest,
                "servedDigest": digest,
                "commit": 40 * "c",
            },
            "training": {"job": "j", "started": "2026-03-01T00:00:00Z", "metrics": ["loss=0.3"]},
            "evaluation": {"job": "j", "results": [result]},
            "trainedThrough": "2026-02-01T00:00:00Z",
        }
    )

    stored = store({**generation, "spec": spec.plain()})
    answer = objects.write_status(stored, status.plain())

    assert stored["spec"] == spec.plain()
    assert GenerationSpec.model_validate(stored["spec"]) == spec
    assert GenerationStatus.model_validate(answer["status"]) == status
