-- Jobs and schedules. Columns ending in _at hold fleet time unless the comment says real time.

-- Jobs that did not end yet. order_at is what claims go by: the time of being due, less a while for each rank of priority.
ALTER TABLE fleet.jobs
    ADD COLUMN order_at timestamptz,
    ADD COLUMN expected_s double precision CONSTRAINT jobs_expected_check CHECK (expected_s > 0),
    ADD COLUMN concurrency_key text,
    ADD COLUMN concurrency_limit integer,                 -- of the key, when this job came
    ADD COLUMN put_offs integer NOT NULL DEFAULT 0,       -- in a row
    ADD COLUMN waits_for bigint[] NOT NULL DEFAULT '{}',  -- jobs that must be completed before
    ADD COLUMN claimed_real_at timestamptz,               -- real time
    ADD COLUMN overdue_at timestamptz;                    -- real time: when it was told that it takes longer than expected
UPDATE fleet.jobs SET order_at = run_at - rank * interval '10 minutes', claimed_real_at = CASE state WHEN 'running' THEN now() END;
ALTER TABLE fleet.jobs ALTER COLUMN order_at SET NOT NULL;

-- How many jobs with a key may run at a time. The row is the mutex of the count; one that no job has goes.
CREATE TABLE fleet.job_limits (
    key text PRIMARY KEY,
    capacity integer NOT NULL CHECK (capacity BETWEEN 1 AND 10000)
);

-- Who takes jobs of a kind, and so is woken when there is one.
CREATE TABLE fleet.job_takers (
    kind text NOT NULL,
    worker text NOT NULL,
    PRIMARY KEY (kind, worker)
);

-- What became of jobs, since ever. Several rows a kind: each count takes one that nobody else holds.
CREATE TABLE fleet.job_counts (
    kind text NOT NULL,
    shard bigint GENERATED ALWAYS AS IDENTITY,
    enqueued bigint NOT NULL DEFAULT 0,
    claimed bigint NOT NULL DEFAULT 0,
    completed bigint NOT NULL DEFAULT 0,
    failed bigint NOT NULL DEFAULT 0,
    dead bigint NOT NULL DEFAULT 0,
    snoozed bigint NOT NULL DEFAULT 0,
    rescued bigint NOT NULL DEFAULT 0,
    missed bigint NOT NULL DEFAULT 0,                     -- reports with a lease that was lost
    overdue bigint NOT NULL DEFAULT 0,
    wait_s double precision NOT NULL DEFAULT 0,           -- fleet seconds from due to claimed
    run_s double precision NOT NULL DEFAULT 0,            -- real seconds from claimed to reported
    PRIMARY KEY (kind, shard)
);

CREATE TABLE fleet.jobs_finished (
    id bigint NOT NULL,
    kind text NOT NULL,
    payload jsonb NOT NULL,
    priority text NOT NULL,
    run_at timestamptz NOT NULL,
    state text NOT NULL CHECK (state IN ('completed', 'cancelled', 'dead')),
    attempts integer NOT NULL,
    max_attempts integer NOT NULL,
    unique_key text,
    concurrency_key text,
    concurrency_limit integer,
    expected_s double precision,
    waits_for bigint[] NOT NULL DEFAULT '{}',             -- what it still waited for when it ended
    errors jsonb NOT NULL,
    result jsonb,
    created_at timestamptz NOT NULL,
    finished_at timestamptz NOT NULL,
    PRIMARY KEY (id, finished_at)
) PARTITION BY RANGE (finished_at);
CREATE INDEX jobs_finished_kind ON fleet.jobs_finished (kind, state, finished_at);
CREATE TABLE fleet.jobs_finished_rest PARTITION OF fleet.jobs_finished DEFAULT;

-- Runs that did not end yet are rows of their own; those that ended never change again.
CREATE SEQUENCE fleet.run_id;
ALTER TABLE fleet.runs RENAME TO runs_before;
ALTER TABLE fleet.runs_before RENAME CONSTRAINT runs_pkey TO runs_before_pkey;
ALTER TABLE fleet.runs_before ALTER COLUMN id DROP IDENTITY;
DROP INDEX fleet.runs_worker, fleet.runs_open, fleet.runs_time;

