-- Grants that nobody will settle: the platform may have counted their requests, so they count as used. Their holder is gone, their
-- answer was lost, or the server crashed before it had written them.

-- Grants that certainly send nothing any more count as used at their last possible moment: now. They are those whose holder has
-- been silent for the quiet time at least, and those of a living holder that are ten times as old as a request can get: their
-- answer, or their settlement, was lost. Each holder is asked in a statement of its own. Gives the row weighed anew.
CREATE OR REPLACE FUNCTION fleet.settle_abandoned(
    one fleet.rate_limits, me uuid, at timestamptz, rate double precision, n integer
) RETURNS fleet.rate_limits
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    quiet_since timestamptz := clock_timestamp() - make_interval(secs => fleet.setting_number('quiet_time_s', 120));
    outlasted timestamptz := clock_timestamp() - make_interval(secs => 10 * fleet.setting_number('request_delay_s', 15));
    holder uuid;
    since timestamptz;
    granted_by timestamptz;
    longest interval := make_interval(secs => greatest(one.window_s, one.longer_window_s[cardinality(one.longer_window_s)]));
    units integer;
    settled integer := 0;
BEGIN
    FOR holder IN
        SELECT DISTINCT g.incarnation FROM fleet.rate_grants g
        WHERE g.account = one.account AND g.endpoint = one.endpoint AND g.settled_at IS NULL AND NOT g.held
          AND g.granted_real_at < CASE WHEN g.incarnation = me THEN outlasted ELSE greatest(quiet_since, outlasted) END
    LOOP
        granted_by := outlasted;
        IF holder <> me THEN
            since := fleet.silent_since(holder);
            IF since < quiet_since THEN
                granted_by := 'infinity';
            ELSIF since IS NOT NULL OR fleet.is_suspected(holder) THEN
                CONTINUE;
            END IF;
        END IF;
        WITH gone AS (
            UPDATE fleet.rate_grants g SET settled_at = at, frees_at = at + longest
            WHERE g.account = one.account AND g.endpoint = one.endpoint AND g.incarnation = holder AND g.settled_at IS NULL
              AND NOT g.held AND g.granted_real_at < granted_by
            RETURNING g.units)
        SELECT coalesce(sum(gone.units), 0) INTO units FROM gone;
        settled := settled + units;
    END LOOP;
    IF settled = 0 THEN
        RETURN one;
    END IF;
    one.unsettled := greatest(0, one.unsettled - settled);
    RETURN fleet.weigh(fleet.count_untold(one, settled, at), at, rate, n);
END $$;

-- The same for all endpoints, also those that nobody asks any more: their pools wait for them. Locks the rows that have such
-- grants, in the order of their names.
CREATE OR REPLACE FUNCTION fleet.settle_all_abandoned(me uuid) RETURNS void
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    one fleet.rate_limits;
    clock record;
BEGIN
    FOR one IN
        SELECT * FROM fleet.rate_limits r
        WHERE r.kind = 'endpoint' AND r.unsettled > 0 AND EXISTS (SELECT 1 FROM fleet.rate_grants g
            WHERE g.account = r.account AND g.endpoint = r.endpoint AND g.settled_at IS NULL AND NOT g.held
              AND g.granted_real_at < clock_timestamp() - make_interval(secs => fleet.setting_number('quiet_time_s', 120)))
        ORDER BY r.account, r.endpoint FOR UPDATE
    LOOP
        SELECT * INTO clock FROM fleet.read_clock();
        PERFORM fleet.keep_rate_limit(fleet.settle_abandoned(fleet.weigh(one, clock.at, clock.rate, 1), me, clock.at, clock.rate, 1));
    END LOOP;
END $$;

-- A grant that counted as used, since no request lasts so long, is unsettled again when its holder tells of it after all: its request
-- was made at another time. The counts that hold it are made anew from the log. Locks the endpoint's row and its pools'.
CREATE OR REPLACE FUNCTION fleet.recall_grant(held fleet.rate_grants) RETURNS void
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    PERFORM fleet.lock_rate_rows(held.account, held.endpoint);
    UPDATE fleet.rate_grants g SET settled_at = NULL, frees_at = 'infinity'
    WHERE g.id = held.id AND g.settled_at IS NOT NULL AND g.success IS NULL;
    UPDATE fleet.rate_limits r SET occupied = '{}', refreshed_at = '-infinity'
    WHERE FOUND AND r.account = held.account AND fleet.counts_requests(r, held.endpoint);
END $$;

-- Units that the platform may have counted, and that no answer will tell of: more in each of its counts that holds. Under the row.
CREATE OR REPLACE FUNCTION fleet.count_untold(one fleet.rate_limits, units integer, at timestamptz) RETURNS fleet.rate_limits
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF one.header_resets_at > at THEN
        one.header_used := one.header_used + units;
    END IF;
    SELECT coalesce(jsonb_object_agg(h.key, CASE WHEN (h.value->>'resets_at')::timestamptz > at
        THEN h.value || jsonb_build_object('used', (h.value->>'used')::integer + units) ELSE h.value END), '{}')
    INTO one.day_headers FROM jsonb_each(one.day_headers) h;
    UPDATE fleet.rate_limits r SET header_used = one.header_used, day_headers = one.day_headers
    WHERE r.account = one.account AND r.endpoint = one.endpoint;
    RETURN one;
END $$;

-- After a crash of the server: up to k - 1 grants of each endpoint may be forgotten that were not flushed, so that k are
-- taken of each, and of its pools. The epoch's row is unlogged: a crash empties it. Locks all rows of limits, once a crash.
CREATE OR REPLACE FUNCTION fleet.recover_rate_limits() RETURNS void
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    lost fleet.rate_limits;
    units integer;
    at timestamptz;
BEGIN
    PERFORM pg_advisory_xact_lock(fleet.lock_key('rate_limits', 'epoch'));
    IF EXISTS (SELECT 1 FROM fleet.rate_epoch) THEN
        RETURN;
    END IF;
    PERFORM set_config('synchronous_commit', 'on', true);
    PERFORM 1 FROM fleet.rate_limits r ORDER BY r.account, r.endpoint FOR UPDATE;
    at := fleet.now();
    FOR lost IN SELECT * FROM fleet.rate_limits r WHERE r.kind = 'endpoint' AND r.account <> '*' LOOP
        -- From what was configured: what the row held of it may be forgotten too.
        units := greatest(lost.flush_every, least(10000, (SELECT min(n) FROM unnest(lost.requests || lost.longer_requests) n) / 100));
        IF units > 1 THEN
            INSERT INTO fleet.rate_grants (account, endpoint, incarnation, worker_id, priority, granted_at, granted_real_at, settled_at,
                frees_at, units)
            VALUES (lost.account, lost.endpoint, '00000000-0000-0000-0000-000000000000', 'lost in a crash', 'medium', at,
                clock_timestamp(), at, at + make_interval(secs => greatest(lost.window_s,
                    lost.longer_window_s[cardinality(lost.longer_window_s)])), units);
            PERFORM fleet.count_untold(lost, units, at);
        END IF;
    END LOOP;
    -- Counts and arrival times are made anew from the log, of the pools too.
    UPDATE fleet.rate_limits r SET occupied = '{}', counted_to = '{}', told = '{}', refreshed_at = '-infinity'
    WHERE r.account <> '*';
    INSERT INTO fleet.rate_epoch (started_at) VALUES (clock_timestamp());
END $$;
