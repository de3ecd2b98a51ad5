"""The documents are true: coverage names what exists, decisions are listed, links lead somewhere."""

import ast
import inspect
import re
from collections import Counter
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from urllib.parse import unquote

import pytest

from coordination.engagement import Engagement
from coordination.rate_limits import RateLimits
from workers.base import WorkerSettings

ROOT = Path(__file__).resolve().parents[3]
DOCS = ROOT / "docs"
COVERAGE = DOCS / "reference" / "coverage.md"
FIRST_TABLES = ROOT / "migrations" / "versions" / "0001_first_tables.sql"
HEADER = ["id", "statement", "code", "test", "state"]
STATES = ("done", "first form", "not yet")
NOTHING = "-"
LINK = re.compile(r"(?<!!)\[[^\]]*\]\(([^)\s]+)\)|!\[[^\]]*\]\(([^)\s]+)\)")


@dataclass(frozen=True, kw_only=True)
class Row:
    """One statement of the coverage table, cells as written."""

    line: int
    id: str
    statement: str
    code: str
    test: str
    state: str

    @property
    def claims_to_exist(self) -> bool:
        return self.state in {"done", "first form"}

    def __str__(self) -> str:
        return f"{COVERAGE.name}:{self.line} {self.id}"


def _cells(line: str) -> list[str]:
    return [cell.strip() for cell in line.strip().strip("|").split("|")]


def _table_lines() -> list[tuple[int, list[str]]]:
    """The lines of the statements' tables; the counts stand before the first part."""
    lines = COVERAGE.read_text(encoding="utf-8").splitlines()
    first = next(number for number, line in enumerate(lines, 1) if line.startswith("## "))
    return [
        (number, _cells(line))
        for number, line in enumerate(lines, 1)
        if number > first and line.startswith("|")
    ]


def _is_rule(cells: list[str]) -> bool:
    return all(re.fullmatch(r":?-{2,}:?", cell) for cell in cells)


@cache
def _rows() -> tuple[Row, ...]:
    return tuple(
        Row(line=line, id=cells[0], statement=cells[1], code=cells[2], test=cells[3], state=cells[4])
        for line, cells in _table_lines()
        if len(cells) == len(HEADER) and cells != HEADER and not _is_rule(cells)
    )


def _quoted(cell: str) -> list[str]:
    """Return the names between backticks."""
    return re.findall(r"`([^`]+)`", cell)


def _is_list_of_names(cell: str) -> bool:
    return cell == NOTHING or re.fullmatch(r"`[^`]+`(, `[^`]+`)*", cell) is not None


@cache
def _tests_in(path: Path) -> frozenset[str]:
    """Return the names of a file's tests, those of classes as `Class::test_name`."""
    names: set[str] = set()
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            names.add(node.name)
        elif isinstance(node, ast.ClassDef):
            names |= {f"{node.name}::{item.name}" for item in node.body if isinstance(item, ast.FunctionDef)}
    return frozenset(names)


def _faults_of_test(name: str) -> str | None:
    """Say what is wrong with a test named as `tests/path.py::test_name`, or return None."""
    path, _, test = name.partition("::")
    if not test.rpartition("::")[2].startswith("test_"):
        return f"{name} is not of the form tests/path.py::test_name"
    file = ROOT / path
    if not path.startswith("tests/") or not file.is_file():
        return f"{path} does not exist"
    return None if test in _tests_in(file) else f"{path} has no {test}"


def _documents() -> list[Path]:
    top = [
        ROOT / "README.md",
        ROOT / "CHANGELOG.md",
        ROOT / "benchmarks/README.md",
        ROOT / "deploy/README.md",
    ]
    return [*top, *sorted(DOCS.rglob("*.md"))]


def _links(document: Path) -> list[str]:
    text = re.sub(r"^```.*?^```", "", document.read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE)
    text = re.sub(r"`[^`\n]*`", "", text)
    return [first or second for first, second in LINK.findall(text)]


