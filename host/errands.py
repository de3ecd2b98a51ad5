"""Errands: what is told to the database in order, kept until it has it, also while it is away."""

import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

from coordination.database import Database
from coordination.errors import DatabaseBusyError, DatabaseUnavailableError, FleetError

Run = Callable[[Database], Any]
Then = Callable[[Any], None]
Answer = Callable[[], None]


@dataclass(frozen=True, kw_only=True)
class _Errand:
    number: int
    run: Run
    then: Then | None
    perishable: bool


class Errands:
    """A queue that any thread may add to, and one runs."""

    def __init__(self, say: Callable[[str, str], None]) -> None:
        """Name who hears of what the database will never take: a line and its severity."""
        self._say = say
        self._lock = threading.Lock()
        self._errands: deque[_Errand] = deque()
        self._newest = 0

    @property
    def newest(self) -> int:
        """The number of the last one that was added."""
        return self._newest

    def add(self, run: Run, then: Then | None = None, *, perishable: bool = False) -> None:
        """Add one.

        Args:
            run: tells or asks.
            then: takes the answer, or None where there is none; called by whoever calls the answers.
            perishable: not worth waiting for a database that is away.
        """
        with self._lock:
            self._newest += 1
            self._errands.append(_Errand(number=self._newest, run=run, then=then, perishable=perishable))

    def run(
        self, database: Database, ask: Callable[[Answer], Any], answers: list[Answer], *, newest: int
    ) -> None:
        """Run those up to a number through `ask`, oldest first.

        Args:
            database: where.
            ask: makes each call.
            answers: gets the answers that are to be called.
            newest: the last one to run; what was added later waits for the next time.

        Raises:
            DatabaseUnavailableError, DatabaseBusyError: the errand is kept, and told again.
        """
        while True:
            with self._lock:
                errand = self._errands[0] if self._errands else None
            if errand is None or errand.number > newest:
                return
            answer = None
            try:
                answer = ask(partial(errand.run, database))
            except DatabaseUnavailableError:
                raise
            except DatabaseBusyError:
                if not errand.perishable:
                    raise
            except FleetError as error:  # it would be refused for ever
                self._say(f"the database did not take what it was told: {error}", "error")
            with self._lock:
                self._errands.popleft()
            if errand.then is not None:
                answers.append(partial(errand.then, answer))

    def drop_perishable(self) -> list[Answer]:
        """Give up on what is not worth waiting for; give the answers that are to be called."""
        with self._lock:
            dropped = [errand for errand in self._errands if errand.perishable]
            self._errands = deque(errand for errand in self._errands if not errand.perishable)
        return [partial(errand.then, None) for errand in dropped if errand.then is not None]
