"""Where a chapter of the limits' fault suite happens: a database and a sandbox, both in one fleet time."""

import contextlib
import json
import random
import re
import select
import signal
import subprocess
import sys
import tempfile
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

import requests

from coordination import accounts
from coordination.database import Database, Json
from coordination.settings import register_settings, set_setting
from host.postgres_binaries import find_binaries
from migrations import schema
from tests.fault.limits_client import ACCOUNT, PROCESSES, Clock, Demand, Order, live
from tests.fault.limits_judge import read_log
from tests.fault.limits_scenarios import DAY_S, Windows
from tests.fault.proven import record_end
from tests.integration.conftest import PASSWORDS, FleetDatabase
from tests.postgres_servers import LocalServer
from workers import registry

ROOT = Path(__file__).parents[2]
DATABASE = "limits"
POOLS = ("api_requests", "api_tweets")
START_S = 180.0
WORLD = "created_at,text,user\n2026-01-01T10:00:00Z,Tea,ada\n"
PATHS = {
    "post_tweet": ("POST", "/2/tweets"),  # with a body that is refused: it counts, and writes nothing
    "search_tweets": ("GET", "/2/tweets/search/recent?query=tea&max_results=10"),
    "fetch_mentions": ("GET", "/2/users/{me}/mentions?max_results=5"),
    "users_me": ("GET", "/2/users/me"),
}


@dataclass(kw_only=True)
class Client:
    """A running client: its process and the pipe that tells it to begin and to stop."""

    order: Order
    process: Any
    pipe: Any
    ready: bool = False

    def wait(self) -> None:
        """Until it is connected."""
        if self.ready:
            return
        assert self.pipe.poll(START_S), f"{self.order.worker}/{self.order.slot} is not ready"
        self.ready = bool(self.pipe.recv())

    def begin(self) -> None:
        self.pipe.send("begin")

    def kill(self) -> int | None:
        """Kill -9; give the exit code, which is another where it had ended by itself."""
        self.process.kill()
        self.process.join()
        self.pipe.close()
        return self.process.exitcode

    def stop(self) -> None:
        with contextlib.suppress(OSError):
            self.pipe.send("stop")

    def end(self) -> int | None:
        """Wait for its end, or make it; give its exit code."""
        self.process.join(START_S)
        if self.process.is_alive():
            self.process.kill()
            self.process.join()
        self.pipe.close()
        return self.process.exitcode


@dataclass(kw_only=True)
class Place:
    """A database, a sandbox, and the clients that meet in them.

    Attributes:
        database: its own.
        url: the sandbox's.
        keys: the account's credentials there.
        clock: fleet time, which both follow.
        logs: the folder of the clients' logs.
        clients: those that run.
        fallen: a sentence for each that had ended by itself when it was to be killed.
    """

    database: FleetDatabase
    url: str
    keys: Mapping[str, str]
    clock: Clock
    logs: Path
    token: str
    clients: list[Client] = field(default_factory=list[Client])
    lives: int = 0
    fallen: list[str] = field(default_factory=list[str])

    def demand(self, endpoint: str, **fields: Any) -> Demand:
        """What a client may want of one of the endpoints here."""
        method, path = PATHS[endpoint]
        return Demand(endpoint=endpoint, method=method, path=path.format(me=self.keys["user_id"]), **fields)

    def limit(self, endpoint: str, windows: Windows, *, heard: str | None = None) -> None:
        """Give the endpoint these windows on both sides; `heard` is the header of the last, if it has one."""
        console = self.database.database("console")
        with contextlib.closing(console):
            configure(console, endpoint, windows)
            for pool in POOLS:  # each endpoint's own windows are looked at
                configure(console, pool, [(1_000_000, 60)])
        set_windows = [
            {"limit": limit, "window_s": window_s, **({"header": heard} if heard and place else {})}
            for place, (limit, window_s) in enumerate(windows)
        ]
        self.control("limits", {"endpoint": endpoint, "windows": set_windows})

    def setting(self, key: str, value: object) -> None:
        console = self.database.database("console")
        with contextlib.closing(console):
            set_setting(console, key, value, actor="suite", reason="the suite's")

    def paces(self, count: int, seed: int) -> list[tuple[int, float, float, int, int]]:
        """How the limiter spaces requests for so many settings: what `judge.loose_paces` takes."""
        chance = random.Random(seed)
        settings = [
            (chance.randint(700, 20_000), chance.randint(60, DAY_S), chance.randint(1, 40))
            for _ in range(count)
        ]
        with self.database.owner() as owner:
            return owner.execute(
                "SELECT s.n, s.w::float8, s.d::float8, p.burst, p.spacing_us "
                "FROM unnest(%s::integer[], %s::integer[], %s::integer[]) s(n, w, d), "
                "fleet.pace(s.n, s.w, s.d) p",
                [list(column) for column in zip(*settings, strict=True)],
            ).fetchall()

    def control(self, name: str, body: Mapping[str, Any]) -> None:
        answer = requests.post(
            f"{self.url}/_sandbox/{name}",
            json=body,
            headers={"Authorization": f"Bearer {self.token}"},
            timeout=START_S,
        )
        assert answer.ok, answer.text

    def own(self, name: str) -> Any:
        """What the sandbox says of itself."""
        return requests.get(f"{self.url}/_sandbox/{name}", timeout=START_S).json()

    def counted(self, endpoint: str) -> list[float]:
        """When the sandbox counted each request of the fleet's (fleet seconds)."""
        return [
            at_s(one["at"])
            for one in self.own("requests")
            if one["endpoint"] == endpoint and one["status"] not in {429, 503}
        ]

    def enter(
        self,
        worker: str,
        slot: int,
        label: str,
        *demands: Demand,
        wanted_s: Mapping[str, float] | None = None,
    ) -> Client:
        """Start a client; it begins when it is told."""
        self.lives += 1
        order = Order(
            dsn=self.database.dsn("worker"),
            url=self.url,
            keys=self.keys,
            clock=self.clock,
            worker=worker,
            slot=slot,
            label=label,
            demands=demands,
            log=self.logs / f"{worker}-{slot}-{self.lives}.jsonl",
            wanted_s=wanted_s or {},
        )
        ours, theirs = PROCESSES.Pipe()
        process = PROCESSES.Process(target=live, args=(order, theirs), daemon=True)
        process.start()
        theirs.close()
        client = Client(order=order, process=process, pipe=ours)
        self.clients.append(client)
        return client

    def replace(self, client: Client) -> Client:
        """Kill -9, and another in its place, which goes on with its intervals when it is told to begin."""
        order, code = client.order, client.kill()
        if code != -signal.SIGKILL:
            self.fallen.append(f"{order.worker}/{order.slot} ended with {code}")
        record_end(self.database.superuser_dsn, client.process.pid)
        self.clients.remove(client)
        wanted_s = {**order.wanted_s} | {
            one["endpoint"]: one["wanted_s"] for one in read_log(order.log) if "wanted_s" in one
        }
        return self.enter(order.worker, order.slot, order.label, *order.demands, wanted_s=wanted_s)

    def leave(self) -> list[str]:
        """Let all stop; give a sentence for each that ended otherwise than in good order."""
        for client in self.clients:
            client.stop()
        ends = [(client, client.end()) for client in self.clients]
        self.clients.clear()
        return self.fallen + [
            f"{client.order.worker}/{client.order.slot} ended with {code}" for client, code in ends if code
        ]


