"""Workers that do little, registered as a third party's package would: for measures and for faults.

A host gets them by `PYTHONPATH`: `install(directory)` makes the directory that it names first.
"""

import json
import os
import random
import subprocess
import time
from pathlib import Path
from typing import ClassVar

from coordination.engagement import Lease
from coordination.jobs import Job
from workers.base import Worker
from workers.intervals import hours, jobs, seconds

ROOT = Path(__file__).parents[1]
ACTS = "acts"
"""The folder in the state directory where a holder writes each of its acts."""
ACT_PAUSE_S = 0.05
ENTRY_POINTS = """\
[socialfleet.workers]
light = tests.light_workers:Light
holder = tests.light_workers:Holder
busy = tests.light_workers:Busy
renewer = tests.light_workers:Renewer
taker = tests.light_workers:Taker
"""


def install(directory: Path) -> str:
    """Make a directory that registers these workers; give the `PYTHONPATH` with which a host finds them."""
    facts = directory / "light_workers-1.0.dist-info"
    facts.mkdir(parents=True, exist_ok=True)
    (facts / "METADATA").write_text("Metadata-Version: 2.1\nName: light-workers\nVersion: 1.0\n")
    (facts / "entry_points.txt").write_text(ENTRY_POINTS)
    return os.pathsep.join([str(directory), str(ROOT)])


def now_s() -> float:
    """A clock that all processes of a machine share, whatever namespace they are in."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


class Light(Worker):
    """Have nothing to do."""

    name = "light"
    every = hours(24)

    def step(self) -> None:
        """Do nothing."""


class Holder(Worker):
    """Hold one content a slot and act on it outside, without asking the database in between."""

    name = "holder"
    every = seconds(1)
    lease_s: ClassVar[float] = 3600.0
    renewal_s: ClassVar[float] = 3600.0

    def step(self) -> None:
        """Take the slot's content as soon as it is free, and act until the drain."""
        while not self.draining.is_set():
            lease = self.fleet.engagement.request_lock(
                f"{self.name}-{self.context.slot}",
                self.worker_id,
                "analysis",
                duration_minutes=self.lease_s / 60,
            )
            if lease is None:
                self.progress.item_done()
                self.pause(ACT_PAUSE_S)
                continue
            self._act(lease)
            self.fleet.engagement.release_lock(lease)

    def _act(self, lease: Lease) -> None:
        place = self.context.state_dir / ACTS
        place.mkdir(exist_ok=True)
        act = {"slot": self.worker_id, "pid": os.getpid(), "token": lease.fencing_token}
        with (place / f"{os.getpid()}.jsonl").open("a", buffering=1) as acts:
            due_s = now_s() + self.renewal_s
            while not self.draining.is_set():
                if now_s() > due_s:
                    lease = self.fleet.engagement.renew_lock(lease, duration_minutes=self.lease_s / 60)
                    due_s = now_s() + self.renewal_s
                acts.write(json.dumps({"at_s": now_s(), **act}) + "\n")
                self.progress.item_done()
                self.pause(ACT_PAUSE_S)


class Renewer(Holder):
    """Hold one content a slot by a short lease, and ask the database to prolong it."""

    name = "renewer"
    lease_s = 10.0
    renewal_s = 2.0


class Taker(Worker):
    """Have one job at a time, and the content that it names, until the drain."""

    name = "taker"
    every = jobs("hold")

    def handle(self, job: Job) -> None:
        """Wait for the content and keep both."""
        self.fleet.engagement.request_lock(
            job.payload["content"],
            self.worker_id,
            "analysis",
            wait_s=3600,
            keep_waiting=lambda: not self._ends(),
        )
        while not self._ends():
            self.pause(ACT_PAUSE_S)

    def _ends(self) -> bool:
        self.progress.item_done()
        return self.draining.is_set()


class Busy(Worker):
    """Take and release locks, and now and then start a child that would outlive everybody."""

    name = "busy"
    every = seconds(1)

    def step(self) -> None:
        """Some locks, and one time in four a child in a session of its own."""
        for _ in range(5):
            content = f"busy-{random.randrange(50)}"
            if lease := self.fleet.engagement.request_lock(content, self.worker_id, "analysis"):
                self.pause(0.02)
                self.fleet.engagement.release_lock(lease)
            self.progress.item_done()
        if random.random() < 0.25:
            subprocess.Popen(["sleep", "600"], start_new_session=random.random() < 0.5)
