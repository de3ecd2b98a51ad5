-- The line at a limit. Whoever is refused stands in it, and a unit that frees belongs to the first of those who come when they were
-- told to. With a fair share the order is weighted max-min: who has had least for its priority; without, it is the priority, which
-- rises with waiting. Who stays away keeps its age, but no unit is held for it.

-- A place in line as a number, lower is earlier. Pure. Fair: what was used by weight (low 1 to critical 4), a critical
-- request first while its kept part is not used up; the unit that is asked for counts half (Sainte-Laguë), so that neither the
-- light nor the heavy are favoured. By priority: the rank, one higher for every tau_s waited; the kept part of the low goes before
-- high, and rises on.
CREATE OR REPLACE FUNCTION fleet.line_key(
    fair boolean, rank integer, used integer, waited_s double precision, tau_s double precision, kept_critical integer, kept_low integer
) RETURNS double precision
LANGUAGE sql IMMUTABLE
RETURN CASE WHEN fair THEN CASE WHEN rank = 4 AND kept_critical > 0 THEN -1 ELSE (used + 0.5::double precision) / rank END
    ELSE -greatest(CASE WHEN rank = 1 AND kept_low > 0 THEN 3.5 ELSE 0 END,
        least(4, rank + floor(greatest(0, waited_s) / tau_s))) END;

-- Where a request stands: its row in line (null: none), since when, its worker's use, the requests and units of those before it;
-- whether shares matter, and its worker had its own while others want theirs; whether it must rest, until when: with few units left
-- of what it takes of, who alone wants them comes back once in a minute; in all, whether it is granted. Locks nothing. Reads the
-- line only where there is one, or shares matter: its own row by key, the waiting, the other workers'.
CREATE OR REPLACE FUNCTION fleet.find_place(
    own fleet.rate_limits, limits fleet.rate_limits[], worker_id text, rank integer, n integer, room integer, few boolean, at timestamptz,
    OUT mine bigint, OUT since timestamptz, OUT used integer, OUT ahead integer, OUT shares boolean, OUT had_share boolean,
    OUT rests boolean, OUT rests_until timestamptz, OUT requests_ahead integer, OUT granted boolean
)
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    memory interval := interval '10 minutes';  -- so long a place is as old as it was after a unit was last held for it
    soon timestamptz := at + make_interval(secs => own.patience_s / 6);
    last_ones boolean := few AND rank < 4;
    ahead_due integer := 0;
    seat fleet.rate_demands;
    before record;
    others record;
BEGIN
    since := at;
    ahead := 0;
    rests := false;
    had_share := false;
    requests_ahead := 0;
    granted := n <= room;
    shares := fleet.is_scarce(own, at);
    IF own.line_until <= at - memory AND NOT last_ones AND NOT shares THEN
        RETURN;
    END IF;
    seat := fleet.find_seat(own, worker_id, rank, n, soon, at);
    mine := seat.id;
    used := seat.used;
    rests_until := seat.rests_until;
    IF seat.waiting AND seat.keep_until > at - memory THEN
        since := seat.first_asked_at;
    END IF;
    IF own.line_until > at THEN
        before := fleet.count_before(own, limits, mine, since, used, rank, room, soon, at);
        ahead := before.units;
        ahead_due := before.due;
        requests_ahead := before.requests;
    END IF;
    IF (shares OR last_ones) AND room - ahead_due >= n AND NOT coalesce(seat.booked, false)
        AND NOT (rank = 4 AND own.kept_critical > 0) THEN
        others := fleet.who_else_wants(own, worker_id, soon, at);
        -- Nobody goes ahead of the next unit of who has least by weight: so who is slower is not left behind.
        -- Who has least is never refused by it.
        had_share := shares AND others.lowest IS NOT NULL AND used::double precision / rank >= others.lowest;
        -- Where others want, each unit is the next one's: a rest would give the turn away. Who has waited for a minute has rested.
        rests := last_ones AND NOT had_share AND NOT others.awake AND since > at - interval '60 seconds'
            AND (rests_until IS NULL OR rests_until > at OR rests_until <= at - make_interval(secs => own.window_s));
        IF rests AND (rests_until IS NULL OR rests_until <= at) THEN
            rests_until := at + interval '60 seconds';
        END IF;
    END IF;
    granted := ahead_due + n <= room AND NOT had_share AND NOT rests;
END $$;