def configure(console: Database, endpoint: str, windows: Windows) -> None:
    """Set an endpoint's windows, or a pool's, as a person does."""
    console.call(
        "configure_rate_windows",
        account=ACCOUNT,
        endpoint=endpoint,
        windows=Json([list(window) for window in windows]),
        fair_share=True,
    )


def at_s(moment: str) -> float:
    """Seconds since 1970 of a time as the sandbox writes it."""
    return datetime.fromisoformat(moment).timestamp()


@contextmanager
def own_database() -> Generator[FleetDatabase]:
    """A migrated database on a server of its own."""
    server = LocalServer(find_binaries(None))
    try:
        server.start()
        dsn = server.create_database(DATABASE)
        schema.upgrade(dsn, PASSWORDS)
        superuser_dsn = re.sub(r"/postgres(?=$|\?)", f"/{DATABASE}", server.superuser_dsn)
        made = FleetDatabase(migrator_dsn=dsn, superuser_dsn=superuser_dsn, server=server)
        with contextlib.closing(made.database("maintainer")) as maintainer:
            register_settings(maintainer, registry.definitions(), registry.flags())
            accounts.ensure_account(
                maintainer, ACCOUNT, platform="x", api_url="http://127.0.0.1:1", sandbox=True, topics=["tea"]
            )
        yield made
    finally:
        server.remove()


@contextmanager
def place(database: FleetDatabase, rate: float) -> Generator[Place]:
    """A sandbox beside the database; fleet time runs at that rate in both."""
    with tempfile.TemporaryDirectory(prefix="fleet-limits-") as directory, _sandbox(Path(directory)) as url:
        state = Path(directory) / "x"
        token = (state / "sandbox.token").read_text().strip()
        keys = json.loads((state / "credentials.json").read_text())
        database.advance(1, rate)
        with database.owner() as owner:
            row = owner.execute(
                "SELECT extract(epoch FROM real0)::float8, extract(epoch FROM fleet0)::float8, rate, "
                "to_char(real0 AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS.US\"Z\"'), "
                "to_char(fleet0 AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS.US\"Z\"') FROM fleet.clock"
            ).fetchone()
        assert row
        real0_s, fleet0_s, its_rate, real0, fleet0 = row
        logs = Path(directory) / "logs"
        logs.mkdir()
        here = Place(
            database=database,
            url=url,
            keys=keys,
            clock=Clock(real0_s=real0_s, fleet0_s=fleet0_s, rate=its_rate),
            logs=logs,
            token=token,
        )
        here.control("clock", {"real0": real0, "fleet0": fleet0, "rate": its_rate})
        try:
            yield here
        finally:
            for client in here.clients:
                client.process.kill()
                client.process.join()


@contextmanager
def _sandbox(directory: Path) -> Generator[str]:
    world = directory / "world.csv"
    world.write_text(WORLD)
    command = ["sandbox", "x", "--port", "0", "--world", str(world), "--state", str(directory / "x")]
    process = subprocess.Popen(
        [sys.executable, "-m", *command, "--mentions", "0"], cwd=ROOT, stdout=subprocess.PIPE, text=True
    )
    with process:
        try:
            assert process.stdout
            assert select.select([process.stdout], [], [], START_S)[0], "the sandbox said nothing"
            yield process.stdout.readline().split()[3]
        finally:
            process.terminate()
