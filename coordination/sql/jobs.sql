-- Jobs: work as rows, claimed with a lease whose number rises with every claim; whoever holds an old number is told no.

-- Adds a job; the same unique key among unfinished jobs of a kind gives the job that is there.
CREATE OR REPLACE FUNCTION fleet.enqueue_job(
    incarnation uuid, kind text, payload jsonb DEFAULT '{}', priority text DEFAULT 'medium', run_at timestamptz DEFAULT NULL,
    unique_key text DEFAULT NULL, max_attempts integer DEFAULT 5
) RETURNS jsonb
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET lock_timeout = '5s' AS $$
#variable_conflict use_column
DECLARE
    added fleet.jobs;
    at timestamptz := fleet.now();
BEGIN
    PERFORM fleet.require_read_committed();
    PERFORM fleet.require_incarnation(incarnation);
    IF kind IS NULL OR kind !~ '^[a-z][a-z0-9_.-]{0,62}$' THEN
        PERFORM fleet.refuse('kind', kind, 'a lower-case name of 1 to 63 letters, digits, _, . or -');
    END IF;
    IF length(unique_key) NOT BETWEEN 1 AND 500 THEN
        PERFORM fleet.refuse('unique_key', unique_key, 'no value, or a text of 1 to 500 characters');
    END IF;
    IF max_attempts IS NULL OR max_attempts NOT BETWEEN 1 AND 1000 THEN
        PERFORM fleet.refuse('max_attempts', max_attempts::text, 'a whole number from 1 to 1000');
    END IF;
    PERFORM set_config('synchronous_commit', 'on', true);
    LOOP
        INSERT INTO fleet.jobs (kind, payload, priority, rank, run_at, state, max_attempts, unique_key, created_at)
        VALUES (enqueue_job.kind, coalesce(enqueue_job.payload, '{}'), enqueue_job.priority,
            fleet.priority_rank(enqueue_job.priority), coalesce(enqueue_job.run_at, at), 'available', enqueue_job.max_attempts,
            enqueue_job.unique_key, at)
        ON CONFLICT (kind, unique_key) WHERE unique_key IS NOT NULL AND state IN ('available', 'running', 'retryable') DO NOTHING
        RETURNING * INTO added;
        IF FOUND THEN
            RETURN jsonb_build_object('id', added.id::text, 'state', added.state, 'created', true);
        END IF;
        SELECT * INTO added FROM fleet.jobs j WHERE j.kind = enqueue_job.kind AND j.unique_key = enqueue_job.unique_key
          AND j.state IN ('available', 'running', 'retryable');
        IF FOUND THEN
            RETURN jsonb_build_object('id', added.id::text, 'state', added.state, 'created', false);
        END IF;
        -- The job that stood in the way ended between the two statements: now there is room.
    END LOOP;
END $$;

-- Takes up to n due jobs of a kind, by priority, then time. First it frees those whose holder died, or whose lease is over,
-- its own among them: a fleet of one worker has nobody else to notice.
CREATE OR REPLACE FUNCTION fleet.claim_jobs(incarnation uuid, kind text, n integer DEFAULT 1, lease_s double precision DEFAULT 300)
RETURNS jsonb
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET lock_timeout = '5s' AS $$
DECLARE
    at timestamptz;
    held fleet.jobs;
    claimed jsonb;
BEGIN
    PERFORM fleet.require_read_committed();
    PERFORM fleet.require_incarnation(incarnation);
    PERFORM fleet.require_batch(n);
    PERFORM fleet.require_lease_s(lease_s);
    PERFORM set_config('synchronous_commit', 'on', true);
    FOR held IN
        SELECT * FROM fleet.jobs j WHERE j.kind = claim_jobs.kind AND j.state = 'running'
          AND (j.incarnation <> claim_jobs.incarnation OR j.lease_expires_at < clock_timestamp())
        ORDER BY j.lease_expires_at LIMIT 100 FOR UPDATE SKIP LOCKED
    LOOP
        IF held.lease_expires_at < clock_timestamp() OR (held.incarnation <> claim_jobs.incarnation
            AND fleet.is_suspected(held.incarnation)) THEN
            PERFORM fleet.end_attempt(held, 'its worker ended or ran out of its lease', 0);
        END IF;
    END LOOP;
    at := fleet.now();
    WITH picked AS MATERIALIZED (
        SELECT j.id FROM fleet.jobs j
        WHERE j.kind = claim_jobs.kind AND j.state IN ('available', 'retryable') AND j.run_at <= at
        ORDER BY j.rank DESC, j.run_at, j.id LIMIT n FOR UPDATE SKIP LOCKED
    ), taken AS (
        UPDATE fleet.jobs j SET state = 'running', attempts = j.attempts + 1, incarnation = claim_jobs.incarnation,
            lease = nextval('fleet.fencing_token'), lease_expires_at = clock_timestamp() + make_interval(secs => lease_s)
        FROM picked WHERE j.id = picked.id
        RETURNING j.*
    )
    SELECT coalesce(jsonb_agg(jsonb_build_object('id', t.id::text, 'kind', t.kind, 'payload', t.payload, 'lease', t.lease,
        'attempt', t.attempts, 'lease_expires_at', t.lease_expires_at) ORDER BY t.rank DESC, t.run_at, t.id), '[]')
    INTO claimed FROM taken t;
    RETURN claimed;
