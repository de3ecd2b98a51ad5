"""Server: the process. It takes its state directory and its port, loads the world, serves, and leaves.

SandboxError     the sandbox can't start; the text says what to do
"""

import asyncio
import contextlib
import fcntl
import signal
import socket
import sqlite3
import sys
import tempfile
from collections.abc import Generator
from pathlib import Path
from typing import Any

import uvicorn

from sandbox.x import credentials, snowflakes
from sandbox.x.app import Sandbox
from sandbox.x.auth import Gate
from sandbox.x.control import control
from sandbox.x.control.clock import Clock
from sandbox.x.control.connections import Connection
from sandbox.x.control.control import Token, TokenError
from sandbox.x.credentials import Credentials, CredentialsError
from sandbox.x.posts import User
from sandbox.x.store.store import Store
from sandbox.x.world import world_files, worlds
from sandbox.x.world.living import Living
from sandbox.x.world.population import Inhabited, Options
from sandbox.x.world.prefetch import PrefetchError, prefetched
from sandbox.x.world.world_files import WorldError

HOST = "127.0.0.1"
TIERS = ("free", "pay_per_use", "enterprise")
MAX_PORT = 65_535

# Long enough for an answer under way, short enough to be gone within the promised 2 s.
SHUTDOWN_S = 1


class SandboxError(Exception):
    """The sandbox can't start."""


def serve(*, port: int, world: Path | None, tier: str, state: Path | None, options: Options) -> None:
    """Serves until SIGTERM or SIGINT; raises SandboxError if it can't begin.

    Args:
        port: TCP port on loopback; 0 takes a free one.
        world: A CSV or tweets.js; None for the built-in world.
        tier: One of `TIERS`.
        state: The directory that keeps the record; None for one that is removed at the end.
        options: What the world is made from, and how its people live.
    """
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, _leave)
    with _listener(port) as listener, _state_directory(state) as directory:
        keys, token = _load_credentials(directory), _find_token(directory, kept=state is not None)
        bound = listener.getsockname()[1]
        with contextlib.closing(_open_store(directory, keys)) as store:
            clock = Clock(store)
            living = _open_world(store, world, options, clock.now_ms())
            name = world.name if world else "built-in"
            sandbox = Sandbox(
                store=store,
                gate=Gate(keys, bound, store.tokens),
                tier=tier,
                world=name,
                clock=clock,
                living=living,
                token=token.value,
            )
            kept = f"state in {directory}" if state else "state forgotten at exit"
            about = f"world {name}, {store.count_posts()} posts, tier {tier}, {kept}"
            line = f"sandbox: X at http://{HOST}:{bound} ({about})"
            asyncio.run(_run(sandbox, listener, f"{line}\n{token.line}"))


def _leave(_number: int, _frame: Any) -> None:
    """Before the server listens there is nothing to drain: unwind, so that a temporary state goes."""
    sys.exit(0)


@contextlib.contextmanager
def _listener(port: int) -> Generator[socket.socket]:
    if not 0 <= port <= MAX_PORT:
        raise SandboxError(f"--port is {port}: expected 0 to {MAX_PORT}")
    # The protocol is named, or asyncio leaves TCP_NODELAY off and each answer waits 40 ms for an ACK.
    with socket.socket(proto=socket.IPPROTO_TCP) as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind((HOST, port))
            listener.listen(256)
        except OSError as error:
            raise SandboxError(
                f"port {port} on {HOST} can't be used ({error.strerror}): stop what listens there, "
                f"or choose another --port"
            ) from error
        yield listener


@contextlib.contextmanager
def _state_directory(state: Path | None) -> Generator[Path]:
    """The directory, locked: a second sandbox on the same record would break its order."""
    if state is None:
        with tempfile.TemporaryDirectory(prefix="sandbox-x-") as directory:
            yield Path(directory)
        return
    try:
        state.mkdir(parents=True, exist_ok=True)
        (state / "lock").touch(0o600)
        lock = (state / "lock").open("a", encoding="utf-8")
    except OSError as error:
        raise _unusable(state, error) from error
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise SandboxError(
                f"--state {state} is in use by another sandbox: stop it, or choose another directory"
            ) from error
        yield state


def _unusable(directory: Path, error: OSError) -> SandboxError:
    return SandboxError(
        f"the state directory {directory} can't be used ({error.strerror}): choose one you may write to"
    )


def _load_credentials(directory: Path) -> Credentials:
    try:
        return credentials.load(directory)
    except OSError as error:
        raise _unusable(directory, error) from error
    except CredentialsError as error:
        raise SandboxError(str(error)) from error


def _find_token(directory: Path, *, kept: bool) -> Token:
    try:
        return control.find_token(directory, kept=kept)
    except TokenError as error:
        raise SandboxError(str(error)) from error


def _open_store(directory: Path, keys: Credentials) -> Store:
    path = directory / "x.sqlite"
    account = User(
        id=int(keys.user_id),
        username=keys.username,
        name="Fleet",
        created_ms=snowflakes.time_ms(int(keys.user_id)),
    )
    try:
        return Store(path, account)
    except sqlite3.Error as error:
        raise SandboxError(
            f"{path} can't be used ({error}): move it away, and the next start makes a new one"
        ) from error


def _open_world(store: Store, file: Path | None, options: Options, now_ms: int) -> Living:
    """Puts the world in place unless it is there already, reports the rows it skips, and lets it live."""
    inhabited = Inhabited(options=options, account=store.account)
    try:
        data = world_files.read_bytes(file) if file else b""
        if store.meta("world") != inhabited.digest(data):
            _replace_world(store, inhabited, file, data, now_ms)
    except (PrefetchError, WorldError) as error:
        raise SandboxError(str(error)) from error
    living = Living(store, inhabited, grows=file is None, now_ms=now_ms)
    store.reactions = living.reactions
    return living


def _replace_world(store: Store, inhabited: Inhabited, file: Path | None, data: bytes, now_ms: int) -> None:
    if file is None:
        with prefetched(inhabited.past(now_ms)) as past:
            store.replace_world(inhabited.world(now_ms, past))
        return
    world = worlds.load(file, data, taken=inhabited.account.username)
    for report in world.reports:
        print(report, file=sys.stderr)  # noqa: T201 - a command line reports
    store.replace_world(inhabited.joining(world, data, now_ms))


class _Server(uvicorn.Server):
    """uvicorn without its own signal handling, which raises the signal again after the end."""

    def __init__(self, config: uvicorn.Config, line: str) -> None:
        super().__init__(config)
        self._line = line

    @contextlib.contextmanager
    def capture_signals(self) -> Generator[None]:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._stop)
        yield

    def _stop(self) -> None:
        self.should_exit = True

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        print(self._line, flush=True)  # noqa: T201 - the lines that say it listens


async def _run(sandbox: Sandbox, listener: socket.socket, line: str) -> None:
    config = uvicorn.Config(
        sandbox.application(),
        http=Connection,
        lifespan="off",
        date_header=False,
        log_level="warning",
        access_log=False,
        timeout_graceful_shutdown=SHUTDOWN_S,
        server_header=False,
    )
    await _Server(config, line).serve(sockets=[listener])
