-- Who gets how much where there is not enough: what each worker had in the share's span, what of a limit is kept for the priorities
-- of some, and when shares matter at all. Who goes first by it: see the line.

-- The span in which shares are counted: the window that allows least in the long run, an hour at least, and of a large one as much
-- as holds some 5000 requests. Pure.
CREATE OR REPLACE FUNCTION fleet.share_span(one fleet.rate_limits) RETURNS interval
LANGUAGE plpgsql IMMUTABLE AS $$
BEGIN
    RETURN (SELECT make_interval(secs => greatest(3600, least(w.window_s, 5000 * w.window_s::double precision / greatest(1, w.most))))
        FROM unnest(one.limits, one.windows_s) w(most, window_s) ORDER BY w.most::double precision / w.window_s, w.window_s LIMIT 1);
END $$;

-- Weighted max-min: each gets what it wants, or a share by weight of what the contented leave. Pure; at most as many rounds as
-- there are claimants.
CREATE OR REPLACE FUNCTION fleet.max_min_shares(capacity double precision, weights double precision[], wants double precision[])
RETURNS double precision[]
LANGUAGE plpgsql IMMUTABLE AS $$
DECLARE
    shares double precision[] := wants;
    left_over double precision := capacity;
    level double precision;
    open boolean[];
    weight double precision;
    contented boolean := true;
BEGIN
    FOR i IN 1 .. coalesce(cardinality(weights), 0) LOOP
        open[i] := true;
    END LOOP;
    WHILE contented LOOP
        contented := false;
        SELECT sum(w) FILTER (WHERE o) INTO weight FROM unnest(weights, open) u(w, o);
        EXIT WHEN weight IS NULL;
        level := greatest(0, left_over) / weight;
        FOR i IN 1 .. cardinality(weights) LOOP
            IF open[i] AND wants[i] <= level * weights[i] THEN
                open[i] := false;
                shares[i] := wants[i];
                left_over := left_over - wants[i];
                contented := true;
            ELSIF open[i] THEN
                shares[i] := level * weights[i];
            END IF;
        END LOOP;
    END LOOP;
    RETURN shares;
END $$;

-- What each worker that wants had in the share's span, and what of the kept parts is unused: at most once a second. Reads the
-- span's grants; writes the line's rows. Under the endpoint's row.
CREATE OR REPLACE FUNCTION fleet.refresh_shares(own fleet.rate_limits, at timestamptz) RETURNS fleet.rate_limits
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF own.shares_at > at - make_interval(secs => own.patience_s / 3) THEN
        RETURN own;
    END IF;
    own := fleet.count_kept(own, at);
    own.shares_at := at;
    IF own.line_until > at OR fleet.is_scarce(own, at) THEN
        PERFORM fleet.hold_nothing_for_the_dead(own.account, own.endpoint, at);
        DELETE FROM fleet.rate_demands d
        WHERE d.account = own.account AND d.endpoint = own.endpoint AND d.keep_until < at - interval '1 day';
        UPDATE fleet.rate_demands d SET used = coalesce(u.units, 0)
        FROM fleet.rate_demands k LEFT JOIN (
            SELECT g.worker_id, sum(g.units)::integer AS units FROM fleet.rate_grants g
            WHERE g.account = own.account AND g.endpoint = own.endpoint AND (g.settled_at > at - fleet.share_span(own) OR g.settled_at IS NULL)
            GROUP BY g.worker_id) u ON u.worker_id = k.worker_id
        WHERE k.id = d.id AND d.account = own.account AND d.endpoint = own.endpoint AND d.used <> coalesce(u.units, 0);
    END IF;
    RETURN own;
END $$;

-- A row with what of the kept parts is unused now. Locks nothing; reads the span's grants.
CREATE OR REPLACE FUNCTION fleet.count_kept(own fleet.rate_limits, at timestamptz) RETURNS fleet.rate_limits
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    -- A long window's kept part is that of each quarter of an hour: nobody goes first for hours.
    span_s integer := least(900, own.window_s);
    span_limit integer := own.limits[1]::bigint * span_s / own.window_s;
    span_start timestamptz := at - make_interval(secs => span_s);
    by_critical integer := 0;
    by_low integer := 0;
BEGIN
    IF own.critical_seen_at > at - interval '1 day' OR own.low_seen_at > at - interval '1 day' THEN
        SELECT coalesce(sum(g.units) FILTER (WHERE g.priority = 'critical'), 0), coalesce(sum(g.units) FILTER (WHERE g.priority = 'low'), 0)
        INTO by_critical, by_low
        FROM fleet.rate_grants g
        WHERE g.account = own.account AND g.endpoint = own.endpoint AND (g.settled_at > span_start OR g.settled_at IS NULL);
    END IF;
    own.kept_critical := CASE WHEN own.critical_seen_at > at - interval '1 day' THEN greatest(0, span_limit / 10 - by_critical) ELSE 0 END;
    own.kept_low := CASE WHEN own.low_seen_at > at - interval '1 day' THEN greatest(0, span_limit / 50 - by_low) ELSE 0 END;
    RETURN own;
END $$;

-- How much of a row's room is kept for other priorities than that of a request for n. Of the rows that it takes of, the kept
-- part is lent to what would never fit beside it. Pure.
CREATE OR REPLACE FUNCTION fleet.kept_for_others(own fleet.rate_limits, rank integer, n integer, limits fleet.rate_limits[]) RETURNS integer
LANGUAGE plpgsql IMMUTABLE AS $$
DECLARE
    kept integer := own.kept_critical + CASE WHEN rank > 1 THEN own.kept_low ELSE 0 END;
