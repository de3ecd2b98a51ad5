"""Opt-outs: who asked to be left alone, by any account of the fleet, for ever."""

from collections.abc import Iterable

from coordination.plain import plain
from coordination.session import Session


class OptOuts:
    """The fleet's list of those it never answers, quotes or likes. One round trip a call."""

    def __init__(self, session: Session) -> None:
        self._session = session

    def record(self, account: str, author_id: str, handle: str, platform_id: str, words: str) -> bool:
        """Keep that the author asked so; when this has answered, no act towards them is let through.

        Args:
            account: whom they said it to.
            author_id: their id on the platform; the opt-out holds whatever they call themselves later.
            handle: their name now.
            platform_id: the post in which they said it.
            words: what they said.

        Returns:
            False when they had asked before; the first time's words stay.
        """
        answer = self._session.call(
            "record_opt_out",
            account=account,
            author_id=author_id,
            handle=plain(handle),
            platform_id=platform_id,
            words=plain(words),
        )
        return bool(answer["recorded"])

    def has(self, account: str, author_id: str) -> bool:
        """Whether the author asked any account of that platform to be left alone."""
        return author_id in self.among(account, [author_id])

    def among(self, account: str, author_ids: Iterable[str]) -> set[str]:
        """Give those of the authors who asked so."""
        return set(self._session.database.call("has_opted_out", account=account, author_ids=list(author_ids)))
