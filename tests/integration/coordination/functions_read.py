"""What the functions' own text says: which locks they wait for, what their blocks contain, who calls whom."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

from tests.integration.coordination.tables import Owner, rows

MUTEX = r"pg_advisory(?:_xact)?_lock(?:_shared)?\(|\bLOCK\s+TABLE\b"
ROW_LOCK = r"\bFOR\s+(?:NO\s+KEY\s+)?UPDATE\b(?!\s+(?:OF\s+\w+\s+)?SKIP\s+LOCKED)|\bFOR\s+(?:KEY\s+)?SHARE\b"
WRITE = r"\b(?:INSERT\s+INTO|UPDATE|DELETE\s+FROM)\s+(?:fleet\.)"
CLOCK = (
    r"\b(?:clock|statement|transaction)_timestamp\(|\bcurrent_timestamp\b"
    r"|\bfleet\.(?:real_)?now\(|(?<![.\w])now\("
)
_TOKEN = re.compile(
    r"\bEND\s+(?:IF|LOOP|CASE)\b|\bRAISE\s+EXCEPTION\b|\b(?:BEGIN|CASE|END|EXCEPTION)\b", re.IGNORECASE
)


@dataclass(frozen=True)
class Function:
    """One function of the schema, its text without comments and literals."""

    name: str
    language: str
    volatility: str
    is_definer: bool
    settings: tuple[str, ...]
    callers: tuple[str, ...]
    text: str

    @cached_property
    def calls(self) -> frozenset[str]:
        """The functions of the schema that it calls."""
        return frozenset(re.findall(r"\bfleet\.(\w+)\(", self.text)) - {self.name}

    @cached_property
    def declarations(self) -> str:
        """What stands before the body's BEGIN."""
        return re.split(r"\bBEGIN\b", self.text, maxsplit=1, flags=re.IGNORECASE)[0]

    @cached_property
    def guarded_blocks(self) -> tuple[str, ...]:
        """The text of each block that has an EXCEPTION part, without that part."""
        return tuple(_guarded(self.text)) if self.language == "plpgsql" else ()


def _guarded(text: str) -> Iterator[str]:
    open_blocks: list[tuple[str, int]] = []
    for token in _TOKEN.finditer(text):
        word = token.group().upper()
        if word == "BEGIN":
            open_blocks.append(("BEGIN", token.end()))
        elif word == "CASE":
            open_blocks.append(("CASE", token.end()))
        elif word == "EXCEPTION":
            yield text[open_blocks[-1][1] : token.start()]
        elif word == "END" or re.fullmatch(r"END\s+CASE", word):
            open_blocks.pop()


def without_comments_and_literals(source: str) -> str:
    """The source with every comment gone and every literal empty."""
    return re.sub(
        r"'(?:[^']|'')*'|--[^\n]*|/\*.*?\*/",
        lambda found: "''" if found.group().startswith("'") else "",
        source,
        flags=re.DOTALL,
    )


def read(owner: Owner) -> dict[str, Function]:
    """Every function of the schema, by name."""
    found = rows(
        owner,
        "SELECT p.proname, l.lanname, p.provolatile, p.prosecdef, coalesce(p.proconfig, '{}'), "
        "ARRAY(SELECT r.rolname::text FROM pg_roles r WHERE r.rolname LIKE 'fleet\\_%%' "
        "AND r.rolname NOT IN ('fleet_owner', 'fleet_migrator') "
        "AND has_function_privilege(r.oid, p.oid, 'EXECUTE')), "
        "coalesce(pg_get_function_sqlbody(p.oid), p.prosrc) "
        "FROM pg_proc p JOIN pg_language l ON l.oid = p.prolang "
        "WHERE p.pronamespace = 'fleet'::regnamespace",
    )
    return {
        name: Function(
            name=name,
            language=language,
            volatility=_text(volatility),
            is_definer=is_definer,
            settings=tuple(settings),
            callers=tuple(callers),
            text=without_comments_and_literals(source),
        )
        for name, language, volatility, is_definer, settings, callers, source in found
    }


def _text(value: bytes | str) -> str:
    return value.decode() if isinstance(value, bytes) else value


def reaching(functions: dict[str, Function], pattern: str) -> set[str]:
    """The functions whose text, or that of one they call, matches."""
    found = {name for name, one in functions.items() if re.search(pattern, one.text, re.IGNORECASE)}
    while more := {name for name, one in functions.items() if one.calls & found} - found:
        found |= more
    return found
