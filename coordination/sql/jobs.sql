-- Jobs: work as rows, claimed with a lease whose number rises with every claim; whoever holds an old number is told no, and that is
-- counted. Here stand those that did not end yet; one that ends moves to jobs_finished in the statement that ends it.
-- Nobody is woken in here: a NOTIFY inside the transaction would hold every other commit. Enqueueing says whom to wake, afterwards.

-- What claims go by: the time of being due, ten minutes earlier for each rank of priority. So each ten minutes of waiting make up for
-- one rank, and a low job waits at most thirty minutes longer than a critical one that came with it. Locks nothing.
CREATE OR REPLACE FUNCTION fleet.job_order(run_at timestamptz, rank integer) RETURNS timestamptz
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN run_at - rank * interval '10 minutes';

-- Seconds until the next try after the attempt-th failed: 10, 20, 40 ... 3600, of which `share` (0 to 1) decides the second half, so
-- that what failed together isn't tried together. Locks nothing.
CREATE OR REPLACE FUNCTION fleet.backoff_s(attempt integer, share double precision) RETURNS double precision
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN least(3600, 10 * 2.0 ^ least(greatest(attempt, 1) - 1, 30)) * (0.5 + share / 2);

-- Counts what became of jobs of a kind, in one of the kind's 32 rows: two processes seldom wait for each other here. Takes that row
-- until the commit: the last statement of its caller, kinds in order.
CREATE OR REPLACE FUNCTION fleet.count_jobs(
    kind text, enqueued integer DEFAULT 0, claimed integer DEFAULT 0, completed integer DEFAULT 0, failed integer DEFAULT 0,
    dead integer DEFAULT 0, snoozed integer DEFAULT 0, rescued integer DEFAULT 0, missed integer DEFAULT 0,
    overdue integer DEFAULT 0, wait_s double precision DEFAULT 0, run_s double precision DEFAULT 0
) RETURNS void
LANGUAGE sql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
    INSERT INTO fleet.job_counts AS c
    VALUES (count_jobs.kind, pg_backend_pid() % 32, count_jobs.enqueued, count_jobs.claimed, count_jobs.completed, count_jobs.failed,
        count_jobs.dead, count_jobs.snoozed, count_jobs.rescued, count_jobs.missed, count_jobs.overdue, count_jobs.wait_s,
        count_jobs.run_s)
    ON CONFLICT ON CONSTRAINT job_counts_pkey DO UPDATE SET enqueued = c.enqueued + excluded.enqueued,
        claimed = c.claimed + excluded.claimed, completed = c.completed + excluded.completed, failed = c.failed + excluded.failed,
        dead = c.dead + excluded.dead, snoozed = c.snoozed + excluded.snoozed, rescued = c.rescued + excluded.rescued,
        missed = c.missed + excluded.missed, overdue = c.overdue + excluded.overdue, wait_s = c.wait_s + excluded.wait_s,
        run_s = c.run_s + excluded.run_s
$$;

-- FL001 unless it can be a job. Locks nothing.
CREATE OR REPLACE FUNCTION fleet.require_job(
    kind text, payload jsonb, priority text, run_at timestamptz, unique_key text, max_attempts integer, expected_s double precision,
    concurrency_key text, concurrency_limit integer, depends bigint[]
) RETURNS void
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF kind IS NULL OR kind !~ '^[a-z][a-z0-9_.-]{0,62}$' THEN
        PERFORM fleet.refuse('kind', kind, 'a lower-case name of 1 to 63 letters, digits, _, . or -');
    END IF;
    IF jsonb_typeof(payload) IS DISTINCT FROM 'object' OR octet_length(payload::text) > 65536 THEN
        PERFORM fleet.refuse('payload', payload::text, 'a JSON object of at most 64 kB (65536 bytes)');
    END IF;
    PERFORM fleet.priority_rank(priority);
    IF NOT isfinite(run_at) THEN
        PERFORM fleet.refuse('run_at', run_at::text, 'no value (at once), or a time');
    END IF;
    IF length(unique_key) NOT BETWEEN 1 AND 500 THEN
        PERFORM fleet.refuse('unique_key', unique_key, 'no value, or a text of 1 to 500 characters');
    END IF;
    IF max_attempts IS NULL OR max_attempts NOT BETWEEN 1 AND 1000 THEN
        PERFORM fleet.refuse('max_attempts', max_attempts::text, 'a whole number from 1 to 1000');
    END IF;
    IF NOT (expected_s > 0 AND expected_s <= 86400) THEN
        PERFORM fleet.refuse('expected_s', expected_s::text, 'no value, or more than 0 and at most 86400 seconds');
    END IF;
    IF length(concurrency_key) NOT BETWEEN 1 AND 200 THEN
        PERFORM fleet.refuse('concurrency_key', concurrency_key, 'no value, or a text of 1 to 200 characters');
    END IF;
    IF concurrency_key IS NOT NULL AND (concurrency_limit IS NULL OR concurrency_limit NOT BETWEEN 1 AND 10000) THEN
        PERFORM fleet.refuse('concurrency_limit', concurrency_limit::text, 'a whole number from 1 to 10000');
    END IF;
    IF cardinality(depends) > 100 OR array_position(depends, NULL) IS NOT NULL THEN
        PERFORM fleet.refuse('depends', cardinality(depends)::text || ' jobs', 'at most 100 ids of jobs');
    END IF;
END $$;

-- Sets how many jobs with a key may run at a time, where that is new; the newest word holds. Takes the key's row.
CREATE OR REPLACE FUNCTION fleet.limit_jobs(key text, capacity integer) RETURNS void
LANGUAGE sql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
    INSERT INTO fleet.job_limits AS l VALUES (limit_jobs.key, limit_jobs.capacity)
    ON CONFLICT ON CONSTRAINT job_limits_pkey DO UPDATE SET capacity = excluded.capacity WHERE l.capacity <> excluded.capacity
$$;

-- Adds one job that `require_job` passed. Takes the rows of the jobs that it depends on; the same unique key among a kind's unfinished
-- jobs gives the job that is there.
CREATE OR REPLACE FUNCTION fleet.add_job(
    kind text, payload jsonb, priority text, run_at timestamptz, unique_key text, max_attempts integer, expected_s double precision,
    concurrency_key text, depends bigint[]
) RETURNS jsonb
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
    added fleet.jobs;
    at timestamptz;
    rank integer := fleet.priority_rank(add_job.priority);
    open_ones bigint[] := '{}';
    ended bigint;
