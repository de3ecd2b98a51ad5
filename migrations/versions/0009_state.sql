-- Shared values, a cache, breakers, budgets, versions of settings. Columns ending in _at hold fleet time unless the comment says real time.

-- What settings there are. The program's manager registers those of its workers; the fleet's own are registered the same way.
CREATE TABLE fleet.setting_definitions (
    key text PRIMARY KEY,
    owner text NOT NULL,                    -- the worker that is woken by a change; 'fleet' for the fleet's own
    type text NOT NULL CHECK (type IN ('int', 'number', 'text', 'bool', 'list', 'json')),
    nullable boolean NOT NULL DEFAULT false,
    lowest double precision,                -- of a number; of a list the least and the most items
    highest double precision,
    choices jsonb,                          -- null: any value of the type
    default_value jsonb NOT NULL DEFAULT 'null',
    unit text NOT NULL DEFAULT '',
    description text NOT NULL DEFAULT ''
);

CREATE TABLE fleet.flag_definitions (
    name text PRIMARY KEY,
    owner text NOT NULL,
    description text NOT NULL DEFAULT ''
);

-- Every change of a setting or flag, the newest version last. A null value: taken back to the default.
CREATE TABLE fleet.configuration_history (
    kind text NOT NULL CHECK (kind IN ('setting', 'flag')),
    name text NOT NULL,
    version bigint NOT NULL,
    value jsonb,
    changed_by text NOT NULL,
    reason text NOT NULL,
    changed_at timestamptz NOT NULL,
    PRIMARY KEY (kind, name, version)
);
CREATE INDEX configuration_history_version ON fleet.configuration_history (version);
INSERT INTO fleet.configuration_history
SELECT 'setting', s.key, s.version, s.value, s.changed_by, s.reason, s.changed_at FROM fleet.settings s
UNION ALL SELECT 'flag', f.name, f.version, to_jsonb(f.enabled), f.changed_by, f.reason, f.changed_at FROM fleet.flags f;

-- Values that processes share. A version is never given twice, also not to a key that was deleted and set anew.
CREATE SEQUENCE fleet.state_version CACHE 1;
CREATE TABLE fleet.state (
    namespace text NOT NULL,
    key text NOT NULL,
    value jsonb NOT NULL,
    version bigint NOT NULL,
    changed_by text NOT NULL,
    incarnation uuid NOT NULL,
    changed_at timestamptz NOT NULL,
    PRIMARY KEY (namespace, key)
);

-- What may be lost: a crash of the server empties it. Every time in it is real.
CREATE UNLOGGED TABLE fleet.cache (
    namespace text NOT NULL,
    key text NOT NULL,
    value jsonb,                            -- null while the first value is being computed
    bytes integer NOT NULL,
    stored_at timestamptz,
    expires_at timestamptz NOT NULL,        -- until then it is fresh; of a row without a value, the lease's end
    stale_until timestamptz NOT NULL,
    computing_by uuid,
    computing_token bigint,
    computing_until timestamptz,
    PRIMARY KEY (namespace, key)
);
CREATE INDEX cache_stale ON fleet.cache (stale_until);
CREATE SEQUENCE fleet.cache_token CACHE 1;
-- Counters in stripes, so that readers don't wait for one another.
CREATE UNLOGGED TABLE fleet.cache_counts (
    namespace text NOT NULL,
    stripe integer NOT NULL,
    hits bigint NOT NULL DEFAULT 0,
    stale_hits bigint NOT NULL DEFAULT 0,
    misses bigint NOT NULL DEFAULT 0,
    stores bigint NOT NULL DEFAULT 0,
    evictions bigint NOT NULL DEFAULT 0,
    PRIMARY KEY (namespace, stripe)
);

-- When a breaker opens and how it comes back. '*' stands for every account, and every service that has no row of its own.
CREATE TABLE fleet.breaker_rules (
    account text NOT NULL,
    service text NOT NULL,
    opens_after integer NOT NULL CHECK (opens_after BETWEEN 1 AND 10000),
    first_backoff_s double precision NOT NULL CHECK (first_backoff_s > 0 AND first_backoff_s <= 86400),
    longest_backoff_s double precision NOT NULL CHECK (longest_backoff_s >= first_backoff_s AND longest_backoff_s <= 86400),
    probe_lease_s double precision NOT NULL CHECK (probe_lease_s > 0 AND probe_lease_s <= 3600),   -- real seconds
    stuck_after_s double precision NOT NULL CHECK (stuck_after_s > 0 AND stuck_after_s <= 604800),
    PRIMARY KEY (account, service)
);
INSERT INTO fleet.breaker_rules VALUES ('*', '*', 10, 30, 900, 60, 3600), ('*', 'posting', 15, 30, 900, 60, 3600),
    ('*', 'browser', 5, 30, 900, 120, 3600);

