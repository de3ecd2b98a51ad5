"""The schema as SQLAlchemy sees it: what Alembic compares, and what the console's lists select from.

The rules (checks, transitions, who may do what) live in the migrations and in `coordination/sql`; here are
names and types.
Columns ending in `_at` hold fleet time unless the migration says real time.
"""

from coordination.models.accounts import accounts, candidates, cursors, interactions, opt_outs, policy_rules
from coordination.models.acts import attempts, intent_transitions, intents, readings, tracked_posts
from coordination.models.configuration import (
    audits,
    configuration_history,
    configuration_version,
    events,
    flag_definitions,
    flags,
    health_snapshots,
    kill_switch,
    setting_definitions,
    settings,
)
from coordination.models.engagement import (
    engagement_locks,
    engagements,
    late_words,
    lock_measures,
    lock_misses,
    lock_waiters,
)
from coordination.models.jobs import job_counts, job_limits, job_takers, jobs, jobs_finished
from coordination.models.limits import rate_demands, rate_epoch, rate_grants, rate_limits
from coordination.models.liveness import clock, fencing_token, heartbeats, incarnations, installation
from coordination.models.money import budget_hold_periods, budget_holds, budget_periods, budgets
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
from coordination.models.reservations import pools, reservation_queue, reservations, resource_kinds
from coordination.models.schedules import open_runs, run_id, runs, schedule_slots, schedules
from coordination.models.schema import MOMENT, SCHEMA, metadata
from coordination.models.state import (
    breaker_rules,
    breakers,
    cache,
    cache_counts,
    cache_token,
    state,
    state_version,
)
from coordination.models.telling import broadcasts, conflicts, messages, routes, sleepers
from coordination.models.work import failed_items

__all__ = [
    "MOMENT",
    "SCHEMA",
    "accounts",
    "alerts",
    "attempts",
    "audits",
    "black_boxes",
    "breaker_rules",
    "breakers",
    "broadcasts",
    "budget_hold_periods",
    "budget_holds",
    "budget_periods",
    "budgets",
    "cache",
    "cache_counts",
    "cache_token",
    "candidates",
    "clock",
    "command_parts",
    "commands",
    "configuration_history",
    "configuration_version",
    "conflicts",
    "cursors",
    "engagement_locks",
    "engagements",
    "events",
    "failed_items",
    "fencing_token",
    "flag_definitions",
    "flags",
    "health_snapshots",
    "heartbeats",
    "hosts",
    "incarnations",
    "installation",
    "intent_transitions",
    "intents",
    "interactions",
    "job_counts",
    "job_limits",
    "job_takers",
    "jobs",
    "jobs_finished",
    "kill_switch",
    "late_words",
    "lock_measures",
    "lock_misses",
    "lock_waiters",
    "messages",
    "metadata",
    "open_runs",
    "opt_outs",
    "policy_rules",
    "pools",
    "process_ends",
    "rate_demands",
    "rate_epoch",
    "rate_grants",
    "rate_limits",
    "readings",
    "reservation_queue",
    "reservations",
    "resource_kinds",
    "routes",
    "run_id",
    "runs",
    "schedule_slots",
    "schedules",
    "setting_definitions",
    "settings",
    "sleepers",
    "slots",
    "state",
    "state_version",
    "tracked_posts",
    "workers",
]
