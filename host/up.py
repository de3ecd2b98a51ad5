"""`socialfleet up`: the whole fleet of this host in the foreground, started in order and stopped in reverse.

It is the manager process: the keeper's first child. When it is killed, the keeper makes another, which finds
the processes that the first one asked for alive, takes them over and starts nothing twice. Killed before the
fleet was ready, it is followed by one that does every step again.

UpError     a step of the start failed; the text says what to do, `exit_code` what the shell gets
"""

import os
import sys
import time
import traceback
from collections.abc import Generator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from config import Config
from coordination import settings
from coordination.accounts import Tier
from coordination.database import Database
from coordination.errors import DatabaseError
from host import fleet_account, logins, machine, ports, rehearsal_clock, x_account
from host.control import Control
from host.database_server import DatabaseServer
from host.keeper.client import Keeper
from host.keeper.wire import CRASHED
from host.logins import Logins
from host.manage import Manage, Manager
from host.postgres import EmbeddedPostgres, find_binaries
from host.schema_step import SchemaStep
from host.services import Services
from host.state_directory import StateDirectory
from host.supervisor import StopRequested, Supervisor
from host.terminal import Terminal
from workers import registry
from workers.wake import Kind, Whom

STEPS = 6
FIRST_ORDERS_S = 10.0
GIVES_WAY_S = 30.0
"""A name that is another manager's for so long is: this one's own old session is forgotten after 10 s."""
STOP_S = 14.0  # the fleet promises to have ended 15 s after it was asked to
LEAST_STOP_S = 2.0  # for PostgreSQL, even when workers took their whole time
DYING_SERVER_S = 3.0
REFUSED = 2
UNREACHABLE = 4


class UpError(Exception):
    """A step of the start failed."""

    def __init__(self, message: str, *, exit_code: int = 1) -> None:
        super().__init__(message)
        self.exit_code = exit_code


@dataclass(frozen=True, kw_only=True)
class World:
    """What the fleet's own sandbox is started with; None is the sandbox's own default."""

    file: Path | None = None
    tier: Tier | None = None


