"""The body of a notification is a CloudEvent 1.0."""

from __future__ import annotations

import json

from ports.notices import notification

from springtide_operator.ports.cloud_event import cloud_event


def test_a_notification_is_a_cloud_event_with_all_required_attributes() -> None:
    assert json.loads(cloud_event(notification(3, live="shop-g2", previous="shop-g1"))) == {
        "specversion": "1.0",
        "id": "uid-3/verdict/2026-03-01T12:00:00Z",
        "source": "/apis/springtide.dev/v1alpha1/namespaces/search/incrementalupdates/shop",
        "type": "dev.springtide.update.verdict.v1",
        "subject": "shop-g3",
        "time": "2026-03-01T12:00:00Z",
        "datacontenttype": "application/json",
        "data": {
            "namespace": "search",
            "update": "shop",
            "generation": "shop-g3",
            "verdict": "Accepted",
            "outcome": "",
            "reason": "RulesPassed",
            "message": "all 2 rules passed",
            "live": "shop-g2",
            "previous": "shop-g1",
        },
    }


def test_an_attribute_without_a_value_is_left_out() -> None:
    event = json.loads(cloud_event(notification(generation="", at=None)))
    assert not {"subject", "time"} & event.keys()
    assert event["data"]["generation"] == ""


def test_any_text_of_a_message_is_valid_json_in_ascii() -> None:
    text = 'Größe "x"\n\x1b[31m \ud800 \U0001f600'
    body = cloud_event(notification(message=text))
    assert body.isascii()
    assert json.loads(body)["data"]["message"] == text