BEGIN
    IF cardinality(add_job.depends) > 0 THEN
        -- Held until the commit: one that ends meanwhile waits for it, and then sees who depends on it.
        PERFORM 1 FROM fleet.jobs j WHERE j.id = ANY(add_job.depends) ORDER BY j.id FOR SHARE;
        open_ones := ARRAY(SELECT j.id FROM fleet.jobs j WHERE j.id = ANY(add_job.depends) ORDER BY j.id);
        SELECT d INTO ended FROM unnest(add_job.depends) d WHERE d <> ALL(open_ones) AND NOT EXISTS (
            SELECT 1 FROM fleet.jobs_finished f WHERE f.id = d AND f.state = 'completed') LIMIT 1;
        IF FOUND THEN
            PERFORM fleet.refuse('depends', ended::text, 'ids of jobs that are completed, or can still be');
        END IF;
    END IF;
    at := fleet.now();
    LOOP
        INSERT INTO fleet.jobs (kind, payload, priority, rank, run_at, order_at, state, max_attempts, unique_key, created_at,
            expected_s, concurrency_key, waits_for)
        VALUES (add_job.kind, add_job.payload, add_job.priority, rank, coalesce(add_job.run_at, at),
            fleet.job_order(coalesce(add_job.run_at, at), rank), 'available', add_job.max_attempts, add_job.unique_key, at,
            add_job.expected_s, add_job.concurrency_key, open_ones)
        ON CONFLICT (kind, unique_key) WHERE unique_key IS NOT NULL DO NOTHING
        RETURNING * INTO added;
        IF FOUND THEN
            RETURN jsonb_build_object('id', added.id::text, 'state', added.state, 'created', true);
        END IF;
        SELECT * INTO added FROM fleet.jobs j WHERE j.kind = add_job.kind AND j.unique_key = add_job.unique_key;
        IF FOUND THEN
            RETURN jsonb_build_object('id', added.id::text, 'state', added.state, 'created', false);
        END IF;
        -- The job that stood in the way ended between the two statements: now there is room.
    END LOOP;
END $$;

-- Adds a job, due at run_at (fleet time) or at once, when those that it depends on are completed. At most concurrency_limit jobs with
-- its concurrency_key run at a time. Gives id, state, whether it is new, and which workers take its kind. One flushed insert.
CREATE OR REPLACE FUNCTION fleet.enqueue_job(
    incarnation uuid, kind text, payload jsonb DEFAULT '{}', priority text DEFAULT 'medium', run_at timestamptz DEFAULT NULL,
    unique_key text DEFAULT NULL, max_attempts integer DEFAULT 5, expected_s double precision DEFAULT NULL,
    concurrency_key text DEFAULT NULL, concurrency_limit integer DEFAULT 1, depends bigint[] DEFAULT '{}'
) RETURNS jsonb
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET lock_timeout = '5s' AS $$
DECLARE
    added jsonb;
BEGIN
    PERFORM fleet.require_read_committed();
    PERFORM fleet.require_incarnation(incarnation);
    PERFORM fleet.require_job(kind, payload, priority, run_at, unique_key, max_attempts, expected_s, concurrency_key,
        concurrency_limit, depends);
    PERFORM set_config('synchronous_commit', 'on', true);
    IF concurrency_key IS NOT NULL THEN
        PERFORM fleet.limit_jobs(concurrency_key, concurrency_limit);
    END IF;
    added := fleet.add_job(kind, payload, priority, run_at, unique_key, max_attempts, expected_s, concurrency_key, depends);
    IF (added->>'created')::boolean THEN
        PERFORM fleet.count_jobs(enqueue_job.kind, enqueued => 1);
    END IF;
    RETURN added || jsonb_build_object('wake', CASE WHEN (added->>'created')::boolean AND NOT coalesce(run_at > fleet.now(), false)
        THEN ARRAY(SELECT t.worker FROM fleet.job_takers t WHERE t.kind = enqueue_job.kind ORDER BY t.worker) ELSE '{}' END);
END $$;

-- Adds up to 1000 jobs, each an object with enqueue_job's own names: all of them or, where one is refused, none. Gives what became of
-- each, in the order given, and whom to wake. Takes keys, then jobs, each in order, so that two callers never wait in a circle. One
-- flushed commit.
CREATE OR REPLACE FUNCTION fleet.enqueue_jobs(incarnation uuid, jobs jsonb) RETURNS jsonb
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET lock_timeout = '5s' AS $$
DECLARE
    wanted record;
    results jsonb[];
    due text[] := '{}';
    made jsonb := '{}';
    kind text;
