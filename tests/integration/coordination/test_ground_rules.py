"""The ground rules of the SQL, over every function there is: what a new one breaks, it breaks here first."""

import re
from collections.abc import Mapping

import pytest

from tests.integration.coordination.functions_read import (
    CLOCK,
    MUTEX,
    ROW_LOCK,
    WRITE,
    Function,
    reaching,
    read,
    without_comments_and_literals,
)
from tests.integration.coordination.tables import Owner, value

LONGEST_WAIT_MS = 10_000
"""The settling of an act's: its result must not be lost to a short wait."""
PURE = {"now", "real_now", "lock_key"}
"""They lock nothing: everybody may call them, also inside a query."""
SOURCES = r"\bFROM\s+fleet\.\w+"
EXPLICIT = f"{MUTEX}|{ROW_LOCK}"


@pytest.fixture
def functions(owner: Owner) -> Mapping[str, Function]:
    return read(owner)


def test_what_a_login_may_call_is_volatile_plpgsql_of_the_owners_rights_with_a_fixed_search_path(
    functions: Mapping[str, Function],
) -> None:
    callable_ones = {name: one for name, one in functions.items() if one.callers and name not in PURE}
    assert len(callable_ones) > 100
    for name, one in callable_ones.items():
        assert (one.language, one.volatility, one.is_definer) == ("plpgsql", "v", True), name
        assert "search_path=pg_catalog, pg_temp" in one.settings, name


def test_no_stable_function_reads_a_snapshot_from_before_a_wait(functions: Mapping[str, Function]) -> None:
    assert [name for name, one in functions.items() if one.volatility == "s"] == []
    reads = reaching(dict(functions), f"{SOURCES}|{WRITE}|{EXPLICIT}")
    assert [name for name in reads if functions[name].volatility != "v"] == []


def test_every_call_that_may_wait_for_a_lock_gives_up(
    functions: Mapping[str, Function], owner: Owner
) -> None:
    waiting = reaching(dict(functions), f"{EXPLICIT}|{WRITE}")
    assert len(waiting) > 60
    for name in sorted(waiting):
        one = functions[name]
        if not one.callers:
            continue
        found = [setting.partition("=")[2] for setting in one.settings if setting.startswith("lock_timeout=")]
        assert len(found) == 1, f"{name} may wait for a lock for ever"
        wait_ms = value(owner, "SELECT extract(epoch FROM %s::interval) * 1000", found[0])
        assert 0 < wait_ms <= LONGEST_WAIT_MS, name


def test_no_lock_is_taken_inside_a_block_that_can_be_rolled_back(functions: Mapping[str, Function]) -> None:
    locking = reaching(dict(functions), EXPLICIT)
    for name, one in functions.items():
        for block in one.guarded_blocks:
            assert not re.search(EXPLICIT, block, re.IGNORECASE), name
            assert not locking & set(re.findall(r"\bfleet\.(\w+)\(", block)), name


def test_time_is_read_after_the_wait_and_never_in_a_declaration(functions: Mapping[str, Function]) -> None:
    for name in reaching(dict(functions), EXPLICIT):
        assert not re.search(CLOCK, functions[name].declarations, re.IGNORECASE), name


def test_no_parameter_has_the_time_as_its_default(owner: Owner) -> None:
    assert (
        value(
            owner,
            "SELECT coalesce(string_agg(p.proname, ' '), '') FROM pg_proc p "
            "WHERE p.pronamespace = 'fleet'::regnamespace AND p.pronargdefaults > 0 "
            r"AND pg_get_expr(p.proargdefaults, 0) ~ 'now\(|_timestamp'",
        )
        == ""
    )


def test_a_flush_is_decided_inside_the_body_and_never_by_a_setting_of_the_function(
    functions: Mapping[str, Function],
) -> None:
    assert [
        name
        for name, one in functions.items()
        if any(setting.startswith("synchronous_commit") for setting in one.settings)
    ] == []


