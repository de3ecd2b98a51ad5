"""Answers: what SQL functions return as jsonb, with its times made aware datetimes."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any


def with_moments(answer: Mapping[str, Any], *names: str) -> dict[str, Any]:
    """Give the answer's fields, those `names` parsed from ISO 8601 (None stays None)."""
    fields = dict(answer)
    for name in names:
        if fields[name] is not None:
            fields[name] = datetime.fromisoformat(fields[name])
    return fields