BEGIN
    PERFORM fleet.require_read_committed();
    PERFORM fleet.require_incarnation(incarnation);
    IF jsonb_typeof(jobs) IS DISTINCT FROM 'array' OR jsonb_array_length(jobs) > 1000 THEN
        PERFORM fleet.refuse('jobs', left(jobs::text, 200), 'an array of at most 1000 objects');
    END IF;
    PERFORM set_config('synchronous_commit', 'on', true);
    results := array_fill(NULL::jsonb, ARRAY[jsonb_array_length(jobs)]);
    PERFORM fleet.limit_jobs(k.key, k.capacity) FROM (
        SELECT w->>'concurrency_key' AS key, max(coalesce((w->>'concurrency_limit')::integer, 1)) AS capacity
        FROM jsonb_array_elements(jobs) w WHERE (w->>'concurrency_key') IS NOT NULL
          AND coalesce((w->>'concurrency_limit')::integer, 1) BETWEEN 1 AND 10000 GROUP BY 1 ORDER BY 1) k;
    FOR wanted IN
        SELECT place, w->>'kind' AS kind, coalesce(w->'payload', '{}') AS payload, coalesce(w->>'priority', 'medium') AS priority,
            (w->>'run_at')::timestamptz AS run_at, w->>'unique_key' AS unique_key,
            coalesce((w->>'max_attempts')::integer, 5) AS max_attempts, (w->>'expected_s')::double precision AS expected_s,
            w->>'concurrency_key' AS concurrency_key, coalesce((w->>'concurrency_limit')::integer, 1) AS concurrency_limit,
            ARRAY(SELECT d::bigint FROM jsonb_array_elements_text(coalesce(w->'depends', '[]')) d) AS depends
        FROM jsonb_array_elements(jobs) WITH ORDINALITY AS a (w, place)
        ORDER BY w->>'kind', w->>'unique_key', place
    LOOP
        PERFORM fleet.require_job(wanted.kind, wanted.payload, wanted.priority, wanted.run_at, wanted.unique_key, wanted.max_attempts,
            wanted.expected_s, wanted.concurrency_key, wanted.concurrency_limit, wanted.depends);
        results[wanted.place] := fleet.add_job(wanted.kind, wanted.payload, wanted.priority, wanted.run_at, wanted.unique_key,
            wanted.max_attempts, wanted.expected_s, wanted.concurrency_key, wanted.depends);
        IF (results[wanted.place]->>'created')::boolean THEN
            made := jsonb_set(made, ARRAY[wanted.kind], to_jsonb(coalesce((made->>wanted.kind)::integer, 0) + 1));
            IF NOT coalesce(wanted.run_at > fleet.now(), false) THEN
                due := due || wanted.kind;
            END IF;
        END IF;
    END LOOP;
    FOR kind IN SELECT k FROM jsonb_object_keys(made) k ORDER BY k LOOP
        PERFORM fleet.count_jobs(kind, enqueued => (made->>kind)::integer);
    END LOOP;
    RETURN jsonb_build_object('jobs', to_jsonb(results),
        'wake', ARRAY(SELECT DISTINCT t.worker FROM fleet.job_takers t WHERE t.kind = ANY(due) ORDER BY t.worker));
END $$;

-- Closes the record of a job's execution: moves it from open_runs to runs. The caller holds the job's row.
CREATE OR REPLACE FUNCTION fleet.close_job_run(
    job bigint, outcome text, error_class text DEFAULT NULL, error text DEFAULT NULL, items integer DEFAULT 0
) RETURNS void
LANGUAGE sql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
    WITH ended AS (DELETE FROM fleet.open_runs o WHERE o.job = close_job_run.job RETURNING o.*)
    INSERT INTO fleet.runs (id, worker, slot, incarnation, step, trace_id, started_at, started_real_at, ended_real_at, outcome, items,
        item_errors, items_per_minute, error_class, error, job, attempt, wait_s)
    SELECT e.id, e.worker, e.slot, e.incarnation, e.step, e.trace_id, e.started_at, e.started_real_at, clock_timestamp(),
        close_job_run.outcome, close_job_run.items, (close_job_run.outcome = 'failed')::integer,
        close_job_run.items * 60 / greatest(0.001, extract(epoch FROM clock_timestamp() - e.started_real_at)),
        close_job_run.error_class, left(close_job_run.error, 2000), e.job, e.attempt, e.wait_s
    FROM ended e
$$;

-- Ends a job for good: moves it to jobs_finished. One that is completed lets those go on that wait for it; else they are cancelled.
-- The caller holds the row.
CREATE OR REPLACE FUNCTION fleet.finish_job(job bigint, state text, result jsonb DEFAULT NULL) RETURNS void
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    waiting bigint;
BEGIN
    WITH gone AS (DELETE FROM fleet.jobs j WHERE j.id = finish_job.job RETURNING j.*)
    INSERT INTO fleet.jobs_finished (id, kind, payload, priority, run_at, state, attempts, max_attempts, unique_key, concurrency_key,
        expected_s, errors, result, created_at, finished_at)
    SELECT g.id, g.kind, g.payload, g.priority, g.run_at, finish_job.state, g.attempts, g.max_attempts, g.unique_key,
        g.concurrency_key, g.expected_s, g.errors, finish_job.result, g.created_at, fleet.now()
    FROM gone g;
    FOR waiting IN SELECT j.id FROM fleet.jobs j WHERE j.waits_for @> ARRAY[finish_job.job] AND j.waits_for <> '{}' ORDER BY j.id FOR UPDATE LOOP
        IF finish_job.state = 'completed' THEN
            UPDATE fleet.jobs j SET waits_for = array_remove(j.waits_for, finish_job.job),
                run_at = greatest(j.run_at, fleet.now()) WHERE j.id = waiting;
        ELSE
            UPDATE fleet.jobs j SET errors = j.errors || jsonb_build_object('attempt', j.attempts, 'at', fleet.now(), 'error',
                format('job %s, on which it depends, is %s', finish_job.job, finish_job.state)) WHERE j.id = waiting;
            PERFORM fleet.finish_job(waiting, 'cancelled');
        END IF;
    END LOOP;
END $$;

-- The end of an attempt without success: another try later, or dead with every error kept. The caller holds the row.
CREATE OR REPLACE FUNCTION fleet.end_attempt(
    job fleet.jobs, error text, backoff_s double precision, final boolean DEFAULT false, outcome text DEFAULT 'failed',
    error_class text DEFAULT NULL
) RETURNS text
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    is_dead boolean := final OR job.attempts >= job.max_attempts;
    wait_s double precision := coalesce(end_attempt.backoff_s, fleet.backoff_s(job.attempts, random()));
BEGIN
    UPDATE fleet.jobs j SET state = 'retryable', incarnation = NULL, lease = NULL, lease_expires_at = NULL, overdue_at = NULL,
        errors = j.errors || jsonb_build_object('attempt', j.attempts, 'at', fleet.now(), 'error', left(end_attempt.error, 2000),
            'class', end_attempt.error_class),
        run_at = fleet.now() + make_interval(secs => wait_s)
    WHERE j.id = job.id;
    PERFORM fleet.close_job_run(job.id, end_attempt.outcome, end_attempt.error_class, end_attempt.error);
    IF job.overdue_at IS NOT NULL THEN
        PERFORM fleet.clear_alert('job:' || job.id);
    END IF;
    IF is_dead THEN
        PERFORM fleet.finish_job(job.id, 'dead');
        PERFORM fleet.emit('error', 'dead_letter', job.kind, format('job %s of kind %s failed %s times and is dead: %s', job.id,
            job.kind, job.attempts, end_attempt.error), jsonb_build_object('job', job.id::text));
    END IF;
    PERFORM fleet.count_jobs(job.kind, failed => 1, dead => is_dead::integer, rescued => (end_attempt.outcome = 'cut')::integer,
        run_s => greatest(0, extract(epoch FROM clock_timestamp() - job.claimed_real_at))::double precision);
    RETURN CASE WHEN is_dead THEN 'dead' ELSE 'retryable' END;
