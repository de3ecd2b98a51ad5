-- What a window has room for. Two ways to know: GCRA, which spaces requests so that even those that the platform counts late
-- fit, for limits so large that this costs less than 2%; and the exact log of grants for all others.

-- How a window is kept: GCRA with at most `burst` at once and `spacing_us` microseconds between requests in the long run, or
-- the exact log (0, 0) where a burst of ten would cost more than 1.5% of the limit. Pure. At most
-- ceil((W + delay) / spacing) + burst - 1 <= N requests are counted in any window; rounding to nearest would let one more in.
CREATE OR REPLACE FUNCTION fleet.pace(
    requests integer, window_s double precision, delay_s double precision, OUT burst integer, OUT spacing_us bigint
)
LANGUAGE plpgsql IMMUTABLE AS $$
BEGIN
    burst := 1 + floor(requests * (1 - 0.985 * (window_s + delay_s) / window_s));
    IF burst < 10 THEN
        burst := 0;
        spacing_us := 0;
    ELSE
        spacing_us := ceil((window_s::numeric + delay_s::numeric) * 1000000 / (requests - burst + 1));
    END IF;
END $$;

-- How many requests GCRA lets through at once at a time. Pure.
CREATE OR REPLACE FUNCTION fleet.conforming(tat timestamptz, at timestamptz, burst integer, spacing_us bigint) RETURNS integer
LANGUAGE plpgsql IMMUTABLE AS $$
BEGIN
    RETURN greatest(0, burst - CASE WHEN tat <= at THEN 0
        ELSE ceil(extract(epoch FROM tat - at) * 1000000 / spacing_us)::integer END);
END $$;

-- The endpoints whose grants a row counts: its own, or a pool's members. One small read for a pool of all. In a filter it stands in a
-- SELECT of its own: asked once, and looked up by index; else it would be asked for each row.
CREATE OR REPLACE FUNCTION fleet.endpoints_of(one fleet.rate_limits) RETURNS text[]
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF one.kind = 'endpoint' THEN
        RETURN ARRAY[one.endpoint];
    ELSIF one.members <> '{*}' THEN
        RETURN one.members;
    END IF;
    RETURN ARRAY(SELECT r.endpoint FROM fleet.rate_limits r WHERE r.account = one.account AND r.kind = 'endpoint');
END $$;

-- Units settled after one time and until another. An index range.
CREATE OR REPLACE FUNCTION fleet.settled_between(one fleet.rate_limits, since timestamptz, till timestamptz) RETURNS integer
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF one.kind = 'endpoint' THEN
        RETURN (SELECT coalesce(sum(g.units), 0) FROM fleet.rate_grants g
            WHERE g.account = one.account AND g.endpoint = one.endpoint AND g.settled_at > since AND g.settled_at <= till);
    END IF;
    RETURN (SELECT coalesce(sum(g.units), 0) FROM fleet.rate_grants g
        WHERE g.account = one.account AND g.endpoint = ANY ((SELECT fleet.endpoints_of(one))::text[])
          AND g.settled_at > since AND g.settled_at <= till);
END $$;

-- Units granted and not settled, and those that are prepaid. Reads those of the account.
CREATE OR REPLACE FUNCTION fleet.unsettled_units(one fleet.rate_limits) RETURNS integer
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    -- One statement: a unit that is drawn meanwhile is seen in one of both.
    RETURN (SELECT coalesce(sum(u.units), 0) FROM (
        SELECT g.units FROM fleet.rate_grants g
        WHERE g.account = one.account AND g.endpoint = ANY ((SELECT fleet.endpoints_of(one))::text[]) AND g.settled_at IS NULL
        UNION ALL
        SELECT p.units FROM fleet.rate_prepaid p
        WHERE p.account = one.account AND p.endpoint = ANY ((SELECT fleet.endpoints_of(one))::text[])) u);
END $$;

