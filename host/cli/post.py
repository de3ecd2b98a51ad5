"""`socialfleet post`: a person proposes a post, which is its approval too."""

import argparse
import hashlib
import re
import secrets
from datetime import UTC, datetime, timedelta

from coordination.ledger import propose_by_person
from host.cli.fault import FAILED, USAGE, CliError
from host.cli.person import Person
from workers.platforms import post_text

CLOCK = re.compile(r"([01]?\d|2[0-3]):([0-5]\d)")
NONCE_BYTES = 8
ALLOWED_TIME = (
    "allowed are ISO 8601 with a zone, such as 2030-01-31T09:00:00+01:00, or HH:MM (the next one, local)"
)


def declare(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("text", metavar="TEXT", help="what to post")
    parser.add_argument("--at", metavar="T", help="when: ISO 8601 with a zone, or HH:MM (default: now)")
    parser.add_argument("--again", action="store_true", help="even if the same was proposed before")
    parser.add_argument("--json", action="store_true", help='print {"id", "state", "created"}')


def run(options: argparse.Namespace, person: Person) -> int:
    """Check the text, propose it, and say what it became."""
    try:
        post_text.check(options.text)
    except post_text.PostTextError as error:
        raise CliError(str(error), exit_code=USAGE) from error
    at = None if options.at is None else moment(options.at, datetime.now(UTC))
    account = person.state.account
    intent = propose_by_person(
        person.database,
        account,
        "post",
        target(account, options.text, at, nonce=secrets.token_hex(NONCE_BYTES) if options.again else ""),
        options.text,
        actor=person.actor,
        at=at,
    )
    if intent.state == "rejected":
        raise CliError(f"post {intent.id} is refused: {intent.reason}", exit_code=FAILED)
    if options.json:
        person.print_json({"id": intent.id, "state": intent.state, "created": intent.created})
    elif intent.created:
        print(
            f"post {intent.id} is {intent.state}"
            + (f", for {at.astimezone():%Y-%m-%d %H:%M:%S %Z}" if at else "")
        )
    else:
        print(
            f"the same post is there already: {intent.id} is {intent.state} (--again proposes it once more)"
        )
    return 0


def moment(text: str, now: datetime) -> datetime:
    """The time that a person means, in UTC.

    Args:
        text: ISO 8601 with a zone, or HH:MM of today, or of tomorrow if that has passed.
        now: an aware time.

    Raises:
        CliError: it is none of these, or has passed.
    """
    if match := CLOCK.fullmatch(text):
        local = now.astimezone()
        # Without its zone first, so that the day's own offset is found: it may differ tomorrow.
        wall = local.replace(hour=int(match[1]), minute=int(match[2]), second=0, microsecond=0, tzinfo=None)
        if wall.astimezone() <= now:
            wall += timedelta(days=1)
        return wall.astimezone(UTC)
    try:
        at = datetime.fromisoformat(text)
    except ValueError:
        raise CliError(f"--at is '{text}': {ALLOWED_TIME}", exit_code=USAGE) from None
    if at.tzinfo is None:
        raise CliError(f"--at is '{text}', without a zone: {ALLOWED_TIME}", exit_code=USAGE)
    if at <= now:
        raise CliError(f"--at is '{text}', which has passed: leave it out to post now", exit_code=USAGE)
    return at.astimezone(UTC)


def target(account: str, text: str, at: datetime | None, *, nonce: str = "") -> str:
    """What makes the same post, typed twice, one intent: `manual:` and a SHA-256."""
    parts = [account, post_text.canonical(text), at.astimezone(UTC).isoformat() if at else "", nonce]
    return "manual:" + hashlib.sha256("\0".join(parts).encode()).hexdigest()
