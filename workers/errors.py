"""What ends or stops a worker.

WorkerError
|- NeedNotMetError     what it needs is missing or refused: a person must change something
`- RegistryError       a file or package of workers can't be loaded: names it
"""


class WorkerError(Exception):
    """The root: what the worker's own machinery raises."""


class NeedNotMetError(WorkerError):
    """A credential or a setting is missing or refused. Starting again changes nothing until a person acts."""


class RegistryError(WorkerError):
    """A worker's file or package can't be loaded, or two workers have one name."""