-- Of these, what is set aside: no request is under way with it. Reads the account's that are not settled.
CREATE OR REPLACE FUNCTION fleet.held_units(one fleet.rate_limits) RETURNS integer
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    RETURN (SELECT coalesce(sum(g.units), 0) FROM fleet.rate_grants g
        WHERE g.account = one.account AND g.endpoint = ANY ((SELECT fleet.endpoints_of(one))::text[]) AND g.settled_at IS NULL AND g.held);
END $$;

-- A window's arrival time by GCRA as if it had always had its spacing: from the log itself since then, requests that may still be
-- counted as made now. None closes it for longer than it stays in the window: more than fit may be there once a limit was lowered. What
-- is set aside for longer than a request may take is charged when it is drawn. Reads that part of the log.
CREATE OR REPLACE FUNCTION fleet.replay(one fleet.rate_limits, i integer, since timestamptz, at timestamptz) RETURNS timestamptz
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    spacing interval := one.spacing_us[i] * interval '1 microsecond';
    most interval := make_interval(secs => one.windows_s[i]) + (one.burst[i] - 1) * spacing;
BEGIN
    RETURN coalesce((
        SELECT max(g.counted_at + least(g.later * spacing, most)) FROM (
            SELECT l.counted_at, sum(l.units) OVER (ORDER BY l.counted_at DESC, l.id DESC) AS later FROM (
                SELECT least(r.settled_at, at) AS counted_at, r.units, r.id
                FROM fleet.rate_grants r
                WHERE r.account = one.account AND r.endpoint = ANY ((SELECT fleet.endpoints_of(one))::text[])
                  AND (r.settled_at IS NULL OR r.settled_at > since)
                  AND NOT (r.held AND r.granted_at < at - make_interval(secs => one.delay_s))
                UNION ALL
                SELECT at, p.units, 9223372036854775807 FROM fleet.rate_prepaid p
                WHERE p.account = one.account AND p.endpoint = ANY ((SELECT fleet.endpoints_of(one))::text[]) AND p.units > 0) l) g), at);
END $$;

-- Puts right what of a row follows from its configuration, from what headers told and from the clock's rate; where a window
-- changed, its counts are made from the log. A window that only headers tell of is one more, after those configured. Changes nothing
-- but the copy that it gives; reads windows that changed.
CREATE OR REPLACE FUNCTION fleet.refresh_rate_limit(one fleet.rate_limits, at timestamptz, rate double precision) RETURNS fleet.rate_limits
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    told_s integer := fleet.header_window_s();
    day_limit integer := least((one.day_headers->'user'->>'limit')::integer, (one.day_headers->'app'->>'limit')::integer);
    known integer[];
    spans integer[];
    paced record;
    fresh boolean;
    spaced_anew boolean;
    flush_every integer;
