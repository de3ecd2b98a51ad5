# ruff: noqa: T201  a command line reports
"""A rehearsal: the whole fleet by `make up` on the default world for some minutes, and what it did, counted.

    python -m tests.acceptance.rehearsal --minutes 10 --tier enterprise

Prints a table for each tier that is named; ends with 1 when a promise was broken on the way.
"""

import argparse
import sys
import tempfile
import threading
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psycopg
import requests

from tests.acceptance.fleet_process import FleetProcess, alive, free_port

TIERS = ("enterprise", "pay_per_use", "free")
COUNTED = {
    "steps": "SELECT worker, outcome, count(*) FROM fleet.runs GROUP BY 1, 2 ORDER BY 1, 2",
    "intents": "SELECT action, state, count(*) FROM fleet.intents GROUP BY 1, 2 ORDER BY 1, 2",
    "candidates": "SELECT state, count(*) FROM fleet.candidates GROUP BY 1 ORDER BY 1",
    "interactions": "SELECT kind, request, state, count(*) FROM fleet.interactions "
    "GROUP BY 1, 2, 3 ORDER BY 1, 2, 3",
    "messages": "SELECT type, state, count(*) FROM fleet.messages GROUP BY 1, 2 ORDER BY 1, 2",
    "opt-outs": "SELECT count(*) FROM fleet.opt_outs",
    "readings": "SELECT count(*) FROM fleet.readings",
    "snapshots": "SELECT status, count(*) FROM fleet.health_snapshots GROUP BY 1 ORDER BY 1",
    "events": "SELECT severity, kind, count(*) FROM fleet.events GROUP BY 1, 2 ORDER BY 1, 2",
    "not done": "SELECT action, reason, count(*) FROM fleet.intents WHERE state = 'rejected' "
    "GROUP BY 1, 2 ORDER BY 1, 2",
    "failed items": "SELECT worker, error_class, left(max(error), 120), count(*) FROM fleet.failed_items "
    "GROUP BY 1, 2 ORDER BY 1, 2",
    "errors": "SELECT source, left(message, 140), count(*) FROM fleet.events WHERE severity = 'error' "
    "GROUP BY 1, 2 ORDER BY 3 DESC LIMIT 20",
}


WORKERS = {
    # What each worker leaves behind when it did its work, counted.
    "coordination": "SELECT count(*) FROM fleet.messages "
    "WHERE recipient_kind = 'role' AND routed_to IS NOT NULL",
    "discovery": "SELECT count(*) FROM fleet.candidates",
    "engagement": "SELECT count(*) FROM fleet.candidates WHERE state = 'proposed'",
    "maintenance": "SELECT count(*) FROM fleet.events WHERE kind = 'swept'",
    "mentions": "SELECT count(*) FROM fleet.interactions WHERE state = 'answered'",
    "metrics": "SELECT count(*) FROM fleet.readings",
    "monitoring": "SELECT count(*) FROM fleet.health_snapshots",
    "planner": "SELECT count(*) FROM fleet.intents WHERE target LIKE 'plan:%'",
    "poster": "SELECT count(*) FROM fleet.intents WHERE state = 'posted'",
}
IDLE_IN = {
    "free": {"coordination", "discovery", "engagement", "mentions"},
    "pay_per_use": {"discovery", "engagement"},
}
"""Workers that a tier leaves nothing to do."""
UNSUMMONED = (
    "SELECT i.id FROM fleet.intents i WHERE i.action = 'reply' AND i.attempt > 0 AND NOT EXISTS ("
    "SELECT 1 FROM fleet.interactions n "
    "WHERE n.account = i.account AND n.platform_id = i.target AND n.summons)"
)
TO_OPTED_OUT = (
    "SELECT i.id FROM fleet.intents i JOIN fleet.opt_outs o ON o.author_id = i.origin->>'author_id' "
    "JOIN fleet.attempts a ON a.intent = i.id WHERE a.began_at > o.opted_out_at"
)