CREATE TABLE fleet.open_runs (
    id bigint PRIMARY KEY DEFAULT nextval('fleet.run_id'),
    worker text NOT NULL,
    slot integer NOT NULL,
    incarnation uuid NOT NULL,
    step text NOT NULL,
    trace_id text NOT NULL,
    started_at timestamptz NOT NULL,
    started_real_at timestamptz NOT NULL,  -- real time
    job bigint,
    attempt integer,
    wait_s double precision                -- fleet seconds from due to begun
);
CREATE INDEX open_runs_worker ON fleet.open_runs (worker, slot);
CREATE INDEX open_runs_job ON fleet.open_runs (job) WHERE job IS NOT NULL;

CREATE TABLE fleet.runs (
    id bigint NOT NULL DEFAULT nextval('fleet.run_id'),
    worker text NOT NULL,
    slot integer NOT NULL,
    incarnation uuid NOT NULL,
    step text NOT NULL,
    trace_id text NOT NULL,
    started_at timestamptz NOT NULL,
    started_real_at timestamptz NOT NULL,  -- real time
    ended_real_at timestamptz,             -- real time
    outcome text NOT NULL CHECK (outcome IN ('done', 'failed', 'cut', 'put_off')),
    items integer NOT NULL DEFAULT 0,
    item_errors integer NOT NULL DEFAULT 0,
    items_per_minute double precision,
    error_class text,
    error text,
    job bigint,
    attempt integer,
    wait_s double precision,
    PRIMARY KEY (id, started_at)
) PARTITION BY RANGE (started_at);
CREATE INDEX runs_worker ON fleet.runs (worker, id DESC);
CREATE INDEX runs_time ON fleet.runs (started_at);
CREATE INDEX runs_job ON fleet.runs (job) WHERE job IS NOT NULL;
CREATE TABLE fleet.runs_rest PARTITION OF fleet.runs DEFAULT;

-- A partition a day of UTC: those that the old rows need, and the next ones.
DO $$
DECLARE
    today date := (coalesce((SELECT c.fleet0 + (now() - c.real0) * c.rate FROM fleet.clock c), now()) AT TIME ZONE 'UTC')::date;
    day date;
BEGIN
    FOR day IN
        SELECT (j.finished_at AT TIME ZONE 'UTC')::date FROM fleet.jobs j WHERE j.finished_at IS NOT NULL
        UNION SELECT today + n FROM generate_series(0, 3) n
    LOOP
        EXECUTE format('CREATE TABLE fleet.%I PARTITION OF fleet.jobs_finished FOR VALUES FROM (%L) TO (%L)',
            'jobs_finished_' || to_char(day, 'YYYYMMDD'), day || ' 00:00:00+00', day + 1 || ' 00:00:00+00');
    END LOOP;
    FOR day IN
        SELECT (r.started_at AT TIME ZONE 'UTC')::date FROM fleet.runs_before r WHERE r.outcome <> 'running'
        UNION SELECT today + n FROM generate_series(0, 3) n
    LOOP
        EXECUTE format('CREATE TABLE fleet.%I PARTITION OF fleet.runs FOR VALUES FROM (%L) TO (%L)',
            'runs_' || to_char(day, 'YYYYMMDD'), day || ' 00:00:00+00', day + 1 || ' 00:00:00+00');
    END LOOP;
END $$;

INSERT INTO fleet.jobs_finished (id, kind, payload, priority, run_at, state, attempts, max_attempts, unique_key, errors, result,
    created_at, finished_at)
SELECT id, kind, payload, priority, run_at, state, attempts, max_attempts, unique_key, errors, result, created_at,
    coalesce(finished_at, run_at)
FROM fleet.jobs WHERE state IN ('completed', 'cancelled', 'dead');
DELETE FROM fleet.jobs WHERE state IN ('completed', 'cancelled', 'dead');
INSERT INTO fleet.runs (id, worker, slot, incarnation, step, trace_id, started_at, started_real_at, ended_real_at, outcome, items,
    item_errors, items_per_minute, error_class, error)
