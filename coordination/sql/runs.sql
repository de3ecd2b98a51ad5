-- Run records and failed items: what each step did, and which items it could not do.

-- Moves the open records of a life that is over to runs, as cut. Not flushed; takes those rows.
CREATE OR REPLACE FUNCTION fleet.cut_runs(of_incarnation uuid) RETURNS void
LANGUAGE sql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
    WITH ended AS (DELETE FROM fleet.open_runs o WHERE o.incarnation = of_incarnation RETURNING o.*)
    INSERT INTO fleet.runs (id, worker, slot, incarnation, step, trace_id, started_at, started_real_at, ended_real_at, outcome, error)
    SELECT e.id, e.worker, e.slot, e.incarnation, e.step, e.trace_id, e.started_at, e.started_real_at, clock_timestamp(), 'cut',
        'the process ended in mid-step'
    FROM ended e
$$;

-- Opens the record of a step, and closes those that a predecessor in this slot left when it died in mid-step. One insert, not flushed.
CREATE OR REPLACE FUNCTION fleet.start_run(incarnation uuid, step text, trace_id text) RETURNS bigint
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET lock_timeout = '5s' AS $$
DECLARE
    life fleet.incarnations;
    started bigint;
    predecessor uuid;
BEGIN
    PERFORM set_config('synchronous_commit', 'off', true);
    life := fleet.require_incarnation(incarnation);
    FOR predecessor IN
        SELECT DISTINCT r.incarnation FROM fleet.open_runs r
        WHERE r.worker = life.worker AND r.slot = life.slot AND r.incarnation <> life.id
    LOOP
        IF fleet.is_suspected(predecessor) THEN
            PERFORM fleet.cut_runs(predecessor);
        END IF;
    END LOOP;
    INSERT INTO fleet.open_runs (worker, slot, incarnation, step, trace_id, started_at, started_real_at)
    VALUES (life.worker, life.slot, life.id, start_run.step, start_run.trace_id, fleet.now(), clock_timestamp())
    RETURNING id INTO started;
    RETURN started;
END $$;

-- Closes the record of a step: it moves to runs, in one statement; one that is closed stays as it is. Not flushed.
CREATE OR REPLACE FUNCTION fleet.finish_run(
    incarnation uuid, run bigint, outcome text, items integer, item_errors integer, error_class text, error text
) RETURNS void
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET lock_timeout = '5s' AS $$
BEGIN
    PERFORM set_config('synchronous_commit', 'off', true);
    WITH ended AS (
        DELETE FROM fleet.open_runs o WHERE o.id = finish_run.run AND o.incarnation = finish_run.incarnation RETURNING o.*
    )
    INSERT INTO fleet.runs (id, worker, slot, incarnation, step, trace_id, started_at, started_real_at, ended_real_at, outcome, items,
        item_errors, items_per_minute, error_class, error)
    SELECT e.id, e.worker, e.slot, e.incarnation, e.step, e.trace_id, e.started_at, e.started_real_at, clock_timestamp(),
        finish_run.outcome, finish_run.items, finish_run.item_errors,
        finish_run.items * 60 / greatest(0.001, extract(epoch FROM clock_timestamp() - e.started_real_at)),
        finish_run.error_class, left(finish_run.error, 2000)
    FROM ended e;
END $$;

-- One more failure of one item; dead from the max_attempts-th on. One upsert.
CREATE OR REPLACE FUNCTION fleet.fail_item(
    incarnation uuid, item text, error_class text, error text, max_attempts integer
) RETURNS jsonb
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET lock_timeout = '5s' AS $$
DECLARE
    life fleet.incarnations;
    failed fleet.failed_items;
    at timestamptz := fleet.now();
BEGIN
    life := fleet.require_incarnation(incarnation);
    INSERT INTO fleet.failed_items AS f
        (worker, item, attempts, error_class, error, first_failed_at, last_failed_at, dead_at)
    VALUES (life.worker, left(fail_item.item, 500), 1, fail_item.error_class, left(fail_item.error, 2000), at, at,
        CASE WHEN fail_item.max_attempts <= 1 THEN at END)
    ON CONFLICT ON CONSTRAINT failed_items_pkey DO UPDATE SET attempts = f.attempts + 1,
        error_class = excluded.error_class, error = excluded.error, last_failed_at = at,
        dead_at = coalesce(f.dead_at, CASE WHEN f.attempts + 1 >= fail_item.max_attempts THEN at END)
    RETURNING * INTO failed;
    IF failed.dead_at = at THEN
        PERFORM fleet.emit('error', 'dead_letter', life.worker || '/' || life.slot,
            format('%s failed %s times and is set aside: %s', failed.item, failed.attempts, failed.error),
            jsonb_build_object('item', failed.item));
    END IF;
    RETURN jsonb_build_object('attempts', failed.attempts, 'dead', failed.dead_at IS NOT NULL);
END $$;

-- Which of the given items failed before, as {item: failing | dead}. Locks nothing.
CREATE OR REPLACE FUNCTION fleet.failed_among(incarnation uuid, items text[]) RETURNS jsonb
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    life fleet.incarnations := fleet.require_incarnation(incarnation);
BEGIN
    RETURN coalesce((
        SELECT jsonb_object_agg(given, CASE WHEN f.dead_at IS NULL THEN 'failing' ELSE 'dead' END)
        FROM unnest(items) given JOIN fleet.failed_items f ON f.worker = life.worker AND f.item = left(given, 500)), '{}');
END $$;

-- An item that works again is forgotten. One row by key.
CREATE OR REPLACE FUNCTION fleet.clear_item(incarnation uuid, item text) RETURNS void
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET lock_timeout = '5s' AS $$
DECLARE
    life fleet.incarnations := fleet.require_incarnation(incarnation);
BEGIN
    DELETE FROM fleet.failed_items f WHERE f.worker = life.worker AND f.item = left(clear_item.item, 500);
END $$;
