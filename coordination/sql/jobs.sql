-- Jobs: work as rows, claimed with a lease whose number rises with every claim; whoever holds an old number is told no, and that is
-- counted. Here stand those that did not end yet; one that ends moves to jobs_finished in the statement that ends it.
-- Nobody is woken in here: a NOTIFY inside the transaction would hold every other commit. The answer says whom to wake, afterwards.
-- What is called thousands of times a second keeps the plan that it made first, and makes it so that it holds for any number of rows: a
-- plan of the time when there were few would read the whole table.
-- All lock in one order: jobs by their ids, then unique keys, then limits by key. Claims pass over what others hold, and counts wait for
-- nobody.

-- What claims go by: the time of being due, ten minutes earlier for each rank of priority. So each ten minutes of waiting make up for
-- one rank, and a low job waits at most thirty minutes longer than a critical one that came with it. Locks nothing.
CREATE OR REPLACE FUNCTION fleet.job_order(run_at timestamptz, rank integer) RETURNS timestamptz
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN run_at - rank * interval '10 minutes';

-- Counts what became of jobs of a kind, in a row of the kind that nobody else holds, a new one where all are held: so it waits for
-- nobody, wherever it stands. There are as many rows as there ever were counts at one moment. What ends is counted, each execution and
-- each job: what did not end yet is there. `given_up` are those that are dead or cancelled, less those that started anew.
CREATE OR REPLACE FUNCTION fleet.count_jobs(
    kind text, completed integer DEFAULT 0, given_up integer DEFAULT 0, failed integer DEFAULT 0, dead integer DEFAULT 0,
    snoozed integer DEFAULT 0, rescued integer DEFAULT 0, missed integer DEFAULT 0, overdue integer DEFAULT 0,
    wait_s double precision DEFAULT 0, run_s double precision DEFAULT 0
) RETURNS void
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    WITH free AS MATERIALIZED (
        SELECT c.shard FROM fleet.job_counts c WHERE c.kind = count_jobs.kind LIMIT 1 FOR NO KEY UPDATE SKIP LOCKED
    )
    UPDATE fleet.job_counts c SET completed = c.completed + count_jobs.completed, given_up = c.given_up + count_jobs.given_up,
        failed = c.failed + count_jobs.failed, dead = c.dead + count_jobs.dead, snoozed = c.snoozed + count_jobs.snoozed,
        rescued = c.rescued + count_jobs.rescued, missed = c.missed + count_jobs.missed, overdue = c.overdue + count_jobs.overdue,
        wait_s = c.wait_s + count_jobs.wait_s, run_s = c.run_s + count_jobs.run_s
    FROM free WHERE c.kind = count_jobs.kind AND c.shard = free.shard;
    IF NOT FOUND THEN
        INSERT INTO fleet.job_counts (kind, completed, given_up, failed, dead, snoozed, rescued, missed, overdue, wait_s, run_s)
        VALUES (kind, completed, given_up, failed, dead, snoozed, rescued, missed, overdue, wait_s, run_s);
    END IF;
END $$;

-- Which workers take jobs of these kinds, as names to wake. Locks nothing.
CREATE OR REPLACE FUNCTION fleet.takers_of(kinds text[]) RETURNS text[]
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF kinds = '{}' THEN
        RETURN kinds;
    END IF;
    RETURN ARRAY(SELECT DISTINCT t.worker || '/jobs' FROM fleet.job_takers t WHERE t.kind = ANY(kinds) ORDER BY 1);
END $$;

-- Those of them that are to be woken once the caller has committed. Waits for nobody; the last thing before its caller's commit.
CREATE OR REPLACE FUNCTION fleet.sleeping_takers_of(kinds text[]) RETURNS text[]
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    taker text;
    waking text[] := '{}';
BEGIN
    FOREACH taker IN ARRAY fleet.takers_of(kinds) LOOP
        IF fleet.may_sleep(taker) THEN
            waking := waking || taker;
        END IF;
    END LOOP;
    RETURN waking;
END $$;

