"""Liveness tells the truth: stuck is stuck, and a server that is down is not our fault."""

from springtide_operator.health import Health


def health(**changes):
    well = {
        "silence": {"jobs": 3.0, "pods": 3.0},
        "unreachable": {"jobs": "", "pods": ""},
        "depth": 0,
        "oldest": 0.0,
        "lag": 0.0,
    }
    return Health(**{**well, **changes})


def test_a_kind_that_went_silent_is_a_problem():
    assert health().problems() == []
    (problem,) = health(silence={"jobs": 200.0, "pods": 3.0}).problems()
    assert problem == "no answer about jobs for 200 s (limit 180)"


def test_a_server_that_is_down_for_all_kinds_is_no_reason_to_restart():
    down = {"jobs": "connection refused", "pods": "connection refused"}
    assert health(silence={"jobs": 400.0, "pods": 400.0}, unreachable=down).problems() == []
    silence = {"jobs": 1000.0, "pods": 1000.0, "httproutes": 0.0}  # which no update needs yet
    assert health(silence=silence, unreachable={**down, "httproutes": ""}).problems() == []


def test_waiting_work_and_a_lagging_loop_are_problems():
    assert health(oldest=130.0).problems() == ["updates wait for 130 s (limit 120)"]
    assert health(lag=11.0).problems() == ["the event loop is 11.0 s late (limit 10)"]
