-- Limits by key: at most so many jobs with a concurrency key run at a time, of whatever kind. The key's row is the mutex of the count.
-- A key's jobs, those that run and those that wait, are found by whether they have a holder: by their state they would be found by other
-- indexes too, and a plan of when none ran, or none waited, would walk over all that do.

-- Sets how many jobs with a key may run at a time, where that is new; the newest word holds. Only then it takes the key's row, for which
-- claims may wait and which claims may hold: the last thing before its caller's commit, keys in order.
CREATE OR REPLACE FUNCTION fleet.limit_jobs(key text, capacity integer) RETURNS void
LANGUAGE sql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
    INSERT INTO fleet.job_limits
    SELECT limit_jobs.key, limit_jobs.capacity
    WHERE NOT EXISTS (SELECT 1 FROM fleet.job_limits l WHERE l.key = limit_jobs.key AND l.capacity = limit_jobs.capacity)
    ON CONFLICT ON CONSTRAINT job_limits_pkey DO UPDATE SET capacity = excluded.capacity
$$;

-- Takes the rows of keys, in order, until the commit: whoever lets a job of a key begin holds the key's row. One that was swept is made
-- anew, by what its jobs say.
CREATE OR REPLACE FUNCTION fleet.hold_limits(keys text[], capacities integer[]) RETURNS void
LANGUAGE sql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
    INSERT INTO fleet.job_limits AS l
    SELECT k.key, max(k.capacity) FROM unnest(hold_limits.keys, hold_limits.capacities) k (key, capacity) GROUP BY k.key ORDER BY k.key
    ON CONFLICT ON CONSTRAINT job_limits_pkey DO UPDATE SET capacity = l.capacity WHERE false  -- locked, and left as it is
$$;

-- How many more jobs may run now with each of these keys: exact for who holds the keys' rows. Locks nothing; reads the keys' running jobs
-- by index.
CREATE OR REPLACE FUNCTION fleet.free_places(keys text[]) RETURNS TABLE (key text, free bigint)
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    RETURN QUERY SELECT k.key, greatest(0, coalesce(l.capacity, 1)
        - (SELECT count(*) FROM fleet.jobs j WHERE j.incarnation IS NOT NULL AND j.concurrency_key = k.key))
    FROM (SELECT DISTINCT u.key FROM unnest(keys) u (key)) k LEFT JOIN fleet.job_limits l ON l.key = k.key;
END $$;

-- The kinds of due jobs with one of these keys: who takes them may wait for a place that just got free. Locks nothing; one index look
-- for each kind and key.
CREATE OR REPLACE FUNCTION fleet.kinds_with(keys text[]) RETURNS text[]
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    at timestamptz;
BEGIN
    IF array_remove(keys, NULL) = '{}' THEN
        RETURN '{}';
    END IF;
    at := fleet.now();
    RETURN ARRAY(SELECT k.kind FROM (SELECT DISTINCT t.kind FROM fleet.job_takers t) k WHERE EXISTS (
        SELECT 1 FROM unnest(keys) w (key) CROSS JOIN LATERAL (SELECT 1 FROM fleet.jobs j
            WHERE j.kind = k.kind AND j.concurrency_key = w.key AND j.incarnation IS NULL AND j.waits_for = '{}'
              AND j.order_at <= at - interval '10 minutes' AND j.run_at <= at LIMIT 1) due));
END $$;

-- Due jobs of a kind whose concurrency key has a place for them, in the order of claims: at least n where there are so many. It looks at
-- the first n + 50 that are due; where those are not all, and mostly of full keys, at the head of each key's line: so a full key's
-- backlog costs no more than its first jobs. Locks nothing.
CREATE OR REPLACE FUNCTION fleet.free_keyed_jobs(of_kind text, at timestamptz, n integer) RETURNS bigint[]
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    reach integer := n + 50;
    ids bigint[];
    keys text[];
    free_ones bigint[];