BEGIN
    one.clock_rate := rate;
    one.delay_s := fleet.setting_number('request_delay_s', 15) * rate;
    one.patience_s := fleet.setting_number('rate_limit_patience_s', 3) * rate;
    SELECT array_agg(CASE WHEN w.told IS NULL THEN w.n ELSE least(w.told, coalesce(w.most, w.n)) END ORDER BY w.place, w.s),
        array_agg(w.s ORDER BY w.place, w.s) INTO known, spans
    FROM (
        SELECT c.place, c.n, c.s, c.most, CASE c.s WHEN told_s THEN one.header_limit WHEN 86400 THEN day_limit END AS told
        FROM unnest(one.requests || one.longer_requests, one.window_s || one.longer_window_s, one.most_requests)
            WITH ORDINALITY c(n, s, most, place)
        UNION ALL
        SELECT 1000, h.n, h.s, NULL, NULL FROM (VALUES (one.header_limit, told_s), (day_limit, 86400)) h(n, s)
        WHERE h.n IS NOT NULL AND NOT EXISTS (
            SELECT 1 FROM unnest(one.requests || one.longer_requests, one.window_s || one.longer_window_s) c(n, s)
            WHERE c.s = h.s OR c.n <= h.n AND c.s >= h.s)) w;
    fresh := one.windows_s <> spans OR cardinality(one.occupied) <> cardinality(spans);
    IF fresh THEN
        one.occupied := '{}';
        one.counted_to := '{}';
        one.told := '{}';
        one.burst := '{}';
        one.spacing_us := '{}';
        one.tat := '{}';
        one.unsettled := fleet.unsettled_units(one);
    END IF;
    one.windows_s := spans;
    one.header_window := array_position(spans, told_s);
    one.next_charge_at := greatest(one.next_charge_at, '-infinity');
    FOR i IN 1 .. cardinality(known) LOOP
        SELECT * INTO paced FROM fleet.pace(known[i], spans[i], one.delay_s);
        IF fresh THEN
            one.counted_to[i] := at - make_interval(secs => spans[i]);
            one.occupied[i] := fleet.unsettled_units(one) + fleet.settled_between(one, one.counted_to[i], 'infinity');
            one.told[i] := 0;
        END IF;
        spaced_anew := fresh OR one.spacing_us[i] IS DISTINCT FROM paced.spacing_us;
        one.burst[i] := paced.burst;
        one.spacing_us[i] := paced.spacing_us;
        IF paced.spacing_us = 0 THEN
            one.tat[i] := '-infinity';
        ELSIF spaced_anew THEN
            one.tat[i] := fleet.replay(one, i, at - make_interval(secs => spans[i]), at);
        END IF;
    END LOOP;
    one.limits := known;
    flush_every := greatest(1, least(10000, (SELECT min(n) FROM unnest(known || one.requests || one.longer_requests) n) / 100));
    IF flush_every > one.flush_every AND NOT fresh THEN
        one.since_flush := flush_every;  -- after a crash it must be known that so many may be forgotten
    END IF;
    one.flush_every := flush_every;
    one.refreshed_at := clock_timestamp();
    RETURN one;
END $$;

-- A request that is under way for long may be counted at any time: GCRA charges it anew, so that each is charged at least
-- once in the time that it was given. Reads the unsettled grants, twice in that time; where one is overdue, a window.
CREATE OR REPLACE FUNCTION fleet.charge_unresolved(one fleet.rate_limits, at timestamptz) RETURNS fleet.rate_limits
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    half interval := make_interval(secs => one.delay_s / 2);
    overdue integer;
BEGIN
    one.next_charge_at := at + half;
    IF (SELECT bool_or(s > 0) FROM unnest(one.spacing_us) s) THEN
        SELECT coalesce(sum(g.units), 0) INTO overdue FROM fleet.rate_grants g
        WHERE g.account = one.account AND g.endpoint = ANY ((SELECT fleet.endpoints_of(one))::text[])
          AND (g.settled_at IS NULL OR g.settled_at > at) AND NOT g.held AND g.granted_at <= at - half;
        IF overdue > 0 THEN
            FOR i IN 1 .. cardinality(one.limits) LOOP
                IF one.spacing_us[i] > 0 THEN
                    -- As made now, each once: what was charged for it before is not charged again.
                    one.tat[i] := fleet.replay(one, i, at - make_interval(secs => one.windows_s[i]), at);
                END IF;
            END LOOP;
        END IF;
    END IF;
    RETURN one;
END $$;

-- How much is left in the 24 hours by the platform's own count; null where it told nothing that still holds. Pure.
CREATE OR REPLACE FUNCTION fleet.day_room(day_headers jsonb, unsettled integer, at timestamptz) RETURNS integer
LANGUAGE plpgsql IMMUTABLE AS $$
BEGIN
    RETURN (SELECT min((h.value->>'told')::integer - (h.value->>'used')::integer) - unsettled
        FROM jsonb_each(day_headers) h WHERE (h.value->>'resets_at')::timestamptz > at);
END $$;

-- The same for the window that the other headers speak of. Pure.
CREATE OR REPLACE FUNCTION fleet.header_room(one fleet.rate_limits, at timestamptz) RETURNS integer
LANGUAGE plpgsql IMMUTABLE AS $$
BEGIN
    RETURN CASE WHEN one.header_resets_at > at
        THEN coalesce(one.limits[one.header_window], one.header_limit) - one.header_used - one.unsettled END;
