-- Hosts and their shares of the slots; commands slot by slot; how processes ended; alerts and black boxes. Everything here is about
-- processes, so that every column ending in _at holds real time.

-- One row a host that ever had a manager. Who holds its session's advisory lock is its manager.
CREATE TABLE fleet.hosts (
    name text PRIMARY KEY,
    session uuid NOT NULL,
    boot_id text NOT NULL,
    pid_namespace text NOT NULL,
    manager_pid integer NOT NULL,
    manager_started text NOT NULL,
    machine text NOT NULL,                 -- what names the machine across its boots; empty where nothing does
    version text NOT NULL,
    labels jsonb NOT NULL DEFAULT '{}',
    workers text[] NOT NULL DEFAULT '{}',  -- that its program has
    draining boolean NOT NULL DEFAULT false,
    state text NOT NULL CHECK (state IN ('live', 'lost', 'left', 'gone')),
    wake_channel text NOT NULL CHECK (wake_channel IN ('untested', 'ok', 'broken')),
    share_number bigint NOT NULL DEFAULT 1, -- rises when a slot is taken from it
    started_at timestamptz NOT NULL,
    seen_at timestamptz NOT NULL,
    changed_by text NOT NULL,
    reason text NOT NULL
);

ALTER TABLE fleet.workers
    ADD COLUMN placement jsonb NOT NULL DEFAULT '{}',   -- {} anywhere, {"host": name} or {"labels": {...}}
    ADD COLUMN memory_limit_mb integer DEFAULT 512
        CONSTRAINT workers_memory_limit_check CHECK (memory_limit_mb BETWEEN 16 AND 1048576),
    ADD COLUMN cpu_limit_percent integer CONSTRAINT workers_cpu_limit_check CHECK (cpu_limit_percent BETWEEN 1 AND 100000),
    ADD COLUMN nice integer NOT NULL DEFAULT 0 CONSTRAINT workers_nice_check CHECK (nice BETWEEN 0 AND 19),
    ADD COLUMN stopped_reason text,                     -- who and why, while it is not enabled
    ADD COLUMN paused boolean NOT NULL DEFAULT false,
    ADD COLUMN paused_reason text,
    ADD COLUMN singleton boolean NOT NULL DEFAULT false;