END $$;

-- Takes jobs back whose holder died or whose lease is over, up to n, of one kind or of all; an attempt of each is over. Each holder is
-- asked for once, in a statement of its own, before any row is locked. Passes over rows that others hold. Gives how many.
CREATE OR REPLACE FUNCTION fleet.take_back_jobs(me uuid, of_kind text, n integer) RETURNS integer
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    holder uuid;
    gone uuid[] := '{}';
    held fleet.jobs;
    freed integer := 0;
BEGIN
    FOR holder IN
        SELECT DISTINCT j.incarnation FROM fleet.jobs j
        WHERE j.state = 'running' AND (of_kind IS NULL OR j.kind = of_kind) AND j.incarnation <> me
    LOOP
        IF fleet.is_suspected(holder) THEN
            gone := gone || holder;
        END IF;
    END LOOP;
    FOR held IN
        SELECT * FROM fleet.jobs j WHERE j.state = 'running' AND (of_kind IS NULL OR j.kind = of_kind)
          AND (j.incarnation = ANY(gone) OR j.lease_expires_at < clock_timestamp())
        ORDER BY j.kind, j.id LIMIT n FOR UPDATE SKIP LOCKED
    LOOP
        PERFORM fleet.end_attempt(held, 'its worker ended or ran out of its lease', 0, outcome => 'cut');
        freed := freed + 1;
    END LOOP;
    RETURN freed;
END $$;

-- Raises an alert, once an execution, for each job that runs longer than was expected of it. Passes over rows that others hold.
CREATE OR REPLACE FUNCTION fleet.tell_overdue_jobs(of_kind text, n integer) RETURNS integer
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    late fleet.jobs;
    told integer := 0;
BEGIN
    FOR late IN
        SELECT * FROM fleet.jobs j WHERE j.state = 'running' AND (of_kind IS NULL OR j.kind = of_kind) AND j.overdue_at IS NULL
          AND j.expected_s IS NOT NULL AND clock_timestamp() > j.claimed_real_at + make_interval(secs => j.expected_s)
        ORDER BY j.kind, j.id LIMIT n FOR UPDATE SKIP LOCKED
    LOOP
        UPDATE fleet.jobs j SET overdue_at = clock_timestamp() WHERE j.id = late.id;
        PERFORM fleet.raise_alert('job:' || late.id, 'warning', 'job_overdue', late.kind,
            format('job %s of kind %s runs since %s; %s s were expected', late.id, late.kind, late.claimed_real_at, late.expected_s),
            jsonb_build_object('job', late.id::text));
        PERFORM fleet.count_jobs(late.kind, overdue => 1);
        told := told + 1;
    END LOOP;
    RETURN told;
END $$;

-- Takes up to n due jobs of a kind: by priority with ageing, then time. First it takes back those whose holder died or whose lease is
-- over, its own among them: a fleet of one worker has nobody else to notice. Of jobs with a concurrency key no more than its limit run:
-- counted anew while holding the key's row. Each claim opens a run record. One commit, flushed where it took something.
CREATE OR REPLACE FUNCTION fleet.claim_jobs(incarnation uuid, kind text, n integer DEFAULT 1, lease_s double precision DEFAULT 300)
RETURNS jsonb
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET lock_timeout = '5s' AS $$
DECLARE
    life fleet.incarnations;
    at timestamptz;
    full_keys text[];
    filled text[];
    picked_ids bigint[];
    picked_keys text[];
    chosen bigint[];
    claimed jsonb := '[]';
    batch jsonb;
    waited_s double precision := 0;
    batch_s double precision;
