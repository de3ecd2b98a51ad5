-- What depends on what: a job waits for others, and their ends let it go on or cancel it. Heirs of a job are those that wait for it.

-- Holds jobs until the commit: none of them ends before, so that who comes to depend on one is seen by its end. In order; claims go on.
CREATE OR REPLACE FUNCTION fleet.hold_jobs(jobs bigint[]) RETURNS void
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    PERFORM 1 FROM fleet.jobs j WHERE j.id = ANY(jobs) ORDER BY j.id FOR KEY SHARE;
END $$;

-- Which of the jobs that somebody depends on are still open, for who holds them; null where one can't be completed any more, or is unknown.
-- Locks nothing.
CREATE OR REPLACE FUNCTION fleet.open_among(jobs bigint[]) RETURNS bigint[]
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    open_ones bigint[] := ARRAY(SELECT j.id FROM fleet.jobs j WHERE j.id = ANY(jobs) ORDER BY j.id);
BEGIN
    IF EXISTS (SELECT 1 FROM unnest(jobs) d WHERE d <> ALL(open_ones) AND NOT EXISTS (
        SELECT 1 FROM fleet.jobs_finished f WHERE f.id = d AND f.state = 'completed')) THEN
        RETURN NULL;
    END IF;
    RETURN open_ones;
END $$;

-- The jobs that wait for any of the given ones, at any remove where `deep`. One index look for each that others may wait for, also with
-- a plan that was made while there were few, and made once; locks nothing.
CREATE OR REPLACE FUNCTION fleet.heirs_of(jobs bigint[], deep boolean) RETURNS bigint[]
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp
SET enable_seqscan = off SET plan_cache_mode = force_generic_plan AS $$
BEGIN
    IF NOT deep THEN
        RETURN ARRAY(SELECT j.id FROM fleet.jobs j WHERE j.waits_for && jobs AND j.waits_for <> '{}');
    END IF;
    RETURN ARRAY(WITH RECURSIVE heirs (id) AS (
        SELECT j.id FROM fleet.jobs j WHERE j.waits_for && jobs AND j.waits_for <> '{}'
        UNION
        SELECT j.id FROM heirs h JOIN fleet.jobs j ON j.waits_for && ARRAY[h.id] AND j.waits_for <> '{}'
    ) SELECT h.id FROM heirs h);
END $$;

-- Locks jobs, and the heirs of those that end, all in the order of their ids, before anything is changed: whoever ends two jobs that one
-- waits for never waits in a circle. One that came to wait meanwhile is newer than all that were locked before; none that is older is
-- replayed meanwhile.
CREATE OR REPLACE FUNCTION fleet.lock_jobs(jobs bigint[], ending bigint[], deep boolean) RETURNS void
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    wanted bigint[];
    locked bigint[] := '{}';
BEGIN
    PERFORM pg_advisory_xact_lock_shared(fleet.lock_key('jobs', 'replay'));
    LOOP
        wanted := jobs || fleet.heirs_of(ending, deep);
        EXIT WHEN wanted <@ locked;
        PERFORM 1 FROM fleet.jobs j WHERE j.id = ANY(wanted) AND j.id <> ALL(locked) ORDER BY j.id FOR UPDATE;
        locked := locked || wanted;
    END LOOP;
END $$;

-- Locks all heirs of a job whose row the caller holds, without waiting; false where others hold some, or one came meanwhile.
CREATE OR REPLACE FUNCTION fleet.try_heirs(job bigint) RETURNS boolean
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    heirs bigint[] := fleet.heirs_of(ARRAY[job], true);
    locked bigint;
BEGIN
    WITH held AS MATERIALIZED (
        SELECT j.id FROM fleet.jobs j WHERE j.id = ANY(heirs) ORDER BY j.id FOR UPDATE SKIP LOCKED
    )
    SELECT count(*) INTO locked FROM held;
    RETURN locked = cardinality(fleet.heirs_of(ARRAY[job], true));
END $$;

-- Lets those go on that wait for jobs which are completed by now; gives the kinds of those that wait for nothing more. Takes their rows
-- in order. As many statements for a thousand as for one; where nobody waits it is a look.
CREATE OR REPLACE FUNCTION fleet.release_heirs(completed bigint[]) RETURNS text[]
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    heirs bigint[] := fleet.heirs_of(completed, false);
    kinds text[];
    at timestamptz;
BEGIN
    IF heirs = '{}' THEN
        RETURN heirs;
    END IF;
    PERFORM fleet.lock_jobs(heirs, '{}', false);
    at := fleet.now();
    WITH released AS (
        UPDATE fleet.jobs j SET waits_for = ARRAY(SELECT w FROM unnest(j.waits_for) w WHERE w <> ALL(completed)),
            run_at = greatest(j.run_at, at), order_at = fleet.job_order(greatest(j.run_at, at), j.rank)
        WHERE j.id = ANY(heirs) RETURNING j.kind, j.waits_for
    )
    SELECT coalesce(array_agg(DISTINCT r.kind), '{}') INTO kinds FROM released r WHERE r.waits_for = '{}';
    RETURN kinds;
END $$;

-- Ends a job for good that is not completed: it moves to jobs_finished, and all its heirs are cancelled with it, each with what it still
-- waits for, which a replay looks at. The caller holds the row and its heirs'. As many statements for a thousand heirs as for one, and a
-- look for each remove.
CREATE OR REPLACE FUNCTION fleet.finish_job(job bigint, state text) RETURNS void
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    ending bigint[] := finish_job.job || fleet.heirs_of(ARRAY[finish_job.job], true);
    at timestamptz;
    ended record;
BEGIN
    at := fleet.now();
    FOR ended IN
        WITH gone AS (
            DELETE FROM fleet.jobs j WHERE j.id = ANY(ending) RETURNING j.*
        ), causes AS (
            SELECT g.id, min(e) AS cause FROM gone g, unnest(g.waits_for) w JOIN unnest(ending) e ON e = w GROUP BY g.id
        ), kept AS (
            INSERT INTO fleet.jobs_finished (id, kind, payload, priority, run_at, state, attempts, max_attempts, unique_key,
                concurrency_key, concurrency_limit, expected_s, waits_for, errors, created_at, finished_at)
            SELECT g.id, g.kind, g.payload, g.priority, g.run_at,
                CASE WHEN c.cause IS NULL THEN finish_job.state ELSE 'cancelled' END, g.attempts, g.max_attempts,
                g.unique_key, g.concurrency_key, g.concurrency_limit, g.expected_s, g.waits_for,
                g.errors || CASE WHEN c.cause IS NULL THEN '[]' ELSE jsonb_build_object('attempt', g.attempts, 'at', at, 'error',
                    format('job %s, on which it depends, is %s', c.cause,
                        CASE c.cause WHEN finish_job.job THEN finish_job.state ELSE 'cancelled' END)) END,
                g.created_at, at
            FROM gone g LEFT JOIN causes c USING (id) RETURNING kind
        )
        SELECT k.kind, count(*)::integer AS number FROM kept k GROUP BY k.kind ORDER BY k.kind
    LOOP
        PERFORM fleet.count_jobs(ended.kind, given_up => ended.number);
    END LOOP;
END $$;
