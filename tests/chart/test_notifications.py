"""What the chart hands to the operator for notifications."""

from chart.test_operator import environment, pod_of

from springtide_operator import settings

FOLDER = "/etc/springtide/notifications"


def test_without_a_url_the_operator_has_no_sink(render):
    documents = render()
    assert "SPRINGTIDE_NOTIFICATIONS_URL" not in environment(documents)
    assert settings.read(environment(documents)).sink.url == ""


def test_the_operator_reads_what_the_values_of_notifications_set(render):
    documents = render(
        "notifications.url=https://events.example/springtide?cluster=eu-1",
        "notifications.secretName=events",
        "notifications.timeoutSeconds=5",
        "notifications.repeatSeconds=604800",
    )
    sink = settings.read(environment(documents)).sink
    assert sink.url == "https://events.example/springtide?cluster=eu-1"
    assert (sink.timeout_seconds, sink.repeat_seconds, sink.directory) == (5, 604800, FOLDER)


def test_the_secret_is_mounted_read_only_and_needed(render):
    pod = pod_of(render("notifications.secretName=events"))
    (container,) = pod["containers"]
    mounted = {"name": "notifications", "mountPath": FOLDER, "readOnly": True}
    assert mounted in container["volumeMounts"]
    secret = {"secretName": "events", "defaultMode": 0o440}
    assert {"name": "notifications", "secret": secret} in pod["volumes"]


def test_a_url_that_is_a_secret_may_come_from_one(render):
    name = "extraEnv[0].name=SPRINGTIDE_NOTIFICATIONS_URL"
    source = "extraEnv[0].valueFrom.secretKeyRef"
    documents = render(name, f"{source}.name=events", f"{source}.key=url")
    (container,) = pod_of(documents)["containers"]
    found = [e for e in container["env"] if e["name"] == "SPRINGTIDE_NOTIFICATIONS_URL"]
    assert [each["valueFrom"]["secretKeyRef"] for each in found] == [
        {"name": "events", "key": "url"}
    ]


def test_a_url_stands_in_one_place(refusal):
    given = "notifications.url=https://events.example"
    twice = ("extraEnv[0].name=SPRINGTIDE_NOTIFICATIONS_URL", "extraEnv[0].value=https://other")
    assert "SPRINGTIDE_NOTIFICATIONS_URL" in refusal(given, *twice)
