"""`socialfleet account`: on whose behalf the fleet acts, and what each account talks about."""

import argparse

from coordination.accounts import set_topics
from host.cli.person import Person, require_known


def declare(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    actions = parser.add_subparsers(dest="action", required=True)
    listing = actions.add_parser("list", help="the accounts", allow_abbrev=False)
    listing.add_argument("--json", action="store_true", help="for programs")
    topics = actions.add_parser("topics", help="say what an account talks about", allow_abbrev=False)
    topics.add_argument("name", metavar="NAME")
    topics.add_argument("topics", metavar="TOPIC", nargs="+")
    topics.add_argument("--reason", default="asked for at the shell", help="why; it is kept in the audit")


def run(options: argparse.Namespace, person: Person) -> int:
    """List, or set topics."""
    rows = person.database.rows("list_account_topics")
    if options.action == "list":
        if options.json:
            person.print_json(rows)
        else:
            person.print_table(
                ["NAME", "HANDLE", "X", "TOPICS"],
                [[row["name"], row["handle"], row["api_url"], ", ".join(row["topics"])] for row in rows],
            )
        return 0
    require_known("account", options.name, [row["name"] for row in rows])
    account = set_topics(
        person.database, options.name, options.topics, actor=person.actor, reason=options.reason
    )
    print(f"{account.name} talks about: {', '.join(account.topics)}")
    return 0