BEGIN
    PERFORM fleet.require_read_committed();
    life := fleet.require_incarnation(incarnation);
    PERFORM fleet.require_batch(n);
    PERFORM fleet.require_lease_s(lease_s);
    PERFORM set_config('synchronous_commit', 'on', true);
    IF NOT EXISTS (SELECT 1 FROM fleet.job_takers t WHERE t.kind = claim_jobs.kind AND t.worker = life.worker) THEN
        IF claim_jobs.kind IS NULL OR claim_jobs.kind !~ '^[a-z][a-z0-9_.-]{0,62}$' THEN
            PERFORM fleet.refuse('kind', claim_jobs.kind, 'a lower-case name of 1 to 63 letters, digits, _, . or -');
        END IF;
        INSERT INTO fleet.job_takers VALUES (claim_jobs.kind, life.worker) ON CONFLICT DO NOTHING;
    END IF;
    PERFORM fleet.take_back_jobs(life.id, claim_jobs.kind, 100);
    PERFORM fleet.tell_overdue_jobs(claim_jobs.kind, 100);
    at := fleet.now();
    full_keys := ARRAY(SELECT j.concurrency_key FROM fleet.jobs j LEFT JOIN fleet.job_limits l ON l.key = j.concurrency_key
        WHERE j.state = 'running' AND j.concurrency_key IS NOT NULL GROUP BY j.concurrency_key
        HAVING count(*) >= coalesce(max(l.capacity), 1));
    LOOP
        WITH picked AS MATERIALIZED (
            SELECT j.id, j.concurrency_key, j.order_at FROM fleet.jobs j
            WHERE j.kind = claim_jobs.kind AND j.state <> 'running' AND j.waits_for = '{}' AND j.run_at <= at
              AND (j.concurrency_key IS NULL OR j.concurrency_key <> ALL(full_keys))
            ORDER BY j.order_at, j.id LIMIT n - jsonb_array_length(claimed) FOR UPDATE SKIP LOCKED
        )
        SELECT array_agg(p.id ORDER BY p.order_at, p.id), array_agg(p.concurrency_key ORDER BY p.order_at, p.id)
        INTO picked_ids, picked_keys FROM picked p;
        EXIT WHEN picked_ids IS NULL;
        chosen := picked_ids;
        filled := '{}';
        IF array_remove(picked_keys, NULL) <> '{}' THEN
            -- Whoever lets a job of a key begin holds the key's row until its commit; the count below is read after that wait.
            PERFORM 1 FROM fleet.job_limits l WHERE l.key = ANY(picked_keys) ORDER BY l.key FOR UPDATE;
            SELECT coalesce(array_agg(p.id) FILTER (WHERE p.free IS NULL OR p.turn <= p.free), '{}'),
                coalesce(array_agg(DISTINCT p.key) FILTER (WHERE p.turn >= p.free), '{}')
            INTO chosen, filled
            FROM (SELECT w.id, w.key, row_number() OVER (PARTITION BY w.key ORDER BY w.place) AS turn,
                    CASE WHEN w.key IS NOT NULL THEN coalesce((SELECT l.capacity FROM fleet.job_limits l WHERE l.key = w.key), 1)
                        - (SELECT count(*) FROM fleet.jobs j WHERE j.state = 'running' AND j.concurrency_key = w.key) END AS free
                FROM unnest(picked_ids, picked_keys) WITH ORDINALITY AS w (id, key, place)) p;
            full_keys := full_keys || filled;
        END IF;
        WITH taken AS (
            UPDATE fleet.jobs j SET state = 'running', attempts = j.attempts + 1, incarnation = life.id,
                lease = nextval('fleet.fencing_token'), lease_expires_at = clock_timestamp() + make_interval(secs => lease_s),
                claimed_real_at = clock_timestamp()
            WHERE j.id = ANY(chosen)
            RETURNING j.*
        ), opened AS (
            INSERT INTO fleet.open_runs (worker, slot, incarnation, step, trace_id, started_at, started_real_at, job, attempt, wait_s)
            SELECT life.worker, life.slot, life.id, t.kind, replace(gen_random_uuid()::text, '-', ''), at, t.claimed_real_at, t.id,
                t.attempts, greatest(0, extract(epoch FROM at - t.run_at))
            FROM taken t RETURNING job, trace_id, wait_s
        )
        SELECT coalesce(jsonb_agg(jsonb_build_object('id', t.id::text, 'kind', t.kind, 'payload', t.payload, 'lease', t.lease,
            'attempt', t.attempts, 'lease_expires_at', t.lease_expires_at, 'expected_s', t.expected_s, 'trace_id', o.trace_id)
            ORDER BY t.order_at, t.id), '[]'), coalesce(sum(o.wait_s), 0)
        INTO batch, batch_s FROM taken t JOIN opened o ON o.job = t.id;
        claimed := claimed || batch;
        waited_s := waited_s + batch_s;
        -- Another round only for the places that jobs of a full key left.
        EXIT WHEN filled = '{}' OR jsonb_array_length(claimed) >= n;
    END LOOP;
    IF claimed <> '[]' THEN
        PERFORM fleet.count_jobs(claim_jobs.kind, claimed => jsonb_array_length(claimed), wait_s => waited_s);
    END IF;
    RETURN claimed;
END $$;

-- Real seconds until a job of a kind is due, by what is known now: null where none waits. One index look.
CREATE OR REPLACE FUNCTION fleet.next_job_in_s(incarnation uuid, kind text) RETURNS double precision
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    due timestamptz;
BEGIN
    PERFORM fleet.require_incarnation(incarnation);
    SELECT min(j.run_at) INTO due FROM fleet.jobs j
    WHERE j.kind = next_job_in_s.kind AND j.state <> 'running' AND j.waits_for = '{}' AND j.run_at > fleet.now();
    IF due IS NULL THEN
        RETURN NULL;
    END IF;
    RETURN greatest(0, extract(epoch FROM due - fleet.now())) / coalesce((SELECT c.rate FROM fleet.clock c), 1);
END $$;

-- FL001 unless each job comes with the number of its lease. Locks nothing.
CREATE OR REPLACE FUNCTION fleet.require_leases(jobs bigint[], leases bigint[]) RETURNS void
LANGUAGE plpgsql AS $$
BEGIN
    IF jobs IS NULL OR leases IS NULL OR cardinality(jobs) <> cardinality(leases) OR cardinality(jobs) > 1000
        OR array_ndims(jobs) > 1 OR array_ndims(leases) > 1 THEN
        PERFORM fleet.refuse('leases', coalesce(cardinality(leases), 0)::text || ' of ' || coalesce(cardinality(jobs), 0)::text,
            'one for each job, of at most 1000 jobs');
    END IF;
END $$;

-- The running jobs that (incarnation, lease) really holds, locked in order; what is lost is counted. A report takes effect only here.
CREATE OR REPLACE FUNCTION fleet.held_jobs(incarnation uuid, jobs bigint[], leases bigint[]) RETURNS SETOF fleet.jobs
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    held bigint[];
    lost record;
BEGIN
    PERFORM fleet.require_incarnation(incarnation);
    PERFORM fleet.require_leases(jobs, leases);
    PERFORM set_config('synchronous_commit', 'on', true);
    held := ARRAY(SELECT j.id FROM fleet.jobs j JOIN unnest(held_jobs.jobs, held_jobs.leases) r (id, lease)
        ON j.id = r.id AND j.lease = r.lease
        WHERE j.state = 'running' AND j.incarnation = held_jobs.incarnation ORDER BY j.id FOR UPDATE OF j);
    FOR lost IN
        SELECT coalesce(j.kind, f.kind, '?') AS kind, count(*)::integer AS number FROM unnest(held_jobs.jobs) AS r (job)
        LEFT JOIN fleet.jobs j ON j.id = r.job
        LEFT JOIN LATERAL (SELECT f.kind FROM fleet.jobs_finished f WHERE f.id = r.job AND j.id IS NULL LIMIT 1) f ON true
        WHERE r.job <> ALL(held) GROUP BY 1 ORDER BY 1
    LOOP
        PERFORM fleet.count_jobs(lost.kind, missed => lost.number);
    END LOOP;
    RETURN QUERY SELECT j.* FROM fleet.jobs j WHERE j.id = ANY(held) ORDER BY j.id;
END $$;

-- What a report says of the jobs that its caller has lost. Locks nothing.
CREATE OR REPLACE FUNCTION fleet.tell_lost(jobs bigint[], held bigint[]) RETURNS jsonb
LANGUAGE sql IMMUTABLE
RETURN coalesce((SELECT jsonb_agg(id::text ORDER BY id) FROM unnest(jobs) id WHERE id <> ALL(held)), '[]');

