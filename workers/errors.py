"""What ends or stops a worker.

WorkerError
|- NeedNotMetError     what it needs is missing or refused: a person must change something
|- NoGrantError        the limit says wait: nothing was asked of the platform
|  `- CutOffError      the platform failed too often and is left alone for a while: nothing was asked of it
|- JobPutOffError      not now: the job comes back later, and the attempt doesn't count
|- JobRefusedError     a job that can't be done however often it is tried: dead at once
|- PartsFailedError    parts of a step failed; the others are done
`- RegistryError       a file or package of workers can't be loaded: names it
"""

from collections.abc import Mapping


class WorkerError(Exception):
    """The root: what the worker's own machinery raises."""


class NeedNotMetError(WorkerError):
    """A credential or a setting is missing or refused. Starting again changes nothing until a person acts."""


class NoGrantError(WorkerError):
    """The limiter said no.

    Attributes:
        retry_after_s: fleet seconds until a unit frees, where that is known.
    """

    def __init__(self, reason: str, *, retry_after_s: float | None) -> None:
        super().__init__(f"the limit says wait: {reason}")
        self.retry_after_s = retry_after_s


class JobPutOffError(WorkerError):
    """A handler puts its job off.

    Attributes:
        delay_s: seconds of fleet time until it is due again.
    """

    def __init__(self, reason: str, *, delay_s: float) -> None:
        super().__init__(f"put off for {delay_s:g} s: {reason}")
        self.delay_s = delay_s


class JobRefusedError(WorkerError):
    """A handler refuses its job for good: what is wrong is in the job itself."""


class PartsFailedError(WorkerError):
    """Some parts of a step failed: it has failed, though the others are done."""

    def __init__(self, failed: Mapping[str, Exception]) -> None:
        told = (f"{part}: {type(error).__name__}: {error}" for part, error in failed.items())
        super().__init__("; ".join(told))


class CutOffError(NoGrantError):
    """The breaker said no: to be waited for as for a grant."""

    def __init__(self, reason: str, *, retry_after_s: float | None) -> None:
        super().__init__(reason, retry_after_s=retry_after_s)
        self.args = (f"left alone for a while: {reason}",)


class RegistryError(WorkerError):
    """A worker's file or package can't be loaded, or two workers have one name."""
