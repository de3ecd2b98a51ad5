-- Who comes first when there is not enough. Whoever is refused stands in line, and a unit that frees belongs to the first of
-- those who come when they were told to. With a fair share the order is weighted max-min: who has had least for its priority;
-- without, it is the priority, which rises with waiting. Who stays away keeps its age, but no unit is held for it.

-- The span in which shares are counted: an hour, or a longer log's window. Pure.
CREATE OR REPLACE FUNCTION fleet.share_span(one fleet.rate_limits) RETURNS interval
LANGUAGE plpgsql IMMUTABLE AS $$
BEGIN
    RETURN make_interval(secs => CASE WHEN one.spacing_us[1] = 0 THEN greatest(3600, one.window_s) ELSE 3600 END);
END $$;

-- A place in line as a number, lower is earlier. Pure. Fair: what was used by weight (low 1 to critical 4), a critical
-- request first while its kept part is not used up. By priority: the rank, one higher for every tau_s waited; the kept part of
-- the low goes before high.
CREATE OR REPLACE FUNCTION fleet.line_key(
    fair boolean, rank integer, used integer, waited_s double precision, tau_s double precision, kept_critical integer, kept_low integer
) RETURNS double precision
LANGUAGE sql IMMUTABLE
RETURN CASE WHEN fair THEN CASE WHEN rank = 4 AND kept_critical > 0 THEN -1 ELSE used::double precision / rank END
    WHEN rank = 1 AND kept_low > 0 THEN -3.5
    ELSE -least(4, rank + floor(greatest(0, waited_s) / tau_s)) END;

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
    IF own.line_until > at OR fleet.is_scarce(own) THEN
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

-- A life that ended comes for no unit. Its places are held no longer, its bookings for another minute, unless its worker lives on:
-- who is started again finds its place as old as it was. Changes the line's rows; under the endpoint's row.
CREATE OR REPLACE FUNCTION fleet.hold_nothing_for_the_dead(account text, endpoint text, at timestamptz) RETURNS void
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    UPDATE fleet.rate_demands d SET keep_until = at FROM fleet.incarnations i
    WHERE d.account = hold_nothing_for_the_dead.account AND d.endpoint = hold_nothing_for_the_dead.endpoint
      AND d.waiting AND d.keep_until > at AND i.id = d.incarnation
      AND i.ended_at < clock_timestamp() - CASE WHEN d.booked THEN interval '60 seconds' ELSE interval '0' END
      AND NOT EXISTS (SELECT 1 FROM fleet.incarnations n
          WHERE n.worker = i.worker AND n.slot = i.slot AND n.started_at > i.started_at AND n.ended_at IS NULL);
END $$;

-- Whether who uses a row is to be known for fair shares: in an exact log, where a unit lent is gone for a whole window, from
-- half of it on. Pure.
CREATE OR REPLACE FUNCTION fleet.is_scarce(one fleet.rate_limits) RETURNS boolean
LANGUAGE plpgsql IMMUTABLE AS $$
BEGIN
    RETURN one.fair_share AND one.spacing_us[1] = 0 AND one.occupied[1] * 2::bigint >= one.limits[1];
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

-- Where a request stands: its row in line (null: none), since when, its worker's use, the units of those before it, of them those
-- that are due now, with those held for a place of several; whether its worker had its share while others want theirs; and whether it must rest first: with few units left
-- of what it takes of, who alone wants them comes back once in a minute; in all, whether it is granted. A due booking is a
-- place since the time of the booking. Reads the line only where there is one, or shares matter.
CREATE OR REPLACE FUNCTION fleet.find_place(
    own fleet.rate_limits, worker_id text, rank integer, n integer, room integer, few boolean, at timestamptz,
    OUT mine bigint, OUT since timestamptz, OUT used integer, OUT ahead integer, OUT ahead_due integer, OUT shares boolean,
    OUT had_share boolean, OUT rests boolean, OUT rests_until timestamptz, OUT requests_ahead bigint, OUT granted boolean
)
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    memory interval := interval '10 minutes';  -- so long a place is as old as it was after a unit was last held for it
    soon timestamptz := at + make_interval(secs => own.patience_s / 6);
    last_ones boolean := few AND rank < 4;
    seat fleet.rate_demands;
    tau_s double precision;
    my_key double precision;
    weights integer;
    theirs integer;
    others_want boolean;
    line record;
