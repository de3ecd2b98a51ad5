"""The commands on real hosts: two of them, `socialfleet up` each, on the first one's PostgreSQL."""

import contextlib
import json
import signal
from collections.abc import Generator, Iterator
from typing import Any

import psutil
import psycopg
import pytest

from coordination.database import Database
from coordination.status import list_slots
from host.postgres import EmbeddedPostgres
from host.postgres_binaries import find_binaries
from tests.host_process import HostProcess, eventually

WITHIN_S = 60.0


@pytest.fixture(scope="module")
def hosts(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[HostProcess, HostProcess]]:
    place = tmp_path_factory.mktemp("hosts")
    one = HostProcess(place / "one", name="one")
    two: HostProcess | None = None
    try:
        one.start()
        one.wait_ready()
        two = HostProcess(place / "two", name="two", database_url=one.dsn("migrator"))
        two.start()
        two.wait_ready()
        one.command("scale", "light", "4", "--reason", "to have some")
        yield one, two
    finally:
        for host in filter(None, (two, one)):
            try:
                host.stop()
            finally:
                host.kill()


def slots(host: HostProcess, worker: str = "light") -> dict[str, dict[str, Any]]:
    """The slots of a worker, as `status --json` has them."""
    with contextlib.closing(Database(host.dsn("console"), name="test")) as database:
        told = [slot.as_json() for slot in list_slots(database)]
    return {f"{slot['name']}/{slot['slot']}": slot for slot in told if slot["name"] == worker}


def settled(host: HostProcess) -> dict[str, dict[str, Any]]:
    """The light workers, once each has a host and beats."""

    def look() -> dict[str, dict[str, Any]] | None:
        found = slots(host)
        ready = len(found) == 4 and all(slot["healthy"] and slot["pid"] for slot in found.values())
        return found if ready else None

    return eventually(look, within_s=WITHIN_S, what=lambda: f"all are ready: {slots(host)}", every_s=0.5)


@contextlib.contextmanager
def database_away(host: HostProcess) -> Generator[None]:
    """Every process of the host's PostgreSQL is stopped: it takes connections and answers none."""
    servers = [process for process in host.tree() if process.name().startswith("postgres")]
    assert servers
    try:
        for server in servers:
            with contextlib.suppress(psutil.NoSuchProcess):
                server.send_signal(signal.SIGSTOP)
        yield
    finally:
        for server in servers:
            with contextlib.suppress(psutil.NoSuchProcess):
                server.send_signal(signal.SIGCONT)


def test_a_rolling_restart_replaces_every_process_on_both_hosts(
    hosts: tuple[HostProcess, HostProcess],
) -> None:
    one, two = hosts
    before = settled(two)
    assert {slot["host"] for slot in before.values()} == {"one", "two"}
    said = two.command("restart", "light", "--rolling", "--reason", "new code").stdout.splitlines()
    assert [line.partition(" ")[0] for line in said] == [f"light/{number}" for number in range(1, 5)]
    after = settled(one)
    assert not {slot["pid"] for slot in before.values()} & {slot["pid"] for slot in after.values()}


def test_a_host_listens_on_one_connection_however_many_workers_it_has(
    hosts: tuple[HostProcess, HostProcess],
) -> None:
    one, _ = hosts
    settled(one)
    server = EmbeddedPostgres(one.state, find_binaries(None), lambda _line: None).superuser_dsn
    with psycopg.connect(server, autocommit=True) as superuser:
        listening = superuser.execute(
            "SELECT application_name FROM pg_stat_activity WHERE query LIKE 'LISTEN%' ORDER BY 1"
        ).fetchall()
    assert listening == [("socialfleet manager wake channel",)] * 2


def test_a_drained_slot_stays_down_until_it_is_started(hosts: tuple[HostProcess, HostProcess]) -> None:
    one, two = hosts
    settled(one)
    assert "drained in" in two.command("drain", "light/2", "--reason", "a look inside").stdout
    assert slots(one)["light/2"]["state"] == "STOPPED"
    assert "a look inside" in slots(one)["light/2"]["reason"]
    two.command("start", "light/2")
    settled(one)


def test_the_other_hosts_log_comes_as_a_commands_result(hosts: tuple[HostProcess, HostProcess]) -> None:
    one, two = hosts
    found = settled(one)
    there = next(name for name, slot in found.items() if slot["host"] == "two")
    asked = one.command("logs", there, "-n", "5", "--json").stdout.splitlines()
    own = two.command("logs", there, "-n", "5", "--json").stdout.splitlines()
    assert asked == own
    assert json.loads(own[-1])["worker"] == "light"


def test_without_the_database_a_host_stops_and_restarts_its_own_and_the_audit_has_it_later(
    hosts: tuple[HostProcess, HostProcess],
) -> None:
    one, _ = hosts
    found = settled(one)
    name = next(name for name, slot in found.items() if slot["host"] == "one")
    with database_away(one):
        done = one.command("status", expect=4)
        assert name in done.stdout
        assert "PostgreSQL can't be reached" in done.stderr
        done = one.command("restart", name, "--reason", "it hangs")
        assert not psutil.pid_exists(found[name]["pid"])
        done = one.command("stop", name, "--reason", "it must not act")
        assert done.stdout.startswith(f"{name} is STOPPED")
        done = one.command("scale", "light", "1", expect=4)
        assert "PostgreSQL can't be reached" in done.stderr

    def audited() -> list[Any] | None:
        with one.owner() as owner:
            rows = owner.execute(
                "SELECT action, reason FROM fleet.audits WHERE reason LIKE 'it %' ORDER BY id"
            ).fetchall()
        return rows if len(rows) == 2 else None

    assert eventually(audited, within_s=WITHIN_S, what="both are in the audit") == [
        ("restart", "it hangs"),
        ("stop", "it must not act"),
    ]

    def is_back() -> bool:
        slot = slots(one)[name]
        return slot["state"] == "STOPPED" and "it must not act" in slot["reason"]

    eventually(is_back, within_s=WITHIN_S, what=lambda: f"it stays stopped: {slots(one)[name]}", every_s=0.5)
    one.command("start", name)
    settled(one)


def test_a_host_that_is_drained_gives_its_work_away(hosts: tuple[HostProcess, HostProcess]) -> None:
    one, two = hosts
    settled(one)
    one.command("drain", "--host", "two", "--yes", "--reason", "new memory")
    assert {slot["host"] for slot in settled(one).values()} == {"one"}
    assert "two" in one.command("hosts", "list").stdout
    one.command("hosts", "undrain", "two")

    def shared() -> bool:
        return {slot["host"] for slot in slots(two).values()} == {"one", "two"}

    eventually(shared, within_s=WITHIN_S, what=lambda: f"the host has work again: {slots(two)}", every_s=0.5)
