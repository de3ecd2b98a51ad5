"""`python -m sandbox PLATFORM`: runs one platform's sandbox until it is told to stop."""

import argparse
import sys
from pathlib import Path

from sandbox.x.server import TIERS, SandboxError, serve


def main(arguments: list[str] | None = None) -> int:
    """Runs the sandbox that the arguments name; returns the exit status: 0 stopped, 2 not startable."""
    parser = argparse.ArgumentParser(prog="python -m sandbox", description=__doc__)
    platforms = parser.add_subparsers(dest="platform", required=True)
    x = platforms.add_parser("x", help="X's API v2 on loopback, over a world of posts")
    x.add_argument("--port", type=int, required=True, help="TCP port on 127.0.0.1 (0: any free one)")
    x.add_argument("--world", type=Path, help="posts: a CSV with named columns, or tweets.js of an X archive")
    x.add_argument("--tier", choices=TIERS, default="enterprise", help="access level (default: enterprise)")
    x.add_argument("--state", type=Path, help="directory that keeps the record (default: forgotten at exit)")
    options = parser.parse_args(arguments)
    try:
        serve(port=options.port, world=options.world, tier=options.tier, state=options.state)
    except SandboxError as error:
        print(f"sandbox: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