END $$;

-- A row with its room: the units that may be taken now, by all of its windows. Counts what left a window only where that
-- may matter: from half of it on, or where so many are asked for (n); all of a full pool, once a second. Changes nothing but the
-- copy that it gives.
CREATE OR REPLACE FUNCTION fleet.weigh(one fleet.rate_limits, at timestamptz, rate double precision, n integer) RETURNS fleet.rate_limits
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    left_until timestamptz;
    gone integer;
    anew boolean := false;
BEGIN
    IF one.refreshed_at < clock_timestamp() - interval '1 second' OR one.clock_rate <> rate THEN
        one := fleet.refresh_rate_limit(one, at, rate);
        anew := one.kind = 'pool';
    END IF;
    IF one.next_charge_at <= at THEN
        one := fleet.charge_unresolved(one, at);
    END IF;
    one.room := 1000000;
    FOR i IN 1 .. cardinality(one.limits) LOOP
        IF (one.occupied[i] + n::bigint) * 2 > one.limits[i] THEN
            left_until := at - make_interval(secs => one.windows_s[i]);
            IF anew AND one.occupied[i] + n > one.limits[i] OR one.counted_to[i] < left_until - interval '1 day' THEN
                -- A pool's requests are settled without its row, and old ones may have been swept.
                one.occupied[i] := fleet.unsettled_units(one) + fleet.settled_between(one, left_until, 'infinity');
                one.counted_to[i] := left_until;
            ELSIF one.counted_to[i] < left_until THEN
                gone := fleet.settled_between(one, one.counted_to[i], left_until);
                one.occupied[i] := greatest(0, one.occupied[i] - gone);
                one.counted_to[i] := left_until;
            END IF;
        END IF;
        one.room := least(one.room, CASE WHEN one.spacing_us[i] > 0
            THEN fleet.conforming(one.tat[i], at, one.burst[i], one.spacing_us[i])
            ELSE one.limits[i] - one.occupied[i] END);
    END LOOP;
    one.room := greatest(0, least(one.room, fleet.header_room(one, at), fleet.day_room(one.day_headers, one.unsettled, at)));
    RETURN one;
END $$;

-- When a row will have n units free, as far as that is known: null while it depends on requests that are under way. Reads a
-- window's log as far as the n-th, of each endpoint.
CREATE OR REPLACE FUNCTION fleet.frees_when(one fleet.rate_limits, at timestamptz, n integer) RETURNS timestamptz
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    latest timestamptz := at;
    missing integer;
    leaves timestamptz;
    later interval;
BEGIN
    FOR i IN 1 .. cardinality(one.limits) LOOP
        IF one.spacing_us[i] > 0 THEN
            latest := greatest(latest, one.tat[i] - (one.burst[i] - n) * (one.spacing_us[i] * interval '1 microsecond'));
            CONTINUE;
        END IF;
        missing := one.occupied[i] + n - one.limits[i];
        later := interval '0';
        IF missing > 0 AND missing > one.occupied[i]
            AND (CASE one.kind WHEN 'endpoint' THEN one.unsettled ELSE fleet.unsettled_units(one) END) = 0 THEN
            -- Further down the line than the window is long: whole windows pass first.
            later := ((missing - 1) / one.limits[i]) * make_interval(secs => one.windows_s[i]);
            missing := (missing - 1) % one.limits[i] + 1;
            IF missing > one.occupied[i] THEN
                -- What is free now is taken by those before, and leaves with their requests.
                latest := greatest(latest, at + make_interval(secs => one.windows_s[i]) + later);
                CONTINUE;
            END IF;
        END IF;
        IF missing > 0 THEN
            SELECT g.settled_at + make_interval(secs => one.windows_s[i]) INTO leaves FROM (
                SELECT r.settled_at, sum(r.units) OVER (ORDER BY r.settled_at, r.id) AS so_far
                FROM unnest(fleet.endpoints_of(one)) e, LATERAL (SELECT * FROM fleet.rate_grants r
                    WHERE r.account = one.account AND r.endpoint = e AND r.settled_at > at - make_interval(secs => one.windows_s[i])
                    ORDER BY r.settled_at LIMIT missing) r) g
            WHERE g.so_far >= missing ORDER BY g.so_far LIMIT 1;
            IF NOT FOUND THEN
                RETURN NULL;
            END IF;
            latest := greatest(latest, leaves + later);
        END IF;
    END LOOP;
    IF fleet.header_room(one, at) < n THEN
        latest := greatest(latest, one.header_resets_at);
    END IF;
    RETURN greatest(latest, (SELECT max((h.value->>'resets_at')::timestamptz) FROM jsonb_each(one.day_headers) h
        WHERE (h.value->>'told')::integer - (h.value->>'used')::integer - one.unsettled < n
          AND (h.value->>'resets_at')::timestamptz > at), one.blocked_until);