-- A job as it is asked for, with its number; FL001 unless it can be one. Its times are those of when it is added. Locks nothing.
CREATE OR REPLACE FUNCTION fleet.ask_for_job(
    kind text, payload jsonb, priority text, run_at timestamptz, unique_key text, max_attempts integer, expected_s double precision,
    concurrency_key text, concurrency_limit integer, depends bigint[]
) RETURNS fleet.jobs
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    asked fleet.jobs;
BEGIN
    IF kind IS NULL OR kind !~ '^[a-z][a-z0-9_.-]{0,62}$' THEN
        PERFORM fleet.refuse('kind', kind, 'a lower-case name of 1 to 63 letters, digits, _, . or -');
    END IF;
    IF jsonb_typeof(payload) IS DISTINCT FROM 'object' OR octet_length(payload::text) > 65536 THEN
        PERFORM fleet.refuse('payload', payload::text, 'a JSON object of at most 64 kB (65536 bytes)');
    END IF;
    asked.rank := fleet.priority_rank(priority);
    IF NOT isfinite(run_at) OR run_at >= '9000-01-01 00:00:00+00' THEN  -- no client must meet a year that it can't write
        PERFORM fleet.refuse('run_at', run_at::text, 'no value (at once), or a time before the year 9000');
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
    asked.id := nextval('fleet.jobs_id_seq');
    asked.kind := kind;
    asked.payload := payload;
    asked.priority := priority;
    asked.run_at := run_at;
    asked.unique_key := unique_key;
    asked.max_attempts := max_attempts;
    asked.expected_s := expected_s;
    asked.concurrency_key := concurrency_key;
    asked.concurrency_limit := CASE WHEN concurrency_key IS NOT NULL THEN concurrency_limit END;
    asked.waits_for := coalesce(depends, '{}');
    RETURN asked;
END $$;

-- An object of enqueue_jobs as the job that it asks for; FL001 names what has not its type. Locks nothing.
CREATE OR REPLACE FUNCTION fleet.read_job(given jsonb) RETURNS fleet.jobs
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    run_at timestamptz;
    max_attempts integer;
    expected_s double precision;
    concurrency_limit integer;
    depends bigint[];
    field text := 'jobs';
    allowed text := 'an object for each job';
BEGIN
    IF jsonb_typeof(given) IS DISTINCT FROM 'object' THEN
        PERFORM fleet.refuse(field, given::text, allowed);
    END IF;
    BEGIN
        field := 'run_at';
        allowed := 'no value (at once), or a time such as 2026-01-31T12:00:00+00';
        run_at := (given->>'run_at')::timestamptz;
        field := 'max_attempts';
        allowed := 'a whole number from 1 to 1000';
        max_attempts := coalesce((given->>'max_attempts')::integer, 5);
        field := 'expected_s';
        allowed := 'no value, or more than 0 and at most 86400 seconds';
        expected_s := (given->>'expected_s')::double precision;
        field := 'concurrency_limit';
        allowed := 'a whole number from 1 to 10000';
        concurrency_limit := coalesce((given->>'concurrency_limit')::integer, 1);
        field := 'depends';
        allowed := 'at most 100 ids of jobs';
        IF coalesce(nullif(given->'depends', 'null'), '[]') = '[]' THEN
            depends := '{}';
        ELSE
            depends := ARRAY(SELECT d::bigint FROM jsonb_array_elements_text(given->'depends') d);
        END IF;
    EXCEPTION WHEN data_exception THEN
        PERFORM fleet.refuse(field, given->>field, allowed);
    END;
    RETURN fleet.ask_for_job(given->>'kind', coalesce(given->'payload', '{}'), coalesce(given->>'priority', 'medium'), run_at,
        given->>'unique_key', max_attempts, expected_s, given->>'concurrency_key', concurrency_limit, depends);
END $$;

-- A job as it is asked for, of what it waits for only what is still open; FL001 where that can't be completed any more. For who holds
-- those.
CREATE OR REPLACE FUNCTION fleet.wait_for_open(asked fleet.jobs) RETURNS fleet.jobs
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    open_ones bigint[] := fleet.open_among(asked.waits_for);
BEGIN
    IF open_ones IS NULL THEN
        PERFORM fleet.refuse('depends', array_to_string(asked.waits_for, ', '), 'ids of jobs that are completed, or can still be');
    END IF;
    asked.waits_for := open_ones;
    RETURN asked;
END $$;

