-- The tables of the first release. Columns ending in _at hold fleet time unless the comment says real time.

CREATE SEQUENCE fleet.fencing_token CACHE 1;
CREATE SEQUENCE fleet.configuration_version CACHE 1;

-- Absent in production: then fleet time is the clock's own.
CREATE TABLE fleet.clock (
    only_row boolean PRIMARY KEY DEFAULT true CHECK (only_row),
    real0 timestamptz NOT NULL,
    fleet0 timestamptz NOT NULL,
    rate double precision NOT NULL CHECK (rate > 0)
);

-- The cluster that this fleet trusts; another one means a failover or a restore.
CREATE TABLE fleet.installation (
    only_row boolean PRIMARY KEY DEFAULT true CHECK (only_row),
    system_identifier text NOT NULL,
    timeline text NOT NULL,
    accepted_at timestamptz NOT NULL,
    accepted_by text NOT NULL,
    fence_seen bigint NOT NULL DEFAULT 0   -- the highest token that a host knew, when it was above this database's
);

CREATE TABLE fleet.incarnations (
    id uuid PRIMARY KEY,
    worker text NOT NULL,
    slot integer NOT NULL,
    host text NOT NULL,
    pid integer NOT NULL,
    pid_started text NOT NULL,
    boot_id text NOT NULL,
    pid_namespace text NOT NULL,
    started_at timestamptz NOT NULL,      -- real time
    ended_at timestamptz,                 -- real time
    end_reason text
);
CREATE INDEX incarnations_worker ON fleet.incarnations (worker, slot, started_at DESC);

CREATE TABLE fleet.heartbeats (
    incarnation uuid PRIMARY KEY,
    worker text NOT NULL,
    slot integer NOT NULL,
    state text NOT NULL,
    reason text,
    step text,
    progress bigint NOT NULL,
    progressed_at timestamptz NOT NULL,   -- real time
    beat_at timestamptz NOT NULL,         -- real time
    healthy boolean NOT NULL,
    health jsonb NOT NULL,
    memory_bytes bigint NOT NULL
);

CREATE TABLE fleet.workers (
    name text PRIMARY KEY,
    enabled boolean NOT NULL,
    replicas integer NOT NULL CHECK (replicas BETWEEN 0 AND 1000),
    description text NOT NULL,
    changed_by text NOT NULL,
    reason text NOT NULL,
    changed_at timestamptz NOT NULL
);

CREATE TABLE fleet.slots (
    worker text NOT NULL,
    slot integer NOT NULL,
    host text NOT NULL,
    state text NOT NULL,
    reason text NOT NULL,
    since timestamptz NOT NULL,           -- real time
    pid integer,
    restart_count integer NOT NULL,
    seen_at timestamptz NOT NULL,         -- real time
    PRIMARY KEY (worker, slot, host)
);

CREATE TABLE fleet.commands (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    action text NOT NULL CHECK (action IN ('start', 'stop', 'restart')),
    worker text NOT NULL,
    slot integer,
    requested_by text NOT NULL,
    reason text NOT NULL,
    requested_at timestamptz NOT NULL,    -- real time
    state text NOT NULL CHECK (state IN ('pending', 'running', 'done', 'failed')),
    result text,
    taken_at timestamptz,                 -- real time
    finished_at timestamptz               -- real time
);
CREATE INDEX commands_open ON fleet.commands (id) WHERE state IN ('pending', 'running');

CREATE TABLE fleet.settings (
    key text PRIMARY KEY,
    value jsonb NOT NULL,
    version bigint NOT NULL,
    changed_by text NOT NULL,
    reason text NOT NULL,
    changed_at timestamptz NOT NULL
);

CREATE TABLE fleet.flags (
    name text PRIMARY KEY,
    enabled boolean NOT NULL,
    version bigint NOT NULL,
    changed_by text NOT NULL,
    reason text NOT NULL,
    changed_at timestamptz NOT NULL
);

CREATE TABLE fleet.audits (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    at timestamptz NOT NULL,
    actor text NOT NULL,
    login text NOT NULL,
    action text NOT NULL,
    target text NOT NULL,
    reason text NOT NULL,
    details jsonb NOT NULL
);

CREATE TABLE fleet.events (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    at timestamptz NOT NULL,
    severity text NOT NULL CHECK (severity IN ('debug', 'info', 'warning', 'error')),
    kind text NOT NULL,
    source text NOT NULL,
    message text NOT NULL,
    data jsonb NOT NULL
);

CREATE TABLE fleet.accounts (
    name text PRIMARY KEY,
    platform text NOT NULL CHECK (platform IN ('x')),
    api_url text NOT NULL,
    sandbox boolean NOT NULL,
    platform_user_id text,
    handle text,
    topics text[] NOT NULL,
    changed_at timestamptz NOT NULL
);