BEGIN
    since := at;
    ahead := 0;
    ahead_due := 0;
    rests := false;
    had_share := false;
    requests_ahead := 0;
    granted := n <= room;
    shares := fleet.is_scarce(own);
    IF own.line_until <= at - memory AND NOT last_ones AND NOT shares THEN
        RETURN;
    END IF;
    SELECT * INTO seat FROM fleet.rate_demands d
    WHERE d.booked AND d.account = own.account AND d.endpoint = own.endpoint AND d.worker_id = find_place.worker_id
      AND d.rank = find_place.rank AND d.returns_at <= soon AND d.keep_until > at
    ORDER BY d.returns_at, d.id LIMIT 1;
    IF NOT FOUND THEN
        SELECT * INTO seat FROM fleet.rate_demands d
        WHERE NOT d.booked AND d.account = own.account AND d.endpoint = own.endpoint AND d.worker_id = find_place.worker_id
          AND d.rank = find_place.rank;
    END IF;
    mine := seat.id;
    used := seat.used;
    rests_until := seat.rests_until;
    IF seat.waiting AND seat.keep_until > at - memory THEN
        since := seat.first_asked_at;
    END IF;
    IF used IS NULL AND own.fair_share THEN
        SELECT coalesce(sum(g.units), 0) INTO used FROM fleet.rate_grants g
        WHERE g.account = own.account AND g.endpoint = own.endpoint AND g.worker_id = find_place.worker_id
          AND (g.settled_at > at - fleet.share_span(own) OR g.settled_at IS NULL);
    END IF;
    IF own.line_until > at THEN
        tau_s := greatest(1, fleet.setting_number('rate_limit_ageing_s', 300));
        my_key := fleet.line_key(own.fair_share, rank, used, extract(epoch FROM at - since)::double precision, tau_s,
            own.kept_critical, own.kept_low);
        WITH before AS MATERIALIZED (
            SELECT l.*, sum(l.units) FILTER (WHERE l.returns_at > soon) OVER (ORDER BY l.key, l.first_asked_at, l.id) AS to_come
            FROM (SELECT d.units, d.rank, d.returns_at, d.first_asked_at, d.id, fleet.line_key(own.fair_share, d.rank, d.used,
                        extract(epoch FROM at - d.first_asked_at)::double precision, tau_s, own.kept_critical, own.kept_low) AS key
                    FROM fleet.rate_demands d
                    WHERE d.account = own.account AND d.endpoint = own.endpoint AND d.waiting AND d.keep_until > at
                      AND d.id IS DISTINCT FROM mine) l
            WHERE (l.key, l.first_asked_at, l.id) < (my_key, since, coalesce(mine, 9223372036854775807)))
        SELECT a.*, f.units, f.rank, f.to_come, f.returns_at INTO line
        FROM (SELECT coalesce(sum(b.units), 0) AS ahead, coalesce(sum(b.units) FILTER (WHERE b.returns_at <= soon), 0) AS due,
                count(*) AS requests FROM before b) a
        LEFT JOIN (SELECT * FROM before b WHERE b.units > 1 AND b.returns_at > soon AND at - b.first_asked_at >= b.returns_at - at
            ORDER BY b.key, b.first_asked_at, b.id LIMIT 1) f ON true;
        ahead := line.ahead;
        ahead_due := line.due;
        requests_ahead := line.requests;
        IF line.units > 1 THEN
            -- The first that wants several, and has waited for as long as it still has to, finds them at its time: what will not
            -- free until then is held for it from now on.
            ahead_due := ahead_due + greatest(0, least(line.units,
                line.to_come + fleet.kept_for_others(own, line.rank, line.units, ARRAY[own]) + room - fleet.room_at(own, at, line.returns_at)));
        END IF;
    END IF;
    IF (shares OR last_ones) AND room - ahead_due >= n AND NOT coalesce(seat.booked, false)
        AND NOT (rank = 4 AND own.kept_critical > 0) THEN
        -- Who asked in the last seconds, or is due, wants: not who was told to come later.
        SELECT sum(w.weight), sum(w.used), coalesce(bool_or(w.awake), false) INTO weights, theirs, others_want FROM (
            SELECT max(d.rank) AS weight, max(d.used) AS used, bool_or(d.rests_until > at) IS NOT TRUE AS awake
            FROM fleet.rate_demands d
            WHERE d.account = own.account AND d.endpoint = own.endpoint AND d.worker_id <> find_place.worker_id
              AND (d.asked_at > at - make_interval(secs => own.patience_s)
                OR d.waiting AND d.keep_until > at AND d.returns_at <= soon)
            GROUP BY d.worker_id) w;
        -- More than half a unit above what all of them had by weight is too much: so nobody ends up more than one and a half above.
        had_share := shares AND weights IS NOT NULL
            AND used >= (theirs + used)::double precision * rank / (weights + rank) + 0.5;
        -- Where others want, each unit is the next one's: a rest would give the turn away. Who has waited for a minute has rested.
        rests := last_ones AND NOT had_share AND NOT others_want AND since > at - interval '60 seconds'
            AND (rests_until IS NULL OR rests_until > at OR rests_until <= at - make_interval(secs => own.window_s));
        IF rests AND (rests_until IS NULL OR rests_until <= at) THEN
            rests_until := at + interval '60 seconds';
        END IF;
    END IF;
    granted := ahead_due + n <= room AND NOT had_share AND NOT rests;
