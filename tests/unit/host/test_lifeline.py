"""The lifeline, with real processes: killing one can't be imitated."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from host import lifeline
from host.lifeline import ORPHANED, bound_to_parent

LINUX_ONLY = pytest.mark.skipif(sys.platform != "linux", reason="the lifeline needs Linux")
REPOSITORY = Path(__file__).parents[3]
ENDS_WITHIN_S = 60

# A parent that ties a child to itself, names the child's pid once it runs, and waits to be killed.
PARENT = """
import subprocess, sys
from host.lifeline import bound_to_parent
user = int(sys.argv[2]) if len(sys.argv) > 2 else None
child = subprocess.Popen(
    ["/bin/sh", "-c", "echo $$; exec sleep 1000"],
    cwd="/", user=user, start_new_session=True, preexec_fn=bound_to_parent(int(sys.argv[1])),
)
child.wait()
"""


def parent_of_bound_child(*arguments: object) -> tuple[subprocess.Popen[str], psutil.Process]:
    parent = subprocess.Popen(
        [sys.executable, "-c", PARENT, *map(str, arguments)],
        cwd=REPOSITORY,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert parent.stdout
    return parent, psutil.Process(int(parent.stdout.readline()))


def kill(parent: subprocess.Popen[str]) -> None:
    with parent:
        parent.kill()


def has_ended(process: psutil.Process) -> bool:
    """Whether it is gone, or a zombie that waits for a reaper, within the time allowed."""
    for _ in range(ENDS_WITHIN_S * 10):
        gone, _alive = psutil.wait_procs([process], timeout=0.1)
        try:
            if gone or process.status() == psutil.STATUS_ZOMBIE:
                return True
        except psutil.NoSuchProcess:
            return True
    return False


@LINUX_ONLY
@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGKILL])
def test_a_bound_child_ends_when_its_parent_is_killed(signum: signal.Signals) -> None:
    parent, child = parent_of_bound_child(signum.value)

    kill(parent)

    assert has_ended(child)


@LINUX_ONLY
@pytest.mark.skipif(os.geteuid() != 0, reason="only root can change the user")
def test_the_bond_holds_for_a_child_that_changed_its_user() -> None:
    parent, child = parent_of_bound_child(signal.SIGTERM.value, 65534)
    assert child.uids().real == 65534

    kill(parent)

    assert has_ended(child)


@LINUX_ONLY
def test_a_child_whose_parent_is_already_another_ends_at_once() -> None:
    tie = bound_to_parent(signal.SIGTERM)

    child = os.fork()
    if child == 0:
        grandchild = os.fork()
        if grandchild == 0:
            tie()  # made for a child of the test, not for its grandchild
            os._exit(0)
        os._exit(os.waitstatus_to_exitcode(os.waitpid(grandchild, 0)[1]))

    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == ORPHANED


def test_elsewhere_than_on_linux_the_lifeline_does_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lifeline.sys, "platform", "darwin")

    tie = bound_to_parent(signal.SIGTERM)

    child = subprocess.run(["/bin/sh", "-c", "exit 7"], preexec_fn=tie, check=False)
    assert child.returncode == 7


@LINUX_ONLY
def test_a_signal_that_the_parent_ignores_ends_its_child_all_the_same() -> None:
    script = "import signal; signal.signal(signal.SIGINT, signal.SIG_IGN)\n" + PARENT
    parent = subprocess.Popen(
        [sys.executable, "-c", script, str(int(signal.SIGINT))],
        cwd=REPOSITORY,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert parent.stdout
    child = psutil.Process(int(parent.stdout.readline()))
    kill(parent)
    assert has_ended(child)
