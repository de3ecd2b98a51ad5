"""What a forked worker has of its own, what an executed one has too, and when which of the two is born."""

import json
import os
import resource
import signal
import stat
import statistics
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from host.keeper.client import send_signal
from host.keeper.wire import Started
from tests.integration.host.keeping import Kept, eventually, keeping, lives

OWN_FILES = {"SOCIALFLEET_PROGRESS_FD", "SOCIALFLEET_WAKE_FD", "SOCIALFLEET_STACKS_FD"}

FATAL = (signal.SIGSEGV, signal.SIGFPE, signal.SIGABRT, signal.SIGBUS, signal.SIGILL)  # faulthandler's

# Whatever a module may do that a fork must not have from the template.
LEAKY = """
    import logging, random, signal, socket, sys

    random.seed(1)
    leaked = open("/dev/null")
    connection, other = socket.socketpair()
    logging.basicConfig(level=logging.WARNING)
    logging.getLogger("socialfleet").addHandler(logging.StreamHandler(sys.stdout))
    for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGALRM):
        signal.signal(number, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR1, signal.SIGTERM})
"""

TELLER = """
    import ctypes, faulthandler, json, logging, os, random, resource, signal, sys, threading, uuid

    def run(name, slot):
        death = ctypes.c_int()
        ctypes.CDLL(None).prctl(2, ctypes.byref(death))
        named = logging.root.manager.loggerDict.values()
        loggers = [logging.root, *(logger for logger in named if hasattr(logger, "handlers"))]
        told = {
            "random": random.random(),
            "uuid": str(uuid.uuid4()),
            "files": {file: os.readlink(f"/proc/self/fd/{file}") for file in os.listdir("/proc/self/fd")
                      if os.path.lexists(f"/proc/self/fd/{file}")},
            "signals": {line[:6]: int(line[7:], 16) for line in open("/proc/self/status")
                        if line.startswith(("SigIgn", "SigCgt", "SigBlk"))},
            "wakeup": signal.set_wakeup_fd(-1),
            "session": os.getsid(0), "group": os.getpgid(0), "pid": os.getpid(), "parent": os.getppid(),
            "death": death.value,
            "handlers": [str(handler) for logger in loggers for handler in logger.handlers],
            "armed": faulthandler.is_enabled(),
            "threads": threading.active_count(),
            "limits": resource.getrlimit(resource.RLIMIT_NOFILE),
            "environment": {k: v for k, v in os.environ.items() if k.startswith(("SOCIALFLEET_", "ADDED"))},
            "umask": os.umask(0),
            "nice": os.nice(0),
            "comm": open("/proc/self/comm").read().strip(),
            "streams": [sys.stdin.read(), sys.stdout.encoding, sys.stderr.encoding],
        }
        print(json.dumps(told), flush=True)
        print("on stderr: é", file=sys.stderr)
        if name == "sleeper":
            def dozing_in_another_thread():
                threading.Event().wait()
            threading.Thread(target=dozing_in_another_thread, daemon=True).start()
            print("dozing", flush=True)
            threading.Event().wait()
        return 9
"""


@pytest.fixture(params=["fork", "spawn"])
def kept(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Kept]:
    spawn = request.param == "spawn"
    with keeping(tmp_path, source=TELLER, modules={"leaky": LEAKY}, spawn=spawn) as running:
        yield running


def told(kept: Kept, started: Started) -> dict[str, Any]:
    assert kept.ended(started).exit_code == 9, kept.log(started.worker or "", started.slot or 0).read_text()
    first, second = kept.said(started.worker or "", started.slot or 0)
    assert second == "on stderr: é"
    return dict(json.loads(first))


def bits(*numbers: int) -> int:
    """A set of signals as the kernel shows it."""
    return sum(1 << (number - 1) for number in numbers)


def inherited_by_all() -> int:
    """Which of the C library's own signals are ignored here: it lets no program change what they inherit."""
    own = {32, 33}
    assert not own & signal.valid_signals()
    told = Path("/proc/self/status").read_text().partition("SigIgn:")[2].split()[0]
    return int(told, 16) & bits(*own)


