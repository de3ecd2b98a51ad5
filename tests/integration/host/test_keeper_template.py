"""What a fork of the warm template costs: nothing is imported, and little of what is shared is copied."""

import json
import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[3]
MOST_SHARE = 0.136
"""It is 0.131; 0.137 where a fork looks at every logger, and 0.18 where nothing is prepared before it."""
PROGRAM = """
import json, os, resource, sys
from host.keeper import newborn, template, worker

def private_kb():
    with open("/proc/self/smaps_rollup") as found:
        return sum(int(line.split()[1]) for line in found if line.startswith("Private"))

warm = template.of_the_fleet()
while not warm.is_warm:
    warm.warm()
fresh, known = private_kb(), set(sys.modules)
heard, told = os.pipe()

def live():
    # The whole way to its database, which is away; asked to end while it waits for that.
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    newborn.separate("fork", tie=lambda: None, keep=[told], log=None, limits=limits)
    from coordination.errors import DatabaseUnavailableError
    from workers import process
    import coordination
    connect, tries = coordination.connect, []
    def told_once(*args, **kwargs):
        tries.append(1)
        if len(tries) == 1:
            return connect(*args, **kwargs)
        found = {"new": sorted(set(sys.modules) - known), "copied_kb": private_kb()}
        os.write(told, json.dumps(found).encode())
        os._exit(0)
    coordination.connect = told_once
    return worker.run("poster", 1)

pid = newborn.fork(live)
os.close(told)
said = os.read(heard, 65536)
os.waitpid(pid, 0)
print(json.dumps({**json.loads(said), "fresh_kb": fresh, "failed": warm.failed}))
"""


def _forked(tmp_path: Path, **environment: str) -> dict[str, object]:
    dsn = tmp_path / "state" / "dsn"
    dsn.mkdir(parents=True)
    (dsn / "worker").write_text(f"postgresql://nobody@/nothing?host={tmp_path}")
    ran = subprocess.run(
        [sys.executable, "-c", PROGRAM],
        cwd=tmp_path,
        env={
            "PATH": os.environ["PATH"],
            "PYTHONPATH": str(ROOT),
            "SOCIALFLEET_STATE_DIR": str(tmp_path / "state"),
            **environment,
        },
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr
    found: dict[str, object] = json.loads(ran.stdout.splitlines()[-1])
    assert found["failed"] == {}
    return found


def test_a_fork_imports_nothing_that_the_template_has_not(tmp_path: Path) -> None:
    assert _forked(tmp_path)["new"] == []


def test_a_fork_copies_a_small_part_of_what_it_shares(tmp_path: Path) -> None:
    found = _forked(tmp_path)
    copied, fresh = found["copied_kb"], found["fresh_kb"]
    assert isinstance(copied, int)
    assert isinstance(fresh, int)
    assert copied < fresh * MOST_SHARE, f"{copied} of {fresh} kB"
