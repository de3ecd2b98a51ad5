-- Reports: what became of an execution. Each names the lease's number, and takes effect only where that is the present one.

-- Seconds until the next try after the attempt-th failed: 10, 20, 40 ... 3600, of which `share` (0 to 1) decides the second half, so
-- that what failed together isn't tried together. Locks nothing.
CREATE OR REPLACE FUNCTION fleet.backoff_s(attempt integer, share double precision) RETURNS double precision
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN least(3600, 10 * 2.0 ^ least(greatest(attempt, 1) - 1, 30)) * (0.5 + share / 2);

-- Writes the record of an execution that ended, by the job's row as it was held. The caller holds it.
CREATE OR REPLACE FUNCTION fleet.record_job_run(held fleet.jobs, outcome text, error_class text DEFAULT NULL, error text DEFAULT NULL)
RETURNS void
LANGUAGE sql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
    INSERT INTO fleet.runs (worker, slot, incarnation, step, trace_id, started_at, started_real_at, ended_real_at, outcome, item_errors,
        items_per_minute, error_class, error, job, attempt, wait_s)
    SELECT coalesce(i.worker, '?'), coalesce(i.slot, 0), held.incarnation, held.kind, fleet.trace_of(held.incarnation, held.lease),
        held.claimed_at, held.claimed_real_at, clock_timestamp(), record_job_run.outcome, (record_job_run.outcome = 'failed')::integer,
        0, record_job_run.error_class, left(record_job_run.error, 2000), held.id, held.attempts,
        fleet.waited_s(held.run_at, held.claimed_at)
    FROM (SELECT) one LEFT JOIN fleet.incarnations i ON i.id = held.incarnation
$$;

-- The end of an attempt without success: another try later, or dead with every error kept. Its place is that of its new time; what is
-- tried again at once keeps its own. The caller holds the row, and its heirs' where this was the last attempt.
CREATE OR REPLACE FUNCTION fleet.end_attempt(
    job fleet.jobs, error text, backoff_s double precision, final boolean DEFAULT false, outcome text DEFAULT 'failed',
    error_class text DEFAULT NULL
) RETURNS text
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    is_dead boolean := final OR job.attempts >= job.max_attempts;
    wait_s double precision := coalesce(end_attempt.backoff_s, fleet.backoff_s(job.attempts, random()));
    due timestamptz;
BEGIN
    due := fleet.now() + make_interval(secs => wait_s);
    UPDATE fleet.jobs j SET state = 'retryable', incarnation = NULL, lease = NULL, lease_expires_at = NULL, claimed_at = NULL,
        overdue_at = NULL, put_offs = 0,
        errors = j.errors || jsonb_build_object('attempt', j.attempts, 'at', fleet.now(), 'error', left(end_attempt.error, 2000), 'class',
            left(end_attempt.error_class, 200)),
        run_at = due, order_at = CASE WHEN wait_s > 0 THEN fleet.job_order(due, j.rank) ELSE j.order_at END
    WHERE j.id = job.id;
    PERFORM fleet.record_job_run(job, end_attempt.outcome, end_attempt.error_class, end_attempt.error);
    IF job.overdue_at IS NOT NULL THEN
        PERFORM fleet.clear_alert('job:' || job.id);
    END IF;
    IF is_dead THEN
        PERFORM fleet.finish_job(job.id, 'dead');
        PERFORM fleet.emit('error', 'dead_letter', job.kind, format('job %s of kind %s failed %s times and is dead: %s', job.id,
            job.kind, job.attempts, left(end_attempt.error, 2000)), jsonb_build_object('job', job.id::text));
    END IF;
    PERFORM fleet.count_jobs(job.kind, failed => 1, dead => is_dead::integer, rescued => (end_attempt.outcome = 'cut')::integer,
        wait_s => fleet.waited_s(job.run_at, job.claimed_at), run_s => fleet.ran_s(job.claimed_real_at, clock_timestamp()));
    RETURN CASE WHEN is_dead THEN 'dead' ELSE 'retryable' END;
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