-- Holds claimed jobs for lease_s more real seconds: a lease that is over counts too, until somebody takes the job. Gives when it ends,
-- and which are lost. One flushed commit.
CREATE OR REPLACE FUNCTION fleet.renew_jobs(incarnation uuid, jobs bigint[], leases bigint[], lease_s double precision DEFAULT 300)
RETURNS jsonb
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET lock_timeout = '5s' AS $$
DECLARE
    held bigint[];
    until timestamptz;
BEGIN
    PERFORM fleet.require_read_committed();
    PERFORM fleet.require_lease_s(lease_s);
    held := ARRAY(SELECT h.id FROM fleet.held_jobs(incarnation, jobs, leases) h);
    until := clock_timestamp() + make_interval(secs => lease_s);
    UPDATE fleet.jobs j SET lease_expires_at = until WHERE j.id = ANY(held);
    RETURN jsonb_build_object('lease_expires_at', until, 'lost', fleet.tell_lost(jobs, held));
END $$;

-- The jobs are done: they move to jobs_finished, their records to runs. `results` is one value a job, or null. Gives which are lost.
-- One flushed commit.
CREATE OR REPLACE FUNCTION fleet.complete_jobs(
    incarnation uuid, jobs bigint[], leases bigint[], results jsonb DEFAULT NULL, items integer DEFAULT 1
) RETURNS jsonb
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET lock_timeout = '5s' AS $$
DECLARE
    done fleet.jobs;
    held bigint[] := '{}';
    counts jsonb := '{}';
    kind text;
BEGIN
    PERFORM fleet.require_read_committed();
    IF results IS NOT NULL AND (jsonb_typeof(results) <> 'array' OR jsonb_array_length(results) <> cardinality(jobs)
        OR octet_length(results::text) > 65536 * greatest(1, cardinality(jobs))) THEN
        PERFORM fleet.refuse('results', left(results::text, 200), 'no value, or an array with one value a job, each of at most 64 kB');
    END IF;
    FOR done IN SELECT * FROM fleet.held_jobs(incarnation, jobs, leases) LOOP
        held := held || done.id;
        PERFORM fleet.close_job_run(done.id, 'done', items => complete_jobs.items);
        PERFORM fleet.finish_job(done.id, 'completed', nullif(results->(array_position(jobs, done.id) - 1), 'null'));
        IF done.overdue_at IS NOT NULL THEN
            PERFORM fleet.clear_alert('job:' || done.id);
        END IF;
        counts := jsonb_set(counts, ARRAY[done.kind], jsonb_build_array(coalesce((counts->done.kind->>0)::integer, 0) + 1,
            coalesce((counts->done.kind->>1)::double precision, 0)
                + greatest(0, extract(epoch FROM clock_timestamp() - done.claimed_real_at))));
    END LOOP;
    FOR kind IN SELECT k FROM jsonb_object_keys(counts) k ORDER BY k LOOP
        PERFORM fleet.count_jobs(kind, completed => (counts->kind->>0)::integer, run_s => (counts->kind->>1)::double precision);
    END LOOP;
    RETURN jsonb_build_object('lost', fleet.tell_lost(jobs, held));
END $$;

-- The jobs failed, each with its error: again after backoff_s of fleet time (null: 10 s, 20 s ... an hour, with jitter), or dead after
-- the last attempt, or at once where `final`. Gives each one's state, and which are lost. One flushed commit.
CREATE OR REPLACE FUNCTION fleet.fail_jobs(
    incarnation uuid, jobs bigint[], leases bigint[], errors text[], backoff_s double precision DEFAULT NULL,
    final boolean DEFAULT false, error_class text DEFAULT NULL
) RETURNS jsonb
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET lock_timeout = '5s' AS $$
DECLARE
    failed fleet.jobs;
    held bigint[] := '{}';
    states jsonb := '{}';
BEGIN
    PERFORM fleet.require_read_committed();
    IF NOT (fail_jobs.backoff_s >= 0 AND fail_jobs.backoff_s <= 31622400) THEN
        PERFORM fleet.refuse('backoff_s', fail_jobs.backoff_s::text, 'no value (it grows by itself), or from 0 to 31622400 seconds');
    END IF;
    IF cardinality(errors) IS DISTINCT FROM cardinality(jobs) THEN
        PERFORM fleet.refuse('errors', cardinality(errors)::text, 'one for each job');
    END IF;
    FOR failed IN SELECT * FROM fleet.held_jobs(incarnation, jobs, leases) h ORDER BY h.kind, h.id LOOP
        held := held || failed.id;
        states := states || jsonb_build_object(failed.id::text, fleet.end_attempt(failed,
            coalesce(errors[array_position(jobs, failed.id)], 'no reason given'), fail_jobs.backoff_s, coalesce(final, false),
            error_class => fail_jobs.error_class));
    END LOOP;
    RETURN jsonb_build_object('states', states, 'lost', fleet.tell_lost(jobs, held));
END $$;

-- Not now: the jobs are due again after delay_s of fleet time, and the attempt doesn't count. Gives which are lost. One flushed commit.
CREATE OR REPLACE FUNCTION fleet.snooze_jobs(incarnation uuid, jobs bigint[], leases bigint[], delay_s double precision) RETURNS jsonb
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET lock_timeout = '5s' AS $$
DECLARE
    snoozed fleet.jobs;
    held bigint[] := '{}';
BEGIN
    PERFORM fleet.require_read_committed();
    IF delay_s IS NULL OR NOT (delay_s >= 0 AND delay_s <= 31622400) THEN
        PERFORM fleet.refuse('delay_s', delay_s::text, 'from 0 to 31622400 seconds');
    END IF;
    FOR snoozed IN SELECT * FROM fleet.held_jobs(incarnation, jobs, leases) h ORDER BY h.kind, h.id LOOP
        held := held || snoozed.id;
        UPDATE fleet.jobs j SET state = 'available', attempts = j.attempts - 1, incarnation = NULL, lease = NULL,
            lease_expires_at = NULL, overdue_at = NULL, run_at = fleet.now() + make_interval(secs => delay_s) WHERE j.id = snoozed.id;
        PERFORM fleet.close_job_run(snoozed.id, 'put_off');
        IF snoozed.overdue_at IS NOT NULL THEN
            PERFORM fleet.clear_alert('job:' || snoozed.id);
        END IF;
        PERFORM fleet.count_jobs(snoozed.kind, snoozed => 1);
    END LOOP;
    RETURN jsonb_build_object('lost', fleet.tell_lost(jobs, held));
