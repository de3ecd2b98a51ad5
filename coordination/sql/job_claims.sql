-- Claims: jobs are taken in the order of being due, and taken back from who died or ran out of the lease.

-- Which lives other than the caller's hold jobs of a kind and lost their session lock. Each is asked for once, in a statement of its own.
CREATE OR REPLACE FUNCTION fleet.gone_holders(me uuid, of_kind text) RETURNS uuid[]
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    holder uuid;
    gone uuid[] := '{}';
BEGIN
    FOR holder IN
        SELECT DISTINCT j.incarnation FROM fleet.jobs j WHERE j.state = 'running' AND j.kind = of_kind AND j.incarnation <> me
    LOOP
        IF fleet.is_suspected(holder) THEN
            gone := gone || holder;
        END IF;
    END LOOP;
    RETURN gone;
END $$;

-- Takes jobs of a kind back whose holder is gone or whose lease is over, up to n; an attempt of each is over. Gives how many. Waits for
-- nobody: it passes over rows that others hold, and over a job that would be dead while others hold what depends on it. One whose end
-- fails is told in an alert and left as it is: it stops no other. With nothing to take back it is one index look.
CREATE OR REPLACE FUNCTION fleet.take_back_jobs(gone uuid[], of_kind text, n integer) RETURNS integer
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    real timestamptz;
    lost bigint[];
    held fleet.jobs;
    freed integer := 0;
BEGIN
    real := clock_timestamp();
    lost := ARRAY(SELECT j.id FROM fleet.jobs j WHERE j.state = 'running' AND j.kind = of_kind AND j.lease_expires_at < real);
    IF gone <> '{}' THEN
        lost := lost || ARRAY(SELECT j.id FROM fleet.jobs j WHERE j.state = 'running' AND j.kind = of_kind AND j.incarnation = ANY(gone));
    END IF;
    IF lost = '{}' THEN
        RETURN 0;
    END IF;
    FOR held IN
        SELECT * FROM fleet.jobs j WHERE j.id = ANY(lost) AND (j.incarnation = ANY(gone) OR j.lease_expires_at < real)
        ORDER BY j.id LIMIT n FOR UPDATE SKIP LOCKED
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
        SELECT * FROM fleet.jobs j WHERE j.state = 'running' AND j.kind = of_kind AND j.overdue_at IS NULL
          AND j.expected_s IS NOT NULL AND clock_timestamp() > j.claimed_real_at + make_interval(secs => j.expected_s)
        ORDER BY j.id LIMIT n FOR UPDATE SKIP LOCKED
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
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp
SET enable_bitmapscan = off SET enable_sort = off AS $$
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

-- The trace of a claim, in logs and in its run record: half of the life's id, and the lease's number. Pure.
CREATE OR REPLACE FUNCTION fleet.trace_of(incarnation uuid, lease bigint) RETURNS text
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN left(translate(incarnation::text, '-', ''), 16) || lpad(to_hex(lease), 16, '0');

-- Fleet seconds from due to claimed. Pure.
CREATE OR REPLACE FUNCTION fleet.waited_s(run_at timestamptz, claimed_at timestamptz) RETURNS double precision
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN greatest(0, date_part('epoch', claimed_at - run_at));

-- Real seconds of an execution. Pure.
CREATE OR REPLACE FUNCTION fleet.ran_s(claimed_real_at timestamptz, ended_real_at timestamptz) RETURNS double precision
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN greatest(0, date_part('epoch', ended_real_at - claimed_real_at));

-- Takes up to n due jobs of a kind for a life. Gives them as a claim's answer has them. What a run record will say of the claim stands
-- in the job's row until the report.
CREATE OR REPLACE FUNCTION fleet.take_jobs(life fleet.incarnations, of_kind text, n integer, lease_s double precision) RETURNS jsonb
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    at timestamptz;
    real timestamptz;
    picked bigint[];
    claimed jsonb;
