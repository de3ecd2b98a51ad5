"""One worker's OS process: signals, logs, and a new incarnation whenever one was lost."""

import faulthandler
import random
from threading import Event

import coordination
from config import Config
from coordination.errors import (
    DatabaseError,
    IncarnationLostError,
    PermissionRefusedError,
    PoolerInBetweenError,
)
from workers import drain, registry
from workers.base import Worker
from workers.context import Context, default_account
from workers.errors import NeedNotMetError, WorkerError
from workers.lifecycle import Life
from workers.logs import Log, add_context, set_up

DRAINED = 0
CRASHED = 1
NEEDS_A_PERSON = 78
"""EX_CONFIG of sysexits.h: starting again changes nothing until a person does."""
BACKOFF_CAP_S = 30.0

log = Log("process")


def run(name: str, *, slot: int, config: Config) -> int:
    """Run one worker until SIGTERM or SIGINT; give the process's exit code.

    A database that is away ends nothing: the process waits, and goes on as a new incarnation.
    """
    faulthandler.enable()
    context = Context(config=config, account=config.socialfleet_account or default_account(config), slot=slot)
    set_up(debug=config.debug, secrets=context.secrets())
    add_context(worker=name, slot=slot)
    draining, stir = Event(), Event()
    drain.on_signals([draining, stir])
    try:
        kind = registry.get(name)
        _live_until_drained(kind, context, draining, stir)
    except (NeedNotMetError, WorkerError, PoolerInBetweenError) as error:
        log.error(str(error))
        return NEEDS_A_PERSON
    except Exception as error:  # noqa: BLE001  the manager starts it anew; the log says why
        log.error("crashed", error=error)
        return CRASHED
    log.info("drained")
    return DRAINED


def _live_until_drained(kind: type[Worker], context: Context, draining: Event, stir: Event) -> None:
    failures = 0
    while not draining.is_set():
        try:
            with coordination.connect(context.dsn, kind.name, slot=context.slot) as fleet:
                add_context(incarnation=str(fleet.incarnation.id))
                log.info("started", account=context.account)
                failures = 0
                Life(kind, context=context, fleet=fleet, draining=draining, stir=stir).live()
        except PoolerInBetweenError:
            raise
        except (DatabaseError, IncarnationLostError, PermissionRefusedError) as error:
            failures += 1
            # Full jitter: a fleet that lost its database must not come back in step.
            wait_s = random.uniform(0, min(BACKOFF_CAP_S, 2.0**failures))  # noqa: S311  no secret
            log.warning("waits and goes on as a new incarnation", reason=str(error), wait_s=round(wait_s, 1))
            draining.wait(wait_s)