END $$;

-- FL002 where a report of one job found its lease lost: nothing of it stays. For who reports one by one. Locks nothing.
CREATE OR REPLACE FUNCTION fleet.require_kept(report jsonb, job bigint, lease bigint) RETURNS jsonb
LANGUAGE plpgsql AS $$
BEGIN
    IF report->'lost' <> '[]' THEN
        RAISE EXCEPTION 'the lease % on job % is lost', lease, job
            USING ERRCODE = 'FL002', HINT = 'stop work on this job: somebody else has it, or it ended';
    END IF;
    RETURN report - 'lost';
END $$;

-- complete_jobs for one job; FL002 where its lease is lost. Locks its row.
CREATE OR REPLACE FUNCTION fleet.complete_job(incarnation uuid, job bigint, lease bigint, result jsonb DEFAULT NULL) RETURNS jsonb
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET lock_timeout = '5s' AS $$
BEGIN
    RETURN fleet.require_kept(fleet.complete_jobs(incarnation, ARRAY[job], ARRAY[lease], jsonb_build_array(result)), job, lease)
        || jsonb_build_object('state', 'completed');
END $$;

-- fail_jobs for one job; FL002 where its lease is lost. Locks its row.
CREATE OR REPLACE FUNCTION fleet.fail_job(
    incarnation uuid, job bigint, lease bigint, error text, backoff_s double precision DEFAULT NULL
) RETURNS jsonb
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET lock_timeout = '5s' AS $$
BEGIN
    RETURN jsonb_build_object('state', fleet.require_kept(fleet.fail_jobs(incarnation, ARRAY[job], ARRAY[lease], ARRAY[error],
        fail_job.backoff_s), job, lease)->'states'->>job::text);
END $$;

-- snooze_jobs for one job; FL002 where its lease is lost. Locks its row.
CREATE OR REPLACE FUNCTION fleet.snooze_job(incarnation uuid, job bigint, lease bigint, delay_s double precision) RETURNS jsonb
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET lock_timeout = '5s' AS $$
BEGIN
    RETURN fleet.require_kept(fleet.snooze_jobs(incarnation, ARRAY[job], ARRAY[lease], delay_s), job, lease)
        || jsonb_build_object('state', 'available');
END $$;

-- Ends jobs that are not running, and cancels those that depend on them; gives which. Takes their rows in order. One flushed commit.
CREATE OR REPLACE FUNCTION fleet.cancel_jobs(incarnation uuid, jobs bigint[]) RETURNS jsonb
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET lock_timeout = '5s' AS $$
BEGIN
    PERFORM fleet.require_read_committed();
    PERFORM fleet.require_incarnation(incarnation);
    RETURN fleet.cancel_waiting_jobs(jobs);
END $$;

-- What cancel_jobs and a person's decision have in common.
CREATE OR REPLACE FUNCTION fleet.cancel_waiting_jobs(jobs bigint[]) RETURNS jsonb
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    waiting bigint;
    cancelled bigint[] := '{}';
BEGIN
    PERFORM fleet.require_read_committed();
    PERFORM fleet.require_leases(jobs, jobs);
    PERFORM set_config('synchronous_commit', 'on', true);
    FOR waiting IN
        SELECT j.id FROM fleet.jobs j WHERE j.id = ANY(jobs) AND j.state <> 'running' ORDER BY j.id FOR UPDATE
    LOOP
        PERFORM fleet.finish_job(waiting, 'cancelled');
        cancelled := cancelled || waiting;
    END LOOP;
    RETURN to_jsonb(cancelled::text[]);
END $$;

-- Dead or cancelled jobs start anew, their errors kept; gives which. Not one whose unique key is another's now. One flushed commit.
CREATE OR REPLACE FUNCTION fleet.replay_jobs(incarnation uuid, jobs bigint[]) RETURNS jsonb
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET lock_timeout = '5s' AS $$
BEGIN
    PERFORM fleet.require_read_committed();
    PERFORM fleet.require_incarnation(incarnation);
    RETURN fleet.start_jobs_anew(jobs);
END $$;

-- What replay_jobs and a person's decision have in common. Takes the finished rows in order.
CREATE OR REPLACE FUNCTION fleet.start_jobs_anew(jobs bigint[]) RETURNS jsonb
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    ended fleet.jobs_finished;
    at timestamptz;
    rank integer;
    replayed text[] := '{}';
BEGIN
    PERFORM fleet.require_read_committed();
    PERFORM fleet.require_leases(jobs, jobs);
    PERFORM set_config('synchronous_commit', 'on', true);
    FOR ended IN
        SELECT * FROM fleet.jobs_finished f WHERE f.id = ANY(jobs) AND f.state IN ('dead', 'cancelled') ORDER BY f.id FOR UPDATE
    LOOP
        at := fleet.now();
        rank := fleet.priority_rank(ended.priority);
        INSERT INTO fleet.jobs (id, kind, payload, priority, rank, run_at, order_at, state, max_attempts, unique_key, created_at,
            expected_s, concurrency_key, errors)
        OVERRIDING SYSTEM VALUE
        VALUES (ended.id, ended.kind, ended.payload, ended.priority, rank, at, fleet.job_order(at, rank), 'available',
            ended.max_attempts, ended.unique_key, ended.created_at, ended.expected_s, ended.concurrency_key, ended.errors)
        ON CONFLICT DO NOTHING;
        IF FOUND THEN
            DELETE FROM fleet.jobs_finished f WHERE f.id = ended.id AND f.finished_at = ended.finished_at;
            replayed := replayed || ended.id::text;
        END IF;
    END LOOP;
    RETURN to_jsonb(replayed);
END $$;

-- cancel_jobs for one job; true if there was one to end. Locks its row.
CREATE OR REPLACE FUNCTION fleet.cancel_job(job bigint) RETURNS boolean
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET lock_timeout = '5s' AS $$
BEGIN
    RETURN fleet.cancel_waiting_jobs(ARRAY[job]) <> '[]';
END $$;