@dataclass
class Seen:
    """What one rehearsal left behind."""

    tier: str
    tables: dict[str, list[tuple[Any, ...]]] = field(default_factory=dict[str, list[tuple[Any, ...]]])
    writes: list[dict[str, Any]] = field(default_factory=list[dict[str, Any]])
    limits: list[dict[str, Any]] = field(default_factory=list[dict[str, Any]])
    refused: Counter[str] = field(default_factory=Counter[str])
    left: list[str] = field(default_factory=list[str])
    effects: dict[str, int] = field(default_factory=dict[str, int])
    unsummoned: int = 0
    to_opted_out: int = 0

    def by_action(self) -> Counter[str]:
        """Accepted writes by action, by the platform's own record."""
        return Counter(write["action"] for write in self.writes)

    def steps(self) -> Counter[str]:
        """Steps that were done, by worker."""
        done = Counter[str]()
        for worker, outcome, number in self.tables["steps"]:
            if outcome == "done":
                done[worker] += number
        return done

    def broken(self) -> list[str]:
        """Promises that this run broke."""
        acts = Counter((write["action"], write["target"]) for write in self.writes if write["target"])
        faults = [
            f"{action} on {target} was accepted {n} times" for (action, target), n in acts.items() if n > 1
        ]
        posted = sum(n for _, state, n in self.tables["intents"] if state == "posted")
        if posted != len(self.writes):
            faults.append(f"the ledger has {posted} posted acts, the platform accepted {len(self.writes)}")
        faults += [
            f"{one['endpoint']}: {one['rolling_max']} requests in a window of {one['limit']}"
            for one in self.limits
            if one["rolling_max"] > one["limit"]
        ]
        faults += [f"left behind: {line}" for line in self.left]
        for worker, number in self.effects.items():
            if not self.steps()[worker]:
                faults.append(f"{worker} finished no step")
            elif not number and worker not in IDLE_IN.get(self.tier, set()):
                faults.append(f"{worker} did nothing")
        if self.to_opted_out:
            faults.append(f"{self.to_opted_out} acts towards somebody who had asked to be left alone")
        if self.tier != "enterprise":
            faults += [
                f"a {action} in tier {self.tier}" for action in ("quote", "like") if self.by_action()[action]
            ]
            if self.unsummoned:
                faults.append(f"{self.unsummoned} replies that nobody asked for in tier {self.tier}")
        if self.tier == "free" and self.by_action()["reply"]:
            faults.append("a reply in tier free")
        return faults


def rehearse(tier: str, minutes: float) -> Seen:
    """Run one fleet for so long and stop it; give what it did."""
    with tempfile.TemporaryDirectory(prefix="fleet-rehearsal-", ignore_cleanup_errors=True) as directory:
        fleet = FleetProcess(
            Path(directory) / "state", console_port=free_port(), sandbox_port=free_port(), tier=tier
        )
        try:
            fleet.wait_ready(60)
            threading.Event().wait(minutes * 60)
            seen = Seen(tier=tier)
            fleet.command("kill-switch", "on", "--reason", "the rehearsal is over")
            look(fleet, seen)
            everything = fleet.processes()
            fleet.stop()
            seen.left = alive(everything)
            return seen
        finally:
            fleet.kill()
            fleet.command("clean")


def look(fleet: FleetProcess, seen: Seen) -> None:
    """Read what the ledger and the platform hold."""
    dsn = (fleet.state / "dsn" / "reader").read_text().strip()
    with psycopg.connect(dsn, autocommit=True) as reader:
        for name, query in COUNTED.items():
            seen.tables[name] = reader.execute(query.encode()).fetchall()
        for worker, query in WORKERS.items():
            seen.effects[worker] = sum(row[0] for row in reader.execute(query.encode()))
        seen.unsummoned = len(reader.execute(UNSUMMONED.encode()).fetchall())
        seen.to_opted_out = len(reader.execute(TO_OPTED_OUT.encode()).fetchall())
    seen.writes = fleet.writes()
    for path, into in (("limits", seen.limits),):
        answer = requests.get(f"{fleet.sandbox}/_sandbox/{path}", timeout=30)
        into.extend(answer.json() if answer.ok else [])
    for request in requests.get(f"{fleet.sandbox}/_sandbox/requests", timeout=60).json():
        if int(request["status"]) >= 400:
            seen.refused[f"{request['status']} {request['endpoint'] or request['path']}"] += 1


def show(seen: Seen) -> None:
    """Print one rehearsal's counts."""
    print(f"\n== {seen.tier}")
    print("accepted by the platform:", dict(seen.by_action()))
    print("refused by the platform:", dict(seen.refused))
    for name, rows in seen.tables.items():
        print(f"{name}:")
        for row in rows:
            print("   ", *row)
    for one in seen.limits:
        print("    limit", one)
    for fault in seen.broken():
        print("BROKEN:", fault)


def main() -> int:
    """Rehearse each tier that was asked for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--tier", action="append", choices=TIERS, help="once or more; default: all three")
    options = parser.parse_args()
    runs = [rehearse(tier, options.minutes) for tier in options.tier or TIERS]
    for seen in runs:
        show(seen)
    print(f"\n{'':20}", *(f"{seen.tier:>12}" for seen in runs))
    for worker in WORKERS:
        print(f"{worker + ' steps':20}", *(f"{seen.steps()[worker]:>12}" for seen in runs))
        print(f"{worker + ' effects':20}", *(f"{seen.effects[worker]:>12}" for seen in runs))
    for action in sorted({name for seen in runs for name in seen.by_action()}):
        print(f"{action + ' accepted':20}", *(f"{seen.by_action()[action]:>12}" for seen in runs))
    return 1 if any(seen.broken() for seen in runs) else 0


if __name__ == "__main__":
    sys.exit(main())
