"""`socialfleet account`: on whose behalf the fleet acts, what each may do, and what it talks about."""

import argparse
from dataclasses import asdict

from coordination.accounts import TIERS, set_engagement_interval, set_tier, set_topics
from coordination.policy import get_policy
from coordination.rate_limits import unblock_endpoint
from host.cli.parser import require_known
from host.cli.person import Person
from host.cli.reason import add_reason


def declare(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    actions = parser.add_subparsers(dest="action", required=True)
    listing = actions.add_parser("list", help="the accounts")
    listing.add_argument("--json", action="store_true", help="for programs")
    topics = actions.add_parser("topics", help="say what an account talks about")
    topics.add_argument("name", metavar="NAME")
    topics.add_argument("topics", metavar="TOPIC", nargs="+")
    policy = actions.add_parser("policy", help="what an account may do, and why")
    policy.add_argument("name", metavar="NAME")
    policy.add_argument("--json", action="store_true", help="for programs")
    tier = actions.add_parser("tier", help="say which access X sold an account, until the fleet starts anew")
    tier.add_argument("name", metavar="NAME")
    tier.add_argument("tier", choices=TIERS)
    unblock = actions.add_parser("unblock", help="let requests go out again that the platform had blocked")
    unblock.add_argument("name", metavar="NAME")
    unblock.add_argument("endpoint", metavar="ENDPOINT", help="as the limiter names it")
    unblock.add_argument("--json", action="store_true", help="for programs")
    interval = actions.add_parser("interval", help="say how long an account waits between two engagements")
    interval.add_argument("name", metavar="NAME")
    interval.add_argument("interval_s", metavar="SECONDS", type=_interval, help="0: none; fleet: its setting")
    for action in (topics, tier, unblock, interval):
        add_reason(action)


def run(options: argparse.Namespace, person: Person) -> int:
    """List, set topics or tier, or show the policy."""
    rows = person.database.rows("list_account_topics")
    if options.action == "list":
        if options.json:
            person.print_json(rows)
        else:
            person.print_table(
                ["NAME", "HANDLE", "X", "TIER", "TOPICS"],
                [
                    [row["name"], row["handle"], row["api_url"], row["tier"], ", ".join(row["topics"])]
                    for row in rows
                ],
            )
        return 0
    require_known("account", options.name, [row["name"] for row in rows])
    if options.action == "policy":
        return _policy(options, person)
    if options.action == "unblock":
        return _unblock(options, person)
    if options.action == "interval":
        return _interval_set(options, person)
    if options.action == "tier":
        account = set_tier(
            person.database, options.name, options.tier, actor=person.actor, reason=options.reason
        )
        start = "--tier" if account.sandbox else "X_TIER"
        print(f"{account.name} is {account.tier} until the fleet starts anew, which goes by {start}")
        return 0
    account = set_topics(
        person.database, options.name, options.topics, actor=person.actor, reason=options.reason
    )
    print(f"{account.name} talks about: {', '.join(account.topics)}")
    return 0


def _interval(given: str) -> float | None:
    return None if given == "fleet" else float(given)


def _interval_set(options: argparse.Namespace, person: Person) -> int:
    holds_s = set_engagement_interval(
        person.database, options.name, options.interval_s, actor=person.actor, reason=options.reason
    )
    person.say(f"{options.name} lets {holds_s:g} s pass between two quotes, replies or likes")
    return 0


def _unblock(options: argparse.Namespace, person: Person) -> int:
    answer = unblock_endpoint(
        person.database, options.name, options.endpoint, actor=person.actor, reason=options.reason
    )
    if options.json:
        person.print_json(answer)
        return 0
    until = answer["was_blocked_until"]
    was = f"it was blocked until {until}" if until else "it was not blocked"
    person.say(f"{options.name} may use {options.endpoint} again ({was})")
    return 0


def _policy(options: argparse.Namespace, person: Person) -> int:
    policy = get_policy(person.database, options.name)
    if options.json:
        person.print_json({action: asdict(ruling) for action, ruling in policy.items()})
    else:
        person.print_table(
            ["ACTION", "RULE", "WHY"],
            [[action, ruling.rule, ruling.reason] for action, ruling in sorted(policy.items())],
        )
    return 0
