"""Faults: which requests ask them, when they fire, and that the reference lists them all."""

import re
from pathlib import Path
from typing import Any

import pytest

from sandbox.x.control.fault_kinds import FAULTS
from sandbox.x.control.faults import FaultError, Faults

REFERENCE = Path(__file__).parents[3] / "docs/reference/sandbox.md"


def faults(*armed: dict[str, Any]) -> Faults:
    made = Faults(lambda path: path == "/2/tweets")
    for one in armed:
        made.arm(one)
    return made


def fires(made: Faults, method: str, path: str) -> bool:
    return bool(made.ask(method, path).options)


@pytest.mark.parametrize(
    ("path", "method", "asked", "matches"),
    [
        ("/2/tweets", "GET", "/2/tweets", True),
        ("/2/tweets", "GET", "/2/tweets/1", False),
        ("/2/tweets", "GET", "/2/tweets/", False),
        ("/2/tweets/", "GET", "/2/tweets/1", True),
        ("/2/tweets/", "GET", "/2/tweets", False),
        ("/2/tweets*", "GET", "/2/tweets/search/recent", True),
        ("/2/users/:id/tweets", "GET", "/2/users/5/tweets", True),
        ("/2/users/{user_id}/tweets", "GET", "/2/users/5/tweets", True),
        ("/2/users/:id/tweets", "GET", "/2/users/5/6/tweets", False),
        ("/2/users/:id", "GET", "/2/users/5/tweets", False),
        ("GET /2/tweets", "POST", "/2/tweets", False),
        ("POST /2/tweets", "POST", "/2/tweets", True),
        ("/2/tweet.", "GET", "/2/tweets", False),
        ("/", "DELETE", "/2/tweets/1", True),
    ],
)
def test_a_path_names_the_requests_that_ask(path: str, method: str, asked: str, matches: bool) -> None:
    assert fires(faults({"fault": "unavailable_503", "path": path}), method, asked) is matches


@pytest.mark.parametrize(
    ("fault", "requests"),
    [
        ("unavailable_503", {"GET /2/tweets", "POST /2/tweets", "GET /2/users/me"}),
        ("lagging_timeline", {"GET /2/tweets", "GET /2/users/me"}),
        ("duplicate_check_off", {"POST /2/tweets"}),
        ("accept_then_504", {"POST /2/tweets", "GET /2/users/me"}),
        ("drop_before_accepting", {"POST /2/tweets", "GET /2/users/me"}),
    ],
)
def test_a_fault_is_asked_by_the_requests_that_it_is_about(fault: str, requests: set[str]) -> None:
    made = faults({"fault": fault})
    asked = ("GET /2/tweets", "POST /2/tweets", "GET /2/users/me")
    assert {one for one in asked if fires(made, *one.split())} == requests


def test_a_count_fires_so_often_and_one_without_a_rule_always() -> None:
    counted = faults({"fault": "delay", "count": 3})
    assert [fires(counted, "GET", "/") for _ in range(5)] == [True] * 3 + [False] * 2
    always = faults({"fault": "delay"})
    assert all(fires(always, "GET", "/") for _ in range(100))
    assert always.clear() == 1
    assert not fires(always, "GET", "/")


def control_section() -> list[str]:
    text = REFERENCE.read_text(encoding="utf-8").partition("\n## Control\n")[2]
    return text.partition("\n## ")[0].splitlines()


def series(seed: int, probability: float = 0.3) -> list[bool]:
    made = faults({"fault": "delay", "path": "/a", "probability": probability, "seed": seed})
    return [fires(made, "GET", "/a") for _ in range(1000)]


def test_a_probability_is_repeatable_by_its_seed_and_true_to_its_number() -> None:
    assert series(1) == series(1) != series(2)
    assert 250 < sum(series(1)) < 350
    assert sum(series(1, 0)) == 0
    assert sum(series(1, 1)) == 1000


def test_requests_that_dont_match_draw_nothing() -> None:
    made = faults({"fault": "delay", "path": "/a", "probability": 0.3, "seed": 1})
    drawn: list[bool] = []
    for _ in range(1000):
        fires(made, "GET", "/b")
        drawn.append(fires(made, "GET", "/a"))
    assert drawn == series(1)


def test_faults_are_asked_in_the_order_of_the_table_until_one_ends_the_request() -> None:
    names = [kind.name for kind in FAULTS]
    made = faults(*({"fault": name, "count": 1} for name in reversed(names)))
    met = [list(made.ask("POST", "/2/tweets").options) for _ in range(len(names))]
    flat = [name for fired in met for name in fired]
    assert sorted(flat) == sorted(set(names) - {"lagging_timeline"})
    assert met[0] == ["duplicate_check_off", "drop_before_accepting"]
    for fired in met:
        assert fired == sorted(fired, key=names.index)
        assert not [kind for kind in FAULTS if kind.ends and kind.name in fired[:-1]]


def test_of_two_of_a_kind_the_second_fires_when_the_first_is_used_up() -> None:
    made = faults({"fault": "delay", "count": 1, "seconds": 1}, {"fault": "delay", "count": 1, "seconds": 2})
    assert [made.ask("GET", "/").seconds("delay") for _ in range(3)] == [1, 2, 0]


@pytest.mark.parametrize("kind", FAULTS, ids=lambda kind: kind.name)
def test_every_default_is_allowed_and_the_reference_says_what_the_fault_does(kind: Any) -> None:
    for option in kind.options:
        assert option.default is None or option.check(option.default)
        with pytest.raises(FaultError):
            faults({"fault": kind.name, option.name: object()})
    (row,) = [line for line in control_section() if line.startswith(f"| `{kind.name}` | ")]
    assert row.startswith(f"| `{kind.name}` | {kind.does} |")
    assert [option.name for option in kind.options] == re.findall(r"`(\w+)` \(", row.rpartition(" | ")[2])
    assert (" | yes | " in row) is kind.ends


def test_the_reference_lists_the_faults_in_their_order() -> None:
    rows = [re.match(r"\| `(\w+)` \| ", line) for line in control_section()]
    assert [row[1] for row in rows if row] == [kind.name for kind in FAULTS]