-- replay_jobs for one job; true if there was one. Locks its row.
CREATE OR REPLACE FUNCTION fleet.replay_job(job bigint) RETURNS boolean
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET lock_timeout = '5s' AS $$
BEGIN
    RETURN fleet.start_jobs_anew(ARRAY[job]) <> '[]';
END $$;

-- A person cancels a job that doesn't run, or starts a dead or cancelled one anew. Audited, flushed. FL005 where that can't be.
CREATE OR REPLACE FUNCTION fleet.decide_job(job bigint, decision text, actor text, reason text) RETURNS jsonb
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET lock_timeout = '5s' AS $$
DECLARE
    found jsonb;
    state text;
BEGIN
    PERFORM fleet.require_read_committed();
    IF decision IS NULL OR decision NOT IN ('cancel', 'replay') THEN
        PERFORM fleet.refuse('decision', decision, 'cancel or replay');
    END IF;
    found := CASE decision WHEN 'cancel' THEN fleet.cancel_waiting_jobs(ARRAY[job]) ELSE fleet.start_jobs_anew(ARRAY[job]) END;
    IF found = '[]' THEN
        state := coalesce((SELECT j.state FROM fleet.jobs j WHERE j.id = job), (SELECT f.state FROM fleet.jobs_finished f WHERE f.id = job));
        IF state IS NULL THEN
            PERFORM fleet.refuse('job', job::text, 'the id of a job: socialfleet jobs list');
        END IF;
        RAISE EXCEPTION 'job % is %: %', job, state, CASE decision WHEN 'cancel' THEN 'only one that waits can be cancelled'
                ELSE 'only a dead or cancelled one starts anew, and not while another has its unique key' END
            USING ERRCODE = 'FL005', DETAIL = json_build_object('job', job::text, 'state', state);
    END IF;
    PERFORM fleet.write_audit(actor, decision || '_job', job::text, decide_job.reason);
    RETURN jsonb_build_object('id', job::text, 'state', CASE decision WHEN 'cancel' THEN 'cancelled' ELSE 'available' END);
END $$;

-- Takes back the jobs of all kinds whose holder died or whose lease is over, and tells which run longer than expected: for kinds that
-- nobody claims any more. Gives how many of each. Each claim does the same for its own kind.
CREATE OR REPLACE FUNCTION fleet.rescue_jobs(incarnation uuid, n integer DEFAULT 100) RETURNS jsonb
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET lock_timeout = '5s' AS $$
DECLARE
    rescued integer;
BEGIN
    PERFORM fleet.require_read_committed();
    PERFORM fleet.require_incarnation(incarnation);
    PERFORM fleet.require_batch(n);
    PERFORM set_config('synchronous_commit', 'on', true);
    rescued := fleet.take_back_jobs(incarnation, NULL, n);
    RETURN jsonb_build_object('rescued', rescued, 'overdue', fleet.tell_overdue_jobs(NULL, n));
END $$;

-- Each kind's jobs: how many wait (of them later, or for another job) and run, for how many fleet seconds the oldest has been due, and
-- what became of all since ever, with the sums of waiting (fleet seconds) and running (real seconds). Reads jobs; locks nothing.
CREATE OR REPLACE FUNCTION fleet.get_job_status() RETURNS jsonb
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    at timestamptz := fleet.now();
BEGIN
    RETURN coalesce((SELECT jsonb_agg(jsonb_build_object('kind', k.kind, 'available', coalesce(d.available, 0),
            'retryable', coalesce(d.retryable, 0), 'running', coalesce(d.running, 0), 'scheduled', coalesce(d.scheduled, 0),
            'blocked', coalesce(d.blocked, 0), 'late', coalesce(d.late, 0), 'oldest_due_s', coalesce(d.oldest_due_s, 0),
            'enqueued', coalesce(c.enqueued, 0), 'claimed', coalesce(c.claimed, 0), 'completed', coalesce(c.completed, 0),
            'failed', coalesce(c.failed, 0), 'dead', coalesce(c.dead, 0), 'snoozed', coalesce(c.snoozed, 0),
            'rescued', coalesce(c.rescued, 0), 'missed', coalesce(c.missed, 0), 'overdue', coalesce(c.overdue, 0),
            'wait_s', round(coalesce(c.wait_s, 0)::numeric, 3), 'run_s', round(coalesce(c.run_s, 0)::numeric, 3)) ORDER BY k.kind)
        FROM (SELECT j.kind FROM fleet.jobs j UNION SELECT c.kind FROM fleet.job_counts c) k
        LEFT JOIN (SELECT j.kind, count(*) FILTER (WHERE j.state = 'available') AS available,
                count(*) FILTER (WHERE j.state = 'retryable') AS retryable, count(*) FILTER (WHERE j.state = 'running') AS running,
                count(*) FILTER (WHERE j.state <> 'running' AND j.run_at > at) AS scheduled,
                count(*) FILTER (WHERE j.waits_for <> '{}') AS blocked, count(j.overdue_at) AS late,
                round(greatest(0, max(extract(epoch FROM at - j.run_at))
                    FILTER (WHERE j.state <> 'running' AND j.waits_for = '{}'))::numeric, 3) AS oldest_due_s
            FROM fleet.jobs j GROUP BY j.kind) d USING (kind)
        LEFT JOIN (SELECT c.kind, sum(c.enqueued) AS enqueued, sum(c.claimed) AS claimed, sum(c.completed) AS completed,
                sum(c.failed) AS failed, sum(c.dead) AS dead, sum(c.snoozed) AS snoozed, sum(c.rescued) AS rescued,
                sum(c.missed) AS missed, sum(c.overdue) AS overdue, sum(c.wait_s) AS wait_s, sum(c.run_s) AS run_s
            FROM fleet.job_counts c GROUP BY c.kind) c USING (kind)), '[]');
END $$;

-- One job, whether it ended or not, with every error; null where there is none. Reads one row.
CREATE OR REPLACE FUNCTION fleet.get_job(job bigint) RETURNS jsonb
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    RETURN coalesce(
        (SELECT to_jsonb(j) || jsonb_build_object('id', j.id::text) FROM fleet.jobs j WHERE j.id = job),
        (SELECT to_jsonb(f) || jsonb_build_object('id', f.id::text) FROM fleet.jobs_finished f WHERE f.id = job));
END $$;
