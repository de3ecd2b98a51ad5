"""The table of traps names tests that exist."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
PROOF = ROOT / "docs" / "explanation" / "proof.md"
ROWS = re.findall(r"^\| (.+?) \| `(tests/[^`:]+)::(test_\w+)` \|$", PROOF.read_text("utf-8"), re.MULTILINE)


def test_every_row_of_the_table_names_a_test() -> None:
    traps = PROOF.read_text("utf-8").partition("## Traps and rules")[2]
    written = [line for line in traps.splitlines() if line.startswith("| ")]
    assert len(ROWS) == len(written) - 1  # its head
    assert len(ROWS) > 40


@pytest.mark.parametrize(("trap", "path", "test"), ROWS, ids=[test for _, _, test in ROWS])
def test_the_test_of_a_trap_is_there(trap: str, path: str, test: str) -> None:
    file = ROOT / path
    assert file.is_file(), trap
    names = {
        node.name for node in ast.parse(file.read_text("utf-8")).body if isinstance(node, ast.FunctionDef)
    }
    assert test in names, trap
