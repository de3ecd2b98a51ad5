"""The sandbox as a process of its own, and the account that it knows."""

import json
import select
import subprocess
import sys
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from workers.platforms.x import X, XCredentials

ROOT = Path(__file__).parents[3]
START_S = 30


@dataclass(frozen=True, kw_only=True)
class Sandbox:
    url: str
    credentials: XCredentials
    user_id: str
    username: str

    @property
    def x(self) -> X:
        return X(self.url, self.credentials)


@contextmanager
def running(state: Path, *options: str) -> Generator[Sandbox]:
    """A sandbox that keeps its record in `state`, until the block ends."""
    command = [sys.executable, "-m", "sandbox", "x", "--port", "0", "--state", str(state), *options]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout
            assert select.select([process.stdout], [], [], START_S)[0], "the sandbox said nothing"
            line = process.stdout.readline()
            url = next(word for word in line.split() if word.startswith("http://")).rstrip("/.,")
            keys = json.loads((state / "credentials.json").read_text())
            yield Sandbox(
                url=url,
                credentials=XCredentials.from_file(state / "credentials.json"),
                user_id=keys["user_id"],
                username=keys["username"],
            )
        finally:
            process.terminate()
            process.wait(10)
