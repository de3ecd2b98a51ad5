"""The sandbox's limits: set by control, ended early, and shared with another app."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.integration.sandbox.controlled import Controlled, RawAnswer, controlled

ME = "/2/users/me"
WINDOWS = [{"limit": 2, "window_s": 60}, {"limit": 3, "window_s": 600, "header": "x-user-limit-24hour"}]


@pytest.fixture
def x(tmp_path: Path) -> Iterator[Controlled]:
    with controlled(tmp_path / "x") as started:
        yield started


def me(x: Controlled) -> RawAnswer:
    return x.raw("GET", ME).answer()


def counted(x: Controlled) -> dict[int, tuple[int, int, int]]:
    return {
        one["window_s"]: (one["fixed_max"], one["rolling_max"], one["refused"])
        for one in x.sandbox.own("limits")
    }


def test_set_windows_refuse_and_are_told_by_their_own_headers(x: Controlled) -> None:
    answer = x.control("POST", "limits", {"endpoint": "users_me", "windows": WINDOWS})
    assert answer.status_code == 200, answer.text
    assert answer.json()["windows"][0] == {"limit": 2, "window_s": 60, "header": "x-rate-limit"}
    assert [me(x).status for _ in range(3)] == [200, 200, 429]
    x.advance(61)
    last = me(x)
    assert last.headers["x-rate-limit-remaining"] == "1"
    assert last.headers["x-user-limit-24hour-limit"] == "3"
    assert last.headers["x-user-limit-24hour-remaining"] == "0"
    assert me(x).status == 429
    assert counted(x) == {60: (2, 2, 2), 600: (3, 3, 2)}
    assert x.control("DELETE", "limits").json() == {"cleared": 1}
    assert me(x).headers["x-rate-limit-limit"] == "75"


def test_windows_end_before_their_time(x: Controlled) -> None:
    x.control("POST", "limits", {"endpoint": "users_me", "windows": WINDOWS[:1]})
    assert [me(x).status for _ in range(2)] == [200, 200]
    x.arm("window_ends", path=ME, count=1)
    assert [me(x).status for _ in range(3)] == [200, 200, 429]
    assert counted(x)[60][1:] == (4, 1)


def test_another_apps_requests_are_taken_from_the_same_windows(x: Controlled) -> None:
    x.control("POST", "limits", {"endpoint": "users_me", "windows": [{"limit": 5, "window_s": 60}]})
    x.arm("foreign_app", path=ME, requests=3, count=1)
    assert me(x).headers["x-rate-limit-remaining"] == "1"
    assert [me(x).status for _ in range(2)] == [200, 429]
    assert counted(x) == {60: (5, 5, 1)}
    assert len(x.sandbox.own("requests")) == 3


@pytest.mark.parametrize(
    ("given", "field"),
    [
        ([], "body"),
        ({"endpoint": "nothing", "windows": WINDOWS}, "endpoint"),
        ({"endpoint": "users_me", "context": "nobody", "windows": WINDOWS}, "context"),
        ({"endpoint": "users_me", "windows": []}, "windows"),
        ({"endpoint": "users_me", "windows": [WINDOWS[0], WINDOWS[0]]}, "windows"),
        ({"endpoint": "users_me", "windows": [{"limit": 0, "window_s": 1}]}, "limit"),
        ({"endpoint": "users_me", "windows": [{"limit": True, "window_s": 1}]}, "limit"),
        ({"endpoint": "users_me", "windows": [{"limit": 1}]}, "window_s"),
        ({"endpoint": "users_me", "windows": [{"limit": 1, "window_s": 9, "header": "date"}]}, "header"),
        ({"endpoint": "users_me", "windows": WINDOWS, "more": 1}, "more"),
    ],
)
def test_what_can_not_be_used_is_refused(shared: Controlled, given: Any, field: str) -> None:
    answer = shared.control("POST", "limits", given)
    assert answer.status_code == 400
    assert answer.json()["errors"][0]["field"] == field
    assert answer.json()["errors"][0]["allowed"]


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Controlled]:
    with controlled(tmp_path_factory.mktemp("state") / "x") as started:
        yield started