-- Which of the reported jobs (incarnation, lease) holds, before they are locked. Locks nothing. One that runs has claimed_at: asked for
-- by its state, a plan of the time when there were few would read all that run.
CREATE OR REPLACE FUNCTION fleet.leased_among(incarnation uuid, jobs bigint[], leases bigint[]) RETURNS SETOF fleet.jobs
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    PERFORM fleet.require_leases(jobs, leases);
    RETURN QUERY SELECT j.* FROM fleet.jobs j JOIN unnest(leased_among.jobs, leased_among.leases) r (id, lease)
        ON j.id = r.id AND j.lease = r.lease
    WHERE j.claimed_at IS NOT NULL AND j.incarnation = leased_among.incarnation AND j.id = ANY(leased_among.jobs);
END $$;

-- Which of the reported jobs (incarnation, lease) really holds, locked in order; what is lost is counted. A report takes effect only on
-- these.
CREATE OR REPLACE FUNCTION fleet.held_jobs(incarnation uuid, jobs bigint[], leases bigint[]) RETURNS bigint[]
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    held bigint[];
    lost record;
BEGIN
    PERFORM fleet.require_leases(jobs, leases);
    PERFORM set_config('synchronous_commit', 'on', true);
    held := ARRAY(SELECT j.id FROM fleet.jobs j JOIN unnest(held_jobs.jobs, held_jobs.leases) r (id, lease)
        ON j.id = r.id AND j.lease = r.lease
        WHERE j.claimed_at IS NOT NULL AND j.incarnation = held_jobs.incarnation AND j.id = ANY(held_jobs.jobs) ORDER BY j.id FOR UPDATE OF j);
    IF cardinality(held) = cardinality(jobs) THEN
        RETURN held;
    END IF;
    FOR lost IN
        SELECT coalesce(j.kind, f.kind, '?') AS kind, count(*)::integer AS number FROM unnest(held_jobs.jobs) AS r (job)
        LEFT JOIN fleet.jobs j ON j.id = r.job
        LEFT JOIN LATERAL (SELECT f.kind FROM fleet.jobs_finished f WHERE f.id = r.job AND j.id IS NULL LIMIT 1) f ON true
        WHERE r.job <> ALL(held) GROUP BY 1 ORDER BY 1
    LOOP
        PERFORM fleet.count_jobs(lost.kind, missed => lost.number);
    END LOOP;
    RETURN held;
END $$;

-- What a report says of the jobs that its caller has lost. Locks nothing.
CREATE OR REPLACE FUNCTION fleet.tell_lost(jobs bigint[], held bigint[]) RETURNS jsonb
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF cardinality(held) = cardinality(jobs) THEN
        RETURN '[]';
    END IF;
    RETURN coalesce((SELECT jsonb_agg(id::text ORDER BY id) FROM unnest(jobs) id WHERE id <> ALL(held)), '[]');
END $$;

-- Holds claimed jobs for lease_s more real seconds: a lease that is over counts too, until somebody takes the job. Gives when it ends,
-- and which are lost. One flushed commit.
CREATE OR REPLACE FUNCTION fleet.renew_jobs(incarnation uuid, jobs bigint[], leases bigint[], lease_s double precision DEFAULT 300)
RETURNS jsonb
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET lock_timeout = '5s'
SET enable_seqscan = off SET plan_cache_mode = force_generic_plan AS $$
DECLARE
    held bigint[];
    until timestamptz;
BEGIN
    PERFORM fleet.require_read_committed();
    PERFORM fleet.require_incarnation(incarnation);
    PERFORM fleet.require_lease_s(lease_s);
    held := fleet.held_jobs(incarnation, jobs, leases);
    until := clock_timestamp() + make_interval(secs => lease_s);
    UPDATE fleet.jobs j SET lease_expires_at = until WHERE j.id = ANY(held);
    RETURN jsonb_build_object('lease_expires_at', until, 'lost', fleet.tell_lost(jobs, held));
