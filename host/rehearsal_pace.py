"""The pace of a rehearsal: with the fleet's own sandbox a person sees posts and readings within a minute."""

from collections.abc import Mapping

from coordination import settings
from coordination.database import Database

SEEDED_BY = "sandbox"
REASON = "a rehearsal in the sandbox shows posts and readings within a minute"
NO_REHEARSAL = "the account is not the sandbox's: a rehearsal's pace is not for it"
SETTINGS: Mapping[str, int] = {
    "planner_interval_s": 60,
    "planner_check_interval_s": 30,
    "planner_spacing_s": 25,
    "poster_interval_s": 15,
    "metrics_interval_s": 10,
    "metrics_first_reading_s": 10,
    "discovery_interval_s": 60,
    "engagement_interval_s": 30,
    "mentions_interval_s": 15,
    "coordination_interval_s": 30,
    "monitoring_interval_s": 60,
}
"""First values of live settings; what a person set stays."""


def seed(database: Database) -> None:
    """Set the short intervals where nobody set others."""
    for key, value in SETTINGS.items():
        settings.seed_setting(database, key, value, actor=SEEDED_BY, reason=REASON)


def take_back(database: Database) -> bool:
    """Unset them; says whether there were any."""
    return bool(settings.unseed_settings(database, actor=SEEDED_BY, reason=NO_REHEARSAL))
