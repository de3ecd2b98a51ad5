-- Claims: jobs are taken in the order of being due, and taken back from who died or ran out of the lease.

-- Takes jobs back whose holder died or whose lease is over, up to n, of one kind or of all; an attempt of each is over. Each holder is
-- asked for once, in a statement of its own, before any row is locked. Gives how many. Waits for nobody: it passes over rows that others
-- hold, and over a job that would be dead while others hold what depends on it. One whose end fails is told in an alert and left
-- as it is: it stops no other.
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
        BEGIN
            CONTINUE WHEN held.attempts >= held.max_attempts AND NOT fleet.try_heirs(held.id);
            PERFORM fleet.end_attempt(held, 'its worker ended or ran out of its lease', 0, outcome => 'cut');
            freed := freed + 1;
        EXCEPTION WHEN others THEN
            PERFORM fleet.raise_alert('job_stuck:' || held.id, 'error', 'job_stuck', held.kind,
                format('job %s of kind %s can''t be taken back: %s', held.id, held.kind, SQLERRM), jsonb_build_object('job', held.id::text));
        END;
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

-- Locks up to n due jobs of a kind that may begin, in the order of claims; gives which. Of those with a concurrency key as many as come
-- before the ones without, and the rest where there are too few. Passes over what others hold; waits for keys' rows alone, and last.
CREATE OR REPLACE FUNCTION fleet.pick_jobs(of_kind text, at timestamptz, n integer) RETURNS bigint[]
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    keyed bigint[] := fleet.free_keyed_jobs(of_kind, at, n);
    first_ones integer := 0;
    picked_keyed bigint[] := '{}';
    picked_others bigint[];
BEGIN
    IF keyed <> '{}' THEN
        SELECT count(*) FILTER (WHERE a.is_keyed) INTO first_ones FROM (
            (SELECT j.order_at, j.id, true AS is_keyed FROM fleet.jobs j WHERE j.id = ANY(keyed))
            UNION ALL
            (SELECT j.order_at, j.id, false FROM fleet.jobs j
                WHERE j.kind = of_kind AND j.state <> 'running' AND j.waits_for = '{}' AND j.concurrency_key IS NULL
                  AND j.order_at <= at - interval '10 minutes' AND j.run_at <= at
                ORDER BY j.order_at, j.id LIMIT n)
            ORDER BY 1, 2 LIMIT n) a;
        picked_keyed := fleet.lock_keyed_jobs(keyed, at, first_ones);
    END IF;
    WITH picked AS MATERIALIZED (
        SELECT j.id FROM fleet.jobs j
        WHERE j.kind = of_kind AND j.state <> 'running' AND j.waits_for = '{}' AND j.concurrency_key IS NULL
          AND j.order_at <= at - interval '10 minutes' AND j.run_at <= at
        ORDER BY j.order_at, j.id LIMIT n - cardinality(picked_keyed) FOR NO KEY UPDATE SKIP LOCKED
    )
    SELECT coalesce(array_agg(p.id), '{}') INTO picked_others FROM picked p;
    IF cardinality(keyed) > first_ones AND cardinality(picked_keyed) + cardinality(picked_others) < n THEN
        picked_keyed := picked_keyed || fleet.lock_keyed_jobs(ARRAY(SELECT k FROM unnest(keyed) k WHERE k <> ALL(picked_keyed)), at,
            n - cardinality(picked_keyed) - cardinality(picked_others));
    END IF;
    IF picked_keyed <> '{}' THEN
        picked_keyed := fleet.within_limits(picked_keyed);
    END IF;
    RETURN picked_keyed || picked_others;
END $$;

-- Takes up to n due jobs of a kind for a life, and opens a run record for each. Gives them as a claim's answer has them.
CREATE OR REPLACE FUNCTION fleet.take_jobs(life fleet.incarnations, of_kind text, n integer, lease_s double precision) RETURNS jsonb
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    at timestamptz;
    picked bigint[];
    claimed jsonb;
    waited_s double precision;
BEGIN
    at := fleet.now();
    picked := fleet.pick_jobs(of_kind, at, n);
    IF picked = '{}' THEN
        RETURN '[]';
    END IF;
    WITH taken AS (
        UPDATE fleet.jobs j SET state = 'running', attempts = j.attempts + 1, incarnation = life.id,
            lease = nextval('fleet.fencing_token'), lease_expires_at = clock_timestamp() + make_interval(secs => lease_s),
            claimed_real_at = clock_timestamp()
        WHERE j.id = ANY(picked)
        RETURNING j.*
    ), opened AS (
        INSERT INTO fleet.open_runs (worker, slot, incarnation, step, trace_id, started_at, started_real_at, job, attempt, wait_s)
        SELECT life.worker, life.slot, life.id, t.kind, replace(gen_random_uuid()::text, '-', ''), at, t.claimed_real_at, t.id,
            t.attempts, greatest(0, extract(epoch FROM at - t.run_at))
        FROM taken t RETURNING job, trace_id, wait_s
    )
    SELECT jsonb_agg(jsonb_build_object('id', t.id::text, 'kind', t.kind, 'payload', t.payload, 'lease', t.lease,
        'attempt', t.attempts, 'lease_expires_at', t.lease_expires_at, 'expected_s', t.expected_s, 'trace_id', o.trace_id,
        'put_offs', t.put_offs) ORDER BY t.order_at, t.id), sum(o.wait_s)
    INTO claimed, waited_s FROM taken t JOIN opened o ON o.job = t.id;
    PERFORM fleet.count_jobs(of_kind, claimed => jsonb_array_length(claimed), wait_s => waited_s);
    RETURN claimed;