END $$;

-- What complete_jobs and turn_jobs have in common.
CREATE OR REPLACE FUNCTION fleet.complete_for(life fleet.incarnations, jobs bigint[], leases bigint[], results jsonb, items integer)
RETURNS jsonb
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    held bigint[];
    mine bigint[];
    ended record;
    at timestamptz;
    real timestamptz;
    keys text[] := '{}';
    waking text[];
BEGIN
    IF results IS NOT NULL AND (jsonb_typeof(results) <> 'array' OR jsonb_array_length(results) <> cardinality(jobs)
        OR octet_length(results::text) > 65536 * greatest(1, cardinality(jobs))) THEN
        PERFORM fleet.refuse('results', left(results::text, 200), 'no value, or an array with one value a job, each of at most 64 kB');
    END IF;
    PERFORM pg_advisory_xact_lock_shared(fleet.lock_key('jobs', 'replay'));
    IF fleet.heirs_of(jobs, false) <> '{}' THEN
        mine := ARRAY(SELECT l.id FROM fleet.leased_among(life.id, jobs, leases) l);
        PERFORM fleet.lock_jobs(mine, mine, false);
    END IF;
    held := fleet.held_jobs(life.id, jobs, leases);
    at := fleet.now();
    real := clock_timestamp();
    FOR ended IN
        WITH gone AS (
            DELETE FROM fleet.jobs j WHERE j.id = ANY(held)
            RETURNING j.id, j.kind, j.payload, j.priority, j.run_at, j.attempts, j.max_attempts, j.unique_key, j.concurrency_key,
                j.concurrency_limit, j.expected_s, j.errors, j.created_at, j.lease, j.claimed_at, j.claimed_real_at, j.overdue_at
        ), finished AS (
            INSERT INTO fleet.jobs_finished (id, kind, payload, priority, run_at, state, attempts, max_attempts, unique_key,
                concurrency_key, concurrency_limit, expected_s, errors, result, created_at, finished_at)
            SELECT g.id, g.kind, g.payload, g.priority, g.run_at, 'completed', g.attempts, g.max_attempts, g.unique_key,
                g.concurrency_key, g.concurrency_limit, g.expected_s, g.errors,
                CASE WHEN results IS NOT NULL THEN nullif(results->(array_position(jobs, g.id) - 1), 'null') END, g.created_at, at
            FROM gone g
        ), recorded AS (
            INSERT INTO fleet.runs (worker, slot, incarnation, step, trace_id, started_at, started_real_at, ended_real_at, outcome, items,
                items_per_minute, job, attempt, wait_s)
            SELECT life.worker, life.slot, life.id, g.kind, fleet.trace_of(life.id, g.lease), g.claimed_at, g.claimed_real_at, real, 'done',
                complete_for.items, complete_for.items * 60 / greatest(0.001, fleet.ran_s(g.claimed_real_at, real)), g.id, g.attempts,
                fleet.waited_s(g.run_at, g.claimed_at)
            FROM gone g
        )
        SELECT g.kind, count(*)::integer AS number, sum(fleet.waited_s(g.run_at, g.claimed_at)) AS wait_s,
            sum(fleet.ran_s(g.claimed_real_at, real)) AS run_s,
            array_agg(g.concurrency_key) FILTER (WHERE g.concurrency_key IS NOT NULL) AS keys,
            array_agg(g.id) FILTER (WHERE g.overdue_at IS NOT NULL) AS late
        FROM gone g GROUP BY g.kind ORDER BY g.kind
    LOOP
        PERFORM fleet.count_jobs(ended.kind, completed => ended.number, wait_s => ended.wait_s, run_s => ended.run_s);
        IF ended.late IS NOT NULL THEN
            PERFORM fleet.clear_alert('job:' || l) FROM unnest(ended.late) l;
        END IF;
        keys := keys || ended.keys;
    END LOOP;
    waking := fleet.release_heirs(held) || fleet.kinds_with(keys);
    RETURN jsonb_build_object('lost', fleet.tell_lost(jobs, held), 'wake', fleet.takers_of(waking));
