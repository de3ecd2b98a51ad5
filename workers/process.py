"""One worker's OS process: signals, logs, and a new incarnation whenever one was lost."""

import faulthandler
import random
import signal
from collections.abc import Iterable
from contextlib import suppress
from importlib import import_module
from threading import Event
from time import monotonic
from typing import Final

import coordination
from config import Config
from coordination.database import rehearse_login
from coordination.errors import (
    DatabaseError,
    DatabaseUnavailableError,
    IncarnationLostError,
    PermissionRefusedError,
    PoolerInBetweenError,
)
from workers import handlers, registry
from workers.base import Worker, read_settings
from workers.context import Context, Platform, default_account
from workers.drain import Drain, DrainAskedError
from workers.errors import NeedNotMetError, WorkerError
from workers.intervals import further_duties
from workers.lifecycle import Life
from workers.logs import Log, add_context, set_up
from workers.progress import Progress
from workers.progress_pipe import ProgressPipe, take_fd
from workers.wake import Wake

DRAINED: Final = 0
CRASHED: Final = 1
NEEDS_A_PERSON: Final = 78
"""EX_CONFIG of sysexits.h: starting again changes nothing until a person does."""
STACKS: Final = "SOCIALFLEET_STACKS_FD"
"""The environment's name for the file that SIGUSR1 has every thread's stack written to."""

FIRST_RETRY_S: Final = 0.2
AWAY_RETRY_S: Final = 2.0
"""A database that comes back has its workers within this time: a refused connection costs next to nothing."""
REFUSED_RETRY_S: Final = 15.0
"""Other faults end when a person does something."""
TOLD_S: Final = 30.0
"""The log says this often that the process still waits."""

log = Log("process")
_prepared: dict[str, type[Worker]] = {}


def prepare(names: Iterable[str], *, config: Config) -> None:
    """Do what each process of these workers does at first, once for all that are forked from this one.

    A fault is left for the worker's own process to meet, and to tell.
    """
    rehearse_login()
    for name in names:
        with suppress(Exception, SystemExit):
            kind = registry.get(name)
            handlers.find(kind)
            further_duties(kind)
            read_settings(kind, {})
            if Platform.X in kind.needs:
                import_module("workers.platforms.x").prepare(config.x_url)
            _prepared[name] = kind


def run(name: str, *, slot: int, config: Config, account: str | None = None) -> int:
    """Run one worker until SIGTERM or SIGINT; give the process's exit code.

    A database that is away ends nothing: the process waits, and goes on as a new incarnation. The same
    whether a manager forked this process, started it as a program, or a person typed its command: what the
    manager gave is in the environment, and without it the worker tells nobody and listens itself.
    """
    _take_stacks()
    progress = Progress(ProgressPipe.from_environment())
    progress.repeat()
    account = account or config.socialfleet_account or default_account(config)
    context = Context(config=config, account=account, slot=slot)
    set_up(debug=config.debug, secrets=context.secrets())
    add_context(worker=name, slot=slot)
    stir = Event()
    drain = Drain(stir)
    drain.on_signals()
    try:
        kind = _prepared.get(name) or registry.get(name)
        progress.allow(kind.stall_after_s)
        _Lives(kind, context, progress, drain, stir).live()
    except (NeedNotMetError, WorkerError, PoolerInBetweenError) as error:
        log.error(str(error))
        return NEEDS_A_PERSON
    except Exception as error:  # noqa: BLE001  the manager starts it anew; the log says why
        log.error("crashed", error=error)
        return CRASHED
    log.info("drained")
    return DRAINED


class _Lives:
    """One life after the other, until the drain."""

    def __init__(
        self, kind: type[Worker], context: Context, progress: Progress, drain: Drain, stir: Event
    ) -> None:
        self._kind = kind
        self._context = context
        self._progress = progress
        self._drain = drain
        self._stir = stir
        self._wake = Wake.from_environment()
        self._failures = 0
        self._told_at = float("-inf")

    def live(self) -> None:
        while not self._drain.asked.is_set():
            try:
                with self._drain.breaking_off():
                    fleet = self._connect()
                with fleet:
                    self._live_as(fleet)
            except DrainAskedError:
                return
            except PoolerInBetweenError:
                raise
            except (DatabaseError, IncarnationLostError, PermissionRefusedError) as error:
                self._wait(error)

    def _connect(self) -> coordination.Fleet:
        return coordination.connect(
            self._context.dsn,
            self._kind.name,
            slot=self._context.slot,
            host=self._context.config.host,
            listens=self._wake is None,
            direct_dsn=self._context.direct_dsn,
        )

    def _live_as(self, fleet: coordination.Fleet) -> None:
        add_context(incarnation=str(fleet.incarnation.id))
        log.info("started", account=self._context.account)
        self._failures = 0
        Life(
            self._kind,
            context=self._context,
            fleet=fleet,
            draining=self._drain.asked,
            stir=self._stir,
            progress=self._progress,
            wake=self._wake,
        ).live()

    def _wait(self, error: Exception) -> None:
        """Between two lives: act for nobody, say so on the pipe, and try again in a moment.

        Half of the wait is jitter: a fleet that lost its database must not come back in step.
        """
        self._failures += 1
        is_away = isinstance(error, DatabaseUnavailableError | IncarnationLostError)
        longest_s = AWAY_RETRY_S if is_away else REFUSED_RETRY_S
        wait_s = min(longest_s, FIRST_RETRY_S * 2.0**self._failures) * random.uniform(0.5, 1)  # noqa: S311  no secret
        self._progress.lose_life(str(error))
        if self._failures == 1 or monotonic() - self._told_at > TOLD_S:
            self._told_at = monotonic()
            log.warning("waits and goes on as a new incarnation", reason=str(error), wait_s=round(wait_s, 1))
        self._drain.asked.wait(wait_s)


def _take_stacks() -> None:
    """Let a fatal signal, and SIGUSR1 where the manager gave a file for it, show every thread's stack."""
    faulthandler.enable()
    fd = take_fd(STACKS)
    if fd is not None:
        faulthandler.register(signal.SIGUSR1, file=fd, all_threads=True)
