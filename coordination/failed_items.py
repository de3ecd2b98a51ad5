"""Failed items: what a worker could not do is kept with the item, and set aside after too many tries."""

from collections.abc import Iterable

from coordination.plain import plain
from coordination.session import Session


class FailedItems:
    """The calling worker's failed items and dead letters. One round trip a call."""

    def __init__(self, session: Session) -> None:
        self._session = session

    def fail(self, item: str, error: Exception, *, max_attempts: int) -> bool:
        """Count one more failure; say whether the item is dead now."""
        answer = self._session.call(
            "fail_item",
            item=item,
            error_class=type(error).__name__,
            error=plain(str(error) or type(error).__name__),
            max_attempts=max_attempts,
        )
        return bool(answer["dead"])

    def among(self, items: Iterable[str]) -> dict[str, str]:
        """Give those of the items that failed before: each is `failing` or `dead`."""
        return dict(self._session.call("failed_among", items=list(items)))

    def clear(self, item: str) -> None:
        """Forget the failures of an item that works."""
        self._session.call("clear_item", item=item)
