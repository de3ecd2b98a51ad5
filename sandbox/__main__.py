"""`python -m sandbox PLATFORM`: runs one platform's sandbox until it is told to stop."""

import argparse
import sys
from pathlib import Path

from sandbox.x.server import TIERS, SandboxError, serve
from sandbox.x.world import population
from sandbox.x.world.population import OptionError


def main(arguments: list[str] | None = None) -> int:
    """Runs the sandbox that the arguments name; returns the exit status: 0 stopped, 2 not startable."""
    parser = argparse.ArgumentParser(prog="python -m sandbox", description=__doc__)
    platforms = parser.add_subparsers(dest="platform", required=True)
    x = platforms.add_parser("x", help="X's API v2 on loopback, over a world of posts")
    x.add_argument("--port", type=int, required=True, help="TCP port on 127.0.0.1 (0: any free one)")
    x.add_argument("--world", type=Path, help="posts: a CSV with named columns, or tweets.js of an X archive")
    x.add_argument("--tier", choices=TIERS, default="enterprise", help="access level (default: enterprise)")
    x.add_argument("--state", type=Path, help="directory that keeps the record (default: forgotten at exit)")
    x.add_argument("--seed", type=int, help="another seed makes another built-in world (default: 1)")
    x.add_argument("--people", type=int, help="how many live in the world (default: 400)")
    x.add_argument("--posts", type=int, help="how many posts the last 7 days have (default: 6000)")
    x.add_argument(
        "--mentions", type=int, help="how many an hour name the account (default: 60, with --world 0)"
    )
    given = parser.parse_args(arguments)
    try:
        options = population.choose(
            in_file=given.world is not None,
            seed=given.seed,
            people=given.people,
            posts=given.posts,
            mentions=given.mentions,
        )
        serve(port=given.port, world=given.world, tier=given.tier, state=given.state, options=options)
    except (SandboxError, OptionError) as error:
        print(f"sandbox: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
