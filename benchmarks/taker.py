"""A worker that says when a job or a message reached it, and how a host comes to have it."""

import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel

from coordination.jobs import Job
from coordination.messages import Message
from workers.base import Worker
from workers.handlers import handles
from workers.intervals import jobs

ROOT = Path(__file__).parents[1]
NAME = "taker"
KIND = "ping"


def say_arrived(place: str) -> None:
    """Write the time, by a clock that all processes share, into the pipe at that place."""
    at_s = time.clock_gettime(time.CLOCK_BOOTTIME)
    pipe = os.open(place, os.O_WRONLY)
    try:
        os.write(pipe, f"{at_s}\n".encode())
    finally:
        os.close(pipe)


class Ping(BaseModel):
    """What is sent: where to say that it arrived."""

    kind: Literal["ping"] = "ping"
    place: str


class Taker(Worker):
    """Say when something arrived."""

    name = NAME
    every = jobs(KIND)

    def handle(self, job: Job) -> Mapping[str, Any]:
        """Say that a job did."""
        say_arrived(job.payload["place"])
        return {}

    @handles("TASK_DELEGATION", Ping)
    def pinged(self, _message: Message, ping: Ping) -> None:
        """Say that a message did."""
        say_arrived(ping.place)


def install(directory: Path) -> str:
    """Make a directory that registers the worker; give the `PYTHONPATH` with which a host finds it."""
    facts = directory / "taker-1.0.dist-info"
    facts.mkdir(parents=True, exist_ok=True)
    (facts / "METADATA").write_text("Metadata-Version: 2.1\nName: taker\nVersion: 1.0\n")
    (facts / "entry_points.txt").write_text(f"[socialfleet.workers]\n{NAME} = benchmarks.taker:Taker\n")
    return os.pathsep.join([str(directory), str(ROOT)])
