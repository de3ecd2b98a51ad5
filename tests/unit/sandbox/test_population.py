"""A world of one seed stays what it is: how quickly it is made may change, what it holds may not."""

import hashlib
import sqlite3
from pathlib import Path

from sandbox.x.posts import User
from sandbox.x.store.store import Span, Store
from sandbox.x.wire import search
from sandbox.x.world.population import Inhabited, Options

START_MS = 1_795_000_000_000
ACCOUNT = User(id=1, username="fleet", name="Fleet", created_ms=0)
GOLDEN = "0843b811dc5f7e6e26f8950c1d5825cf9045461a9ba7d06a2f8fc2a7caa40ba7"
TABLES = ("SELECT * FROM posts ORDER BY id", "SELECT * FROM users ORDER BY id", "SELECT * FROM follows")
QUERIES = (
    '"good books"',
    "from:fleet OR coffee -is:retweet",
    "#coffee",
    "is:reply lang:en tea",
    "has:links night",
)


def test_a_seed_makes_the_world_that_it_always_made(tmp_path: Path) -> None:
    store = Store(tmp_path / "x.sqlite", ACCOUNT)
    inhabited = Inhabited(options=Options(seed=7, people=120, posts=3000, mentions=60), account=ACCOUNT)
    store.replace_world(inhabited.world(START_MS))
    found = hashlib.sha256()
    for query in QUERIES:
        ids = [post.id for post in store.search(search.expression(query), Span(), 5000)]
        found.update(f"{query} {ids}".encode())
    store.close()
    with sqlite3.connect(tmp_path / "x.sqlite") as connection:
        for table in TABLES:
            for row in connection.execute(table):
                found.update(repr(row).encode())
    connection.close()
    assert found.hexdigest() == GOLDEN
