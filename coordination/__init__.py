"""Everything processes share; the only door to PostgreSQL."""

from coordination.engagement import Lease
from coordination.fleet import Fleet, connect
from coordination.intents import Intent
from coordination.rate_limits import Grant
from coordination.resources import Reservation

__all__ = ["Fleet", "Grant", "Intent", "Lease", "Reservation", "connect"]
