"""Plans of all that a call does, nested statements too, as the server ran them."""

import json
from collections.abc import Iterable, Iterator
from typing import Any

from psycopg.errors import Diagnostic

from coordination.database import Database

Plan = dict[str, Any]

LOAD = (
    "LOAD 'auto_explain'",
    "SET auto_explain.log_min_duration = 0",
    "SET auto_explain.log_nested_statements = on",
    "SET auto_explain.log_analyze = on",
    "SET auto_explain.log_timing = off",
    "SET auto_explain.log_format = 'json'",
    "SET auto_explain.log_level = 'notice'",
)


class ExplainedDatabase(Database):
    """A superuser's connection that keeps the plan of every statement that was run on it.

    Attributes:
        plans: in the order in which they ended.
    """

    def __init__(self, dsn: str) -> None:
        super().__init__(dsn, name="test plans")
        self.plans: list[Plan] = []
        for statement in LOAD:
            self.select(statement, {})

    def _notice(self, diagnostic: Diagnostic) -> None:
        _, is_plan, plan = (diagnostic.message_primary or "").partition("plan:\n")
        if is_plan:
            self.plans.append(json.loads(plan))
        super()._notice(diagnostic)


def scans(plans: Iterable[Plan]) -> Iterator[Plan]:
    """Every node that read a table and that was run at all."""
    for plan in plans:
        yield from _scans(plan["Plan"])


def _scans(node: Plan) -> Iterator[Plan]:
    if "Relation Name" in node and "Scan" in node["Node Type"] and node["Actual Loops"]:
        yield node
    for below in node.get("Plans", ()):
        yield from _scans(below)


def rows_of(scan: Plan) -> float:
    """How many rows a scan touched, those that it passed over too."""
    passed_over = scan.get("Rows Removed by Filter", 0) + scan.get("Rows Removed by Index Recheck", 0)
    return float((scan["Actual Rows"] + passed_over) * scan["Actual Loops"])
