"""`make up` as a person runs it, and what that person can see."""

import contextlib
import json
import os
import queue
import re
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from time import monotonic
from typing import Any, TypeVar

import psutil
import requests

ROOT = Path(__file__).parents[2]
READY = re.compile(r"^ready: (http://\S+)")
Found = TypeVar("Found")


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


def eventually(look: Callable[[], Found | None], *, within_s: float, what: str) -> Found:
    """Look until something is there; the fleet's own pace decides how often is enough."""
    deadline = monotonic() + within_s
    pause = threading.Event()
    while True:
        with contextlib.suppress(requests.RequestException):
            found = look()
            if found:
                return found
        assert monotonic() < deadline, f"not within {within_s} s: {what}"
        pause.wait(0.2)


class FleetProcess:
    """One run of `make up`, or of another command that runs the fleet, on a state directory."""

    def __init__(
        self,
        state: Path,
        *,
        console_port: int,
        sandbox_port: int,
        world: Path | None = None,
        tier: str | None = None,
        command: Sequence[str] = (),
    ) -> None:
        self.state = state
        self.console = f"http://127.0.0.1:{console_port}"
        self.sandbox = f"http://127.0.0.1:{sandbox_port}"
        kept = {name: os.environ[name] for name in ("PATH", "HOME", "LANG") if name in os.environ}
        self.environment = {
            **kept,
            "SOCIALFLEET_STATE_DIR": str(state),
            "SOCIALFLEET_CONSOLE_PORT": str(console_port),
            "SOCIALFLEET_SANDBOX_PORT": str(sandbox_port),
        }
        self.lines: list[str] = []
        self._heard: queue.SimpleQueue[str] = queue.SimpleQueue()
        self._started_at = monotonic()
        command = [*command] or ["make", "up", f"PYTHON={sys.executable}"]
        command += [f"WORLD={world}"] if world else []
        command += [f"TIER={tier}"] if tier else []
        self.process = subprocess.Popen(
            command,
            cwd=ROOT,
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        self._listener = threading.Thread(target=self._listen)
        self._listener.start()

    def _listen(self) -> None:
        assert self.process.stdout
        for line in self.process.stdout:
            self.lines.append(line.rstrip())
            self._heard.put(line.rstrip())
        self._heard.put("")

    def wait_ready(self, within_s: float) -> float:
        """Wait for the line that gives the console's address; give the seconds it took."""
        while True:
            left = self._started_at + within_s - monotonic()
            try:
                line = self._heard.get(timeout=max(0.01, left))
            except queue.Empty:
                raise AssertionError(f"not ready within {within_s} s:\n" + "\n".join(self.lines)) from None
            if match := READY.match(line):
                assert match[1] == self.console
                return monotonic() - self._started_at
            assert self.process.poll() is None, "\n".join(self.lines)

    def processes(self) -> list[psutil.Process]:
        """Every process of this run."""
        parent = psutil.Process(self.process.pid)
        return [parent, *parent.children(recursive=True)]

    def stop(self, number: signal.Signals = signal.SIGTERM) -> float:
        """Signal as a service manager or (SIGINT) Ctrl-C would; give the seconds until all is over."""
        started = monotonic()
        if number == signal.SIGINT:
            os.killpg(self.process.pid, number)  # a terminal's Ctrl-C goes to the whole foreground group
        else:
            os.kill(self.process.pid, number)
        try:
            self.process.wait(30)
        except subprocess.TimeoutExpired:
            raise AssertionError("\n".join([*self.lines[-30:], *alive(self.processes())])) from None
        took = monotonic() - started
        self._listener.join(10)
        assert self.process.stdout
        self.process.stdout.close()
        return took

    def kill(self) -> None:
        """End whatever is left, after a failed test."""
        if self.process.poll() is None:
            for process in self.processes():
                with contextlib.suppress(psutil.NoSuchProcess):
                    process.kill()
            self.process.wait(10)
        self._listener.join(10)
        if self.process.stdout:
            self.process.stdout.close()

    def command(self, *arguments: str, expect: int = 0) -> str:
        """Run `socialfleet ARGUMENTS`; give what it printed."""
        done = subprocess.run(
            [str(ROOT / ".venv" / "bin" / "socialfleet"), *arguments],
            cwd=ROOT,
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == expect, f"{arguments}: {done.returncode}\n{done.stdout}{done.stderr}"
        return done.stdout + (done.stderr if expect else "")

    def get(self, path: str) -> Any:
        """GET from the console."""
        answer = requests.get(self.console + path, timeout=10)
        answer.raise_for_status()
        return answer.json()

    def workers(self) -> dict[str, dict[str, Any]]:
        """The status list by worker's name."""
        return {item["name"]: item for item in self.get("/api/workers/status")}

    def writes(self) -> list[dict[str, Any]]:
        """The platform's own record."""
        return list(requests.get(f"{self.sandbox}/_sandbox/writes", timeout=10).json())

    def posted(self) -> dict[str, str]:
        """The ledger's posted intents that have a text: platform id -> text."""
        found: dict[str, str] = {}
        after = ""
        while True:
            page = self.get(f"/api/intents?state=posted{after}")
            found |= {item["platform_id"]: item["text"] for item in page["items"] if item["text"]}
            if page["next"] is None:
                return found
            after = f"&after={page['next']}"

    def search(self, query: str, **parameters: str) -> dict[str, Any]:
        """Search the sandbox as an app would."""
        token = json.loads((self.state / "sandbox" / "credentials.json").read_text())["x_bearer_token"]
        answer = requests.get(
            f"{self.sandbox}/2/tweets/search/recent",
            params={"query": query, "tweet.fields": "public_metrics,created_at", **parameters},
            headers={"Authorization": f"Bearer {token}"},
            timeout=10,
        )
        answer.raise_for_status()
        return dict(answer.json())


def alive(processes: Sequence[psutil.Process]) -> list[str]:
    """Which of them still run; zombies of a foreign parent don't count."""
    left: list[str] = []
    for process in processes:
        with contextlib.suppress(psutil.NoSuchProcess):
            if process.is_running() and process.status() != psutil.STATUS_ZOMBIE:
                left.append(f"{process.pid} {' '.join(process.cmdline())[:120]}")
    return left