BEGIN
    IF rank = 4 OR own.spacing_us[1] > 0 OR kept = 0 THEN
        RETURN 0;
    END IF;
    RETURN least(kept, greatest(0, fleet.most_at_once(limits) - n));
END $$;

-- Whether who uses a row is to be known for fair shares: in an exact log, where a unit lent is gone for a whole window, from
-- half of it on, and in the window after somebody found too little: what a new window gives at once goes by shares too. Pure.
CREATE OR REPLACE FUNCTION fleet.is_scarce(one fleet.rate_limits, at timestamptz) RETURNS boolean
LANGUAGE plpgsql IMMUTABLE AS $$
BEGIN
    RETURN one.fair_share AND one.spacing_us[1] = 0
        AND (one.occupied[1] * 2::bigint >= one.limits[1] OR one.lacked_at > at - 2 * make_interval(secs => one.windows_s[1]));
END $$;

-- Whether fewer than ten units of fifty or more are left: of a window that is kept as a log, or by a count of the platform's. Pure.
CREATE OR REPLACE FUNCTION fleet.few_left(one fleet.rate_limits, at timestamptz) RETURNS boolean
LANGUAGE plpgsql IMMUTABLE AS $$
BEGIN
    RETURN EXISTS (SELECT 1 FROM unnest(one.limits, one.occupied, one.spacing_us) w(most, taken, spacing_us)
            WHERE w.spacing_us = 0 AND w.most >= 50 AND w.most - w.taken < 10)
        OR coalesce(one.header_limit >= 50 AND fleet.header_room(one, at) < 10, false)
        OR EXISTS (SELECT 1 FROM jsonb_each(one.day_headers) h
            WHERE (h.value->>'told')::integer >= 50 AND (h.value->>'resets_at')::timestamptz > at
              AND (h.value->>'told')::integer - (h.value->>'used')::integer - one.unsettled < 10);
END $$;

-- A worker's part of an endpoint now: weighted max-min over the workers that wait (they want all) and that asked in the last
-- hour (they want what they used). Without fair share everybody is allocated the whole. Locks nothing; reads the last hour.
CREATE OR REPLACE FUNCTION fleet.get_worker_allocation(
    incarnation uuid, endpoint text, worker_id text, account text DEFAULT 'default'
) RETURNS jsonb
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET lock_timeout = '5s' AS $$
DECLARE
    own fleet.rate_limits;
    at timestamptz;
    rate double precision;
    names text[];
    weights double precision[];
    wants double precision[];
    used double precision[];
    allocated double precision[];
    spans integer[] := ARRAY[900, 3600];
    capacity double precision;
BEGIN
    PERFORM fleet.require_incarnation(incarnation);
    PERFORM fleet.check_request(get_worker_allocation.account, get_worker_allocation.endpoint, get_worker_allocation.worker_id);
    SELECT c.at, c.rate INTO at, rate FROM fleet.read_clock() c;
    own := fleet.weigh(fleet.peek_rate_limit(get_worker_allocation.account, get_worker_allocation.endpoint), at, rate, 1000000000);
    FOR i IN 1 .. 2 LOOP
        -- Where no window has that span: what the tightest of the others lets through in it.
        SELECT coalesce(min(w.n) FILTER (WHERE w.s = spans[i]),
            min(CASE WHEN w.s > spans[i] THEN least(w.n, ceil(w.n::double precision * spans[i] / w.s)) ELSE w.n * ceil(spans[i]::double precision / w.s) END))
        INTO capacity FROM unnest(own.limits, own.windows_s) w(n, s);
        SELECT array_agg(c.name ORDER BY c.name), array_agg(c.weight ORDER BY c.name),
            array_agg((CASE WHEN c.wants THEN greatest(capacity, c.used) ELSE c.used END) ORDER BY c.name), array_agg(c.used ORDER BY c.name)
        INTO names, weights, wants, used FROM (
            SELECT p.name, max(p.weight)::double precision AS weight, sum(p.units)::double precision AS used, bool_or(p.wants) AS wants FROM (
                SELECT g.worker_id AS name, fleet.priority_rank(g.priority) AS weight,
                    CASE WHEN coalesce(g.settled_at, 'infinity') > at - make_interval(secs => spans[i]) THEN g.units ELSE 0 END AS units,
                    g.worker_id = get_worker_allocation.worker_id AS wants
                FROM fleet.rate_grants g
                WHERE g.account = own.account AND g.endpoint = own.endpoint AND (g.settled_at > at - interval '1 hour' OR g.settled_at IS NULL)
                UNION ALL
                SELECT d.worker_id, d.rank, 0, true FROM fleet.rate_demands d
                WHERE d.account = own.account AND d.endpoint = own.endpoint AND d.waiting AND d.keep_until > at
                UNION ALL
                SELECT get_worker_allocation.worker_id, 1, 0, true) p
            GROUP BY p.name) c;
        IF own.fair_share THEN
            allocated[i] := floor((fleet.max_min_shares(capacity, weights, wants))[array_position(names, get_worker_allocation.worker_id)]);
        ELSE
            allocated[i] := capacity;
        END IF;
        spans[i + 2] := used[array_position(names, get_worker_allocation.worker_id)];
    END LOOP;
    RETURN jsonb_build_object('allocated_per_15min', allocated[1]::integer, 'allocated_per_hour', allocated[2]::integer,
        'used_per_15min', spans[3], 'used_per_hour', spans[4],
        'remaining_allocation', greatest(0, least(allocated[1] - spans[3], allocated[2] - spans[4]))::integer);
END $$;
