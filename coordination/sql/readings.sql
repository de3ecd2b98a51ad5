-- Readings: the public metrics of the account's own posts, appended at growing intervals, never overwritten.

-- Up to n posts whose next reading is due. Each is pushed back by lease_s, so that no two workers read it at once.
CREATE OR REPLACE FUNCTION fleet.claim_readings(incarnation uuid, account text, n integer, lease_s double precision) RETURNS jsonb
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET lock_timeout = '5s'
SET plan_cache_mode = force_generic_plan AS $$  -- to plan it anew takes longer than to run it (ADR-0052)
DECLARE
    at timestamptz;
    due text[];
    claimed jsonb;
BEGIN
    PERFORM fleet.require_read_committed();
    PERFORM fleet.require_incarnation(incarnation);
    PERFORM fleet.require_batch(n);
    at := fleet.now();
    WITH picked AS MATERIALIZED (
        SELECT t.platform_id FROM fleet.tracked_posts t
        WHERE t.account = claim_readings.account AND t.gone_at IS NULL AND t.next_reading_at <= at
        ORDER BY t.next_reading_at LIMIT n FOR UPDATE SKIP LOCKED
    )
    SELECT coalesce(array_agg(p.platform_id), '{}') INTO due FROM picked p;
    WITH taken AS (
        UPDATE fleet.tracked_posts t SET next_reading_at = at + make_interval(secs => lease_s)
        WHERE t.account = claim_readings.account AND t.platform_id = ANY (due)
        RETURNING t.*
    )
    SELECT coalesce(jsonb_agg(jsonb_build_object('platform_id', k.platform_id, 'readings', k.readings,
        'posted_at', k.posted_at)), '[]') INTO claimed FROM taken k;
    RETURN claimed;
END $$;

-- One more reading, and when the next is due. Appends; a number that is there already changes nothing.
-- Locks the post's row.
CREATE OR REPLACE FUNCTION fleet.append_reading(
    incarnation uuid, account text, platform_id text, metrics jsonb, next_in_s double precision
) RETURNS integer
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET lock_timeout = '5s' AS $$
DECLARE
    tracked fleet.tracked_posts;
    at timestamptz;
BEGIN
    PERFORM fleet.require_read_committed();
    PERFORM fleet.require_incarnation(incarnation);
    IF jsonb_typeof(metrics) IS DISTINCT FROM 'object' THEN
        PERFORM fleet.refuse('metrics', metrics::text, 'a JSON object of counts');
    END IF;
    SELECT * INTO tracked FROM fleet.tracked_posts t
    WHERE t.account = append_reading.account AND t.platform_id = append_reading.platform_id FOR UPDATE;
    IF NOT FOUND THEN
        PERFORM fleet.refuse('platform_id', append_reading.platform_id, 'the id of a post of this account');
    END IF;
    at := fleet.now();
    INSERT INTO fleet.readings (account, platform_id, number, read_at, metrics)
    VALUES (tracked.account, tracked.platform_id, tracked.readings + 1, at, append_reading.metrics);
    UPDATE fleet.tracked_posts t SET readings = t.readings + 1, misses = 0,
        next_reading_at = at + make_interval(secs => greatest(1, next_in_s))
    WHERE t.account = tracked.account AND t.platform_id = tracked.platform_id;
    RETURN tracked.readings + 1;
END $$;

-- The platform didn't show the post; after max_misses in a row it counts as gone and is not asked for any more.
CREATE OR REPLACE FUNCTION fleet.miss_reading(
    incarnation uuid, account text, platform_id text, reason text, next_in_s double precision, max_misses integer DEFAULT 3
) RETURNS boolean
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET lock_timeout = '5s' AS $$
DECLARE
    tracked fleet.tracked_posts;
    life fleet.incarnations;
BEGIN
    life := fleet.require_incarnation(incarnation);
    UPDATE fleet.tracked_posts t SET misses = t.misses + 1,
        gone_at = CASE WHEN t.misses + 1 >= max_misses THEN fleet.now() END,
        next_reading_at = fleet.now() + make_interval(secs => greatest(1, next_in_s))
    WHERE t.account = miss_reading.account AND t.platform_id = miss_reading.platform_id RETURNING * INTO tracked;
    IF tracked.gone_at IS NOT NULL THEN
        PERFORM fleet.emit('warning', 'post_gone', life.worker || '/' || life.slot, format(
            'post %s is not on the platform any more: %s', tracked.platform_id, miss_reading.reason),
            jsonb_build_object('platform_id', tracked.platform_id));
    END IF;
    RETURN tracked.gone_at IS NOT NULL;
END $$;