def stacks_of(file: int, threads: int) -> str:
    """What is written there, once it holds so many threads to the end."""
    text = os.pread(file, 65536, 0).decode()
    return text if text.count("most recent call first") >= threads and text.endswith("\n") else ""


def test_two_workers_share_nothing_but_the_code(kept: Kept) -> None:
    one, two = kept.worker("teller", 1), kept.worker("teller", 2)
    assert one.fresh == two.fresh
    first, second = told(kept, one), told(kept, two)
    assert first["random"] != second["random"]
    assert first["uuid"] != second["uuid"]
    for own, started in ((first, one), (second, two)):
        named = {own["environment"][name] for name in OWN_FILES}
        assert len(named) == 3
        listing = {file for file, target in own["files"].items() if target.startswith("/proc/")}
        assert own["files"].keys() - listing == {"0", "1", "2"} | named
        assert own["files"]["0"] == "/dev/null"
        log = str(kept.log("teller", started.slot or 0))
        assert own["files"]["1"] == own["files"]["2"] == own["environment"]["SOCIALFLEET_LOG"] == log
        assert own["signals"] == {
            "SigIgn": bits(signal.SIGPIPE, signal.SIGXFSZ, signal.SIGUSR2) | inherited_by_all(),
            "SigCgt": bits(signal.SIGINT, signal.SIGUSR1, *FATAL),
            "SigBlk": 0,
        }
        assert own["wakeup"] == -1
        assert own["session"] == own["group"] == own["pid"] == started.pid
        assert own["parent"] == kept.process.pid
        assert own["death"] == signal.SIGKILL
        assert own["handlers"] == []
        assert own["armed"] is True
        assert own["threads"] == 1
        assert own["streams"] == ["", "utf-8", "utf-8"]
    assert first["environment"]["SOCIALFLEET_KEEPER"] == second["environment"]["SOCIALFLEET_KEEPER"]