END $$;

-- Takes up to n due jobs of a kind: by priority with ageing, then time. First it takes back those whose holder died or whose lease is
-- over, its own among them: a fleet of one worker has nobody else to notice. Of jobs with a concurrency key no more than its limit run.
-- Where there are none the caller falls asleep, unless it says that it will look again; null where it just did: it must ask once more,
-- for what came before that was seen by neither. One commit, flushed where it took something.
CREATE OR REPLACE FUNCTION fleet.claim_jobs(
    incarnation uuid, kind text, n integer DEFAULT 1, lease_s double precision DEFAULT 300, sleeps boolean DEFAULT true
) RETURNS jsonb
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET lock_timeout = '5s' AS $$
DECLARE
    life fleet.incarnations;
    freed integer;
    told integer;
    claimed jsonb;
BEGIN
    PERFORM fleet.require_read_committed();
    life := fleet.require_incarnation(incarnation);
    PERFORM fleet.require_batch(n);
    PERFORM fleet.require_lease_s(lease_s);
    IF NOT EXISTS (SELECT 1 FROM fleet.job_takers t WHERE t.kind = claim_jobs.kind AND t.worker = life.worker) THEN
        IF claim_jobs.kind IS NULL OR claim_jobs.kind !~ '^[a-z][a-z0-9_.-]{0,62}$' THEN
            PERFORM fleet.refuse('kind', claim_jobs.kind, 'a lower-case name of 1 to 63 letters, digits, _, . or -');
        END IF;
        INSERT INTO fleet.job_takers VALUES (claim_jobs.kind, life.worker) ON CONFLICT DO NOTHING;
    END IF;
    freed := fleet.take_back_jobs(life.id, claim_jobs.kind, 100);
    told := fleet.tell_overdue_jobs(claim_jobs.kind, 100);
    claimed := fleet.take_jobs(life, claim_jobs.kind, n, lease_s);
    -- That somebody sleeps, or takes jobs of a kind, need not be on disk.
    PERFORM set_config('synchronous_commit', CASE WHEN freed + told = 0 AND claimed = '[]' THEN 'off' ELSE 'on' END, true);
    -- Not a second look in here: it would take other keys' rows while those of the first are held.
    RETURN CASE WHEN claimed = '[]' AND coalesce(sleeps, true) AND fleet.fall_asleep(life, life.worker || '/jobs') THEN NULL ELSE claimed END;
END $$;

-- Real seconds until a job of a kind is due, by what is known now: null where none waits. One that fell due a moment ago counts as due
-- now: the claim before may have looked too early for it. One index look.
CREATE OR REPLACE FUNCTION fleet.next_job_in_s(incarnation uuid, kind text) RETURNS double precision
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    rate double precision := coalesce((SELECT c.rate FROM fleet.clock c), 1);
    due timestamptz;
BEGIN
    PERFORM fleet.require_incarnation(incarnation);
    SELECT min(j.run_at) INTO due FROM fleet.jobs j
    WHERE j.kind = next_job_in_s.kind AND j.state <> 'running' AND j.waits_for = '{}' AND j.run_at > fleet.now() - make_interval(secs => rate);
    IF due IS NULL THEN
        RETURN NULL;
    END IF;
    RETURN greatest(0, extract(epoch FROM due - fleet.now())) / rate;
END $$;

-- Takes back the jobs of all kinds whose holder died or whose lease is over, and tells which run longer than expected: for kinds that
-- nobody claims any more. Gives how many of each. Each claim does the same for its own kind. Forgets limits and takers that nobody has
-- any more, and the alerts of jobs that could not be taken back and run no more. Waits for nobody.
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
    PERFORM fleet.sweep_job_names();
    PERFORM fleet.clear_alert(a.key) FROM fleet.alerts a WHERE starts_with(a.key, 'job_stuck:') AND a.cleared_at IS NULL
      AND NOT EXISTS (SELECT 1 FROM fleet.jobs j WHERE j.state = 'running' AND a.key = 'job_stuck:' || j.id);
    RETURN jsonb_build_object('rescued', rescued, 'overdue', fleet.tell_overdue_jobs(NULL, n));
END $$;
