-- What is not sent yet, by when it is due: what a sender claims, and what it tidies before, without the ledger of years.
DROP INDEX fleet.intents_due;
CREATE INDEX intents_due ON fleet.intents (account, not_before, id)
    WHERE state IN ('draft', 'awaiting_approval', 'ready', 'claimed', 'retry_at');

-- Who takes candidates looks first at those that are taken, a batch a worker.
CREATE INDEX candidates_taken ON fleet.candidates (account) WHERE state = 'taken';

-- A lease that came to one who waited is looked for by the place in the line. Those that nobody waited for, nearly all, are not in it.
CREATE INDEX engagement_locks_waiter ON fleet.engagement_locks (waiter) WHERE waiter IS NOT NULL;

-- Room on the page for a hot row's next version, so that no index hears of it.
ALTER TABLE fleet.rate_limits SET (fillfactor = 50);

-- A limit may be as large as what an integer counts with ease.
ALTER TABLE fleet.rate_limits DROP CONSTRAINT rate_limits_requests_check,
    ADD CONSTRAINT rate_limits_requests_check CHECK (requests BETWEEN 1 AND 1000000000);

-- Since when (real time) units that were prepaid before are given out no more.
ALTER TABLE fleet.rate_limits ADD COLUMN voided_at timestamptz NOT NULL DEFAULT '-infinity';

-- Units of an endpoint with much room that are taken already, for those who ask within a second. A crash empties it, and the units
-- are free again: they were counted here alone. When they were taken stands there by both clocks.
CREATE UNLOGGED TABLE fleet.rate_prepaid (
    account text NOT NULL,
    endpoint text NOT NULL,
    units integer NOT NULL CHECK (units >= 0),
    batch integer NOT NULL CHECK (batch >= 1),
    paid_at timestamptz NOT NULL,
    paid_real_at timestamptz NOT NULL,
    rate double precision NOT NULL,
    PRIMARY KEY (account, endpoint)
) WITH (fillfactor = 10);

-- A job that runs is its own open record: what its run will say stands in its row. open_runs is left to steps.
ALTER TABLE fleet.jobs ADD COLUMN claimed_at timestamptz;
UPDATE fleet.jobs j SET claimed_at = coalesce((SELECT min(o.started_at) FROM fleet.open_runs o WHERE o.job = j.id), j.claimed_real_at)
WHERE j.state = 'running';
DELETE FROM fleet.open_runs WHERE job IS NOT NULL;
DROP INDEX fleet.open_runs_job;
ALTER TABLE fleet.open_runs DROP COLUMN job, DROP COLUMN attempt, DROP COLUMN wait_s;

-- When a worker's lives last asked for dead holders of jobs of the kind (real time).
ALTER TABLE fleet.job_takers ADD COLUMN looked_at timestamptz;

-- What ends is counted, an execution with its wait and a job: what did not end yet is there. Those that were enqueued are completed, or
-- given up (dead or cancelled, and not started anew), or there.
ALTER TABLE fleet.job_counts ADD COLUMN given_up bigint NOT NULL DEFAULT 0;
UPDATE fleet.job_counts SET given_up = enqueued - completed;
INSERT INTO fleet.job_counts (kind, given_up, wait_s)
SELECT j.kind, -count(*), -coalesce(sum(greatest(0, extract(epoch FROM j.claimed_at - j.run_at))) FILTER (WHERE j.state = 'running'), 0)
FROM fleet.jobs j GROUP BY j.kind;
ALTER TABLE fleet.job_counts DROP COLUMN enqueued, DROP COLUMN claimed;

-- What only ever grows at its end is found by blocks: an entry a row cost each end of a job as much as the row. Of finished jobs those
-- are looked for by kind and state that are not completed.
DROP INDEX fleet.runs_time, fleet.runs_job, fleet.jobs_finished_kind;
CREATE INDEX runs_time ON fleet.runs USING brin (started_at) WITH (autosummarize = on);
CREATE INDEX runs_job ON fleet.runs USING brin (job) WITH (autosummarize = on);
CREATE INDEX jobs_finished_kind ON fleet.jobs_finished (kind, state, finished_at) WHERE state <> 'completed';

-- A key's jobs are found by whether they have a holder, and by nothing else: see job_limits.sql.
UPDATE fleet.jobs SET incarnation = NULL, lease = NULL
WHERE state <> 'running' AND (incarnation IS NOT NULL OR lease IS NOT NULL);
DROP INDEX fleet.jobs_heads, fleet.jobs_keys;
CREATE INDEX jobs_heads ON fleet.jobs (kind, concurrency_key, order_at, id, run_at)
    WHERE incarnation IS NULL AND waits_for = '{}' AND concurrency_key IS NOT NULL;
CREATE INDEX jobs_keys ON fleet.jobs (concurrency_key) WHERE incarnation IS NOT NULL AND concurrency_key IS NOT NULL;
