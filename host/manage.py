"""Manage: how `up` makes the manager of the workers, which the entry gives it, and what it needs of one."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Protocol

from host.control import Control
from host.keeper.client import Keeper
from host.supervisor import Supervisor
from workers.wake import Kind, Whom


class Slot(Protocol):
    """What `up` tells of a slot."""

    @property
    def name(self) -> str:
        """Worker and number."""
        ...

    @property
    def state(self) -> str:
        """How it is."""
        ...

    @property
    def reason(self) -> str:
        """Why."""
        ...


class Manager(Protocol):
    """What `up` needs of `manager.WorkerManager`."""

    @property
    def slots(self) -> Mapping[tuple[str, int], Slot]:
        """Every slot."""
        ...

    def wake(self, worker: str, kind: Kind, whom: Whom = "all") -> bool:
        """Wake processes of a worker, and say whether there are others; safe from any thread."""
        ...

    def run(self, until: Callable[[], bool]) -> None:
        """Attend until then."""
        ...

    def stop(self) -> None:
        """Drain every worker."""
        ...


class Manage(Protocol):
    """How a manager is made."""

    def __call__(
        self,
        supervisor: Supervisor,
        line: Control,
        *,
        keeper: Keeper,
        workers: Sequence[str],
        logs: Path,
        state: Path,
        environment: Mapping[str, str] | None = None,
        to_stdout: bool = False,
    ) -> Manager:
        """Make one."""
        ...
