"""Structured logs: a JSON object a line, or a short line for a person on a terminal. No secrets."""

import json
import logging
import os
import sys
import traceback
from collections.abc import Generator, Iterable, Mapping
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, TextIO, cast

VARIABLE: Final = "SOCIALFLEET_LOG"
"""The environment's name for the file that stdout and stderr are, which somebody may rename at any time."""

logging.getLogger("socialfleet").setLevel(logging.INFO)
_context: ContextVar[dict[str, Any]] = ContextVar("log_context", default={})  # noqa: B039  replaced, never changed


class Log:
    """A logger that takes fields by name: `log.info("posted", intent="7")`."""

    def __init__(self, name: str) -> None:
        self._logger = logging.getLogger(f"socialfleet.{name}")

    def debug(self, message: str, **fields: object) -> None:
        """Details, shown with DEBUG=true."""
        self._logger.debug(message, extra={"fields": fields})

    def info(self, message: str, **fields: object) -> None:
        """What was done."""
        self._logger.info(message, extra={"fields": fields})

    def warning(self, message: str, **fields: object) -> None:
        """What may need a look."""
        self._logger.warning(message, extra={"fields": fields})

    def error(self, message: str, *, error: BaseException | None = None, **fields: object) -> None:
        """What went wrong; with `error` its traceback is kept."""
        self._logger.error(message, exc_info=error, extra={"fields": fields})


@contextmanager
def log_context(**fields: object) -> Generator[None]:
    """Add fields to every line that is logged inside: worker, incarnation, step, trace."""
    token = _context.set({**_context.get(), **fields})
    try:
        yield
    finally:
        _context.reset(token)


def add_context(**fields: object) -> None:
    """Add fields to every line from here on, in this thread."""
    _context.set({**_context.get(), **fields})


def set_up(*, debug: bool, secrets: Iterable[str], stream: TextIO | None = None) -> None:
    """Send this process's logs to `stream` (stdout): readable on a terminal, else JSON lines.

    Args:
        debug: whether debug lines show.
        secrets: values that are replaced wherever a line would hold one.
        stream: where the lines go.
    """
    out = stream or sys.stdout
    path = os.environ.get(VARIABLE)
    handler = _OwnFile(out, Path(path)) if path and stream is None else logging.StreamHandler(out)
    hidden = tuple(sorted({value for value in secrets if len(value) > 3}, key=len, reverse=True))  # noqa: PLR2004  shorter ones are no secrets
    handler.setFormatter(_Readable(hidden) if out.isatty() else _JsonLines(hidden))
    logging.basicConfig(handlers=[handler], force=True)
    _let_pass(logging.root, logging.WARNING)
    _let_pass(logging.getLogger("socialfleet"), logging.DEBUG if debug else logging.INFO)


def _let_pass(logger: logging.Logger, level: int) -> None:
    """Set a logger's level, if it is another: that empties a cache of every logger that there is."""
    if logger.level != level:
        logger.setLevel(level)


class _OwnFile(logging.StreamHandler[TextIO]):
    """Writes to stdout, which is a file: once that was renamed, to a new one of its name.

    So a log is rotated by renaming it, without a word to the process that writes it. What libraries and the
    interpreter's last words go to follows.
    """

    def __init__(self, stream: TextIO, path: Path) -> None:
        super().__init__(stream)
        self._path = path

    def emit(self, record: logging.LogRecord) -> None:
        """Write one line, under the handler's lock."""
        with suppress(OSError):  # a full disk, a directory that is gone: the old file will do
            self._follow()
        super().emit(record)

    def _follow(self) -> None:
        here = os.fstat(sys.stdout.fileno())
        try:
            if os.path.samestat(here, self._path.stat()):
                return
        except FileNotFoundError:
            pass
        fd = os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            for standard in (sys.stdout, sys.stderr):
                standard.flush()
                os.dup2(fd, standard.fileno())
        finally:
            os.close(fd)


class _Formatter(logging.Formatter):
    def __init__(self, secrets: tuple[str, ...]) -> None:
        super().__init__()
        self._secrets = secrets

    def redacted(self, text: str) -> str:
        for secret in self._secrets:
            text = text.replace(secret, "***")
        return text

    def redacted_value(self, value: Any) -> Any:
        if isinstance(value, str):
            return self.redacted(value)
        if isinstance(value, Mapping):
            pairs = cast("Mapping[Any, Any]", value).items()
            return {self.redacted_value(key): self.redacted_value(item) for key, item in pairs}
        if isinstance(value, list | tuple | set | frozenset):
            return [self.redacted_value(item) for item in cast("Iterable[Any]", value)]
        return value

    def _told(self, value: object) -> str:
        return self.redacted(str(value))


class _JsonLines(_Formatter):
    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, Any] = {
            "at": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            **_context.get(),
            "message": record.getMessage(),
            **getattr(record, "fields", {}),
        }
        if record.exc_info and record.exc_info[1]:
            line["error"] = "".join(traceback.format_exception(record.exc_info[1]))
        # Redacted before it is encoded: JSON would write a secret with a quote in it otherwise.
        return json.dumps(self.redacted_value(line), default=self._told, ensure_ascii=False)


class _Readable(_Formatter):
    def format(self, record: logging.LogRecord) -> str:
        at = datetime.fromtimestamp(record.created, UTC).astimezone().strftime("%H:%M:%S")
        fields = " ".join(f"{name}={value}" for name, value in getattr(record, "fields", {}).items())
        where = _context.get().get("worker", "")
        line = f"{at} {record.levelname.lower():7} {where}: {record.getMessage()} {fields}".rstrip()
        if record.exc_info and record.exc_info[1]:
            line += "\n" + "".join(traceback.format_exception(record.exc_info[1])).rstrip()
        return self.redacted(line)