END $$;

-- A refused request takes or keeps its place. A unit is held for it until some seconds after the time that it was told; for who
-- comes at intervals of its own, whatever it is told, until its next, so that it isn't passed by all who come as told: at most
-- a minute, and no more than a fifteenth of the window. One upsert.
CREATE OR REPLACE FUNCTION fleet.stand_in_line(
    own fleet.rate_limits, place record, incarnation uuid, worker_id text, rank integer, n integer, retry_s numeric, at timestamptz
) RETURNS fleet.rate_limits
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
    comes timestamptz := at + make_interval(secs => retry_s::double precision);
    patience interval := make_interval(secs => own.patience_s);
    longest interval := make_interval(secs => least(60, own.window_s / 15.0));
    held_until timestamptz := comes;
    seat fleet.rate_demands;
BEGIN
    SELECT * INTO seat FROM fleet.rate_demands d WHERE d.id = place.mine;
    IF place.since < at AND seat.returns_at NOT BETWEEN at - patience AND at + patience THEN
        held_until := greatest(comes, least(at + (at - seat.asked_at), comes + longest));
    END IF;
    held_until := held_until + patience;
    UPDATE fleet.rate_demands d SET returns_at = comes, keep_until = greatest(d.keep_until, held_until), asked_at = at,
        incarnation = stand_in_line.incarnation
    WHERE d.id = place.mine AND d.booked;
    IF NOT FOUND THEN
        INSERT INTO fleet.rate_demands AS d (account, endpoint, incarnation, worker_id, rank, units, booked, waiting, used,
            first_asked_at, asked_at, returns_at, keep_until, rests_until)
        VALUES (own.account, own.endpoint, stand_in_line.incarnation, stand_in_line.worker_id, stand_in_line.rank, n, false, true,
            coalesce(place.used, 0), place.since, at, comes, held_until, place.rests_until)
        ON CONFLICT (account, endpoint, worker_id, rank) WHERE NOT booked DO UPDATE SET
            incarnation = excluded.incarnation, waiting = true, units = excluded.units, first_asked_at = excluded.first_asked_at,
            asked_at = excluded.asked_at, returns_at = excluded.returns_at, keep_until = excluded.keep_until,
            rests_until = excluded.rests_until;
    END IF;
    own.line_until := greatest(own.line_until, held_until);
    RETURN own;
END $$;

-- A granted request leaves the line, and its wait is measured; where shares matter, its worker is known as one that wants. One
-- row by key.
CREATE OR REPLACE FUNCTION fleet.leave_rate_line(
    own fleet.rate_limits, place record, incarnation uuid, worker_id text, rank integer, n integer, at timestamptz
) RETURNS fleet.rate_limits
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    waited_s double precision := extract(epoch FROM at - place.since);
BEGIN
    IF waited_s > 0 THEN
        own.waited := own.waited + 1;
        own.waited_s := own.waited_s + waited_s;
        own.longest_wait_s := greatest(own.longest_wait_s, waited_s);
    END IF;
    DELETE FROM fleet.rate_demands d WHERE d.id = place.mine AND d.booked;
    IF place.mine IS NOT NULL THEN
        UPDATE fleet.rate_demands d SET waiting = false, used = d.used + n, asked_at = at WHERE d.id = place.mine;
    ELSIF place.shares THEN
        INSERT INTO fleet.rate_demands (account, endpoint, incarnation, worker_id, rank, units, booked, waiting, used,
            first_asked_at, asked_at, returns_at, keep_until)
        VALUES (own.account, own.endpoint, leave_rate_line.incarnation, leave_rate_line.worker_id, leave_rate_line.rank, n, false, false,
            place.used + n, at, at, at, at);
    END IF;
    RETURN own;
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
    own := fleet.weigh(fleet.peek_rate_limit(get_worker_allocation.account, get_worker_allocation.endpoint), at, rate, 1000000);
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
