"""Proof of death: what /proc says of a process that somebody else started."""

import time
from collections.abc import Mapping
from typing import Any

from coordination.incarnation import ProcessIdentity
from host import process_table

ANOTHER_BOOT = "the machine was started anew since"
NO_SUCH_PROCESS = "no process has its number and start time any more"


def boottime_s() -> float:
    """Seconds on a clock that also runs while the machine sleeps, where there is one."""
    return time.clock_gettime(time.CLOCK_BOOTTIME) if hasattr(time, "CLOCK_BOOTTIME") else time.monotonic()


def proof_of_death(life: Mapping[str, Any], here: ProcessIdentity, *, same_machine: bool) -> str | None:
    """How it is known that the process of a life is dead; None where it lives, or nobody can know from here.

    Args:
        life: its pid, pid_started, boot_id and pid_namespace.
        here: who looks.
        same_machine: the host's name was this very machine's before; otherwise another boot proves nothing.
    """
    if not life["boot_id"] or not here.boot_id:
        return None
    if life["boot_id"] != here.boot_id:
        return ANOTHER_BOOT if same_machine else None
    if not here.pid_namespace or life["pid_namespace"] != here.pid_namespace:
        return None  # its number means another process here
    return None if _started(int(life["pid"])) == life["pid_started"] else NO_SUCH_PROCESS


def _started(pid: int) -> str | None:
    """The start time of the process with this number, in ticks since boot; None for none or a zombie."""
    entry = process_table.read(pid)
    return None if entry is None or entry.state in process_table.ENDED else entry.started
