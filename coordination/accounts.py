"""Accounts: on whose behalf the fleet acts. Limits, ledger and topics are an account's own."""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any, Literal, Self, get_args

from coordination.database import Database
from coordination.errors import InvalidValueError
from coordination.session import Session

Tier = Literal["free", "pay_per_use", "enterprise"]
TIERS: tuple[Tier, ...] = get_args(Tier)
"""The access that X sells; what each may do stands in `fleet.policy_rules`."""


@dataclass(frozen=True, kw_only=True)
class Account:
    """An account's row; `sandbox` never changes, `tier` is what the policy goes by."""

    name: str
    platform: str
    api_url: str
    sandbox: bool
    tier: Tier
    topics: tuple[str, ...]
    platform_user_id: str | None
    handle: str | None

    @classmethod
    def from_row(cls, row: dict[str, Any]) -> Self:
        """Read what the SQL functions return."""
        known = {field.name: row[field.name] for field in fields(cls)}
        known["topics"] = tuple(row["topics"])
        return cls(**known)


class Accounts:
    """What workers ask of accounts. One round trip a call."""

    def __init__(self, session: Session) -> None:
        self._session = session

    def get(self, name: str) -> Account:
        """Give the account; raise `InvalidValueError` when there is none of that name."""
        row = self._session.database.call("get_account", name=name)
        if row is None:
            raise InvalidValueError(
                f"account {name!r} is not there: the manager makes it at its start",
                field="account",
                value=name,
            )
        return Account.from_row(row)

    def confirm_identity(self, name: str, platform_user_id: str, handle: str) -> Account:
        """Keep who the platform says the credentials belong to.

        In the sandbox somebody else than before means a new sandbox: the account's cursors, interactions
        and candidates are forgotten, and its replies, quotes and likes that wait are cancelled.

        Raises:
            InvalidValueError: a real account's belong to somebody else than before.
        """
        row = self._session.call(
            "confirm_identity", account=name, platform_user_id=platform_user_id, handle=handle
        )
        return Account.from_row(row)


def ensure_account(
    database: Database,
    name: str,
    *,
    platform: str,
    api_url: str,
    sandbox: bool,
    topics: Sequence[str],
    tier: Tier | None = None,
) -> Account:
    """Make the account's row, or renew its address and tier; `topics` are its first ones. For the manager.

    Without a tier an account that is there keeps its own; a new one of the sandbox is `enterprise`, a real
    one `pay_per_use`. A change of tier leaves an event.
    """
    row = database.call(
        "ensure_account",
        name=name,
        platform=platform,
        api_url=api_url,
        sandbox=sandbox,
        topics=list(topics),
        tier=tier,
    )
    return Account.from_row(row)


def set_topics(database: Database, name: str, topics: Sequence[str], *, actor: str, reason: str) -> Account:
    """A person says what the account talks about; audited."""
    row = database.call("set_topics", account=name, topics=list(topics), actor=actor, reason=reason)
    return Account.from_row(row)


def set_tier(database: Database, name: str, tier: Tier, *, actor: str, reason: str) -> Account:
    """A person says which access the platform gave the account; audited.

    It holds until the next start of the fleet, which goes by the environment and its options.
    """
    row = database.call("set_tier", account=name, tier=tier, actor=actor, reason=reason)
    return Account.from_row(row)


def set_engagement_interval(
    database: Database, name: str, interval_s: float | None, *, actor: str, reason: str
) -> float:
    """A person gives the account an interval between its engagements; audited.

    Args:
        database: the person's.
        name: the account's.
        interval_s: seconds of fleet time from 0 (none) to 86400; None: the fleet's setting again.
        actor: who asks.
        reason: why.

    Returns:
        The seconds that hold now.
    """
    answer = database.call(
        "set_engagement_interval", account=name, interval_s=interval_s, actor=actor, reason=reason
    )
    return float(answer["interval_s"])