-- Adds jobs as they are asked for: all of them, due at their time or now. The same unique key among a kind's unfinished jobs gives the
-- job that is there. Gives what became of each, in their order, and whom to wake. Takes the jobs that they depend on, then unique keys,
-- then limits, each in order, so that two callers never wait in a circle. As many statements for a thousand as for one.
CREATE OR REPLACE FUNCTION fleet.add_jobs(asked fleet.jobs[]) RETURNS jsonb
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    parents bigint[];
    is_limited boolean;
    at timestamptz;
    created bigint[];
    there fleet.jobs[] := '{}';
    waking text[];
BEGIN
    SELECT coalesce(array_agg(p) FILTER (WHERE p IS NOT NULL), '{}'), count(a.concurrency_key) > 0 INTO parents, is_limited
    FROM unnest(asked) a LEFT JOIN LATERAL unnest(a.waits_for) p ON true;
    IF parents <> '{}' THEN
        PERFORM fleet.hold_jobs(parents);
        asked := ARRAY(SELECT fleet.wait_for_open(a) FROM unnest(asked) a ORDER BY a.id);
    END IF;
    at := fleet.now();
    LOOP
        BEGIN
            WITH made AS (
                INSERT INTO fleet.jobs (id, kind, payload, priority, rank, run_at, order_at, state, max_attempts, unique_key, created_at,
                    expected_s, concurrency_key, concurrency_limit, waits_for)
                OVERRIDING SYSTEM VALUE
                SELECT a.id, a.kind, a.payload, a.priority, a.rank, greatest(a.run_at, at),  -- a time that is past would jump the line
                    fleet.job_order(greatest(a.run_at, at), a.rank), 'available', a.max_attempts, a.unique_key, at, a.expected_s,
                    a.concurrency_key, a.concurrency_limit, a.waits_for
                FROM unnest(asked) a ORDER BY a.kind, a.unique_key, a.id
                ON CONFLICT (kind, unique_key) WHERE unique_key IS NOT NULL DO NOTHING
                RETURNING id, kind, waits_for
            )
            -- One that is due later wakes too: who sleeps does not know yet when to look.
            SELECT coalesce(array_agg(m.id), '{}'), coalesce(array_agg(DISTINCT m.kind) FILTER (WHERE m.waits_for = '{}'), '{}')
            INTO created, waking FROM made m;
            EXIT WHEN cardinality(created) = cardinality(asked);
            there := ARRAY(
                SELECT o.found FROM unnest(asked) a CROSS JOIN LATERAL (
                    SELECT j AS found FROM fleet.jobs j WHERE j.kind = a.kind AND j.unique_key = a.unique_key LIMIT 1) o
                WHERE a.id <> ALL(created));
            EXIT WHEN cardinality(created) + cardinality(there) = cardinality(asked);
            -- A job that stood in the way ended between the two statements: there is room now, but its key's turn was before others.
            RAISE no_data_found;
        EXCEPTION WHEN no_data_found THEN
            NULL;  -- nothing is added, and all begin anew
        END;
    END LOOP;
    IF is_limited THEN
        PERFORM fleet.limit_jobs(l.key, l.capacity) FROM (
            SELECT DISTINCT ON (a.concurrency_key) a.concurrency_key AS key, a.concurrency_limit AS capacity FROM unnest(asked) a
            WHERE a.concurrency_key IS NOT NULL ORDER BY a.concurrency_key, a.id DESC) l;
    END IF;
    RETURN jsonb_build_object('wake', fleet.sleeping_takers_of(waking), 'jobs', (
        SELECT coalesce(jsonb_agg(jsonb_build_object('id', coalesce(t.id, a.id)::text, 'state', coalesce(t.state, 'available'),
            'created', t.id IS NULL) ORDER BY a.id), '[]')
        FROM unnest(asked) a LEFT JOIN LATERAL (
            SELECT o.id, o.state FROM unnest(there) o
            WHERE o.kind = a.kind AND o.unique_key = a.unique_key AND o.id <> a.id LIMIT 1) t ON true));
END $$;

