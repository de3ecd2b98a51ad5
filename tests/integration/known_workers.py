"""Workers that the database knows, as a host makes them known when it opens."""

from collections.abc import Sequence

from coordination.database import Database


def ensure_worker(maintainer: Database, name: str, description: str, roles: Sequence[str] = ()) -> None:
    """Make a worker's row where there is none; its description and roles are those given."""
    maintainer.call("ensure_worker", name=name, description=description, roles=list(roles))
