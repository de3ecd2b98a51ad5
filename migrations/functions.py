"""The SQL functions: installed anew from `coordination/sql` whenever the schema is upgraded (ADR-0013)."""

import hashlib
from collections.abc import Iterator
from importlib.resources import files

GRANTS = "grants.sql"


def sources() -> Iterator[tuple[str, str]]:
    """Each file's name and text in the order of installation: by name, the grants last."""
    folder = files("coordination") / "sql"
    names = sorted(entry.name for entry in folder.iterdir() if entry.name.endswith(".sql"))
    for name in sorted(names, key=lambda name: (name == GRANTS, name)):
        yield name, (folder / name).read_text("utf-8")


def digest() -> str:
    """Name the functions' content: the newest revision states it, so that none changes unnoticed."""
    whole = hashlib.sha256()
    for name, text in sources():
        whole.update(f"{name}\0{text}\0".encode())
    return whole.hexdigest()[:16]
