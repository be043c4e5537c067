"""Every value is described, in the schema and in the chart's README, and a wrong one is refused."""

import json
import re

import pytest
import yaml
from local_cluster.places import REPOSITORY

CHART = REPOSITORY / "charts" / "springtide"
SCHEMA = json.loads((CHART / "values.schema.json").read_text())
EXPRESSION = "watchNamespaceSelector.matchExpressions[0]"
VALUES = yaml.safe_load((CHART / "values.yaml").read_text())


def described(schema, prefix=""):
    """Path and schema of each value, blocks included."""
    for name, value in schema["properties"].items():
        yield f"{prefix}{name}", value
        if "properties" in value:
            yield from described(value, f"{prefix}{name}.")


def leaves(values, schema, prefix=""):
    """Paths of the values of values.yaml, as deep as the schema names them."""
    for name, value in values.items():
        inner = schema["properties"].get(name, {})
        if "properties" in inner:
            yield from leaves(value, inner, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}"


@pytest.mark.parametrize(("path", "schema"), list(described(SCHEMA)))
def test_every_value_has_a_description(path, schema):
    text = schema.get("description", "")
    assert text.endswith("."), path
    is_block = "properties" in schema
    required = path in {"image.repository", "trainer.repository", "global"}
    assert is_block or required or "Default: " in text or "Recommended. Default:" in text, path


def test_the_schema_and_the_values_file_name_the_same_values():
    known = {path for path, schema in described(SCHEMA) if "properties" not in schema}
    assert set(leaves(VALUES, SCHEMA)) == known - {"global"}


def test_every_value_is_in_the_readme_and_no_other_one():
    text = (CHART / "README.md").read_text()
    table = text[text.index("## Values") : text.index("## Rights")]
    first = [row.split("|")[1] for row in table.splitlines() if row.startswith("| `")]
    named = {path for cell in first for path in re.findall(r"`([^`]+)`", cell)}
    assert named == set(leaves(VALUES, SCHEMA))


@pytest.mark.parametrize(
    ("setting", "named"),
    [
        ("replicas=2", "replicas"),
        ("image.repo=x", "repo"),
        ("watchNamespace=Not_A_Name", "watchNamespace"),
        ("watchNamespaceSelector.labels.x=y", "labels"),
        ("watchNamespaceSelector.matchLabels.x=a b", "x"),
        ("watchNamespaceSelector.matchExpressions[0].key=x", "operator"),
        (f"{EXPRESSION}.key=x,{EXPRESSION}.operator=In", "values"),
        (f"{EXPRESSION}.key=x,{EXPRESSION}.operator=In,{EXPRESSION}.values[0]=", "values"),
        (f"{EXPRESSION}.key=x,{EXPRESSION}.operator=Exists,{EXPRESSION}.values[0]=a", "values"),
        ("watchNamespace=shop,watchNamespaceSelector.matchLabels.x=y", "both set"),
        ("image.digest=md5:1", "digest"),
        ("fullnameOverride=a.b", "fullnameOverride"),
        ("operator.workers=0", "workers"),
        ("operator.maxProbes=many", "maxProbes"),
        ("operator.maxProbesPerNamespace=0", "maxProbesPerNamespace"),
        ("operator.resyncSeconds=1", "resyncSeconds"),
        ("operator.logLevel=loud", "logLevel"),
        ("operator.prometheusHosts[0]=http://prometheus", "prometheusHosts"),
        ("operator.hubEndpoint=huggingface.co", "hubEndpoint"),
        ("operator.hubEndpoint=https://user@mirror.example", "hubEndpoint"),
        ("operator.client.qps=0", "qps"),
        ("operator.client.burst=null", "burst"),
        ("notifications.url=ftp://sink", "url"),
        ("notifications.url=https://user@sink", "url"),
        ("notifications.secretName=Not A Name", "secretName"),
        ("notifications.timeoutSeconds=0", "timeoutSeconds"),
        ("notifications.repeatSeconds=-1", "repeatSeconds"),
        ("notifications.sink=x", "sink"),
        ("extraEnv[0].value=x", "name"),
        ("jobs.imagePullSecrets[0]=a/b", "imagePullSecrets"),
        ("jobs.serviceAccountName=Not A Name", "serviceAccountName"),
        ("jobs.labels.springtide\\.dev/update=x", "springtide.dev~1update"),
        ("jobs.labels.job-name=x", "/jobs/labels/job-name"),
        ("jobs.labels.team=a b", "/jobs/labels/team"),
        ("jobs.labels.a b=x", "'a b'"),
        ("jobs.affinity.podAfinity.x=y", "podAfinity"),
        ("jobs.runtimeClass=x", "runtimeClass"),
        ("policy.imageDigests=deny", "imageDigests"),
        ("policy.imageRegistries[0]=a'b", "imageRegistries"),
        ("podDisruptionBudget.maxUnavailable=2", "maxUnavailable"),
        ("networkPolicy.metricsFrom[0].pods=x", "metricsFrom"),
        ("serviceMonitor.interval=often", "interval"),
    ],
)
def test_a_value_that_is_unknown_or_wrong_is_refused(refusal, setting, named):
    assert named in refusal(setting)
