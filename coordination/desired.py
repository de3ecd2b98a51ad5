"""Desired state, slots and commands: what should run, what runs, and what persons asked for."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

from coordination.database import Database, Json

Action = Literal["start", "stop", "restart"]


@dataclass(frozen=True, kw_only=True)
class DesiredWorker:
    """One worker's desired state."""

    name: str
    enabled: bool
    replicas: int


@dataclass(frozen=True, kw_only=True)
class SlotReport:
    """One slot as its manager sees it; `age_s` is how long it is in this state."""

    worker: str
    slot: int
    state: str
    reason: str
    pid: int | None
    restart_count: int
    age_s: float


@dataclass(frozen=True, kw_only=True)
class Command:
    """What a person asked for."""

    id: str
    action: Action
    worker: str
    slot: int | None


def ensure_worker(database: Database, name: str, description: str, roles: Sequence[str] = ()) -> None:
    """Make the row of a worker found in the program, enabled; leave what persons set."""
    database.call("ensure_worker", name=name, description=description, roles=list(roles))


def get_desired(database: Database) -> list[DesiredWorker]:
    """What this host's manager should run."""
    return [DesiredWorker(**row) for row in database.call("get_desired")]


def report_slots(database: Database, host: str, slots: Sequence[SlotReport]) -> None:
    """Tell the state of the host's slots; changes become events."""
    database.call("report_slots", host=host, slots=Json([asdict(slot) for slot in slots]))


def request_command(
    database: Database, action: Action, worker: str, slot: int | None, *, actor: str, reason: str
) -> str:
    """A person asks for a start, stop or restart; audited. Gives the command's id."""
    answer = database.call(
        "request_command", action=action, worker=worker, slot=slot, actor=actor, reason=reason
    )
    return str(answer["id"])


def take_commands(database: Database) -> list[Command]:
    """The manager takes what is pending, oldest first."""
    return [Command(**row) for row in database.call("take_commands")]


def finish_command(database: Database, command: str, *, succeeded: bool, result: str) -> None:
    """The manager says what came of a command."""
    database.call("finish_command", command=int(command), succeeded=succeeded, result=result)


def get_command(database: Database, command: str) -> dict[str, Any]:
    """Give a command with its state: pending, running, done or failed."""
    return dict(database.call("get_command", command=int(command)))