CREATE TABLE fleet.engagement_locks (
    content text PRIMARY KEY,
    lock_type text NOT NULL,
    priority text NOT NULL,
    incarnation uuid NOT NULL,
    worker_id text NOT NULL,
    fencing_token bigint NOT NULL,
    acquired_at timestamptz NOT NULL,      -- real time
    lease_expires_at timestamptz NOT NULL  -- real time
);

CREATE TABLE fleet.engagements (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    content text NOT NULL,
    action text NOT NULL,
    account text,
    worker_id text NOT NULL,
    incarnation uuid,                      -- null when a person decided
    intent bigint,
    success boolean NOT NULL,
    engaged_at timestamptz NOT NULL
);
CREATE INDEX engagements_content ON fleet.engagements (content, engaged_at DESC);
CREATE INDEX engagements_time ON fleet.engagements (engaged_at);

-- account '*' holds the cautious defaults that an account's own row is made from.
CREATE TABLE fleet.rate_limits (
    account text NOT NULL,
    endpoint text NOT NULL,
    requests integer NOT NULL CHECK (requests BETWEEN 1 AND 1000000),
    window_s integer NOT NULL CHECK (window_s BETWEEN 1 AND 604800),
    header_limit integer,
    header_used integer NOT NULL DEFAULT 0,
    header_reset bigint,                   -- the platform's own reset value: names the epoch
    header_resets_at timestamptz,
    blocked_until timestamptz,
    violations integer NOT NULL DEFAULT 0,
    PRIMARY KEY (account, endpoint)
);
INSERT INTO fleet.rate_limits (account, endpoint, requests, window_s) VALUES
    ('*', 'search_tweets', 180, 900),
    ('*', 'post_tweet', 50, 900),
    ('*', 'fetch_mentions', 75, 900),
    ('*', 'get_tweets', 300, 900),
    ('*', 'user_tweets', 300, 900),
    ('*', 'users_me', 30, 900);

CREATE TABLE fleet.rate_grants (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    account text NOT NULL,
    endpoint text NOT NULL,
    incarnation uuid NOT NULL,
    worker_id text NOT NULL,
    priority text NOT NULL,
    granted_at timestamptz NOT NULL,
    granted_real_at timestamptz NOT NULL,  -- real time
    settled_at timestamptz,
    success boolean,
    frees_at timestamptz NOT NULL          -- infinity until settled
);
CREATE INDEX rate_grants_occupying ON fleet.rate_grants (account, endpoint, frees_at);

CREATE TABLE fleet.jobs (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    kind text NOT NULL,
    payload jsonb NOT NULL,
    priority text NOT NULL,
    rank integer NOT NULL,
    run_at timestamptz NOT NULL,
    state text NOT NULL CHECK (state IN ('available', 'running', 'retryable', 'completed', 'cancelled', 'dead')),
    attempts integer NOT NULL DEFAULT 0,
    max_attempts integer NOT NULL CHECK (max_attempts BETWEEN 1 AND 1000),
    unique_key text,
    incarnation uuid,
    lease bigint,
    lease_expires_at timestamptz,          -- real time
    errors jsonb NOT NULL DEFAULT '[]',
    result jsonb,
    created_at timestamptz NOT NULL,
    finished_at timestamptz
);
CREATE UNIQUE INDEX jobs_unique_key ON fleet.jobs (kind, unique_key)
    WHERE unique_key IS NOT NULL AND state IN ('available', 'running', 'retryable');
CREATE INDEX jobs_ready ON fleet.jobs (kind, rank DESC, run_at, id) WHERE state IN ('available', 'retryable');
CREATE INDEX jobs_running ON fleet.jobs (kind, lease_expires_at) WHERE state = 'running';

CREATE TABLE fleet.schedules (
    name text PRIMARY KEY,
    interval_s double precision NOT NULL,
    last_slot_at timestamptz,
    fired bigint NOT NULL DEFAULT 0,
    skipped bigint NOT NULL DEFAULT 0
);

CREATE TABLE fleet.schedule_slots (
    schedule text NOT NULL,
    slot_at timestamptz NOT NULL,
    incarnation uuid NOT NULL,
    fired_at timestamptz NOT NULL,
    skipped_before bigint NOT NULL,
    PRIMARY KEY (schedule, slot_at)
);

CREATE TABLE fleet.runs (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    worker text NOT NULL,
    slot integer NOT NULL,
    incarnation uuid NOT NULL,
    step text NOT NULL,
    trace_id text NOT NULL,
    started_at timestamptz NOT NULL,
    started_real_at timestamptz NOT NULL,  -- real time
    ended_real_at timestamptz,             -- real time
    outcome text NOT NULL CHECK (outcome IN ('running', 'done', 'failed', 'cut')),
    items integer NOT NULL DEFAULT 0,
    item_errors integer NOT NULL DEFAULT 0,
    items_per_minute double precision,
    error_class text,
    error text
);
CREATE INDEX runs_worker ON fleet.runs (worker, id DESC);
CREATE INDEX runs_open ON fleet.runs (worker, slot) WHERE outcome = 'running';

