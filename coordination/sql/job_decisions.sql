-- Decisions: jobs that do not run are cancelled, those that are dead or cancelled start anew.

-- Ends jobs that are not running, and cancels those that depend on them; gives which. Takes their rows in order. One flushed commit.
CREATE OR REPLACE FUNCTION fleet.cancel_jobs(incarnation uuid, jobs bigint[]) RETURNS jsonb
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET lock_timeout = '5s'
SET enable_seqscan = off SET plan_cache_mode = force_generic_plan AS $$
BEGIN
    PERFORM fleet.require_read_committed();
    PERFORM fleet.require_incarnation(incarnation);
    RETURN fleet.cancel_waiting_jobs(jobs);
END $$;

-- What cancel_jobs and a person's decision have in common. Takes the jobs' rows, and those of what depends on them, in order.
CREATE OR REPLACE FUNCTION fleet.cancel_waiting_jobs(jobs bigint[]) RETURNS jsonb
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    resting bigint[];
    waiting bigint;
    cancelled bigint[] := '{}';
BEGIN
    PERFORM fleet.require_read_committed();
    PERFORM fleet.require_leases(jobs, jobs);
    PERFORM set_config('synchronous_commit', 'on', true);
    resting := ARRAY(SELECT j.id FROM fleet.jobs j WHERE j.id = ANY(jobs) AND j.state <> 'running');
    PERFORM fleet.lock_jobs(resting, resting, true);
    FOR waiting IN SELECT j.id FROM fleet.jobs j WHERE j.id = ANY(resting) AND j.state <> 'running' ORDER BY j.id LOOP
        cancelled := cancelled || waiting;
        -- One that depends on another of them went with that one.
        PERFORM fleet.finish_job(waiting, 'cancelled') FROM fleet.jobs j WHERE j.id = waiting;
    END LOOP;
    RETURN to_jsonb(cancelled::text[]);
END $$;

-- Dead or cancelled jobs start anew, their errors kept; gives which. One waits again for what it still waited for. Not one whose unique
-- key is another's now, nor one that depends on a job that is neither completed nor open, nor among the given. One flushed commit.
CREATE OR REPLACE FUNCTION fleet.replay_jobs(incarnation uuid, jobs bigint[]) RETURNS jsonb
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET lock_timeout = '5s'
SET enable_seqscan = off SET plan_cache_mode = force_generic_plan AS $$
BEGIN
    PERFORM fleet.require_read_committed();
    PERFORM fleet.require_incarnation(incarnation);
    RETURN fleet.start_jobs_anew(jobs);
END $$;

-- What replay_jobs and a person's decision have in common. An old job comes back among newer ones: nothing ends meanwhile. Takes the
-- finished rows, then what they depend on, then unique keys, each in order.
CREATE OR REPLACE FUNCTION fleet.start_jobs_anew(jobs bigint[]) RETURNS jsonb
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    ended fleet.jobs_finished;
    at timestamptz;
    rank integer;
    wanted bigint[];
    started bigint[] := '{}';
    stranded bigint[];
    anew record;
BEGIN
    PERFORM fleet.require_read_committed();
    PERFORM fleet.require_leases(jobs, jobs);
    PERFORM set_config('synchronous_commit', 'on', true);
    PERFORM pg_advisory_xact_lock(fleet.lock_key('jobs', 'replay'));
    wanted := ARRAY(SELECT f.id FROM fleet.jobs_finished f WHERE f.id = ANY(jobs) AND f.state IN ('dead', 'cancelled')
        ORDER BY f.id FOR UPDATE);
    PERFORM fleet.hold_jobs(ARRAY(SELECT unnest(f.waits_for) FROM fleet.jobs_finished f WHERE f.id = ANY(wanted)));
    at := fleet.now();
    FOR ended IN SELECT * FROM fleet.jobs_finished f WHERE f.id = ANY(wanted) ORDER BY f.kind, f.unique_key, f.id LOOP
        rank := fleet.priority_rank(ended.priority);
        INSERT INTO fleet.jobs (id, kind, payload, priority, rank, run_at, order_at, state, max_attempts, unique_key, created_at,
            expected_s, concurrency_key, concurrency_limit, waits_for, errors)
        OVERRIDING SYSTEM VALUE
        VALUES (ended.id, ended.kind, ended.payload, ended.priority, rank, at, fleet.job_order(at, rank), 'available',
            ended.max_attempts, ended.unique_key, ended.created_at, ended.expected_s, ended.concurrency_key, ended.concurrency_limit,
            ARRAY(SELECT w FROM unnest(ended.waits_for) w WHERE NOT EXISTS (
                SELECT 1 FROM fleet.jobs_finished f WHERE f.id = w AND f.state = 'completed')), ended.errors)
        ON CONFLICT DO NOTHING;
        IF FOUND THEN
            started := started || ended.id;
        END IF;
    END LOOP;
    -- One that waits for a job that is not there goes back, and with it what waits for it.
    stranded := ARRAY(SELECT j.id FROM fleet.jobs j WHERE j.id = ANY(started)
        AND EXISTS (SELECT 1 FROM unnest(j.waits_for) w WHERE NOT EXISTS (SELECT 1 FROM fleet.jobs o WHERE o.id = w)));
    stranded := stranded || fleet.heirs_of(stranded, true);
    DELETE FROM fleet.jobs j WHERE j.id = ANY(stranded);
    started := ARRAY(SELECT j.id FROM fleet.jobs j WHERE j.id = ANY(started) ORDER BY j.id);
    FOR anew IN
        WITH left_there AS (DELETE FROM fleet.jobs_finished f WHERE f.id = ANY(started) RETURNING f.kind)
        SELECT l.kind, count(*)::integer AS number FROM left_there l GROUP BY l.kind ORDER BY l.kind
    LOOP
        PERFORM fleet.count_jobs(anew.kind, given_up => -anew.number);
    END LOOP;
    RETURN to_jsonb(started::text[]);
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
                ELSE 'only a dead or cancelled one starts anew, and not while another has its unique key or a job is missing on which it depends' END
            USING ERRCODE = 'FL005', DETAIL = json_build_object('job', job::text, 'state', state);
    END IF;
    PERFORM fleet.write_audit(actor, decision || '_job', job::text, decide_job.reason);
    RETURN jsonb_build_object('id', job::text, 'state', CASE decision WHEN 'cancel' THEN 'cancelled' ELSE 'available' END);
END $$;
