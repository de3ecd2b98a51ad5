"""Revisions: the states of the schema that this program knows, read from file names, without Alembic."""

from functools import cache
from importlib.resources import files


@cache
def known() -> tuple[str, ...]:
    """Every revision of this program, oldest first."""
    names = [entry.name for entry in (files("migrations") / "versions").iterdir()]
    return tuple(sorted(name.partition("_")[0] for name in names if name.endswith(".py")))