-- The limit was a live setting before.
UPDATE fleet.workers w SET memory_limit_mb = (s.value #>> '{}')::numeric::integer FROM fleet.settings s
WHERE s.key = w.name || '_memory_limit_mb' AND jsonb_typeof(s.value) = 'number' AND (s.value #>> '{}')::numeric BETWEEN 16 AND 1048576;
DELETE FROM fleet.settings s USING fleet.workers w WHERE s.key = w.name || '_memory_limit_mb';

-- A slot is one thing in the whole fleet, whichever host has it. What two hosts had of it becomes what was seen last.
DELETE FROM fleet.slots s USING fleet.slots o
WHERE o.worker = s.worker AND o.slot = s.slot AND (o.seen_at, o.host) > (s.seen_at, s.host);
ALTER TABLE fleet.slots DROP CONSTRAINT slots_pkey;
ALTER TABLE fleet.slots
    ADD CONSTRAINT slots_pkey PRIMARY KEY (worker, slot),
    ALTER COLUMN host DROP NOT NULL,                    -- null: nobody has it
    ADD COLUMN leaving text,                            -- the host that it was taken from and still runs on
    ADD COLUMN leaving_number bigint,                   -- that host's share number from which on it knows
    ADD COLUMN stopped boolean NOT NULL DEFAULT false,  -- this slot alone, by a person
    ADD COLUMN stopped_reason text,
    ADD COLUMN paused boolean NOT NULL DEFAULT false,   -- this slot alone, by a person
    ADD COLUMN paused_reason text,
    ADD COLUMN pid_started text,
    ADD COLUMN incarnation uuid,
    ADD COLUMN failures integer NOT NULL DEFAULT 0,
    ADD COLUMN memory_bytes bigint,
    ADD COLUMN cpu_percent double precision,
    ADD COLUMN step text;
CREATE INDEX slots_host ON fleet.slots (host);

-- A command is for slots of one or several workers, or for a host.
ALTER TABLE fleet.commands DROP CONSTRAINT commands_action_check;
ALTER TABLE fleet.commands DROP CONSTRAINT commands_state_check;
ALTER TABLE fleet.commands
    ADD CONSTRAINT commands_action_check CHECK (action IN ('start', 'stop', 'restart', 'pause', 'resume', 'drain', 'scale', 'set', 'logs')),
    ADD CONSTRAINT commands_state_check CHECK (state IN ('pending', 'running', 'done', 'failed', 'partial', 'timed_out', 'aborted')),
    ALTER COLUMN worker DROP NOT NULL,
    ADD COLUMN selector text,
    ADD COLUMN host text,
    ADD COLUMN args jsonb NOT NULL DEFAULT '{}',
    ADD COLUMN idempotency_key text,
    ADD COLUMN expires_at timestamptz;
CREATE UNIQUE INDEX commands_idempotency_key ON fleet.commands (idempotency_key) WHERE idempotency_key IS NOT NULL;
CREATE INDEX commands_finished ON fleet.commands (finished_at) WHERE finished_at IS NOT NULL;
-- What the older program's manager did not come to.
UPDATE fleet.commands SET state = 'failed', finished_at = clock_timestamp(), result = 'the program was upgraded before it was done'
WHERE state IN ('pending', 'running');

CREATE TABLE fleet.command_parts (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    command bigint NOT NULL,
    ordinal integer NOT NULL,
    action text NOT NULL CHECK (action IN ('start', 'stop', 'restart', 'pause', 'resume', 'drain', 'logs')),
    mode text NOT NULL DEFAULT 'plain' CHECK (mode IN ('plain', 'surge', 'stop_first')),
    worker text NOT NULL,
    slot integer NOT NULL,
    host text,                             -- who has taken it, or who alone may
    pinned boolean NOT NULL DEFAULT false, -- for that host, wherever the slot goes
    state text NOT NULL CHECK (state IN ('waiting', 'running', 'watching', 'done', 'failed', 'skipped', 'timed_out', 'superseded')),
    result text,
    output text,
    taken_at timestamptz,
    watch_from timestamptz,
    watch_until timestamptz,
    finished_at timestamptz,
    UNIQUE (command, ordinal)
);
CREATE INDEX command_parts_open ON fleet.command_parts (worker, slot) WHERE state IN ('waiting', 'running', 'watching');
CREATE INDEX command_parts_finished ON fleet.command_parts (finished_at) WHERE finished_at IS NOT NULL;

-- Which process ended how, told by the one that reaped it, or by one that found it gone.
CREATE TABLE fleet.process_ends (
    host text NOT NULL,
    boot_id text NOT NULL,
    pid_namespace text NOT NULL,
    pid integer NOT NULL,
    pid_started text NOT NULL,
    worker text,
    slot integer,
    exit_code integer,                     -- negative for a signal; null where nobody reaped it
    how text NOT NULL,
    ended_at timestamptz NOT NULL,
    PRIMARY KEY (boot_id, pid_namespace, pid, pid_started, host)
);
CREATE INDEX process_ends_time ON fleet.process_ends (ended_at);
CREATE INDEX process_ends_slot ON fleet.process_ends (worker, slot, ended_at);

ALTER TABLE fleet.incarnations
    ADD COLUMN died_at timestamptz,        -- when the process was proven dead
    ADD COLUMN death text;                 -- how that is known
CREATE INDEX incarnations_undead ON fleet.incarnations (host, pid) WHERE died_at IS NULL;

CREATE TABLE fleet.alerts (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    key text NOT NULL,
    severity text NOT NULL CHECK (severity IN ('info', 'warning', 'error', 'critical')),
    kind text NOT NULL,
    source text NOT NULL,
    message text NOT NULL,
    data jsonb NOT NULL DEFAULT '{}',
    raised_at timestamptz NOT NULL,
    last_at timestamptz NOT NULL,
    times integer NOT NULL DEFAULT 1,
    cleared_at timestamptz,
    acknowledged_by text,
    acknowledged_at timestamptz
);
CREATE UNIQUE INDEX alerts_open ON fleet.alerts (key) WHERE cleared_at IS NULL;
CREATE INDEX alerts_cleared ON fleet.alerts (cleared_at) WHERE cleared_at IS NOT NULL;

CREATE TABLE fleet.black_boxes (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    at timestamptz NOT NULL,
    host text NOT NULL,
    worker text NOT NULL,
    slot integer NOT NULL,
    incarnation uuid,
    pid integer,
    reason text NOT NULL,
    report jsonb NOT NULL
);
CREATE INDEX black_boxes_time ON fleet.black_boxes (at);

-- A black box holds the query that a worker's session was in. The server shows it to whoever has the worker's role; where this
-- login may not give that (another one made the roles), black boxes go without the query's text.
DO $$
BEGIN
    IF NOT pg_has_role('fleet_owner', 'fleet_worker', 'USAGE') THEN
        EXECUTE 'GRANT fleet_worker TO fleet_owner'
            || CASE WHEN current_setting('server_version_num')::integer >= 160000 THEN ' WITH INHERIT TRUE, SET FALSE' ELSE '' END;
    END IF;
EXCEPTION WHEN insufficient_privilege THEN
    RAISE NOTICE 'black boxes will not show queries: GRANT fleet_worker TO fleet_owner';
END $$;
