"""`socialfleet up`: the whole fleet of this host in the foreground, started in order and stopped in reverse.

UpError     a step of the start failed; the text says what to do, `exit_code` what the shell gets
"""

import os
import signal
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from config import Config
from coordination import accounts, settings
from coordination.accounts import Tier
from coordination.database import Database
from coordination.errors import DatabaseError
from host import logins, ports, rehearsal_clock, x_account
from host.child import Child, Program
from host.control import Control
from host.database_server import DatabaseServer
from host.logins import Logins
from host.postgres import EmbeddedPostgres, find_binaries
from host.state_directory import StateDirectory
from host.supervisor import StopRequested, Supervisor
from host.terminal import Terminal
from migrations import schema
from workers import registry

STEPS = 6
SERVICE_START_S = 30.0
SERVICE_STOP_S = 1.5
FIRST_ORDERS_S = 10.0
STOP_S = 14.0  # the fleet promises to have ended 15 s after it was asked to
LEAST_STOP_S = 2.0  # for PostgreSQL, even when workers took their whole time
DYING_SERVER_S = 3.0
REFUSED = 2
UNREACHABLE = 4
SEEDED_BY = "sandbox"
REHEARSAL = "a rehearsal in the sandbox shows posts and readings within a minute"
NO_REHEARSAL = "the account is not the sandbox's: a rehearsal's pace is not for it"
REHEARSAL_SETTINGS: Mapping[str, int] = {
    "planner_interval_s": 60,
    "planner_check_interval_s": 30,
    "planner_spacing_s": 25,
    "poster_interval_s": 15,
    "metrics_interval_s": 10,
    "metrics_first_reading_s": 10,
    "discovery_interval_s": 60,
    "engagement_interval_s": 30,
    "mentions_interval_s": 15,
    "coordination_interval_s": 30,
    "monitoring_interval_s": 60,
}
"""First values of live settings where the fleet runs its own sandbox; what a person set stays."""


class UpError(Exception):
    """A step of the start failed."""

    def __init__(self, message: str, *, exit_code: int = 1) -> None:
        super().__init__(message)
        self.exit_code = exit_code


class Manager(Protocol):
    """What `up` needs of `manager.WorkerManager`."""

    @property
    def slots(self) -> Mapping[tuple[str, int], Child]:
        """Every slot's child."""
        ...

    def run(self, until: Callable[[], bool]) -> None:
        """Attend until then."""
        ...

    def stop(self) -> None:
        """Drain every worker."""
        ...


class Manage(Protocol):
    """How a manager is made."""

    def __call__(
        self,
        supervisor: Supervisor,
        line: Control,
        *,
        workers: Sequence[str],
        logs: Path,
        environment: Mapping[str, str] | None = None,
    ) -> Manager:
        """Make one."""
        ...


@dataclass(frozen=True, kw_only=True)
class World:
    """What the fleet's own sandbox is started with; None is the sandbox's own default."""

    file: Path | None = None
    tier: Tier | None = None