BEGIN
    at := fleet.now();
    picked := fleet.pick_jobs(of_kind, at, n);
    IF picked = '{}' THEN
        RETURN '[]';
    END IF;
    real := clock_timestamp();
    WITH taken AS (
        UPDATE fleet.jobs j SET state = 'running', attempts = j.attempts + 1, incarnation = life.id,
            lease = nextval('fleet.fencing_token'), lease_expires_at = real + make_interval(secs => lease_s),
            claimed_at = at, claimed_real_at = real
        WHERE j.id = ANY(picked)
        RETURNING j.id, j.kind, j.payload, j.lease, j.attempts, j.lease_expires_at, j.expected_s, j.put_offs, j.order_at
    )
    SELECT jsonb_agg(jsonb_build_object('id', t.id::text, 'kind', t.kind, 'payload', t.payload, 'lease', t.lease,
        'attempt', t.attempts, 'lease_expires_at', t.lease_expires_at, 'expected_s', t.expected_s,
        'trace_id', fleet.trace_of(life.id, t.lease), 'put_offs', t.put_offs) ORDER BY t.order_at, t.id)
    INTO claimed FROM taken t;
    RETURN claimed;
END $$;

-- Whether the jobs of a kind that run are looked after now: a worker's lives do it by turns, together once a second. Marks that. Not
-- flushed; passes over the mark where another life holds it.
CREATE OR REPLACE FUNCTION fleet.looks_after(of_kind text, worker text) RETURNS boolean
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    taker fleet.job_takers;
BEGIN
    SELECT * INTO taker FROM fleet.job_takers t WHERE t.kind = of_kind AND t.worker = looks_after.worker;
    IF NOT FOUND THEN
        IF of_kind IS NULL OR of_kind !~ '^[a-z][a-z0-9_.-]{0,62}$' THEN
            PERFORM fleet.refuse('kind', of_kind, 'a lower-case name of 1 to 63 letters, digits, _, . or -');
        END IF;
        INSERT INTO fleet.job_takers VALUES (of_kind, worker, clock_timestamp()) ON CONFLICT DO NOTHING;
        RETURN true;
    ELSIF taker.looked_at > clock_timestamp() - interval '1 second' THEN
        RETURN false;
    END IF;
    WITH mine AS MATERIALIZED (
        SELECT 1 FROM fleet.job_takers t WHERE t.kind = of_kind AND t.worker = looks_after.worker FOR NO KEY UPDATE SKIP LOCKED
    )
    UPDATE fleet.job_takers t SET looked_at = clock_timestamp() FROM mine
    WHERE t.kind = of_kind AND t.worker = looks_after.worker;
    RETURN FOUND;
END $$;

-- What claim_jobs and turn_jobs have in common. Has the commit flushed where it took or changed something.
CREATE OR REPLACE FUNCTION fleet.claim_for(life fleet.incarnations, of_kind text, n integer, lease_s double precision, sleeps boolean)
RETURNS jsonb
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    looks boolean;
    gone uuid[] := '{}';
    freed integer;
    late integer := 0;
    claimed jsonb;
BEGIN
    PERFORM fleet.require_batch(n);
    PERFORM fleet.require_lease_s(lease_s);
    looks := fleet.looks_after(of_kind, life.worker);
    IF looks THEN
        gone := fleet.gone_holders(life.id, of_kind);
        late := fleet.tell_overdue_jobs(of_kind, 100);
    END IF;
    freed := fleet.take_back_jobs(gone, of_kind, 100);
    claimed := fleet.take_jobs(life, of_kind, n, lease_s);
    IF claimed = '[]' AND NOT looks THEN
        -- Not a second look in here: it would take other keys' rows while those of the first are held.
        freed := freed + fleet.take_back_jobs(fleet.gone_holders(life.id, of_kind), of_kind, 100);
    END IF;
    IF freed + late > 0 OR claimed <> '[]' THEN
        PERFORM set_config('synchronous_commit', 'on', true);
    END IF;
    RETURN CASE WHEN claimed = '[]' AND coalesce(sleeps, true) AND (freed > 0 OR fleet.fall_asleep(life, life.worker || '/jobs'))
        THEN NULL ELSE claimed END;
