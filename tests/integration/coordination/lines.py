"""A pool's line, asked and polled step by step, in a time that only passes when a test says so."""

from typing import Any, LiteralString

from coordination import Fleet
from tests.integration.coordination.tables import Owner, rows, value

AGED = {
    "reservations": ("reserved_at", "lease_expires_at"),
    "reservation_queue": ("asked_at", "place", "poll_by", "deadline_at"),
    "pools": ("measured_at",),
}


class Line:
    """Requests of one pool by several workers, all through one process; no waiter is silent by itself."""

    def __init__(
        self, fleet: Fleet, owner: Owner, resource_id: str = "pool", resource_type: str = "content"
    ) -> None:
        self._fleet = fleet
        self._owner = owner
        self._type = resource_type
        self._id = resource_id

    def call(self, function: LiteralString, **arguments: Any) -> dict[str, Any]:
        """Call one of the functions in the name of the process."""
        return dict(self._fleet.session.call(function, **arguments))

    def ask(self, worker: str, priority: str = "medium", units: int = 1, **options: Any) -> dict[str, Any]:
        """Ask for units, waiting for an hour where it says nothing else."""
        asked: dict[str, Any] = {"units": units, "wait_s": 3600, "duration_minutes": 600, **options}
        answer = self.call(
            "reserve_resource",
            resource_type=self._type,
            resource_id=self._id,
            worker_id=worker,
            priority=priority,
            **asked,
        )
        self._owner.execute(
            "UPDATE fleet.reservation_queue SET poll_by = 'infinity' WHERE waits AND poll_by < 'infinity'"
        )
        return answer

    def hold(self, worker: str, units: int = 1, **options: Any) -> str:
        """Ask, be granted, give the reservation's id."""
        answer = self.ask(worker, units=units, **options)
        assert answer["granted"], answer
        return str(answer["reservation_id"])

    def poll(self, asked: dict[str, Any]) -> dict[str, Any]:
        return self.call("poll_reservation", ticket=asked["ticket"])

    def release(self, reservation_id: str) -> list[str]:
        """Give it back; say whose tickets are to be woken."""
        answer = self.call("release_resource", reservation_id=int(reservation_id))
        assert answer["released"]
        return [waiting["ticket"] for waiting in answer["wake"]]

    def leave(self, asked: dict[str, Any]) -> None:
        """Give the place up."""
        assert self.call("leave_queue", ticket=asked["ticket"])["left"]

    def served(self, *waiting: dict[str, Any]) -> list[int]:
        """Which of these are granted when each polls until it is; in that order."""
        granted: dict[str, int] = {}
        for number, asked in enumerate(waiting):
            if asked["ticket"] not in granted and self.poll(asked)["granted"]:
                granted[asked["ticket"]] = number
        return list(granted.values())

    def pool(self, column: str) -> Any:
        """What the pool's row says."""
        [(row,)] = rows(
            self._owner,
            "SELECT to_jsonb(p) FROM fleet.pools p WHERE p.resource_type = %s AND p.resource_id = %s",
            self._type,
            self._id,
        )
        return row[column]

    def assert_sound(self) -> None:
        """What the pool counts is what is held, and no more than it has."""
        held = value(
            self._owner,
            "SELECT coalesce(sum(units), 0) FROM fleet.reservations "
            "WHERE resource_type = %s AND resource_id = %s AND ended_at IS NULL",
            self._type,
            self._id,
        )
        assert held == self.pool("reserved")
        assert held <= self.pool("capacity") + self.pool("overhang")


def let_pass(owner: Owner, seconds: float) -> None:
    """Let real time pass, as far as pools can see."""
    for table, columns in AGED.items():
        moved = ", ".join(f"{column} = {column} - make_interval(secs => {seconds})" for column in columns)
        owner.execute(f"UPDATE fleet.{table} SET {moved}".encode())
