"""`make faults SUITE=mentions`: mentions killed at its crash points, in the short or the long form.

    python -m tests.fault.mentions --form short|long --seed N

The short form kills it twice at each crash point, the long one a hundred times, at each of them in an order
that the seed chooses. The last line, and tests/fault/results/mentions-FORM-SEED.json, say what came of it.
Exit codes: 0 clean, 1 a promise was broken, 2 usage, 5 unfinished: run it again.
"""

import argparse
import json
import random
import re
import subprocess
import sys
import tempfile
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from coordination import accounts
from host.postgres_binaries import find_binaries
from migrations import schema
from tests.fault.mentions_rehearsal import ACCOUNT, POINTS, ROOT, Rehearsal, Result
from tests.integration.conftest import PASSWORDS, FleetDatabase
from tests.postgres_servers import LocalServer

RESULTS = Path(__file__).parent / "results"
LONG_KILLS = 100
CLEAN, BROKEN, UNFINISHED = 0, 1, 5


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one form; give the exit code."""
    parser = argparse.ArgumentParser(prog="tests.fault.mentions", description="kill -9 the mentions worker")
    parser.add_argument("--form", choices=("short", "long"), default="short")
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args(arguments)
    plan = points(options.form, options.seed)
    with tempfile.TemporaryDirectory(prefix="mentions-faults-", dir="/tmp") as place, _database() as database:
        rehearsal = Rehearsal(Path(place) / "state", database, seed=options.seed)
        try:
            result = rehearsal.run(plan, told=_tell)
        finally:
            rehearsal.close()
    told = report(result, planned=len(plan))
    RESULTS.mkdir(exist_ok=True)
    line = json.dumps(told)
    (RESULTS / f"mentions-{options.form}-{options.seed}.json").write_text(line + "\n")
    _tell(line)
    if not told["finished"]:
        return UNFINISHED
    return CLEAN if result.clean else BROKEN


def points(form: str, seed: int) -> list[str]:
    """Where it is killed, in order."""
    if form == "short":
        return list(POINTS * 2)
    rounds, rest = divmod(LONG_KILLS, len(POINTS))
    chance = random.Random(seed)
    plan = [*(POINTS * rounds), *chance.sample(POINTS, rest)]
    chance.shuffle(plan)
    return plan


def report(result: Result, *, planned: int) -> dict[str, Any]:
    """What the run came to, under the names that every suite has."""
    operations = len(result.summoned) + len(result.silent)
    return {
        "commit": _commit(),
        "operations": operations,
        "kills": result.kills.total(),
        "faults": dict(sorted(result.kills.items())),
        "intents": sum(result.states.values()),
        "states": result.states,
        "violations": {"I4": len(result.double) + len(result.uncalled), "I5": len(result.lost) + result.open},
        "double": len(result.double),
        "lost": len(result.lost),
        "uncalled": len(result.uncalled),
        "orphan_parts": 0,
        "bound_95": 3 / max(1, operations),
        "finished": result.kills.total() == planned
        and not any("not reached" in point for point in result.kills),
    }


@contextmanager
def _database() -> Generator[FleetDatabase]:
    server = LocalServer(find_binaries(None))
    try:
        server.start()
        dsn = server.create_database("mentions")
        schema.upgrade(dsn, PASSWORDS)
        admin = re.sub(r"/postgres(?=$|\?)", "/mentions", server.superuser_dsn)
        database = FleetDatabase(migrator_dsn=dsn, superuser_dsn=admin, server=server)
        maintainer = database.database("maintainer")
        accounts.ensure_account(
            maintainer, ACCOUNT, platform="x", api_url="http://127.0.0.1:1", sandbox=True, topics=["gardens"]
        )
        maintainer.close()
        yield database
    finally:
        server.remove()


def _commit() -> str:
    found = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    return found.stdout.strip() or "unknown"


def _tell(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
