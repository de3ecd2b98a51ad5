"""The SQL contract's page is what the functions say of themselves."""

from pathlib import Path

from host import sql_api

ROOT = Path(__file__).resolve().parents[3]


def test_the_page_is_made_from_the_functions_as_they_are() -> None:
    written = (ROOT / sql_api.PAGE).read_text("utf-8")
    assert written == sql_api.page(), "make it anew: python -m host.sql_api"


def test_every_function_that_a_worker_may_call_is_on_it_once() -> None:
    named = [function.name for function in sql_api.functions()]
    assert sorted(named) == sorted(sql_api.callable_names())


def test_every_function_says_what_it_locks_and_costs() -> None:
    unsaid = [function.name for function in sql_api.functions() if not sql_api.COST.search(function.comment)]
    assert unsaid == [], "a comment above each: what it locks, what it costs"


def test_a_function_is_read_as_it_is_declared() -> None:
    [found] = [function for function in sql_api.functions() if function.name == "poll_reservation"]
    assert found.noun == "reservation_queue"
    assert [(argument.name, argument.type) for argument in found.arguments] == [
        ("incarnation", "uuid"),
        ("ticket", "uuid"),
    ]
    assert (found.returns, found.lock_timeout) == ("jsonb", "5 s")
    [beside] = [function for function in sql_api.functions() if function.name == "reserve_resource"]
    assert [argument.default for argument in beside.arguments if argument.name in {"worker_id", "units"}] == [
        None,
        "1",
    ]