BEGIN
    SELECT coalesce(array_agg(f.id), '{}'), array_agg(f.key) INTO ids, keys FROM (
        SELECT j.id, j.concurrency_key AS key FROM fleet.jobs j
        WHERE j.kind = of_kind AND j.state <> 'running' AND j.waits_for = '{}' AND j.concurrency_key IS NOT NULL
          AND j.order_at <= at - interval '10 minutes' AND j.run_at <= at
        ORDER BY j.order_at, j.id LIMIT reach) f;
    IF ids = '{}' THEN
        RETURN ids;
    END IF;
    free_ones := ARRAY(
        SELECT t.id FROM (SELECT f.id, f.key, f.place, row_number() OVER (PARTITION BY f.key ORDER BY f.place) AS turn
            FROM unnest(ids, keys) WITH ORDINALITY AS f (id, key, place)) t
        JOIN fleet.free_places(keys) p ON p.key = t.key
        WHERE t.turn <= p.free ORDER BY t.place);
    IF cardinality(ids) < reach OR cardinality(free_ones) >= n THEN
        RETURN free_ones;
    END IF;
    keys := ARRAY(
        WITH RECURSIVE heads (key) AS (
            (SELECT j.concurrency_key FROM fleet.jobs j
                WHERE j.kind = of_kind AND j.incarnation IS NULL AND j.waits_for = '{}' AND j.concurrency_key IS NOT NULL
                ORDER BY j.concurrency_key LIMIT 1)
            UNION ALL
            SELECT (SELECT j.concurrency_key FROM fleet.jobs j
                WHERE j.kind = of_kind AND j.incarnation IS NULL AND j.waits_for = '{}' AND j.concurrency_key > h.key
                ORDER BY j.concurrency_key LIMIT 1)
            FROM heads h WHERE h.key IS NOT NULL
        )
        SELECT h.key FROM heads h WHERE h.key IS NOT NULL);
    RETURN ARRAY(
        SELECT h.id FROM fleet.free_places(keys) p CROSS JOIN LATERAL (
            SELECT j.id, j.order_at FROM fleet.jobs j
            WHERE j.kind = of_kind AND j.incarnation IS NULL AND j.waits_for = '{}' AND j.concurrency_key = p.key
              AND j.order_at <= at - interval '10 minutes' AND j.run_at <= at
            ORDER BY j.order_at, j.id LIMIT p.free) h
        ORDER BY h.order_at, h.id LIMIT reach);
END $$;

-- Locks up to n of the given jobs that are still due, in the order of claims; gives which. Passes over what others hold.
CREATE OR REPLACE FUNCTION fleet.lock_keyed_jobs(jobs bigint[], at timestamptz, n integer) RETURNS bigint[]
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    locked bigint[];
BEGIN
    WITH picked AS MATERIALIZED (
        SELECT j.id FROM fleet.jobs j
        WHERE j.id = ANY(jobs) AND j.incarnation IS NULL AND j.waits_for = '{}' AND j.run_at <= at
        ORDER BY j.order_at, j.id LIMIT n FOR NO KEY UPDATE SKIP LOCKED
    )
    SELECT coalesce(array_agg(p.id), '{}') INTO locked FROM picked p;
    RETURN locked;
END $$;

-- Which of the locked jobs may begin by the limits of their keys, counted anew while holding the keys' rows.
CREATE OR REPLACE FUNCTION fleet.within_limits(jobs bigint[]) RETURNS bigint[]
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    PERFORM fleet.hold_limits(array_agg(j.concurrency_key), array_agg(coalesce(j.concurrency_limit, 1)))
    FROM fleet.jobs j WHERE j.id = ANY(jobs);
    RETURN ARRAY(
        SELECT t.id FROM (SELECT j.id, j.concurrency_key AS key,
                row_number() OVER (PARTITION BY j.concurrency_key ORDER BY j.order_at, j.id) AS turn
            FROM fleet.jobs j WHERE j.id = ANY(jobs)) t
        JOIN fleet.free_places(ARRAY(SELECT j.concurrency_key FROM fleet.jobs j WHERE j.id = ANY(jobs))) p ON p.key = t.key
        WHERE t.turn <= p.free);
END $$;

-- Removes limits that no open job's key has, and takers of which no life is left; a claim makes them anew. Passes over what others hold.
CREATE OR REPLACE FUNCTION fleet.sweep_job_names() RETURNS void
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    WITH unused AS MATERIALIZED (
        SELECT l.key FROM fleet.job_limits l WHERE NOT EXISTS (SELECT 1 FROM fleet.jobs j WHERE j.concurrency_key = l.key)
        ORDER BY l.key LIMIT 10000 FOR UPDATE SKIP LOCKED
    )
    DELETE FROM fleet.job_limits l USING unused WHERE l.key = unused.key;
    WITH unused AS MATERIALIZED (
        SELECT t.kind, t.worker FROM fleet.job_takers t
        WHERE NOT EXISTS (SELECT 1 FROM fleet.incarnations i WHERE i.worker = t.worker AND i.ended_at IS NULL)
        ORDER BY t.kind, t.worker LIMIT 10000 FOR UPDATE SKIP LOCKED
    )
    DELETE FROM fleet.job_takers t USING unused WHERE (t.kind, t.worker) = (unused.kind, unused.worker);
END $$;
