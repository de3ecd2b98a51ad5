-- Run records and failed items: what each step did, and which items it could not do.

CREATE OR REPLACE FUNCTION fleet.start_run(incarnation uuid, step text, trace_id text) RETURNS bigint
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET lock_timeout = '5s' AS $$
DECLARE
    life fleet.incarnations;
    started bigint;
    predecessor uuid;
BEGIN
    PERFORM set_config('synchronous_commit', 'off', true);
    life := fleet.require_incarnation(incarnation);
    -- A predecessor in this slot that died in mid-step left its record open.
    FOR predecessor IN
        SELECT DISTINCT r.incarnation FROM fleet.runs r
        WHERE r.worker = life.worker AND r.slot = life.slot AND r.outcome = 'running' AND r.incarnation <> life.id
    LOOP
        IF fleet.is_suspected(predecessor) THEN
            UPDATE fleet.runs r SET outcome = 'cut', ended_real_at = clock_timestamp(),
                error = 'the process ended in mid-step'
            WHERE r.incarnation = predecessor AND r.worker = life.worker AND r.outcome = 'running';
        END IF;
    END LOOP;
    INSERT INTO fleet.runs (worker, slot, incarnation, step, trace_id, started_at, started_real_at, outcome)
    VALUES (life.worker, life.slot, life.id, start_run.step, start_run.trace_id, fleet.now(), clock_timestamp(), 'running')
    RETURNING id INTO started;
    RETURN started;
END $$;

CREATE OR REPLACE FUNCTION fleet.finish_run(
    incarnation uuid, run bigint, outcome text, items integer, item_errors integer, error_class text, error text
) RETURNS void
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET lock_timeout = '5s' AS $$
BEGIN
    PERFORM set_config('synchronous_commit', 'off', true);
    UPDATE fleet.runs r SET outcome = finish_run.outcome, items = finish_run.items, item_errors = finish_run.item_errors,
        error_class = finish_run.error_class, error = left(finish_run.error, 2000), ended_real_at = clock_timestamp(),
        items_per_minute = finish_run.items * 60
            / greatest(0.001, extract(epoch FROM clock_timestamp() - r.started_real_at))
    WHERE r.id = finish_run.run AND r.incarnation = finish_run.incarnation AND r.outcome = 'running';
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

-- An item that works again is forgotten.
CREATE OR REPLACE FUNCTION fleet.clear_item(incarnation uuid, item text) RETURNS void
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET lock_timeout = '5s' AS $$
DECLARE
    life fleet.incarnations := fleet.require_incarnation(incarnation);
BEGIN
    DELETE FROM fleet.failed_items f WHERE f.worker = life.worker AND f.item = left(clear_item.item, 500);
END $$;
