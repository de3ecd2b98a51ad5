"""A sandbox that is killed while it makes its world leaves nothing half-made, and nobody behind."""

import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil

from sandbox.x.world.prefetch import PrefetchError

PATIENCE_S = 60
WORLD = ("--people", "200", "--posts", "30000", "--mentions", "0")


def start(state: Path) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "sandbox", "x", "--port", "0", "--state", str(state), *WORLD]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def maker_of(sandbox: subprocess.Popen[str]) -> psutil.Process:
    """The process that makes the world's past, as soon as there is one."""
    deadline = time.monotonic() + PATIENCE_S
    while time.monotonic() < deadline:
        if found := psutil.Process(sandbox.pid).children():
            return found[0]
    raise AssertionError("no other process made the world")


def test_killed_while_it_makes_its_world_it_starts_anew_with_the_whole_of_it(tmp_path: Path) -> None:
    with start(tmp_path) as killed:
        maker = maker_of(killed)
        killed.kill()
    maker.wait(PATIENCE_S)
    with start(tmp_path) as again:
        assert again.stdout
        line = again.stdout.readline()
        assert psutil.Process(again.pid).children() == []
        again.send_signal(signal.SIGTERM)
    assert "30000 posts" in line


def test_told_to_stop_while_it_makes_its_world_it_leaves_with_its_maker(tmp_path: Path) -> None:
    with start(tmp_path) as stopped:
        maker = maker_of(stopped)
        stopped.send_signal(signal.SIGTERM)
        assert stopped.wait(PATIENCE_S) == 0
    maker.wait(PATIENCE_S)


SCRIPT = """
from sandbox.x.posts import Batch, PlainPost
from sandbox.x.world.prefetch import PrefetchError, prefetched

def past():
    yield Batch([PlainPost(1, 7, "tea", 3, "en", None, None, None, None)], [(1, "tea", "post")])
    raise RuntimeError("no more words")

with prefetched(past()) as found:
    print(tuple(next(found)))
    try:
        next(found)
    except PrefetchError:
        print("PrefetchError")
"""


def test_a_past_that_breaks_off_is_refused_and_says_why() -> None:
    told = subprocess.run(
        [sys.executable, "-c", SCRIPT], capture_output=True, text=True, timeout=PATIENCE_S, check=True
    )
    batch = ([(1, 7, "tea", 3, "en", None, None, None, None)], [(1, "tea", "post")])
    assert told.stdout == f"{batch}\n{PrefetchError.__name__}\n"
    assert "no more words" in told.stderr