CREATE TABLE fleet.failed_items (
    worker text NOT NULL,
    item text NOT NULL,
    attempts integer NOT NULL,
    error_class text NOT NULL,
    error text NOT NULL,
    first_failed_at timestamptz NOT NULL,
    last_failed_at timestamptz NOT NULL,
    dead_at timestamptz,
    PRIMARY KEY (worker, item)
);

CREATE TABLE fleet.kill_switch (
    scope text PRIMARY KEY,
    is_on boolean NOT NULL,
    reason text NOT NULL,
    changed_by text NOT NULL,
    changed_at timestamptz NOT NULL        -- real time
);

CREATE TABLE fleet.intents (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    account text NOT NULL,
    action text NOT NULL CHECK (action IN ('post')),
    target text NOT NULL CHECK (length(target) BETWEEN 1 AND 512),
    content text NOT NULL,
    text text NOT NULL CHECK (length(text) BETWEEN 1 AND 25000),
    state text NOT NULL CHECK (state IN ('draft', 'awaiting_approval', 'ready', 'claimed', 'sending', 'posted', 'rejected',
        'retry_at', 'unknown', 'parked', 'expired', 'cancelled', 'dry_run')),
    reason text,
    not_before timestamptz NOT NULL,
    deadline timestamptz,
    retry_at timestamptz,
    proposed_by text NOT NULL,
    by_person boolean NOT NULL,
    approved_by text,
    origin jsonb NOT NULL,
    attempt integer NOT NULL DEFAULT 0,
    incarnation uuid,
    fencing_token bigint,
    claimed_until timestamptz,             -- real time
    sending_since timestamptz,             -- real time
    platform_id text,
    created_at timestamptz NOT NULL,
    updated_at timestamptz NOT NULL,
    CHECK ((state = 'posted') = (platform_id IS NOT NULL)),
    CHECK (state NOT IN ('claimed', 'sending') OR (incarnation IS NOT NULL AND fencing_token IS NOT NULL))
);
CREATE UNIQUE INDEX intents_once ON fleet.intents (account, action, target)
    WHERE state NOT IN ('rejected', 'expired', 'cancelled', 'dry_run');
CREATE UNIQUE INDEX intents_platform_id ON fleet.intents (account, platform_id) WHERE platform_id IS NOT NULL;
CREATE INDEX intents_due ON fleet.intents (account, not_before, id) WHERE state IN ('ready', 'claimed', 'retry_at');
CREATE INDEX intents_unsettled ON fleet.intents (content) WHERE state IN ('sending', 'unknown', 'parked');
CREATE INDEX intents_updated ON fleet.intents (updated_at DESC, id DESC);

CREATE TABLE fleet.attempts (
    intent bigint NOT NULL,
    attempt integer NOT NULL,
    incarnation uuid NOT NULL,
    worker_id text NOT NULL,
    fencing_token bigint NOT NULL,
    grant_id bigint NOT NULL,
    began_at timestamptz NOT NULL,
    began_real_at timestamptz NOT NULL,    -- real time
    settled_at timestamptz,
    outcome text,
    status integer,
    reason text,
    headers jsonb,
    PRIMARY KEY (intent, attempt)
);

CREATE TABLE fleet.intent_transitions (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    intent bigint NOT NULL,
    from_state text,
    to_state text NOT NULL,
    at timestamptz NOT NULL,
    real_at timestamptz NOT NULL,          -- real time
    incarnation uuid,
    fencing_token bigint,
    attempt integer NOT NULL,
    actor text NOT NULL,
    reason text
);
CREATE INDEX intent_transitions_intent ON fleet.intent_transitions (intent, id);

CREATE TABLE fleet.tracked_posts (
    account text NOT NULL,
    platform_id text NOT NULL,
    intent bigint NOT NULL,
    posted_at timestamptz NOT NULL,
    readings integer NOT NULL DEFAULT 0,
    misses integer NOT NULL DEFAULT 0,
    next_reading_at timestamptz NOT NULL,
    gone_at timestamptz,
    PRIMARY KEY (account, platform_id)
);
CREATE INDEX tracked_posts_due ON fleet.tracked_posts (account, next_reading_at) WHERE gone_at IS NULL;

CREATE TABLE fleet.readings (
    account text NOT NULL,
    platform_id text NOT NULL,
    number integer NOT NULL,
    read_at timestamptz NOT NULL,
    metrics jsonb NOT NULL,
    PRIMARY KEY (account, platform_id, number)
);
