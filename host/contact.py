"""Contact: when the database last answered this host, and what follows from that: away, or another's name."""

from collections.abc import Callable
from typing import TypeVar

from coordination.errors import DatabaseError, DatabaseUnavailableError, FleetError, HostTakenError
from host.process_proof import boottime_s

AWAY_S = 3.0
"""Without an answer for so long the database counts as away, though its connection stands."""
Answer = TypeVar("Answer")


class Contact:
    """Kept by the control thread, read by any.

    Attributes:
        refusal: why the host's name is another manager's, by the newest answer; None while it isn't.
    """

    def __init__(self, answered_at_s: float | None = None) -> None:
        """Begin.

        Args:
            answered_at_s: when the database answered the manager process before this one, by CLOCK_BOOTTIME.
                What others may take by now counts from there, whoever was killed since. None: it begins now.
        """
        self.refusal: HostTakenError | None = None
        self._answered_at_s = boottime_s() if answered_at_s is None else answered_at_s
        self._refused_since_s = self._refused_at_s = 0.0
        self._is_lost = False

    @property
    def is_away(self) -> bool:
        """Whether the database can't be reached, doesn't answer, or has this name as another's."""
        return self._is_lost or self.unanswered_s > AWAY_S

    @property
    def unanswered_s(self) -> float:
        """Seconds since the newest answered question was asked; the machine's sleep counts."""
        return boottime_s() - self._answered_at_s

    @property
    def refused_s(self) -> float:
        """How far apart the first and the newest answer in a row are that the name is another manager's."""
        return 0.0 if self.refusal is None else self._refused_at_s - self._refused_since_s

    def ask(self, question: Callable[[], Answer]) -> Answer:
        """Ask, and note that there was an answer: as of the question's moment, which is the careful side."""
        asked_at_s = boottime_s()
        answer = question()
        self._answered_at_s = asked_at_s
        return answer

    def accept(self) -> None:
        """The name is this manager's."""
        self.refusal = None

    def restore(self) -> bool:
        """All was answered; say whether that is news."""
        was_lost, self._is_lost = self._is_lost, False
        return was_lost

    def lose(self, error: Exception) -> str | None:
        """Note what ended a connection; give what is to be said of it, None where that was said before."""
        was_lost, self._is_lost = self._is_lost, True
        if isinstance(error, HostTakenError):
            is_news, self._refused_at_s = self.refusal is None, boottime_s()
            if is_news:
                self._refused_since_s = self._refused_at_s
            self.refusal = error
            return str(error) if is_news else None
        self.refusal = None
        if was_lost:
            return None
        away = isinstance(error, DatabaseUnavailableError) or not isinstance(error, DatabaseError)
        kind = "the database is away" if away else "the database refuses"
        detail = str(error) if isinstance(error, FleetError) else f"{type(error).__name__}: {error}"
        return f"{kind} ({detail}); workers go on, and so does this when it answers"