END $$;

-- Takes up to n due jobs of a kind: by priority with ageing, then time. First it takes back those whose lease is over, its own among
-- them (a fleet of one worker has nobody else to notice), and once a second those whose holder died; where it finds none it asks for the
-- dead in any case. Of jobs with a concurrency key no more than its limit run. Where there are none the caller falls asleep, unless it
-- says that it will look again; null where it must ask once more: it just fell asleep, and what came before that was seen by neither, or
-- it just took jobs back. Who falls asleep waits for those who are adding jobs for its worker to commit; they wait for nobody. One commit,
-- flushed where it took something.
CREATE OR REPLACE FUNCTION fleet.claim_jobs(
    incarnation uuid, kind text, n integer DEFAULT 1, lease_s double precision DEFAULT 300, sleeps boolean DEFAULT true
) RETURNS jsonb
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET lock_timeout = '5s'
SET enable_seqscan = off SET plan_cache_mode = force_generic_plan AS $$
BEGIN
    PERFORM fleet.require_read_committed();
    -- That somebody sleeps, or takes jobs of a kind, need not be on disk.
    PERFORM set_config('synchronous_commit', 'off', true);
    RETURN fleet.claim_for(fleet.require_incarnation(incarnation), kind, n, lease_s, sleeps);
END $$;

-- Real seconds until a job of a kind is due, by what is known now: null where none waits. One that fell due a moment ago counts as due
-- now: the claim before may have looked too early for it. One index look.
CREATE OR REPLACE FUNCTION fleet.next_job_in_s(incarnation uuid, kind text) RETURNS double precision
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
SET enable_seqscan = off SET plan_cache_mode = force_generic_plan AS $$
DECLARE
    rate double precision := coalesce((SELECT c.rate FROM fleet.clock c), 1);
    at timestamptz;
    due timestamptz;
BEGIN
    PERFORM fleet.require_incarnation(incarnation);
    at := fleet.now();
    SELECT min(j.run_at) INTO due FROM fleet.jobs j
    WHERE j.kind = next_job_in_s.kind AND j.state <> 'running' AND j.waits_for = '{}' AND j.run_at > at - make_interval(secs => rate);
    IF due IS NULL THEN
        RETURN NULL;
    END IF;
    RETURN greatest(0, extract(epoch FROM due - at)) / rate;
END $$;

-- Takes back the jobs of all kinds whose holder died or whose lease is over, and tells which run longer than expected: for kinds that
-- nobody claims any more. Gives how many of each. Each claim does the same for its own kind. Forgets limits and takers that nobody has
-- any more, and the alerts of jobs that could not be taken back and run no more. Waits for nobody.
CREATE OR REPLACE FUNCTION fleet.rescue_jobs(incarnation uuid, n integer DEFAULT 100) RETURNS jsonb
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET lock_timeout = '5s'
SET enable_seqscan = off SET plan_cache_mode = force_generic_plan AS $$
DECLARE
    running text;
    rescued integer := 0;
    late integer := 0;
BEGIN
    PERFORM fleet.require_read_committed();
    PERFORM fleet.require_incarnation(incarnation);
    PERFORM fleet.require_batch(n);
    PERFORM set_config('synchronous_commit', 'on', true);
    FOR running IN SELECT DISTINCT j.kind FROM fleet.jobs j WHERE j.state = 'running' ORDER BY 1 LOOP
        rescued := rescued + fleet.take_back_jobs(fleet.gone_holders(incarnation, running), running, n - rescued);
        late := late + fleet.tell_overdue_jobs(running, n - late);
    END LOOP;
    PERFORM fleet.sweep_job_names();
    PERFORM fleet.clear_alert(a.key) FROM fleet.alerts a WHERE starts_with(a.key, 'job_stuck:') AND a.cleared_at IS NULL
      AND NOT EXISTS (SELECT 1 FROM fleet.jobs j WHERE j.state = 'running' AND a.key = 'job_stuck:' || j.id);
    RETURN jsonb_build_object('rescued', rescued, 'overdue', late);
END $$;
