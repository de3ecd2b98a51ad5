"""Run records: every step leaves one, with what it did and how it ended."""

from coordination.plain import plain
from coordination.session import Session


class Runs:
    """Records of steps. One round trip a call, not flushed."""

    def __init__(self, session: Session) -> None:
        self._session = session

    def start(self, step: str, trace_id: str) -> int:
        """Open the record of a step; give its id."""
        return int(self._session.call("start_run", step=step, trace_id=trace_id))

    def finish(
        self,
        run: int,
        *,
        items: int,
        item_errors: int,
        error_class: str | None = None,
        error: str | None = None,
    ) -> None:
        """Close a record: `done`, or `failed` when there is an error."""
        self._session.call(
            "finish_run",
            run=run,
            outcome="failed" if error_class else "done",
            items=items,
            item_errors=item_errors,
            error_class=error_class,
            error=plain(error),
        )