class Up:
    """One fleet on this host, from the checks to the last process's end."""

    def __init__(
        self,
        config: Config,
        *,
        keeper: Keeper,
        crashed: bool,
        world: World,
        manage: Manage,
        terminal: Terminal,
    ) -> None:
        """Name the parts; the state directory is made, and locked by the keeper.

        Args:
            config: the environment.
            keeper: the parent of all processes.
            crashed: whether the last fleet on this state directory ended without cleaning up.
            world: what the fleet's own sandbox is started with.
            manage: how the manager of the workers is made.
            terminal: where the person looks.
        """
        self._config = config
        self._keeper = keeper
        self._crashed = crashed
        self._takes_over = keeper.is_established
        self._world = world
        self._manage = manage
        self._terminal = terminal
        self._state = StateDirectory(config.state_dir)
        self._supervisor = Supervisor(keeper)
        self._undo = ExitStack()
        self._services = Services(self._supervisor, self._state, waits=not self._takes_over)
        self._stop_by: float | None = None
        self._is_ready = False
        self._manager: Manager | None = None

    def run(self) -> int:
        """Start, stay until asked to stop, and stop everything.

        Raises:
            UpError, and the typed errors of the modules above: what was started is stopped then.
        """
        began, exit_code = time.monotonic(), 0
        with self._supervisor, self._undo:
            try:
                if self._takes_over:  # also if it is to stop: there are workers to be drained
                    manager, control = self._take_over()
                else:
                    with self._supervisor.interruptible():
                        manager, control = self._start()
                self._is_ready = True
                self._keeper.establish()
                took_s = time.monotonic() - began
                if self._takes_over:
                    before = self._keeper.predecessor
                    self._terminal.say(
                        f"a new manager process took over after {took_s:.1f} s (the one before: {before})",
                        "warning",
                    )
                else:
                    self._terminal.say(f"ready: {self._console_url} ({took_s:.1f} s)", "ready")
                    self._terminal.say(f"       X: {self._x.api_url}; Ctrl-C stops the fleet")
                control.follow()
                with _dying_alone(self._terminal):
                    manager.run(lambda: self._supervisor.stopping or control.refused_s > GIVES_WAY_S)
                if not self._supervisor.stopping:
                    exit_code = self._give_way(control)
            except StopRequested:
                pass
            self._stop_by = time.monotonic() + STOP_S
            self._terminal.say("draining: the workers finish what they do (Ctrl-C again kills at once)")
        self._terminal.say("stopped")
        return exit_code

    def _give_way(self, control: Control) -> int:
        """Say why this fleet ends: what it runs, another manager of the same name runs too."""
        self._terminal.say(
            f"for {GIVES_WAY_S:g} s {control.host} has been another manager's name ({control.refusal}): this "
            "fleet ends, or both would run the same. Start it with a name of its own, or stop that one first",
            "error",
        )
        return REFUSED

    def _take_over(self) -> tuple[Manager, Control]:
        """Go on where a manager process was killed: its schema and its account are there.

        The workers come first, and nothing is waited for: they must not go unwatched because a page, or a
        server that comes back by itself, isn't there.
        """
        with _dying_alone(self._terminal):
            self._x = x_account.choose(self._config, sandbox_tier=self._world.tier)
            if self._config.database_url is None:
                self._embed()
            found = self._workers()
            self._console()
            if self._config.runs_sandbox:
                self._serve_sandbox()
            return found

    def _start(self) -> tuple[Manager, Control]:
        config = self._config
        if self._keeper.generation == 1:
            self._require_ports()  # later they may be our own services', which live
        if not config.runs_sandbox and self._world != World():
            raise UpError(
                "WORLD and --tier are for the fleet's own sandbox, and X_API_URL or credentials name "
                "another X: unset those, or leave these out",
                exit_code=REFUSED,
            )
        if self._world.file and not self._world.file.is_file():
            raise UpError(f"WORLD is '{self._world.file}': there is no such file", exit_code=REFUSED)
        self._x = x_account.choose(config, sandbox_tier=self._world.tier)
        step = SchemaStep()  # it loads meanwhile
        self._undo.callback(step.close)
        self._undo.callback(self._services.stop)
        self._console()
        own_logins = self._database()
        self._schema(step, own_logins)
        self._account()
        self._sandbox()
        return self._workers()

    def _require_ports(self) -> None:
        config = self._config
        # What a killed fleet leaves behind ends by itself; its ports are free a moment later.
        patience_s = DYING_SERVER_S if self._crashed else 0.0
        ports.require_free(config.socialfleet_console_port, "SOCIALFLEET_CONSOLE_PORT", patience_s=patience_s)
        if config.runs_sandbox:
            ports.require_free(
                config.socialfleet_sandbox_port, "SOCIALFLEET_SANDBOX_PORT", patience_s=patience_s
            )

    # The six steps

    def _console(self) -> None:
        self._step(1, f"console at {self._console_url}")
        self._state.ensure_token("console")
        self._state.ensure_token("sandbox")
        self._services.console(self._console_url, self._config.socialfleet_console_port)

    def _database(self) -> Logins:
        if self._config.database_url is not None:
            self._step(2, "PostgreSQL: the one that DATABASE_URL names")
            found = logins.given(self._config, self._state)
            found.keep(self._state)
            return found
        self._step(2, "PostgreSQL: an embedded one")
        postgres, server = self._embed()
        while not server.has_begun:
            self._supervisor.wait(1.0)
        if server.error is not None:
            raise server.error
        return logins.derive(postgres.migrator_dsn, self._state)

    def _embed(self) -> tuple[EmbeddedPostgres, DatabaseServer]:
        """Have a server of the fleet's own begin."""
        postgres = EmbeddedPostgres(
            self._config.state_dir,
            find_binaries(self._config.socialfleet_pg_bin),
            lambda line: self._terminal.say(line) if self._is_ready else self._step(2, line),
        )
        server = DatabaseServer(
            postgres,
            started=lambda: logins.derive(postgres.migrator_dsn, self._state).keep(self._state),
            say=self._terminal.say,
            wake=self._supervisor.wake,
            insists=self._takes_over,
        )
        self._undo.callback(lambda: server.stop(self._left_s))
        server.start()
        return postgres, server

    def _schema(self, step: SchemaStep, own_logins: Logins) -> None:
        self._step(3, "schema")
        revision = step.upgrade(own_logins.dsns["migrator"], own_logins.passwords)
        self._step(3, f"schema fleet is at revision {revision}")

    def _account(self) -> None:
        x = self._x
        where = " (the sandbox's)" if x.sandbox else f" on {x.api_url}, tier {x.tier}"
        self._step(4, f"account {x.name}{where}")
        database = Database(self._state.dsn("maintainer"), name="up")
        try:
            settings.register_settings(database, registry.definitions(), registry.flags())
            if fleet_account.ensure(database, x, own_sandbox=self._config.runs_sandbox):
                self._step(4, "the rehearsal's short intervals are taken back: workers go at their own pace")
        except DatabaseError as error:
            raise UpError(str(error), exit_code=UNREACHABLE) from error
        finally:
            database.close()
        self._state.put("account", x.name)

    def _sandbox(self) -> None:
        if not self._config.runs_sandbox:
            self._step(5, f"X at {self._x.api_url}")
            return
        self._step(5, f"X sandbox at {self._x.api_url}")
        said = self._serve_sandbox()
        self._set_sandbox_clock()
        skipped = said.get("rejected_rows")
        self._step(5, f"world {said.get('world')}, {said.get('posts')} posts, tier {said.get('tier')}")
        if skipped:
            self._terminal.say(
                f"      {skipped} rows of the world were skipped: see {self._state.logs / 'sandbox.log'}",
                "warning",
            )

    def _serve_sandbox(self) -> dict[str, object]:
        # The tier that the account was made with: the sandbox allows what the policy does.
        port = self._config.socialfleet_sandbox_port
        return self._services.sandbox(self._x.api_url, port, tier=self._x.tier, world=self._world.file)

    def _set_sandbox_clock(self) -> None:
        """Fleet time that a rehearsal moved stays moved, also for a sandbox that begins anew."""
        database = Database(self._state.dsn("maintainer"), name="up")
        try:
            rehearsal_clock.tell_sandbox(database, self._x.api_url, self._state.path / "sandbox.token")
        finally:
            database.close()

    def _workers(self) -> tuple[Manager, Control]:
        kinds = registry.find()
        self._step(6, f"workers: {', '.join(kinds)}")
        control = Control(
            lambda: self._state.dsn("maintainer"),
            {name: registry.description(kind) for name, kind in kinds.items()},
            wake=self._supervisor.wake,
            say=self._terminal.say,
            tell=self._terminal.event,
            wake_worker=self._wake_worker,
            host=self._config.socialfleet_host,
            labels=self._config.host_labels,
            machine=machine.identity(self._state),
            answered_at_s=self._keeper.answered_at_s,
        )
        self._manager = manager = self._manage(
            self._supervisor,
            control,
            keeper=self._keeper,
            workers=list(kinds),
            logs=self._state.logs,
            state=self._state.path,
            environment={"SOCIALFLEET_ACCOUNT": self._state.account},
            to_stdout=self._config.socialfleet_log_to_stdout,
        )
        # Undone in reverse: the workers drain first, their end is reported, the services go, then PostgreSQL.
        self._undo.callback(self._services.stop)
        self._undo.callback(control.stop)
        self._undo.callback(manager.stop)
        control.start()
        deadline = time.monotonic() + FIRST_ORDERS_S

        def settled() -> bool:
            states = {child.state for child in manager.slots.values()}
            return self._takes_over or (bool(states) and "STARTING" not in states)

        manager.run(lambda: settled() or self._supervisor.stopping or time.monotonic() > deadline)
        if control.refusal is not None and not self._takes_over:
            raise UpError(str(control.refusal), exit_code=REFUSED)
        for child in manager.slots.values():
            if child.state == "BACKOFF":
                self._terminal.say(f"      {child.name} {child.reason}", "warning")
        return manager, control

    def _wake_worker(self, name: str, kind: Kind, whom: Whom) -> bool:
        # It is made after the line that wakes.
        return self._manager is not None and self._manager.wake(name, kind, whom)

    @property
    def _left_s(self) -> float:
        """What is left of the time in which everything must have ended."""
        return STOP_S if self._stop_by is None else max(LEAST_STOP_S, self._stop_by - time.monotonic())

    @property
    def _console_url(self) -> str:
        return f"http://127.0.0.1:{self._config.socialfleet_console_port}"

    def _step(self, number: int, text: str) -> None:
        if not self._takes_over:
            self._terminal.step(number, STEPS, text)


@contextmanager
def _dying_alone(terminal: Terminal) -> Generator[None]:
    """Let a fault end this process and nothing else: the keeper makes another, which takes over."""
    try:
        yield
    except Exception:  # noqa: BLE001  whatever it is, the workers need not end for it
        terminal.flush()
        terminal = Terminal(sys.stderr)
        for line in traceback.format_exc().splitlines():
            terminal.say(line)
        terminal.flush()
        os._exit(CRASHED)