END $$;

-- How much room a row that was weighed will have at a later time, if nobody takes of it until then. Reads the log of what leaves its
-- windows in between.
CREATE OR REPLACE FUNCTION fleet.room_at(one fleet.rate_limits, at timestamptz, later timestamptz) RETURNS integer
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    room integer := least(fleet.header_room(one, later), fleet.day_room(one.day_headers, one.unsettled, later));
    span interval;
BEGIN
    FOR i IN 1 .. cardinality(one.limits) LOOP
        span := make_interval(secs => one.windows_s[i]);
        room := least(room, CASE WHEN one.spacing_us[i] > 0 THEN fleet.conforming(one.tat[i], later, one.burst[i], one.spacing_us[i])
            ELSE one.limits[i] - one.occupied[i] + fleet.settled_between(one, at - span, later - span) END);
    END LOOP;
    RETURN greatest(0, room);
END $$;

-- Units used of a window: the greater of the log's count and the platform's own with what is under way, as others may use the same
-- quota. Pure. The planner puts it in its place, see counts_requests.
CREATE OR REPLACE FUNCTION fleet.used_of(one fleet.rate_limits, i integer, at timestamptz) RETURNS integer
LANGUAGE sql IMMUTABLE AS $$
    SELECT greatest(one.occupied[i], CASE WHEN i = one.header_window AND one.header_resets_at > at THEN one.header_used + one.unsettled
        WHEN one.windows_s[i] = 86400 AND one.day_headers <> '{}'
            THEN one.limits[i] - fleet.day_room(one.day_headers, one.unsettled, at) END)
$$;

-- An event from the granting call itself when its units cross 80, 95 or 100% of a window; again only once the use has been
-- more than 10% below. Gives the row with what it told.
CREATE OR REPLACE FUNCTION fleet.report_crossing(one fleet.rate_limits, at timestamptz) RETURNS fleet.rate_limits
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    used integer;
    percent integer;
    mark integer;
BEGIN
    FOR i IN 1 .. cardinality(one.limits) LOOP
        used := fleet.used_of(one, i, at);
        percent := used::bigint * 100 / one.limits[i];
        mark := CASE WHEN percent >= 100 THEN 100 WHEN percent >= 95 THEN 95 WHEN percent >= 80 THEN 80 ELSE 0 END;
        IF mark > one.told[i] THEN
            PERFORM fleet.emit(CASE mark WHEN 80 THEN 'warning' ELSE 'error' END, 'rate_limit', one.endpoint,
                format('%s of %s requests of %s in %s s are used (%s%%)', used, one.limits[i], one.endpoint,
                    one.windows_s[i], mark),
                jsonb_build_object('account', one.account, 'percent', mark, 'window_s', one.windows_s[i]));
            one.told[i] := mark;
        ELSIF percent < one.told[i] - 10 THEN
            one.told[i] := mark;
        END IF;
    END LOOP;
    RETURN one;
END $$;
