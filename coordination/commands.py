"""Commands: what persons ask of workers; audited, and carried out slot by slot by the hosts.

A selector is `*`, or names with commas between them: `poster` is every slot of the poster, `poster/1` one.
"""

from collections.abc import Mapping
from contextlib import suppress
from typing import Any

from coordination.database import Database, Json
from coordination.desired import Action
from coordination.errors import FleetError
from coordination.ids import number_of
from coordination.plain import plain

MANAGERS = "manager"
"""What every host's manager is woken by."""
ENDED = frozenset({"done", "failed", "partial", "timed_out", "aborted"})
"""The states of a command of which nothing more will come; before them it is pending or running."""


def request_command(
    database: Database,
    action: Action,
    *,
    selector: str | None = None,
    host: str | None = None,
    args: Mapping[str, object] | None = None,
    actor: str,
    reason: str,
    idempotency_key: str | None = None,
    timeout_s: float = 60.0,
) -> dict[str, Any]:
    """Ask: the desired state changes at once, and each slot that is meant gets a part. Audited, flushed.

    Args:
        database: a person's.
        action: start, stop, restart, pause, resume, drain and logs are for slots; scale and set for workers.
        selector: which workers or slots; None with a host means all that it has.
        host: only the slots that this host has; with `drain` and no selector, the host takes no more work.
        args: restart: {"strategy": "at_once" | "rolling" | "canary", "watch_s": 60}; scale: {"replicas": n};
            set: any of {"placement", "memory_limit_mb", "cpu_limit_percent", "nice"}, null takes a limit
            away; logs: {"lines": n}.
        actor: who asks.
        reason: why.
        idempotency_key: a second command with this key is the first one.
        timeout_s: for the whole command; what is not done by then has timed out.

    Returns:
        {"id", "state", "repeated", "parts"}, the parts as in `get_command`; repeated where the key was known.

    Raises:
        InvalidValueError: names the value and what is allowed; nothing was changed.
    """
    answer = dict(
        database.call(
            "request_command",
            action=action,
            selector=selector,
            host=host,
            args=Json(dict(args or {})),
            actor=actor,
            reason=reason,
            idempotency_key=idempotency_key,
            timeout_s=float(timeout_s),
        )
    )
    with suppress(FleetError):  # the managers look by themselves within a second
        # Outside the command's transaction: NOTIFY inside would serialise every commit.
        database.call("wake", worker=MANAGERS)
    return answer


def preview_command(
    database: Database,
    action: Action,
    *,
    selector: str | None = None,
    host: str | None = None,
    args: Mapping[str, object] | None = None,
) -> dict[str, Any]:
    """Say what `request_command` would do: {"parts": [...], "changes": [text]}. Changes nothing."""
    return dict(
        database.call(
            "preview_command", action=action, selector=selector, host=host, args=Json(dict(args or {}))
        )
    )


def get_command(database: Database, command: str) -> dict[str, Any]:
    """Give a command: pending, running, or one of `ENDED`, its result, and its parts in their order.

    A part: {"id", "worker", "slot", "host", "state", "result", "output", "ordinal"}; its state is waiting,
    running, watching, done, failed, skipped, timed_out or superseded.
    """
    return dict(database.call("get_command", command=number_of(command, "command")))


def finish_part(
    database: Database, host: str, part: str, *, succeeded: bool, result: str, output: str | None = None
) -> None:
    """The host that took a part says what came of it; of an output the last 64 kB are kept."""
    database.call(
        "finish_part",
        host=host,
        part=number_of(part, "part"),
        succeeded=succeeded,
        result=plain(result),
        output=plain(output),
    )


def tell_part(database: Database, host: str, part: str, *, text: str) -> None:
    """The host that took a part says how far it is."""
    database.call("tell_part", host=host, part=number_of(part, "part"), result=plain(text))
