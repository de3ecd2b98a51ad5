"""What a process and its descendants use."""

import os
import subprocess
import sys

from host.slots.usage import CpuShare, measure
from tests.integration.host.keeping import eventually

HOLDER = "held = b'x' * (64 << 20); import time; print('ready', flush=True); time.sleep(1000)"
FAMILY = f"""
import subprocess, sys
child = subprocess.Popen([sys.executable, "-c", {HOLDER!r}], stdout=subprocess.PIPE)
child.stdout.readline()
print(child.pid, flush=True)
child.wait()
"""


def test_the_memory_of_a_child_is_its_parents_too() -> None:
    with subprocess.Popen(
        [sys.executable, "-c", FAMILY], stdout=subprocess.PIPE, text=True, start_new_session=True
    ) as parent:
        assert parent.stdout
        child = int(parent.stdout.readline())
        found = measure([parent.pid, child])
        assert found[parent.pid].pids == (parent.pid, child)
        assert found[child].memory_bytes > 64 << 20
        assert found[parent.pid].memory_bytes > found[child].memory_bytes
        parent.kill()
        parent.wait()
        # Its parent is another now, and it is still in the session.
        eventually(lambda: not measure([parent.pid]), "the parent is gone")
        os.killpg(parent.pid, 9)


def test_one_that_is_gone_is_left_out() -> None:
    assert measure([2**22 + 1]) == {}


def test_the_share_of_a_cpu_is_over_the_last_minute_and_known_once_that_has_passed() -> None:
    share = CpuShare()
    assert share.percent is None
    for second in range(0, 60, 5):
        share.add(second, second * 0.5)
    assert share.percent == 50
    assert share.percent_of_window is None
    share.add(60, 30)
    assert share.percent_of_window == 50
    for second in range(65, 125, 5):  # a minute at rest
        share.add(second, 30)
    assert share.percent_of_window == 0
