"""Policy: what the platform lets an account do, by its tier. The rules are rows; what has none is denied."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from coordination.database import Database
from coordination.session import Session

Rule = Literal["allow", "summoned", "deny"]


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """Whether an act is allowed now; `reason` says why not, and is empty where it is."""

    allowed: bool
    reason: str


@dataclass(frozen=True, kw_only=True)
class Ruling:
    """An action's rule for one account and why it is so; `summoned` is only where the account was called."""

    rule: Rule
    reason: str


class Policy:
    """What workers ask before they spend anything. A look, no promise: the ledger asks again at the send."""

    def __init__(self, session: Session) -> None:
        self._session = session

    def of(self, account: str) -> Mapping[str, Rule]:
        """Give each action's rule: post, reply, quote, like, search, mentions. One round trip."""
        return {action: ruling.rule for action, ruling in get_policy(self._session.database, account).items()}

    def check(
        self, account: str, action: str, target: str | None = None, author_id: str | None = None
    ) -> Verdict:
        """Say whether the account may do this now. One round trip.

        Args:
            account: who would act.
            action: post, reply, quote, like, search or mentions; any other is denied.
            target: the id of the post that is answered, quoted or liked.
            author_id: who wrote that; opt-outs and the fleet's own accounts are known by it.

        Raises:
            InvalidValueError: there is no such account.
        """
        answer: dict[str, Any] = self._session.database.call(
            "check_policy", account=account, action=action, target=target, author_id=author_id
        )
        return Verdict(**answer)


def get_policy(database: Database, account: str) -> Mapping[str, Ruling]:
    """Give each action's rule with its reason; raise `InvalidValueError` where there is no such account."""
    answer: dict[str, Any] = database.call("get_policy", account=account)
    return {action: Ruling(**ruling) for action, ruling in answer.items()}
