"""The SQL contract as a page: what the worker's login may call, read from `coordination/sql`.

`python -m host.sql_api` writes `docs/reference/sql-api.md` anew; a test holds the page to the functions.
"""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

ROLE = "fleet_worker"
PAGE = Path("docs") / "reference" / "sql-api.md"
COST = re.compile(
    r"\b(locks?|row|rows|reads?|flush\w*|insert\w*|upsert|statement\w*|commit\w*|takes|waits?|held|holds?|query|audited)\b",
    re.IGNORECASE,
)
"""Words by which a comment says what a function locks and what it costs."""
_FUNCTION = re.compile(
    r"(?P<comment>(?:^--[^\n]*\n)*)^CREATE OR REPLACE FUNCTION fleet\.(?P<name>\w+)\((?P<arguments>.*?)\)\s*"
    r"(?:RETURNS (?P<returns>[\w. ]+?)\s*)?(?:\n|\s)LANGUAGE (?P<body>.*?)(?=^-- |^CREATE |\Z)",
    re.MULTILINE | re.DOTALL,
)


@dataclass(frozen=True, kw_only=True)
class Argument:
    """One parameter; `default` is SQL, None where it must be given."""

    name: str
    type: str
    default: str | None


@dataclass(frozen=True, kw_only=True)
class Function:
    """A function as its source has it.

    Attributes:
        noun: the file that it stands in, without its ending.
        comment: what it does, locks and costs.
        lock_timeout: after how long a wait for a lock is an error; None where it waits for none.
    """

    noun: str
    name: str
    arguments: tuple[Argument, ...]
    returns: str
    comment: str
    lock_timeout: str | None


def callable_names() -> set[str]:
    """What the worker's login may call, by `grants.sql`."""
    text = _sources()["grants"]
    granted: dict[str, list[str]] = json.loads(text.partition("jsonb := '")[2].partition("';")[0])
    to_all = text.partition("open_to_all constant text[] := ARRAY[")[2].partition("]")[0]
    return {*granted[ROLE], *re.findall(r"'(\w+)'", to_all)}


def functions() -> list[Function]:
    """Every function that the worker's login may call, by noun, each noun's in the order of its file."""
    allowed = callable_names()
    return [
        found for noun, text in _sources().items() for found in _parse(noun, text) if found.name in allowed
    ]


def page() -> str:
    """The reference page, whole."""
    parts = [_HEAD]
    noun = ""
    for function in functions():
        if function.noun != noun:
            noun = function.noun
            parts.append(f"\n## {noun.replace('_', ' ')}\n{_summary(noun)}\n")
        parts.append(_section(function))
    return "".join(parts)


def _section(function: Function) -> str:
    signature = ", ".join(argument.name for argument in function.arguments)
    lines = [f"\n### {function.name}({signature})\n", f"{function.comment}\n\n"]
    if function.arguments:
        lines += ["| argument | type | default |\n", "|---|---|---|\n"]
        lines += [
            f"| `{argument.name}` | {argument.type} | {_shown(argument.default)} |\n"
            for argument in function.arguments
        ]
        lines.append("\n")
    timeout = f" Waits for a lock for at most {function.lock_timeout}." if function.lock_timeout else ""
    lines.append(f"Returns {function.returns}.{timeout}\n")
    return "".join(lines)


def _shown(default: str | None) -> str:
    return "-" if default is None else f"`{default}`"


def _summary(noun: str) -> str:
    """The comment at the head of the noun's file, up to its first empty line."""
    return _joined(_sources()[noun].partition("\n\n")[0])


def _joined(comment: str) -> str:
    words = " ".join(
        line.removeprefix("--").strip() for line in comment.splitlines() if line.startswith("--")
    )
    return words.replace("|", "\\|").replace("<", "&lt;")


def _parse(noun: str, text: str) -> Iterator[Function]:
    for match in _FUNCTION.finditer(text):
        header = match["body"].partition("AS $$")[0]
        timeout = re.search(r"lock_timeout = '([^']+)'", header)
        yield Function(
            noun=noun,
            name=match["name"],
            arguments=tuple(_arguments(match["arguments"])),
            returns=match["returns"] or "a row",
            comment=_joined(match["comment"]),
            lock_timeout=timeout[1].replace("s", " s") if timeout else None,
        )


def _arguments(text: str) -> Iterator[Argument]:
    for part in re.split(r",\s*(?![^()]*\))", " ".join(text.split())):
        if part:
            declared, _, default = part.partition(" DEFAULT ")
            name, _, kind = declared.partition(" ")
            yield Argument(name=name, type=kind, default=default or None)


def _sources() -> dict[str, str]:
    folder = files("coordination") / "sql"
    names = sorted(entry.name for entry in folder.iterdir() if entry.name.endswith(".sql"))
    return {name.removesuffix(".sql"): (folder / name).read_text("utf-8") for name in names}


_HEAD = """# The SQL contract

What a worker may call in schema `fleet`, in whatever language it is written: with `psql`, a connection
string of the worker's role and these functions, a script is a worker as any other ([an
example](../howto/psql-worker.sql)). This page is made from the comments in `coordination/sql` by `python
-m host.sql_api`.

- Call in autocommit, at the default isolation level: one call is one transaction and one round trip. At
  another level a function that waits and then decides refuses with `FL006`.
- The first argument is the incarnation: a UUID of the caller's own, opened with `open_incarnation` on a
  session that is kept open as long as the worker lives, and on no pooler's. A session that ends is a
  worker that died.
- Most answers are `jsonb`; times in them are ISO 8601. Ids are texts, which fit every language's
  numbers.
- Real time is the server's clock; fleet time is what `fleet.now()` says, the same outside of rehearsals.
- Arguments may be named: `fleet.request_lock('...', tweet_id => '1', worker_id => 'me', lock_type =>
  'reply')`.

| error | what it says |
|---|---|
| `FL001` | a value can't be used; the detail is JSON: `field`, `value`, `allowed` |
| `FL002` | the lock or lease is somebody else's by now: stop that work |
| `FL003` | the incarnation is not known or has ended: connect again with a new one |
| `FL005` | the ledger's state forbids the step; the detail's `state` is the present one |
| `FL006` | the wrong isolation level |
| `55P03` | a lock was not had in time; nothing was changed: try again |
"""


if __name__ == "__main__":
    PAGE.write_text(page(), "utf-8")
