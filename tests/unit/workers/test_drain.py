"""Drain: a signal ends what may break off, and lets the rest finish."""

import signal
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[3]
WAITS = """
import sys, socket
from threading import Event
from workers.drain import Drain, DrainAskedError

stir = Event()
drain = Drain(stir)
drain.on_signals()
silent = socket.create_server(("127.0.0.1", 0))
try:
    with drain.breaking_off():
        print("waits", flush=True)
        silent.accept()
except DrainAskedError:
    print("broke off", flush=True)
stir.wait(10)
print(drain.asked.is_set(), flush=True)
try:
    with drain.breaking_off():
        print("began anew", flush=True)
except DrainAskedError:
    print("not again", flush=True)
sys.stdin.read()  # until all signals are sent: once Python ends it takes none of them any more
"""
WORKS = """
from threading import Event
from workers.drain import Drain

stir = Event()
drain = Drain(stir)
drain.on_signals()
print("works", flush=True)
stir.wait(10)
print(drain.asked.is_set(), flush=True)
"""


def told(script: str, number: signal.Signals, times: int = 1) -> list[str]:
    with subprocess.Popen(
        [sys.executable, "-c", script], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        first = process.stdout.readline().strip()
        for _ in range(times):
            process.send_signal(number)
        try:
            out, _ = process.communicate(timeout=20)
        finally:
            process.kill()
    assert process.returncode == 0
    return [first, *out.split("\n")[:-1]]


def test_what_waits_for_a_server_and_holds_nothing_ends_at_once() -> None:
    assert told(WAITS, signal.SIGTERM) == ["waits", "broke off", "True", "not again"]


def test_what_works_is_asked_and_not_cut() -> None:
    assert told(WORKS, signal.SIGINT) == ["works", "True"]


def test_a_second_signal_changes_nothing() -> None:
    assert told(WAITS, signal.SIGTERM, times=50)[-1] == "not again"
