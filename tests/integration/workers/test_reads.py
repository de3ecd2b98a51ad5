"""One read: a grant that is too old sends nothing, and what went wrong is told as it was."""

import os
import signal
import time
from pathlib import Path
from typing import Any

import pytest

from coordination import Fleet, connect
from coordination.errors import DatabaseBusyError
from coordination.rate_limits import Grant
from tests.integration.conftest import FleetDatabase
from tests.integration.coordination.crowd import PROCESSES, until
from tests.integration.coordination.tables import value
from workers.errors import NoGrantError
from workers.outside import reads
from workers.platforms.x import Read, XUnreachable


def _read_stopped(dsn: str, told: str, lasts_s: float) -> None:
    """Read as a process that is stopped between its grant and its request; say what became of it."""
    reads.GRANT_LASTS_S = lasts_s
    fleet = connect(dsn, "stopped")
    limits: Any = fleet.rate_limits
    ask = limits.can_make_request

    def ask_and_stop(*arguments: Any) -> Grant:
        grant = ask(*arguments)
        os.kill(os.getpid(), signal.SIGSTOP)
        return grant

    limits.can_make_request = ask_and_stop
    try:
        reads.read(
            fleet, "users_me", lambda: Read(value="", headers={}), account="sandbox", worker_id="stopped/1"
        )
    except NoGrantError as error:
        Path(told).write_text(str(error), "utf-8")
    else:
        Path(told).write_text("sent", "utf-8")


def is_stopped(pid: int) -> bool:
    return Path(f"/proc/{pid}/stat").read_text("ascii").rpartition(")")[2].split()[0] == "T"


@pytest.mark.parametrize(
    ("lasts_s", "said"),
    [(0.2, "the limit says wait: the grant for users_me came too late to be used"), (60.0, "sent")],
)
def test_a_process_that_was_stopped_after_its_grant_sends_nothing_on_it_later(
    fleet_database: FleetDatabase, tmp_path: Path, lasts_s: float, said: str
) -> None:
    told = tmp_path / "told"
    process = PROCESSES.Process(
        target=_read_stopped, args=(fleet_database.dsn("worker"), str(told), lasts_s), daemon=True
    )
    process.start()
    try:
        pid = process.pid or 0
        until(lambda: is_stopped(pid), 60)
        stopped_at = time.monotonic()
        until(lambda: time.monotonic() - stopped_at > 0.3, 10)
        os.kill(pid, signal.SIGCONT)
        process.join(60)
        assert told.read_text("utf-8") == said
    finally:
        process.kill()
        process.join()
    with fleet_database.owner() as owner:  # what was not used is given back
        assert value(owner, "SELECT count(*) FROM fleet.rate_grants") == (said == "sent")


def test_what_went_wrong_is_told_also_where_its_grant_can_not_be_settled(fleet: Fleet) -> None:
    def refuse(*_arguments: object, **_options: object) -> None:
        raise DatabaseBusyError("the row is locked")

    def call() -> Read[str]:
        raise XUnreachable("no route")

    fleet.rate_limits.record_usage = refuse
    with pytest.raises(XUnreachable, match="no route") as caught:
        reads.read(fleet, "users_me", call, account="sandbox", worker_id="tester/1")
    assert any("the row is locked" in note for note in caught.value.__notes__)