END $$;

-- The end of an attempt without success: another try later, or dead with every error kept. The caller holds the row.
CREATE OR REPLACE FUNCTION fleet.end_attempt(job fleet.jobs, error text, backoff_s double precision) RETURNS text
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    next_state text := CASE WHEN job.attempts >= job.max_attempts THEN 'dead' ELSE 'retryable' END;
BEGIN
    UPDATE fleet.jobs j SET state = next_state, incarnation = NULL, lease = NULL, lease_expires_at = NULL,
        errors = j.errors || jsonb_build_object('attempt', j.attempts, 'at', fleet.now(), 'error', left(error, 2000)),
        run_at = CASE next_state WHEN 'retryable' THEN fleet.now() + make_interval(secs => backoff_s) ELSE j.run_at END,
        finished_at = CASE next_state WHEN 'dead' THEN fleet.now() END
    WHERE j.id = job.id;
    IF next_state = 'dead' THEN
        PERFORM fleet.emit('error', 'dead_letter', job.kind, format('job %s of kind %s failed %s times and is dead: %s', job.id,
            job.kind, job.attempts, error), jsonb_build_object('job', job.id::text));
    END IF;
    RETURN next_state;
END $$;

-- The running job that (incarnation, lease) holds, locked. FL002 when the lease is lost.
CREATE OR REPLACE FUNCTION fleet.held_job(incarnation uuid, job bigint, lease bigint) RETURNS fleet.jobs
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    held fleet.jobs;
BEGIN
    PERFORM fleet.require_read_committed();
    PERFORM set_config('synchronous_commit', 'on', true);
    SELECT * INTO held FROM fleet.jobs j WHERE j.id = held_job.job AND j.state = 'running'
      AND j.incarnation = held_job.incarnation AND j.lease = held_job.lease FOR UPDATE;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'the lease % on job % is lost', lease, job
            USING ERRCODE = 'FL002', HINT = 'stop work on this job: somebody else has it, or it ended';
    END IF;
    RETURN held;
END $$;

CREATE OR REPLACE FUNCTION fleet.complete_job(incarnation uuid, job bigint, lease bigint, result jsonb DEFAULT NULL) RETURNS jsonb
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET lock_timeout = '5s' AS $$
DECLARE
    held fleet.jobs := fleet.held_job(incarnation, job, lease);
BEGIN
    UPDATE fleet.jobs j SET state = 'completed', result = complete_job.result, finished_at = fleet.now(), incarnation = NULL,
        lease = NULL, lease_expires_at = NULL WHERE j.id = held.id;
    RETURN jsonb_build_object('state', 'completed');
END $$;

-- Retryable after backoff_s, or dead after the last attempt; gives the new state.
CREATE OR REPLACE FUNCTION fleet.fail_job(incarnation uuid, job bigint, lease bigint, error text, backoff_s double precision)
RETURNS jsonb
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET lock_timeout = '5s' AS $$
DECLARE
    held fleet.jobs := fleet.held_job(incarnation, job, lease);
BEGIN
    RETURN jsonb_build_object('state', fleet.end_attempt(held, coalesce(error, 'no reason given'), greatest(0, coalesce(backoff_s, 0))));
END $$;

-- Not now: available again after delay_s, and the attempt doesn't count.
CREATE OR REPLACE FUNCTION fleet.snooze_job(incarnation uuid, job bigint, lease bigint, delay_s double precision) RETURNS jsonb
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET lock_timeout = '5s' AS $$
DECLARE
    held fleet.jobs := fleet.held_job(incarnation, job, lease);
BEGIN
    UPDATE fleet.jobs j SET state = 'available', attempts = j.attempts - 1, incarnation = NULL, lease = NULL,
        lease_expires_at = NULL, run_at = fleet.now() + make_interval(secs => greatest(0, delay_s)) WHERE j.id = held.id;
    RETURN jsonb_build_object('state', 'available');
END $$;

-- Ends a job that is not running; true if it did.
CREATE OR REPLACE FUNCTION fleet.cancel_job(job bigint) RETURNS boolean
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET lock_timeout = '5s' AS $$
BEGIN
    UPDATE fleet.jobs j SET state = 'cancelled', finished_at = fleet.now()
    WHERE j.id = cancel_job.job AND j.state IN ('available', 'retryable');
    RETURN FOUND;
END $$;

-- A dead or cancelled job starts anew, its errors kept; true if it did. Not while another one holds its unique key.
CREATE OR REPLACE FUNCTION fleet.replay_job(job bigint) RETURNS boolean
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET lock_timeout = '5s' AS $$
BEGIN
    UPDATE fleet.jobs j SET state = 'available', attempts = 0, run_at = fleet.now(), finished_at = NULL
    WHERE j.id = replay_job.job AND j.state IN ('dead', 'cancelled') AND NOT EXISTS (
        SELECT 1 FROM fleet.jobs o WHERE o.kind = j.kind AND o.unique_key = j.unique_key
          AND o.state IN ('available', 'running', 'retryable'));
    RETURN FOUND;
END $$;