-- Adds a job, due at run_at (fleet time) or at once, when those that it depends on are completed. At most concurrency_limit jobs with
-- its concurrency_key run at a time. Gives id, state, whether it is new, and whom to wake: who takes its kind and may sleep. One flushed
-- insert.
CREATE OR REPLACE FUNCTION fleet.enqueue_job(
    incarnation uuid, kind text, payload jsonb DEFAULT '{}', priority text DEFAULT 'medium', run_at timestamptz DEFAULT NULL,
    unique_key text DEFAULT NULL, max_attempts integer DEFAULT 5, expected_s double precision DEFAULT NULL,
    concurrency_key text DEFAULT NULL, concurrency_limit integer DEFAULT 1, depends bigint[] DEFAULT '{}'
) RETURNS jsonb
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET lock_timeout = '5s'
SET enable_seqscan = off SET plan_cache_mode = force_generic_plan AS $$
DECLARE
    added jsonb;
BEGIN
    PERFORM fleet.require_read_committed();
    PERFORM fleet.check_incarnation(incarnation);
    PERFORM set_config('synchronous_commit', 'on', true);
    added := fleet.add_jobs(ARRAY[fleet.ask_for_job(kind, payload, priority, run_at, unique_key, max_attempts, expected_s,
        concurrency_key, concurrency_limit, depends)]);
    RETURN (added->'jobs'->0) || jsonb_build_object('wake', added->'wake');
END $$;

-- Adds up to 1000 jobs, each an object with enqueue_job's own names: all of them or, where one is refused, none. Gives what became of
-- each, in the order given, and whom to wake. One flushed commit.
CREATE OR REPLACE FUNCTION fleet.enqueue_jobs(incarnation uuid, jobs jsonb) RETURNS jsonb
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET lock_timeout = '5s'
SET enable_seqscan = off SET plan_cache_mode = force_generic_plan AS $$
BEGIN
    PERFORM fleet.require_read_committed();
    PERFORM fleet.check_incarnation(incarnation);
    IF jsonb_typeof(jobs) IS DISTINCT FROM 'array' OR jsonb_array_length(jobs) > 1000 THEN
        PERFORM fleet.refuse('jobs', left(jobs::text, 200), 'an array of at most 1000 objects');
    END IF;
    PERFORM set_config('synchronous_commit', 'on', true);
    RETURN fleet.add_jobs(ARRAY(SELECT fleet.read_job(g.given) FROM (
        SELECT a.given FROM jsonb_array_elements(jobs) WITH ORDINALITY AS a (given, place) ORDER BY a.place) g));
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
            'enqueued', coalesce(c.completed + c.given_up, 0) + coalesce(d.open, 0),
            'claimed', coalesce(c.completed + c.failed + c.snoozed, 0) + coalesce(d.running, 0), 'completed', coalesce(c.completed, 0),
            'failed', coalesce(c.failed, 0), 'dead', coalesce(c.dead, 0), 'snoozed', coalesce(c.snoozed, 0),
            'rescued', coalesce(c.rescued, 0), 'missed', coalesce(c.missed, 0), 'overdue', coalesce(c.overdue, 0),
            'wait_s', round((coalesce(c.wait_s, 0) + coalesce(d.wait_s, 0))::numeric, 3),
            'run_s', round(coalesce(c.run_s, 0)::numeric, 3)) ORDER BY k.kind)
        FROM (SELECT j.kind FROM fleet.jobs j UNION SELECT c.kind FROM fleet.job_counts c) k
        LEFT JOIN (SELECT j.kind, count(*) AS open, count(*) FILTER (WHERE j.state = 'available') AS available,
                count(*) FILTER (WHERE j.state = 'retryable') AS retryable, count(*) FILTER (WHERE j.state = 'running') AS running,
                count(*) FILTER (WHERE j.state <> 'running' AND j.run_at > at) AS scheduled,
                sum(fleet.waited_s(j.run_at, j.claimed_at)) FILTER (WHERE j.state = 'running') AS wait_s,
                count(*) FILTER (WHERE j.waits_for <> '{}') AS blocked, count(j.overdue_at) AS late,
                round(greatest(0, max(extract(epoch FROM at - j.run_at))
                    FILTER (WHERE j.state <> 'running' AND j.waits_for = '{}'))::numeric, 3) AS oldest_due_s
            FROM fleet.jobs j GROUP BY j.kind) d USING (kind)
        LEFT JOIN (SELECT c.kind, sum(c.completed) AS completed, sum(c.given_up) AS given_up,
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
