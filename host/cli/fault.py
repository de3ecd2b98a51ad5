"""What ends a command early, and the exit codes."""

FAILED = 1
USAGE = 2
UNHEALTHY = 3
UNREACHABLE = 4
TIMED_OUT = 5
"""Also where a part was done and a part was not."""


class CliError(Exception):
    """A command can't be done; the text is for the person, `exit_code` for the shell."""

    def __init__(self, message: str, *, exit_code: int = FAILED) -> None:
        super().__init__(message)
        self.exit_code = exit_code