-- A request's row in line, or one without an id: a worker has one of each priority for single requests, and another for several at
-- once. A booking of its that is due soon, which is a place since the time of the booking, before the place that it has by asking.
-- With its worker's use, where shares count. Locks nothing; two rows by key, and where
-- there is none the worker's grants of the share's span.
CREATE OR REPLACE FUNCTION fleet.find_seat(
    own fleet.rate_limits, worker_id text, rank integer, n integer, soon timestamptz, at timestamptz
) RETURNS fleet.rate_demands
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    seat fleet.rate_demands;
BEGIN
    SELECT * INTO seat FROM fleet.rate_demands d
    WHERE d.booked AND d.account = own.account AND d.endpoint = own.endpoint AND d.worker_id = find_seat.worker_id
      AND d.rank = find_seat.rank AND (d.units > 1) = (n > 1) AND d.returns_at <= soon AND d.keep_until > at
    ORDER BY d.returns_at, d.id LIMIT 1;
    IF NOT FOUND THEN
        SELECT * INTO seat FROM fleet.rate_demands d
        WHERE NOT d.booked AND d.account = own.account AND d.endpoint = own.endpoint AND d.worker_id = find_seat.worker_id
          AND d.rank = find_seat.rank AND (d.units > 1) = (n > 1);
    END IF;
    IF seat.used IS NULL AND own.fair_share THEN
        SELECT coalesce(sum(g.units), 0) INTO seat.used FROM fleet.rate_grants g
        WHERE g.account = own.account AND g.endpoint = own.endpoint AND g.worker_id = find_seat.worker_id
          AND (g.settled_at > at - fleet.share_span(own) OR g.settled_at IS NULL);
    END IF;
    RETURN seat;
END $$;

-- Who stands before a place in line: their requests and units, and of these those that are due soon, with those held for a place of
-- several. Locks nothing; one read of the endpoint's line, and of the windows' logs for a place of several.
CREATE OR REPLACE FUNCTION fleet.count_before(
    own fleet.rate_limits, limits fleet.rate_limits[], mine bigint, since timestamptz, used integer, rank integer, room integer,
    soon timestamptz, at timestamptz,
    OUT units integer, OUT due integer, OUT requests integer
)
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    most integer := fleet.most_at_once(limits);  -- who wants more is before nobody: a limit that was lowered gives it no more
    tau_s double precision := greatest(1, fleet.setting_number('rate_limit_ageing_s', 300));
    my_key double precision := fleet.line_key(own.fair_share, rank, used, extract(epoch FROM at - since)::double precision, tau_s,
        own.kept_critical, own.kept_low);
    line record;
BEGIN
    WITH before AS MATERIALIZED (
        SELECT l.*, sum(l.units) FILTER (WHERE l.returns_at > soon) OVER (ORDER BY l.key, l.first_asked_at, l.id) AS to_come
        FROM (SELECT d.units, d.rank, d.returns_at, d.first_asked_at, d.id, fleet.line_key(own.fair_share, d.rank, d.used,
                    extract(epoch FROM at - d.first_asked_at)::double precision, tau_s, own.kept_critical, own.kept_low) AS key
                FROM fleet.rate_demands d
                WHERE d.account = own.account AND d.endpoint = own.endpoint AND d.waiting AND d.keep_until > at
                  AND d.id IS DISTINCT FROM mine AND d.units <= most) l
        WHERE (l.key, l.first_asked_at, l.id) < (my_key, since, coalesce(mine, 9223372036854775807)))
    SELECT a.*, f.units, f.rank, f.to_come, f.returns_at INTO line
    FROM (SELECT coalesce(sum(b.units), 0) AS ahead, coalesce(sum(b.units) FILTER (WHERE b.returns_at <= soon), 0) AS due,
            count(*) AS requests FROM before b) a
    LEFT JOIN (SELECT * FROM before b WHERE b.units > 1 AND b.returns_at > soon AND at - b.first_asked_at >= b.returns_at - at
        ORDER BY b.key, b.first_asked_at, b.id LIMIT 1) f ON true;
    units := line.ahead;
    due := line.due;
    requests := line.requests;
    IF line.units > 1 THEN
        -- The first that wants several, and has waited for as long as it still has to, finds them at its time: what will not
        -- free until then is held for it from now on.
        due := due + greatest(0, least(line.units, line.to_come + fleet.kept_for_others(own, line.rank, line.units, limits)
            + room - (SELECT min(fleet.room_at(l, at, line.returns_at)) FROM unnest(limits) l)));
    END IF;
END $$;

-- The other workers that want units now, in all: who asked in the last seconds, or is due soon, not who was told to come later.
-- Whether one of them is not at rest, and of these the earliest place by share (null: nobody). Locks nothing; one read of the line.
CREATE OR REPLACE FUNCTION fleet.who_else_wants(
    own fleet.rate_limits, worker_id text, soon timestamptz, at timestamptz,
    OUT awake boolean, OUT lowest double precision
)
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    SELECT coalesce(bool_or(w.awake), false), min(w.key) FILTER (WHERE w.awake) INTO awake, lowest FROM (
        SELECT (max(d.used) + 0.5::double precision) / max(d.rank) AS key, bool_or(d.rests_until > at) IS NOT TRUE AS awake
        FROM fleet.rate_demands d
        WHERE d.account = own.account AND d.endpoint = own.endpoint AND d.worker_id <> who_else_wants.worker_id
          AND (d.asked_at > at - make_interval(secs => own.patience_s)
            OR d.waiting AND d.keep_until > at AND d.returns_at <= soon)
        GROUP BY d.worker_id) w;
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
        ON CONFLICT (account, endpoint, worker_id, rank, (units > 1)) WHERE NOT booked DO UPDATE SET
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