END $$;

-- The jobs are done: they move to jobs_finished, and a record of each is written. `results` is one value a job, or null. Gives which are
-- lost, and whom to wake for those that waited for them or for their keys. Locks them and those in order. One flushed commit; as many
-- statements for a thousand as for one.
CREATE OR REPLACE FUNCTION fleet.complete_jobs(
    incarnation uuid, jobs bigint[], leases bigint[], results jsonb DEFAULT NULL, items integer DEFAULT 1
) RETURNS jsonb
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET lock_timeout = '5s'
SET enable_seqscan = off SET plan_cache_mode = force_generic_plan AS $$
BEGIN
    PERFORM fleet.require_read_committed();
    RETURN fleet.complete_for(fleet.require_incarnation(incarnation), jobs, leases, results, items);
END $$;

-- complete_jobs, then claim_jobs, in one flushed commit: one batch ends and the next begins. Gives what complete_jobs does, and as `jobs`
-- what claim_jobs does.
CREATE OR REPLACE FUNCTION fleet.turn_jobs(
    incarnation uuid, jobs bigint[], leases bigint[], kind text, n integer DEFAULT 1, lease_s double precision DEFAULT 300,
    results jsonb DEFAULT NULL, items integer DEFAULT 1, sleeps boolean DEFAULT true
) RETURNS jsonb
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET lock_timeout = '5s'
SET enable_seqscan = off SET plan_cache_mode = force_generic_plan AS $$
DECLARE
    life fleet.incarnations;
    report jsonb;
BEGIN
    PERFORM fleet.require_read_committed();
    life := fleet.require_incarnation(incarnation);
    report := fleet.complete_for(life, jobs, leases, results, items);
    RETURN report || jsonb_build_object('jobs', fleet.claim_for(life, kind, n, lease_s, sleeps));
END $$;

-- The jobs failed, each with its error: again after backoff_s of fleet time (null: 10 s, 20 s ... an hour, with jitter), or dead after
-- the last attempt, or at once where `final`. Gives each one's state, which are lost, and whom to wake for their keys. Locks them, and
-- the heirs of those that die, in order. One flushed commit.
CREATE OR REPLACE FUNCTION fleet.fail_jobs(
    incarnation uuid, jobs bigint[], leases bigint[], errors text[], backoff_s double precision DEFAULT NULL,
    final boolean DEFAULT false, error_class text DEFAULT NULL
) RETURNS jsonb
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET lock_timeout = '5s'
SET enable_seqscan = off SET plan_cache_mode = force_generic_plan AS $$
DECLARE
    failed fleet.jobs;
    held bigint[];
    mine bigint[];
    dying bigint[];
    keys text[] := '{}';
    states jsonb := '{}';
BEGIN
    PERFORM fleet.require_read_committed();
    PERFORM fleet.require_incarnation(incarnation);
    IF NOT (fail_jobs.backoff_s >= 0 AND fail_jobs.backoff_s <= 31622400) THEN
        PERFORM fleet.refuse('backoff_s', fail_jobs.backoff_s::text, 'no value (it grows by itself), or from 0 to 31622400 seconds');
    END IF;
    IF cardinality(errors) IS DISTINCT FROM cardinality(jobs) THEN
        PERFORM fleet.refuse('errors', cardinality(errors)::text, 'one for each job');
    END IF;
    SELECT coalesce(array_agg(l.id), '{}'), coalesce(array_agg(l.id) FILTER (WHERE final OR l.attempts >= l.max_attempts), '{}')
    INTO mine, dying FROM fleet.leased_among(incarnation, jobs, leases) l;
    PERFORM fleet.lock_jobs(mine, dying, true);
    held := fleet.held_jobs(incarnation, jobs, leases);
    FOR failed IN SELECT * FROM fleet.jobs j WHERE j.id = ANY(held) ORDER BY j.kind, j.id LOOP
        keys := keys || failed.concurrency_key;
        states := states || jsonb_build_object(failed.id::text, fleet.end_attempt(failed,
            coalesce(errors[array_position(jobs, failed.id)], 'no reason given'), fail_jobs.backoff_s, coalesce(final, false),
            error_class => fail_jobs.error_class));
    END LOOP;
    RETURN jsonb_build_object('states', states, 'lost', fleet.tell_lost(jobs, held), 'wake', fleet.takers_of(fleet.kinds_with(keys)));