CREATE TABLE fleet.breakers (
    account text NOT NULL,
    service text NOT NULL,
    state text NOT NULL CHECK (state IN ('closed', 'open', 'half_open')),
    failures integer NOT NULL DEFAULT 0,            -- in a row
    opens integer NOT NULL DEFAULT 0,               -- in a row: the first opening and each probe that failed
    opened_at timestamptz,                          -- since when it has not been closed
    next_probe_at timestamptz,
    changed_at timestamptz NOT NULL,
    probe bigint NOT NULL DEFAULT 0,                -- the number of the newest probe
    probe_incarnation uuid,
    probe_expires_at timestamptz,                   -- real time
    last_failed_at timestamptz,
    last_error text,
    last_status integer,
    is_stuck boolean NOT NULL DEFAULT false,        -- told as an alert
    failures_total bigint NOT NULL DEFAULT 0,
    opens_total bigint NOT NULL DEFAULT 0,
    reset_attempts bigint NOT NULL DEFAULT 0,
    PRIMARY KEY (account, service),
    CONSTRAINT breakers_next_probe_check CHECK (state <> 'open' OR next_probe_at IS NOT NULL),
    CONSTRAINT breakers_probe_check CHECK ((state = 'half_open') = (probe_incarnation IS NOT NULL AND probe_expires_at IS NOT NULL))
);

-- What may be spent. Kind total has an empty name; endpoint and model name what is paid for.
CREATE TABLE fleet.budgets (
    account text NOT NULL,
    kind text NOT NULL CHECK (kind IN ('total', 'endpoint', 'model')),
    name text NOT NULL,
    period text NOT NULL CHECK (period IN ('day', 'month')),
    limit_usd numeric(16, 6) NOT NULL CHECK (limit_usd >= 0),
    changed_by text NOT NULL,
    reason text NOT NULL,
    changed_at timestamptz NOT NULL,
    PRIMARY KEY (account, kind, name, period),
    CONSTRAINT budgets_name_check CHECK ((kind = 'total') = (name = ''))
);

-- One row for each UTC day or month of a budget, made before it is needed.
CREATE TABLE fleet.budget_periods (
    account text NOT NULL,
    kind text NOT NULL,
    name text NOT NULL,
    period text NOT NULL,
    starts_at timestamptz NOT NULL,
    ends_at timestamptz NOT NULL,
    spent_usd numeric(16, 6) NOT NULL DEFAULT 0 CHECK (spent_usd >= 0),
    held_usd numeric(16, 6) NOT NULL DEFAULT 0 CHECK (held_usd >= 0),
    told_percent integer NOT NULL DEFAULT 0,        -- the highest of 80, 95 and 100 that was told
    PRIMARY KEY (account, kind, name, period, starts_at)
);
CREATE INDEX budget_periods_end ON fleet.budget_periods (ends_at);

CREATE TABLE fleet.budget_holds (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    account text NOT NULL,
    endpoint text,
    model text,
    amount_usd numeric(16, 6) NOT NULL CHECK (amount_usd > 0),
    actual_usd numeric(16, 6),
    purpose text NOT NULL,
    incarnation uuid NOT NULL,
    worker_id text NOT NULL,
    state text NOT NULL CHECK (state IN ('held', 'kept', 'spent', 'released', 'expired')),
    held_at timestamptz NOT NULL,
    expires_at timestamptz NOT NULL,                -- of one that is held; what is kept never expires
    ended_at timestamptz,
    ended_by text,
    reason text
);
CREATE INDEX budget_holds_open ON fleet.budget_holds (account, expires_at) WHERE state IN ('held', 'kept');
CREATE INDEX budget_holds_counted ON fleet.budget_holds (account, expires_at) WHERE state IN ('held', 'kept', 'spent');
CREATE INDEX budget_holds_ended ON fleet.budget_holds (ended_at) WHERE ended_at IS NOT NULL;

-- The periods that a hold counts in.
CREATE TABLE fleet.budget_hold_periods (
    hold bigint NOT NULL REFERENCES fleet.budget_holds (id) ON DELETE CASCADE,
    kind text NOT NULL,
    name text NOT NULL,
    period text NOT NULL,
    starts_at timestamptz NOT NULL,
    PRIMARY KEY (hold, kind, name, period, starts_at)
);
