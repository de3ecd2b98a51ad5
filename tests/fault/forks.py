"""Workers forked from a process that has imported everything: a hundred lives cost no hundred imports.

Reads a JSON line a life from stdin: {"name", "slot", "environment", "log"}; writes its pid, then its wait
status when it ended. One at a time.
"""

import json
import os
import sys
from importlib import import_module
from typing import Any

IMPORTED = ("manager", "workers.process", "workers.platforms.x_client")


def main() -> None:
    for name in IMPORTED:
        import_module(name)
    import_module("workers.registry").find()
    for line in sys.stdin:
        order: dict[str, Any] = json.loads(line)
        pid = os.fork()
        if pid == 0:
            _live(order)
        _tell(pid)
        _tell(os.waitpid(pid, 0)[1])


def _live(order: dict[str, Any]) -> None:
    """Become the worker; never comes back."""
    os.environ.update(order["environment"])
    log = os.open(order["log"], os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    os.dup2(log, 1)
    os.dup2(log, 2)
    configuration = import_module("config").load()  # only now: it reads the environment
    os._exit(import_module("workers.process").run(order["name"], slot=order["slot"], config=configuration))


def _tell(number: int) -> None:
    sys.stdout.write(f"{number}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
