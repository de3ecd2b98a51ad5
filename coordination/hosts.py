"""Hosts: where managers run, what each one's share of the slots is, and who is lost."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from coordination.database import Database, Json
from coordination.desired import Limits, Part, SlotReport, WantedSlot
from coordination.incarnation import ProcessIdentity
from coordination.plain import plain


@dataclass(frozen=True, kw_only=True)
class ProgramWorker:
    """A worker that a host's program has."""

    name: str
    description: str
    roles: Sequence[str] = ()
    singleton: bool = False


@dataclass(frozen=True, kw_only=True)
class HostStatus:
    """One host as persons see it.

    Attributes:
        state: live, lost (silent), left (it was stopped in good order) or gone (a person said so).
        wake_channel: untested, ok or broken: then work begins at the next poll.
        silent_s: since its manager last reported, in seconds.
        slots: how many are assigned to it.
    """

    name: str
    state: str
    draining: bool
    labels: dict[str, str]
    version: str
    wake_channel: str
    slots: int
    started_at: datetime
    seen_at: datetime
    silent_s: float
    changed_by: str
    reason: str
    workers: list[str]


@dataclass(frozen=True, kw_only=True)
class Share:
    """What one host should run.

    Attributes:
        number: rises when a slot is taken from the host.
        parts: every part of a command that is this host's and not finished.
        progress_ages: seconds since each running slot's last progress.
        last_event: the newest event's id.
    """

    number: int
    slots: Sequence[WantedSlot]
    parts: Sequence[Part]
    progress_ages: Mapping[tuple[str, int], float]
    last_event: int


def list_hosts(database: Database) -> list[HostStatus]:
    """Every host by name. One round trip; needs a role that reads tables."""
    return [HostStatus(**row) for row in database.rows("list_hosts")]


def drain_host(database: Database, host: str, *, draining: bool, actor: str, reason: str) -> dict[str, Any]:
    """A person takes a host out of service (its slots move), or back into it; audited."""
    return dict(database.call("drain_host", host=host, draining=draining, actor=actor, reason=reason))


def declare_host_gone(database: Database, host: str, *, actor: str, reason: str) -> dict[str, Any]:
    """A person vouches that nothing of a silent host runs any more: {"host", "incarnations"}; audited.

    Raises:
        InvalidValueError: its manager is alive.
    """
    return dict(database.call("declare_host_gone", host=host, actor=actor, reason=reason))


# The manager's side


def open_host(
    database: Database,
    host: str,
    *,
    session: UUID,
    manager: ProcessIdentity,
    machine: str,
    version: str,
    labels: Mapping[str, str],
    workers: Sequence[ProgramWorker],
) -> dict[str, Any]:
    """Take the host's name for this connection's life, and tell which workers the program has.

    Returns:
        {"undead": [...], "same_machine"}: lives of this host that nobody has proven dead (worker, slot and
        what tells a process), and whether the name was this very machine's before.

    Raises:
        HostTakenError: another living manager has this name.
    """
    return dict(
        database.call(
            "open_host",
            host=host,
            session=session,
            boot_id=manager.boot_id,
            pid_namespace=manager.pid_namespace,
            pid=manager.pid,
            pid_started=manager.pid_started,
            machine=machine,
            version=version,
            labels=Json(dict(labels)),
            workers=Json([{**asdict(worker), "roles": list(worker.roles)} for worker in workers]),
        )
    )


def report_host(
    database: Database,
    host: str,
    *,
    session: UUID,
    as_of: int,
    slots: Sequence[SlotReport] | None,
    wake_channel: str,
) -> None:
    """Say that the host lives, and how its slots are (None: as last told).

    Args:
        database: the connection that the host was opened on.
        host: its name.
        session: as opened.
        as_of: the number of the newest share that the slots were brought in line with.
        slots: every slot that has a process here or should; None when nothing changed.
        wake_channel: untested, ok or broken.

    Raises:
        HostTakenError: the name is another manager's by now.
    """
    told = None if slots is None else Json(plain([asdict(slot) for slot in slots]))
    database.call(
        "report_host", host=host, session=session, as_of=as_of, slots=told, wake_channel=wake_channel
    )


def get_share(database: Database, host: str, *, session: UUID) -> Share:
    """Give what this host should run; distributes first what nobody has.

    Raises:
        HostTakenError: the name is another manager's by now.
    """
    told = database.call("get_share", host=host, session=session)
    return Share(
        number=told["number"],
        slots=[_wanted(**slot) for slot in told["slots"]],
        parts=[Part(**part) for part in told["parts"]],
        progress_ages={(row["worker"], row["slot"]): row["age_s"] for row in told["progress"]},
        last_event=told["last_event"],
    )


def _wanted(*, memory_mb: int | None, cpu_percent: int | None, nice: int, **slot: Any) -> WantedSlot:
    return WantedSlot(limits=Limits(memory_mb=memory_mb, cpu_percent=cpu_percent, nice=nice), **slot)


def adopt_override(
    database: Database,
    host: str,
    *,
    action: str,
    selector: str,
    actor: str,
    reason: str,
    idempotency_key: str | None = None,
) -> dict[str, Any]:
    """Take down what a person did on the host without the database: a finished command, audited.

    A start or stop becomes the desired state of the host's slots that are meant; one that can't is a failed
    command, with why. What has a key is taken down once, however often it is told.

    Returns:
        {"command"} and "changes", or "refused", or "repeated".
    """
    return dict(
        database.call(
            "adopt_override",
            host=host,
            action=action,
            selector=plain(selector),
            actor=plain(actor),
            reason=plain(reason),
            idempotency_key=idempotency_key,
        )
    )


def close_host(database: Database, host: str, *, session: UUID, reason: str) -> None:
    """Leave in good order: others take the slots at once."""
    database.call("close_host", host=host, session=session, reason=reason)