class Up:
    """One fleet on this host, from the checks to the last process's end."""

    def __init__(self, config: Config, *, world: World, manage: Manage, terminal: Terminal) -> None:
        self._config = config
        self._world = world
        self._manage = manage
        self._terminal = terminal
        self._state = StateDirectory(config.state_dir)
        self._supervisor = Supervisor()
        self._undo = ExitStack()
        self._services: list[Child] = []
        self._stop_by: float | None = None
        self._is_ready = False

    def run(self) -> int:
        """Start, stay until asked to stop, and stop everything.

        Raises:
            UpError, and the typed errors of the modules above: what was started is stopped then.
        """
        began = time.monotonic()
        with self._supervisor, self._undo:
            try:
                with self._supervisor.interruptible():
                    self._state.make()
                    crashed = self._undo.enter_context(self._state.locked())
                    manager, control = self._start(crashed=crashed)
                self._is_ready = True
                self._terminal.say(f"ready: {self._console_url} ({time.monotonic() - began:.1f} s)", "ready")
                self._terminal.say(f"       X: {self._x.api_url}; Ctrl-C stops the fleet")
                control.follow()
                manager.run(lambda: self._supervisor.stopping)
            except StopRequested:
                pass
            self._stop_by = time.monotonic() + STOP_S
            self._terminal.say("draining: the workers finish what they do (Ctrl-C again kills at once)")
        self._terminal.say("stopped")
        return 0

    def _start(self, *, crashed: bool) -> tuple[Manager, Control]:
        config = self._config
        # What a killed fleet leaves behind ends by itself; its ports are free a moment later.
        patience_s = DYING_SERVER_S if crashed else 0.0
        ports.require_free(config.socialfleet_console_port, "SOCIALFLEET_CONSOLE_PORT", patience_s=patience_s)
        if config.runs_sandbox:
            ports.require_free(
                config.socialfleet_sandbox_port, "SOCIALFLEET_SANDBOX_PORT", patience_s=patience_s
            )
        elif self._world != World():
            raise UpError(
                "WORLD and --tier are for the fleet's own sandbox, and X_API_URL or credentials name "
                "another X: unset those, or leave these out",
                exit_code=REFUSED,
            )
        if self._world.file and not self._world.file.is_file():
            raise UpError(f"WORLD is '{self._world.file}': there is no such file", exit_code=REFUSED)
        self._x = x_account.choose(config, sandbox_tier=self._world.tier)
        self._console()
        own_logins = self._database()
        self._schema(own_logins)
        self._account()
        self._sandbox()
        return self._workers()

    # The six steps

    def _console(self) -> None:
        self._step(1, f"console at {self._console_url}")
        self._state.ensure_token("console")
        self._state.ensure_token("sandbox")
        port = self._config.socialfleet_console_port
        argv = [sys.executable, "-m", "console", "--port", str(port), "--state", str(self._state.path)]
        self._serve("console", argv, self._console_url, "/health/live")

    def _database(self) -> Logins:
        if self._config.database_url is not None:
            self._step(2, "PostgreSQL: the one that DATABASE_URL names")
            found = logins.derive(self._config.database_url.get_secret_value(), self._state)
            found.keep(self._state)
            return found
        self._step(2, "PostgreSQL: an embedded one")
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
        )
        self._undo.callback(lambda: server.stop(self._left_s))
        server.start()
        while not server.has_begun:
            self._supervisor.wait(1.0)
        if server.error is not None:
            raise server.error
        return logins.derive(postgres.migrator_dsn, self._state)

    def _schema(self, own_logins: Logins) -> None:
        self._step(3, "schema")
        revision = schema.upgrade(own_logins.dsns["migrator"], own_logins.passwords)
        self._step(3, f"schema fleet is at revision {revision}")

    def _account(self) -> None:
        x = self._x
        where = " (the sandbox's)" if x.sandbox else f" on {x.api_url}, tier {x.tier}"
        self._step(4, f"account {x.name}{where}")
        database = Database(self._state.dsn("maintainer"), name="up")
        try:
            accounts.ensure_account(
                database,
                x.name,
                platform="x",
                api_url=x.api_url,
                sandbox=x.sandbox,
                topics=x_account.TOPICS,
                tier=x.tier,
            )
            if not x.sandbox and rehearsal_clock.is_moved(database):
                raise UpError(
                    "a rehearsal moved this database's fleet time: a real account needs another database",
                    exit_code=REFUSED,
                )
            if self._config.runs_sandbox:
                for key, value in REHEARSAL_SETTINGS.items():
                    settings.seed_setting(database, key, value, actor=SEEDED_BY, reason=REHEARSAL)
            elif not x.sandbox and settings.unseed_settings(database, actor=SEEDED_BY, reason=NO_REHEARSAL):
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
        argv = [sys.executable, "-m", "sandbox", "x", "--port", str(self._config.socialfleet_sandbox_port)]
        # The tier that the account was made with: the sandbox allows what the policy does.
        argv += ["--state", str(self._state.sandbox), "--tier", self._x.tier]
        if self._world.file:
            argv += ["--world", str(self._world.file.absolute())]
        said = self._serve("sandbox", argv, self._x.api_url, "/_sandbox/health")
        self._set_sandbox_clock()
        skipped = said.get("rejected_rows")
        self._step(5, f"world {said.get('world')}, {said.get('posts')} posts, tier {said.get('tier')}")
        if skipped:
            self._terminal.say(
                f"      {skipped} rows of the world were skipped: see {self._state.logs / 'sandbox.log'}",
                "warning",
            )

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
        )
        manager = self._manage(
            self._supervisor,
            control,
            workers=list(kinds),
            logs=self._state.logs,
            environment={"SOCIALFLEET_ACCOUNT": self._x.name},
        )
        # Undone in reverse: the workers drain first, their end is reported, the services go, then PostgreSQL.
        self._undo.callback(self._stop_services)
        self._undo.callback(control.stop)
        self._undo.callback(manager.stop)
        control.start()
        deadline = time.monotonic() + FIRST_ORDERS_S

        def settled() -> bool:
            states = {child.state for child in manager.slots.values()}
            return bool(states) and "STARTING" not in states

        manager.run(lambda: settled() or self._supervisor.stopping or time.monotonic() > deadline)
        for child in manager.slots.values():
            if child.state == "BACKOFF":
                self._terminal.say(f"      {child.name} {child.reason}", "warning")
        return manager, control

    # Console and sandbox

    def _serve(self, name: str, argv: Sequence[str], url: str, path: str) -> dict[str, object]:
        """Start a server of ours and give what it answers once it does; it is restarted when it dies."""
        child = Child(
            Program(
                name=name,
                argv=argv,
                environment=os.environ,
                log=self._state.logs / f"{name}.log",
                on_orphaned=signal.SIGTERM,
                stop_timeout_s=SERVICE_STOP_S,
            )
        )
        self._supervisor.children.append(child)
        if not self._services:
            self._undo.callback(self._stop_services)
        self._services.append(child)
        child.start()
        deadline = time.monotonic() + SERVICE_START_S
        while (said := x_account.get_json(url, path)) is None:
            self._supervisor.wait(0.05)
            if child.state == "BACKOFF":
                words = child.last_words() or child.reason
                raise UpError(
                    f"{words} (log: {child.program.log})",
                    exit_code=REFUSED if child.exit_code == REFUSED else 1,
                )
            if time.monotonic() > deadline:
                raise UpError(
                    f"the {name} did not answer within {SERVICE_START_S:g} s: see {child.program.log}"
                )
        return said

    def _stop_services(self) -> None:
        self._supervisor.stop(self._services, "")

    @property
    def _left_s(self) -> float:
        """What is left of the time in which everything must have ended."""
        return STOP_S if self._stop_by is None else max(LEAST_STOP_S, self._stop_by - time.monotonic())

    @property
    def _console_url(self) -> str:
        return f"http://127.0.0.1:{self._config.socialfleet_console_port}"

    def _step(self, number: int, text: str) -> None:
        self._terminal.step(number, STEPS, text)