@pytest.fixture
def modest() -> Iterator[tuple[int, int]]:
    """A person's limit of open files that is below what the kernel allows."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    own = (min(before[0], 300), before[1])
    resource.setrlimit(resource.RLIMIT_NOFILE, own)
    yield own
    resource.setrlimit(resource.RLIMIT_NOFILE, before)


@pytest.mark.parametrize("spawn", [False, True])
def test_it_has_the_limits_and_the_umask_of_the_person_and_the_niceness_it_was_given(
    modest: tuple[int, int], tmp_path: Path, *, spawn: bool
) -> None:
    with keeping(tmp_path, source=TELLER, spawn=spawn) as kept:
        own = told(kept, kept.worker("teller", 1, nice=3, environment={"ADDED": "1"}))
        kept.shell("ulimit -n")
        assert kept.said("program", 0) == ["300"]
    assert tuple(own["limits"]) == modest
    mask = os.umask(0)
    os.umask(mask)
    assert own["umask"] == mask
    assert own["nice"] == os.nice(0) + 3
    assert own["environment"]["ADDED"] == "1"
    assert stat.S_IMODE(kept.log("teller", 1).stat().st_mode) == 0o600


def test_a_fork_is_called_by_its_name(tmp_path: Path) -> None:
    with keeping(tmp_path, source=TELLER) as kept:
        assert told(kept, kept.worker("teller", 12))["comm"] == "teller/12"


def test_sigusr1_writes_the_stacks_of_all_threads_and_ends_nothing(kept: Kept) -> None:
    started = kept.worker("sleeper", 1)
    stacks = started.stacks
    assert stacks is not None
    kept.said("sleeper", 1, lines=3)
    for times in (1, 2):
        send_signal(started, signal.SIGUSR1)
        text = eventually(partial(stacks_of, stacks, 2 * times), "the stacks")
        assert text.count("dozing_in_another_thread") == times
    assert lives(started.pid)
    send_signal(started, signal.SIGTERM)
    assert kept.ended(started).exit_code == -signal.SIGTERM


def test_a_question_for_its_stacks_right_after_birth_ends_nothing(kept: Kept) -> None:
    started = kept.worker("sleeper", 1)
    send_signal(started, signal.SIGUSR1)
    kept.said("sleeper", 1, lines=3)
    assert lives(started.pid)


@pytest.mark.timed
def test_a_wake_up_reaches_the_worker_through_its_eventfd(tmp_path: Path) -> None:
    source = """
        import os, select

        def run(name, slot):
            wake = int(os.environ["SOCIALFLEET_WAKE_FD"])
            select.select([wake], [], [])
            return os.eventfd_read(wake)
    """
    with keeping(tmp_path, source=source) as kept:
        started = kept.worker()
        assert started.wake is not None
        os.eventfd_write(started.wake, 42)
        assert kept.ended(started).exit_code == 42


class TestTemplate:
    def test_a_worker_is_forked_and_with_spawn_executed(
        self, kept: Kept, request: pytest.FixtureRequest
    ) -> None:
        assert kept.worker("teller").fresh is ("[spawn]" in request.node.name)

    def test_a_source_that_changed_since_makes_the_next_start_fresh(self, tmp_path: Path) -> None:
        before = "def run(name, slot):\n    return 1\n"
        with keeping(tmp_path, source="from other import run", modules={"other": before}) as kept:
            old = kept.worker("other")
            assert (old.fresh, kept.ended(old).exit_code) == (False, 1)
            (tmp_path / "other.py").write_text(before.replace("1", "2"))
            new = kept.worker("other")
            assert (new.fresh, kept.ended(new).exit_code) == (True, 2)

    def test_a_source_written_while_the_template_was_made_is_not_trusted(self, tmp_path: Path) -> None:
        modules = {"other": "import os\nos.utime(__file__)\ndef run(name, slot):\n    return 1\n"}
        with keeping(tmp_path, source="from other import run", modules=modules) as kept:
            assert kept.worker("other").fresh is True

    @pytest.mark.parametrize("fault", ["raise ValueError('no')", "import nothing_such", "exit(3)", "def f(:"])
    def test_a_module_that_can_not_be_imported_ends_nobody_and_its_worker_starts_fresh(
        self, tmp_path: Path, fault: str
    ) -> None:
        source = "def run(name, slot):\n    return 5\n"
        with keeping(tmp_path, source=source, modules={"broken": fault, "sound": ""}) as kept:
            sound, broken = kept.worker("sound"), kept.worker("broken")
            assert (sound.fresh, broken.fresh) == (False, True)
            assert kept.ended(sound).exit_code == kept.ended(broken).exit_code == 5

    def test_an_entry_that_can_not_be_imported_is_its_workers_matter(self, tmp_path: Path) -> None:
        with keeping(tmp_path, source="import nothing_such") as kept:
            started = kept.worker()
            assert kept.ended(started).exit_code == 1
            assert "nothing_such" in kept.log("stub", 1).read_text()
            assert lives(kept.process.pid)

    def test_a_thread_in_the_template_makes_every_start_fresh(self, tmp_path: Path) -> None:
        thread = """
            import threading
            threading.Thread(target=threading.Event().wait, daemon=True).start()
        """
        source = "def run(name, slot):\n    return 5\n"
        with keeping(tmp_path, source=source, modules={"threaded": thread, "stub": ""}) as kept:
            assert kept.worker("stub").fresh is True

    def test_an_error_of_a_worker_is_its_exit_code_1_and_in_its_log(self, tmp_path: Path) -> None:
        source = "def run(name, slot):\n    raise ValueError('of mine')\n"
        with keeping(tmp_path, source=source) as kept:
            assert kept.ended(kept.worker()).exit_code == 1
            assert "ValueError: of mine" in kept.log("stub", 1).read_text()

    def test_24_forks_are_there_within_milliseconds_each(self, tmp_path: Path) -> None:
        source = """
            import signal, time

            def run(name, slot):
                print(time.monotonic(), flush=True)
                signal.pause()
        """
        with keeping(tmp_path, source=source) as kept:
            kept.worker("warm", 99)
            took_ms: list[float] = []
            began = time.monotonic()
            for slot in range(1, 25):
                asked = time.monotonic()
                assert kept.worker("warm", slot).fresh is False
                took_ms.append((float(kept.said("warm", slot)[0]) - asked) * 1000)
            print(f"a fork until its first line: median {statistics.median(took_ms):.1f} ms")  # noqa: T201
            assert statistics.median(took_ms) < 100
            assert time.monotonic() - began < 10
