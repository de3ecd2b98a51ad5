"""`make faults SUITE=mentions`: mentions killed at its crash points, in the short or the long form.

The short form kills it twice at each crash point, the long one a hundred times, at each of them in an order
that the seed chooses. How it is run: tests/fault/suite.py.
"""

import random
import re
import sys
import tempfile
from collections import Counter
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from coordination import accounts
from host.postgres_binaries import find_binaries
from migrations import schema
from tests.fault import suite
from tests.fault.mentions_rehearsal import ACCOUNT, POINTS, Rehearsal, Result
from tests.fault.suite import Chapter, Outcome, Suite
from tests.integration.conftest import PASSWORDS, FleetDatabase
from tests.postgres_servers import LocalServer

LONG_KILLS = 100


def chapter(one: Chapter) -> Outcome:
    """The whole run: what one kill left the next one meets."""
    plan = points(one.form, one.seed)
    with tempfile.TemporaryDirectory(prefix="mentions-faults-", dir="/tmp") as place, _database() as database:
        rehearsal = Rehearsal(Path(place) / "state", database, seed=one.seed)
        try:
            return judge(rehearsal.run(plan, told=suite.tell), plan)
        finally:
            rehearsal.close()


def points(form: str, seed: int) -> list[str]:
    """Where it is killed, in order."""
    if form == "short":
        return list(POINTS * 2)
    rounds, rest = divmod(LONG_KILLS, len(POINTS))
    chance = random.Random(seed)
    plan = [*(POINTS * rounds), *chance.sample(POINTS, rest)]
    chance.shuffle(plan)
    return plan


def judge(result: Result, plan: list[str]) -> Outcome:
    """By X's record: answered once, and nothing else is; killed wherever it was to be."""
    outcome = Outcome(
        operations=Counter(summons=len(result.summoned), others=len(result.silent)), faults=result.kills
    )
    outcome.broken("I4", [f"{one} was answered more than once" for one in result.double])
    outcome.broken("I4", [f"{one} was answered and called nobody" for one in result.uncalled])
    outcome.broken("I5", [f"{one} was never answered" for one in result.lost])
    outcome.broken("I5", ["an interaction is not settled"] * result.open)
    outcome.broken("reached", sorted((Counter(plan) - result.kills).elements()))
    outcome.measures.append({"states": result.states, "double": len(result.double), "lost": len(result.lost)})
    return outcome


def also(outcome: Outcome) -> Mapping[str, Any]:
    """Of the intents: how many there are, and how they ended."""
    (found,) = outcome.measures
    return {**found, "intents": sum(found["states"].values())}


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


SUITE = Suite(
    name="mentions",
    about="kill -9 the mentions worker",
    promises=("I4", "I5", "reached"),
    chapters={"short": [120.0], "long": [600.0]},
    run=chapter,
    also=also,
)

if __name__ == "__main__":
    sys.exit(suite.main(SUITE))
