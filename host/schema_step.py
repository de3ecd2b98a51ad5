"""The schema step of `up`, in a process of its own: what it loads, some 30 MB, goes when it is done.

SchemaStepError    the schema could not be brought up to date; the text says what to do

It begins to load while the database does, so that the step takes no longer than in the manager process.
"""

import json
import signal
import subprocess
import sys
from collections.abc import Mapping

from host.lifeline import bound_to_parent

UNREACHABLE = 4


class SchemaStepError(Exception):
    """The schema could not be brought up to date."""

    def __init__(self, message: str, *, exit_code: int = 1) -> None:
        super().__init__(message)
        self.exit_code = exit_code


class SchemaStep:
    """One run of the step. Make it in the main thread, before there are others; it ends with its maker."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "host.schema_step"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            preexec_fn=bound_to_parent(signal.SIGKILL),  # noqa: PLW1509  it does what a forked child may
        )

    def upgrade(self, dsn: str, passwords: Mapping[str, str]) -> str:
        """Make or upgrade the schema, as `migrations.schema.upgrade` does; give the revision reached.

        Raises:
            SchemaStepError: it could not be done, or the step's process was killed.
        """
        asked = json.dumps({"dsn": dsn, "passwords": dict(passwords)})  # on a pipe: nobody else sees it
        said, _ = self._process.communicate(asked.encode())
        answer: dict[str, str | int] = json.loads(said) if said else {}
        if "revision" in answer:
            return str(answer["revision"])
        if "error" in answer:
            raise SchemaStepError(str(answer["error"]), exit_code=int(answer["exit_code"]))
        raise SchemaStepError(
            f"the schema step ended with {self._process.returncode} before it was done: look at what it said "
            "above, and start the fleet again"
        )

    def close(self) -> None:
        """End it, whatever it does; safe at any time, and twice."""
        self._process.kill()
        self._process.communicate()


def main() -> None:
    """Be the step's process: load, then do what stdin says, and answer on stdout."""
    from migrations import schema  # noqa: PLC0415  this process alone loads it

    asked = json.load(sys.stdin)
    try:
        answer: dict[str, str | int] = {"revision": schema.upgrade(asked["dsn"], asked["passwords"])}
    except schema.DatabaseUnreachableError as error:
        answer = {"error": str(error), "exit_code": UNREACHABLE}
    except schema.SchemaError as error:
        answer = {"error": str(error), "exit_code": 1}
    json.dump(answer, sys.stdout)


if __name__ == "__main__":
    main()
