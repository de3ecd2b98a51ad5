"""What a third party's package might register."""

from workers.base import Worker


class Listener(Worker):
    """Listen."""

    name = "listener"


class SecondPoster(Worker):
    """Has a name that is taken."""

    name = "poster"


class BadlyNamed(Worker):
    """Has a name that is not allowed."""

    name = "Badly Named"


class NotAWorker:
    """Has nothing to do with it."""