def _anchors(document: Path) -> set[str]:
    """Return the anchors of a document's headings, made as GitHub makes them."""
    headings = re.findall(r"^#+ +(.+?) *$", document.read_text(encoding="utf-8"), flags=re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def _is_broken(document: Path, link: str) -> bool:
    if re.match(r"[a-z][a-z0-9+.-]*:", link):
        return False
    path, _, anchor = unquote(link).partition("#")
    target = (document.parent / path).resolve() if path else document
    if not target.exists() or not target.is_relative_to(ROOT):
        return True
    return bool(anchor) and target.suffix == ".md" and anchor not in _anchors(target)


def test_every_row_of_the_coverage_table_is_well_formed() -> None:
    faults = [
        f"line {line}: {len(cells)} cells" for line, cells in _table_lines() if len(cells) != len(HEADER)
    ]
    for row in _rows():
        if not re.fullmatch(r"(SYS|COR|WRK|DAT|REL)-\d{3}", row.id):
            faults.append(f"{row}: the id is not of the form SYS-012")
        if row.state not in STATES:
            faults.append(f"{row}: state {row.state!r} is none of {STATES}")
        if not row.statement:
            faults.append(f"{row}: no statement")
        faults += [
            f"{row}: {cell!r} is neither '-' nor a list of names in backticks"
            for cell in (row.code, row.test)
            if not _is_list_of_names(cell)
        ]
    assert not faults, "\n".join(faults)


def test_the_coverage_table_has_all_five_parts() -> None:
    assert {row.id.partition("-")[0] for row in _rows()} == {"SYS", "COR", "WRK", "DAT", "REL"}


def test_the_counts_of_the_head_are_those_of_the_rows() -> None:
    counted = Counter((row.id.partition("-")[0], row.state) for row in _rows())
    parts = {
        part: [str(counted[part, state]) for state in STATES]
        for part in dict.fromkeys(row.id.partition("-")[0] for row in _rows())
    }
    expected = [
        [part, *numbers, str(sum(map(int, numbers)))]
        for part, numbers in [
            *parts.items(),
            ("all", [str(sum(counted[part, state] for part in parts)) for state in STATES]),
        ]
    ]
    head = COVERAGE.read_text(encoding="utf-8").partition("\n## ")[0]
    shown = [_cells(line)[1:] for line in head.splitlines() if line.startswith("|")]
    assert shown[2:] == expected, "the head's counts should be:\n" + "\n".join(map(" | ".join, expected))


def test_ids_of_the_coverage_table_are_unique() -> None:
    repeated = [name for name, count in Counter(row.id for row in _rows()).items() if count > 1]
    assert not repeated


def test_code_of_rows_that_are_there_exists() -> None:
    missing = [
        f"{row}: {path} does not exist"
        for row in _rows()
        if row.claims_to_exist
        for path in _quoted(row.code) or ["(no code named)"]
        if not (ROOT / path).exists()
    ]
    assert not missing, "\n".join(missing)


def test_tests_named_by_the_coverage_table_exist() -> None:
    faults = [
        f"{row}: {fault}" for row in _rows() for name in _quoted(row.test) if (fault := _faults_of_test(name))
    ]
    assert not faults, "\n".join(faults)


def test_no_row_is_done_without_a_test() -> None:
    untested = [str(row) for row in _rows() if row.state == "done" and not _quoted(row.test)]
    assert not untested


def test_a_row_that_is_not_yet_there_names_no_test() -> None:
    early = [str(row) for row in _rows() if row.state == "not yet" and _quoted(row.test)]
    assert not early, "say 'done' or 'first form', or take the test away: " + ", ".join(early)


DEFAULTS: dict[str, object] = {
    "COR-013": inspect.signature(Engagement.request_lock).parameters["duration_minutes"].default,
    "COR-025": inspect.signature(Engagement.has_recent_engagement).parameters["hours"].default,
    "COR-028": inspect.signature(Engagement.get_engagement_stats).parameters["hours"].default,
    "COR-134": inspect.signature(RateLimits.can_make_request).parameters["priority"].default,
    "WRK-193": WorkerSettings().batch_size,
}
"""What the code does where nothing is said, by the statement that names it."""


def test_defaults_that_the_table_states_are_the_codes() -> None:
    stated = {
        row.id: match[0]
        for row in _rows()
        if row.id in DEFAULTS
        and (match := re.search(r"\w+(?= by default)|(?<=batches of )\w+", row.statement))
    }
    assert stated == {name: str(value) for name, value in DEFAULTS.items()}


def test_limits_that_the_table_states_are_those_of_the_schema() -> None:
    schema = FIRST_TABLES.read_text(encoding="utf-8")
    in_schema = set(re.findall(r"\('\*', '(\w+)', (\d+), 900\)", schema))
    stated = [
        match.groups()
        for row in _rows()
        if row.claims_to_exist and (match := re.match(r"`(\w+)`: (\d+) in 15 minutes", row.statement))
    ]
    assert len(stated) == 3
    assert set(stated) <= in_schema


def test_the_index_lists_each_decision_once_by_its_title() -> None:
    decisions = sorted(path.name for path in (DOCS / "adr").glob("[0-9]*.md"))
    index = (DOCS / "adr" / "README.md").read_text(encoding="utf-8")
    listed = re.findall(r"^\| (\d{4}) \| \[([^\]]+)\]\(([^)]+)\)", index, flags=re.MULTILINE)
    assert [file for _, _, file in listed] == decisions
    for number, title, file in listed:
        first = (DOCS / "adr" / file).read_text(encoding="utf-8").partition("\n")[0]
        assert (file[:4], first) == (number, f"# ADR-{number}: {title}")


def test_decisions_that_are_referred_to_exist() -> None:
    known = {path.name[:4] for path in (DOCS / "adr").glob("[0-9]*.md")}
    unknown = [
        f"{document.relative_to(ROOT)}: ADR-{number}"
        for document in _documents()
        for number in re.findall(r"ADR-(\d{4})", document.read_text(encoding="utf-8"))
        if number not in known
    ]
    assert not unknown


@pytest.mark.parametrize("document", _documents(), ids=lambda path: str(path.relative_to(ROOT)))
def test_relative_links_lead_somewhere(document: Path) -> None:
    broken = [link for link in _links(document) if _is_broken(document, link)]
    assert not broken


def test_owners_of_the_glossary_that_are_not_later_exist() -> None:
    entries = (DOCS / "glossary.md").read_text(encoding="utf-8").split("\n\n")
    owners = {entry.partition(":")[0]: entry.partition("Owner:")[2] for entry in entries if "Owner:" in entry}
    missing = [
        f"{word}: {path}"
        for word, owner in owners.items()
        if "*later*" not in owner
        for path in _quoted(owner)
        if not (ROOT / path).exists()
    ]
    assert not missing