def test_suspicion_is_asked_in_a_statement_of_its_own(functions: Mapping[str, Function]) -> None:
    """A try-lock in a WHERE or a join is evaluated as often as the plan likes."""
    asked = 0
    for name, one in functions.items():
        for call in re.finditer(r"\bfleet\.is_(?:suspected|abandoned)\(", one.text):
            statement = re.split(r";|\bTHEN\b|\bLOOP\b|\bBEGIN\b|\bELSE\b", one.text[: call.start()])[-1]
            assert not re.search(r"\b(?:SELECT|(?<!DISTINCT )FROM|WHERE|UPDATE|DELETE)\b", statement), name
            asked += 1
        if name not in {"is_suspected", "is_abandoned", "may_sleep"}:  # whose whole text is such a try
            assert not re.search(r"pg_try_advisory_(?:xact_)?lock_shared\(", one.text), name
    assert asked > 3


def test_no_try_lock_stands_in_a_query_over_rows(functions: Mapping[str, Function]) -> None:
    for name, one in functions.items():
        for call in re.finditer(r"\bpg_try_advisory_\w+\(", one.text):
            statement = re.split(r";|\bTHEN\b|\bBEGIN\b", one.text[: call.start()])[-1]
            assert not re.search(r"\b(?:FROM|WHERE|JOIN)\b", statement), name


def test_no_list_is_made_anew_for_each_row_of_a_filter(functions: Mapping[str, Function]) -> None:
    """A volatile function in `= ANY (...)` is asked for each row, and no index is looked at by it."""
    assert [name for name, one in functions.items() if re.search(r"\bANY\s*\(\s*fleet\.", one.text)] == []


def test_session_locks_are_those_of_incarnations_and_managers(functions: Mapping[str, Function]) -> None:
    session = r"\bpg_(?:try_)?advisory_(?:un)?lock(?:_shared)?\("
    assert {name for name, one in functions.items() if re.search(session, one.text)} == {
        "open_incarnation",
        "close_incarnation",
        "open_host",
        "close_host",
    }


def test_a_claim_locks_the_rows_that_it_takes_and_no_more(functions: Mapping[str, Function]) -> None:
    """`IN (SELECT ... LIMIT n FOR UPDATE SKIP LOCKED)` is evaluated as often as the plan likes."""
    claims = 0
    for name, one in functions.items():
        for found in re.finditer(r"\bSKIP\s+LOCKED\b", one.text):
            around = _before_the_bracket(one.text[: found.start()])
            assert around is None or re.search(r"\bMATERIALIZED\s*$", around), name
            claims += 1
    assert claims > 5


def _before_the_bracket(text: str) -> str | None:
    """What stands before the bracket that is open at the text's end; None where none is."""
    depth = 0
    for at in range(len(text) - 1, -1, -1):
        depth += {")": 1, "(": -1}.get(text[at], 0)
        if depth < 0:
            return text[:at]
    return None


@pytest.mark.parametrize(
    ("source", "blocks"),
    [
        ("BEGIN PERFORM a(); END", []),
        ("BEGIN BEGIN PERFORM a(); EXCEPTION WHEN others THEN b(); END; END", [" PERFORM a(); "]),
        ("BEGIN IF x THEN RAISE EXCEPTION ''; END IF; PERFORM CASE WHEN a THEN b END; END", []),
        (
            "BEGIN BEGIN LOOP x := CASE a WHEN 1 THEN 2 END; END LOOP; EXCEPTION WHEN o THEN END; END",
            [" LOOP x := CASE a WHEN 1 THEN 2 END; END LOOP; "],
        ),
    ],
)
def test_the_reading_of_guarded_blocks_is_right(source: str, blocks: list[str]) -> None:
    function = Function("f", "plpgsql", "v", True, (), (), source)
    assert list(function.guarded_blocks) == blocks


def test_the_reading_of_comments_and_literals_is_right() -> None:
    source = "a -- FOR UPDATE\nb 'it''s FOR UPDATE' c /* LOCK TABLE */ d"
    assert without_comments_and_literals(source).split() == ["a", "b", "''", "c", "d"]