END $$;

-- Not now: the jobs are due again after delay_s of fleet time, and the attempt doesn't count. Gives which are lost, and whom to wake for their
-- keys. One flushed commit.
CREATE OR REPLACE FUNCTION fleet.snooze_jobs(incarnation uuid, jobs bigint[], leases bigint[], delay_s double precision) RETURNS jsonb
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET lock_timeout = '5s'
SET enable_seqscan = off SET plan_cache_mode = force_generic_plan AS $$
DECLARE
    snoozed fleet.jobs;
    held bigint[];
    keys text[] := '{}';
    due timestamptz;
BEGIN
    PERFORM fleet.require_read_committed();
    PERFORM fleet.require_incarnation(incarnation);
    IF delay_s IS NULL OR NOT (delay_s >= 0 AND delay_s <= 31622400) THEN
        PERFORM fleet.refuse('delay_s', delay_s::text, 'from 0 to 31622400 seconds');
    END IF;
    held := fleet.held_jobs(incarnation, jobs, leases);
    FOR snoozed IN SELECT * FROM fleet.jobs j WHERE j.id = ANY(held) ORDER BY j.kind, j.id LOOP
        due := fleet.now() + make_interval(secs => delay_s);
        UPDATE fleet.jobs j SET state = 'available', attempts = j.attempts - 1, incarnation = NULL, lease = NULL,
            lease_expires_at = NULL, claimed_at = NULL, overdue_at = NULL, put_offs = j.put_offs + 1,
            run_at = due, order_at = CASE WHEN delay_s > 0 THEN fleet.job_order(due, j.rank) ELSE j.order_at END
        WHERE j.id = snoozed.id;
        PERFORM fleet.record_job_run(snoozed, 'put_off');
        IF snoozed.overdue_at IS NOT NULL THEN
            PERFORM fleet.clear_alert('job:' || snoozed.id);
        END IF;
        PERFORM fleet.count_jobs(snoozed.kind, snoozed => 1, wait_s => fleet.waited_s(snoozed.run_at, snoozed.claimed_at));
        keys := keys || snoozed.concurrency_key;
    END LOOP;
    RETURN jsonb_build_object('lost', fleet.tell_lost(jobs, held), 'wake', fleet.takers_of(fleet.kinds_with(keys)));
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
DECLARE
    report jsonb;
BEGIN
    report := fleet.require_kept(fleet.fail_jobs(incarnation, ARRAY[job], ARRAY[lease], ARRAY[error], fail_job.backoff_s), job, lease);
    RETURN jsonb_build_object('state', report->'states'->>job::text, 'wake', report->'wake');
END $$;

-- snooze_jobs for one job; FL002 where its lease is lost. Locks its row.
CREATE OR REPLACE FUNCTION fleet.snooze_job(incarnation uuid, job bigint, lease bigint, delay_s double precision) RETURNS jsonb
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET lock_timeout = '5s' AS $$
BEGIN
    RETURN fleet.require_kept(fleet.snooze_jobs(incarnation, ARRAY[job], ARRAY[lease], delay_s), job, lease)
        || jsonb_build_object('state', 'available');
END $$;