SELECT id, worker, slot, incarnation, step, trace_id, started_at, started_real_at, ended_real_at, outcome, items, item_errors,
    items_per_minute, error_class, error
FROM fleet.runs_before WHERE outcome <> 'running';
INSERT INTO fleet.open_runs (id, worker, slot, incarnation, step, trace_id, started_at, started_real_at)
SELECT id, worker, slot, incarnation, step, trace_id, started_at, started_real_at FROM fleet.runs_before WHERE outcome = 'running';
SELECT setval('fleet.run_id', (SELECT coalesce(max(id), 0) + 1 FROM fleet.runs_before), false);
DROP TABLE fleet.runs_before;

ALTER TABLE fleet.jobs DROP CONSTRAINT jobs_state_check;
ALTER TABLE fleet.jobs
    ADD CONSTRAINT jobs_state_check CHECK (state IN ('available', 'running', 'retryable')),
    DROP COLUMN result,
    DROP COLUMN finished_at;
DROP INDEX fleet.jobs_unique_key, fleet.jobs_ready;
CREATE UNIQUE INDEX jobs_unique_key ON fleet.jobs (kind, unique_key) WHERE unique_key IS NOT NULL;
CREATE INDEX jobs_ready ON fleet.jobs (kind, order_at, id, run_at)
    WHERE state <> 'running' AND waits_for = '{}' AND concurrency_key IS NULL;
CREATE INDEX jobs_keyed ON fleet.jobs (kind, order_at, id, run_at)
    WHERE state <> 'running' AND waits_for = '{}' AND concurrency_key IS NOT NULL;
CREATE INDEX jobs_heads ON fleet.jobs (kind, concurrency_key, order_at, id, run_at)
    WHERE state <> 'running' AND waits_for = '{}' AND concurrency_key IS NOT NULL;
CREATE INDEX jobs_due ON fleet.jobs (kind, run_at) WHERE state <> 'running' AND waits_for = '{}';
CREATE INDEX jobs_keys ON fleet.jobs (concurrency_key) WHERE state = 'running' AND concurrency_key IS NOT NULL;
-- Without a list of what is to be put in order later: each end of a job would read it.
CREATE INDEX jobs_waiting ON fleet.jobs USING gin (waits_for) WITH (fastupdate = off) WHERE waits_for <> '{}';

-- A schedule follows the line that was registered last: an interval, or five fields of cron in a time zone.
ALTER TABLE fleet.schedules
    ALTER COLUMN interval_s DROP NOT NULL,
    ADD COLUMN cron text,
    ADD COLUMN zone text,
    ADD COLUMN stagger_s double precision NOT NULL DEFAULT 0,
    ADD COLUMN policy text NOT NULL DEFAULT 'skip' CONSTRAINT schedules_policy_check CHECK (policy IN ('skip', 'fire_once', 'fire_all')),
    ADD COLUMN catch_up integer NOT NULL DEFAULT 24,
    ADD COLUMN next_slot_at timestamptz,                  -- the earliest slot about which nobody decided
    ADD COLUMN worker text,
    ADD COLUMN registered_by uuid,
    ADD COLUMN registered_at timestamptz,
    ADD COLUMN paused boolean NOT NULL DEFAULT false,
    ADD COLUMN paused_reason text,
    ADD COLUMN late_s double precision NOT NULL DEFAULT 0, -- fleet seconds, of all that fired
    ADD COLUMN latest_s double precision NOT NULL DEFAULT 0,
    ADD COLUMN told_at timestamptz,                       -- real time: when it was told that it stands still
    ADD CONSTRAINT schedules_line_check CHECK ((interval_s IS NULL) <> (cron IS NULL) AND (cron IS NULL) = (zone IS NULL));
CREATE INDEX schedules_next ON fleet.schedules (next_slot_at);

-- One row a slot. fired_at of one that was skipped says when that was decided.
ALTER TABLE fleet.schedule_slots
    ADD COLUMN state text NOT NULL DEFAULT 'fired' CONSTRAINT schedule_slots_state_check CHECK (state IN ('fired', 'skipped'));
