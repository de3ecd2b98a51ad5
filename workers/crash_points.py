"""Crash points: named places at which a rehearsal can end a process as kill -9 does.

`SOCIALFLEET_CRASH_AT=mentions.after_note` ends the worker when it first comes there, `...:3` the third time.
A real account's worker refuses to start with it.
"""

import os
import signal
from typing import Final

from coordination.accounts import Account
from workers.errors import NeedNotMetError

VARIABLE: Final = "SOCIALFLEET_CRASH_AT"

CRASH_POINTS: Final = (
    "engagement.after_take",  # candidates are in hand
    "engagement.after_policy",  # it is chosen what to do with one
    "engagement.after_read",  # those with an act are read again
    "engagement.after_lock",  # its post is locked
    "engagement.after_grant",  # a unit of the limit is taken
    "engagement.after_writing",  # the text is written
    "engagement.after_propose",  # it is proposed, the grant and the lock still held
    "engagement.after_release",  # both are given back, and the candidate still taken
    "engagement.after_decide",  # it is decided
    "mentions.after_cursor",  # the cursor is known, nothing was read
    "mentions.after_read",  # a page was read and nothing of it is stored
    "mentions.after_judging",  # it is judged
    "mentions.after_note",  # it is stored, and the cursor moved
    "mentions.after_walk",  # all pages are stored, and nothing is acted on
    "mentions.after_take",  # one is in hand
    "mentions.after_policy",  # it may be answered
    "mentions.after_opt_out",  # the opt-out is kept and the mention still open
    "mentions.after_send",  # a delegation is sent and not noted
    "mentions.after_delegation",  # it is noted
    "mentions.after_found",  # its finding is kept and the message not acknowledged
    "mentions.after_writing",  # the answer is written
    "mentions.after_propose",  # it is proposed and the mention still open
    "mentions.after_settle",  # it is settled
)
"""Every crash point there is; a name that is not among them is refused."""


class CrashPoints:
    """Armed once a process, for one account; disarmed it costs a comparison."""

    def __init__(self, account: Account) -> None:
        """Read the variable.

        Raises:
            NeedNotMetError: it names no crash point, or the account is not a sandbox's.
        """
        name, _, number = os.environ.get(VARIABLE, "").partition(":")
        if name and not account.sandbox:
            raise NeedNotMetError(f"{VARIABLE} is set, and {account.name} is no sandbox's account: unset it")
        if name and (name not in CRASH_POINTS or not (number or "1").isdecimal()):
            raise NeedNotMetError(
                f"{VARIABLE} is {name!r}: allowed are {', '.join(CRASH_POINTS)}, and NAME:N"
            )
        self._name = name
        self._left = int(number or "1")

    def pass_by(self, name: str) -> None:
        """End the process here if this is the place that was named."""
        if name == self._name:
            self._left -= 1
            if self._left <= 0:
                os.kill(os.getpid(), signal.SIGKILL)
