"""The schema as SQLAlchemy sees it: what Alembic compares, and what the console's lists select from.

The rules (checks, transitions, who may do what) live in the migrations and in `coordination/sql`; here are
names and types.
Columns ending in `_at` hold fleet time unless the migration says real time.
"""

from coordination.models.accounts import accounts, candidates, cursors, interactions, opt_outs, policy_rules
from coordination.models.acts import attempts, intent_transitions, intents, readings, tracked_posts
from coordination.models.configuration import (
    audits,
    configuration_version,
    events,
    flags,
    health_snapshots,
    kill_switch,
    settings,
)
from coordination.models.engagement import (
    engagement_locks,
    engagements,
    lock_measures,
    lock_misses,
    lock_waiters,
)
from coordination.models.limits import rate_grants, rate_limits
from coordination.models.liveness import (
    clock,
    fencing_token,
    heartbeats,
    incarnations,
    installation,
)
from coordination.models.processes import (
    alerts,
    black_boxes,
    command_parts,
    commands,
    hosts,
    process_ends,
    slots,
    workers,
)
from coordination.models.schema import MOMENT, SCHEMA, metadata
from coordination.models.work import failed_items, jobs, messages, runs, schedule_slots, schedules

__all__ = [
    "MOMENT",
    "SCHEMA",
    "accounts",
    "alerts",
    "attempts",
    "audits",
    "black_boxes",
    "candidates",
    "clock",
    "command_parts",
    "commands",
    "configuration_version",
    "cursors",
    "engagement_locks",
    "engagements",
    "events",
    "failed_items",
    "fencing_token",
    "flags",
    "health_snapshots",
    "heartbeats",
    "hosts",
    "incarnations",
    "installation",
    "intent_transitions",
    "intents",
    "interactions",
    "jobs",
    "kill_switch",
    "lock_measures",
    "lock_misses",
    "lock_waiters",
    "messages",
    "metadata",
    "opt_outs",
    "policy_rules",
    "process_ends",
    "rate_grants",
    "rate_limits",
    "readings",
    "runs",
    "schedule_slots",
    "schedules",
    "settings",
    "slots",
    "tracked_posts",
    "workers",
]
