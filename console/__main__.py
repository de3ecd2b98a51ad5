"""`python -m console`: serves the console until it is told to stop."""

import argparse
import sys
from pathlib import Path

from console.server import ConsoleError, serve


def main(arguments: list[str] | None = None) -> int:
    """Serve what the arguments name; return the exit status: 0 stopped, 2 not startable."""
    parser = argparse.ArgumentParser(prog="python -m console", description=__doc__)
    parser.add_argument("--port", type=int, required=True, help="TCP port on 127.0.0.1 (0: any free one)")
    parser.add_argument("--state", type=Path, required=True, help="the fleet's state directory")
    options = parser.parse_args(arguments)
    try:
        serve(port=options.port, state=options.state)
    except ConsoleError as error:
        print(f"console: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
