-- Bookings: a later time for a request, held for who booked it. A booking is a place in line that is due at that time.

-- The earliest time at which one more request has room in every window behind all who wait and have booked, taken. It expires
-- a minute after it is due. Locks the endpoint's row and its pools'; reads the worker's place and,
-- until the time stands still, the windows' logs; one insert.
CREATE OR REPLACE FUNCTION fleet.schedule_request(
    incarnation uuid, endpoint text, worker_id text, priority text DEFAULT 'medium', account text DEFAULT 'default'
) RETURNS jsonb
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET lock_timeout = '5s' AS $$
DECLARE
    rank integer;
    limits fleet.rate_limits[];
    own fleet.rate_limits;
    now_at timestamptz;
    rate double precision;
    ahead integer;
    opens timestamptz;
    room_at timestamptz;
    booked fleet.rate_demands;
BEGIN
    PERFORM fleet.require_read_committed();
    PERFORM set_config('synchronous_commit', 'on', true);
    PERFORM fleet.require_incarnation(schedule_request.incarnation);
    PERFORM fleet.check_request(schedule_request.account, schedule_request.endpoint, schedule_request.worker_id);
    rank := fleet.priority_rank(schedule_request.priority);
    limits := fleet.lock_rate_rows(schedule_request.account, schedule_request.endpoint);
    SELECT c.at, c.rate INTO now_at, rate FROM fleet.read_clock() c;
    PERFORM fleet.hold_nothing_for_the_dead(schedule_request.account, schedule_request.endpoint, now_at);
    SELECT coalesce(sum(d.units), 0) INTO ahead FROM fleet.rate_demands d
    WHERE d.account = schedule_request.account AND d.endpoint = schedule_request.endpoint AND d.waiting AND d.keep_until > now_at;
    FOR i IN 1 .. cardinality(limits) LOOP
        limits[i] := fleet.weigh(limits[i], now_at, rate, ahead + 1);
        IF (limits[i]).endpoint = schedule_request.endpoint THEN
            own := limits[i];
        END IF;
    END LOOP;
    IF ahead >= greatest(1000, own.limits[cardinality(own.limits)]) THEN
        PERFORM fleet.refuse('endpoint', own.endpoint, 'one with fewer than ' || ahead || ' requests in line');
    END IF;
    opens := now_at;
    LOOP
        -- What is kept is more, once requests of those that it is kept for have left their span.
        room_at := fleet.bookable_at(limits, ahead, fleet.kept_for_others(fleet.count_kept(own, opens), rank, 1, limits), now_at);
        EXIT WHEN room_at <= opens;
        opens := room_at;
    END LOOP;
    INSERT INTO fleet.rate_demands (account, endpoint, incarnation, worker_id, rank, units, booked, waiting, used,
        first_asked_at, asked_at, returns_at, keep_until)
    VALUES (own.account, own.endpoint, schedule_request.incarnation, schedule_request.worker_id, rank, 1, true, true,
        coalesce((fleet.find_seat(own, schedule_request.worker_id, rank, 1, now_at, now_at)).used, 0),
        now_at, now_at, opens, opens + greatest(1, rate) * interval '60 seconds')
    RETURNING * INTO booked;
    own.line_until := greatest(own.line_until, booked.keep_until);
    PERFORM fleet.keep_rate_limit(own);
    PERFORM fleet.void_prepaid(own.account, own.endpoint);  -- who comes for it is to find it
    RETURN jsonb_build_object('booking_id', booked.id::text, 'execute_at', booked.returns_at, 'expires_at', booked.keep_until,
        'estimated_delay_seconds', round(greatest(0, extract(epoch FROM booked.returns_at - now_at)), 3));
END $$;

-- The first time at which one more has room in every window of rows that were weighed, behind so many before it, and leaves what is
-- kept. Locks nothing; reads the windows' logs and lines.
CREATE OR REPLACE FUNCTION fleet.bookable_at(limits fleet.rate_limits[], ahead integer, kept integer, at timestamptz) RETURNS timestamptz
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    one fleet.rate_limits;
    opens timestamptz := at;
    full_until timestamptz;
BEGIN
    FOREACH one IN ARRAY limits LOOP
        FOR i IN 1 .. cardinality(one.limits) LOOP
            IF one.spacing_us[i] = 0 THEN
                -- No window that holds the new time may hold as many others: it is a window after the N-th latest of all.
                SELECT e.at + make_interval(secs => one.windows_s[i]) INTO full_until FROM (
                    SELECT coalesce(g.settled_at, bookable_at.at) AS at FROM fleet.rate_grants g, generate_series(1, g.units)
                    WHERE g.account = one.account AND g.endpoint = ANY ((SELECT fleet.endpoints_of(one))::text[])
                      AND (g.settled_at IS NULL OR g.settled_at > bookable_at.at - make_interval(secs => one.windows_s[i]))
                    UNION ALL
                    SELECT greatest(bookable_at.at, d.returns_at) FROM fleet.rate_demands d, generate_series(1, d.units)
                    WHERE d.account = one.account AND d.endpoint = ANY ((SELECT fleet.endpoints_of(one))::text[]) AND d.waiting
                      AND d.keep_until > bookable_at.at) e
                ORDER BY e.at DESC OFFSET one.limits[i] - kept - 1 LIMIT 1;
                opens := greatest(opens, full_until);
                one.occupied[i] := -1000000000;  -- said
            END IF;
        END LOOP;
        opens := greatest(opens, fleet.frees_when(one, at, 1 + ahead + kept), one.blocked_until);
    END LOOP;
    RETURN opens;
END $$;

-- Gives a booking back, also that of the same worker's earlier life; false where it is used, over or somebody else's. One row by
-- key.
CREATE OR REPLACE FUNCTION fleet.cancel_booking(incarnation uuid, booking_id bigint) RETURNS jsonb
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET lock_timeout = '5s' AS $$
DECLARE
    life fleet.incarnations;
BEGIN
    PERFORM fleet.require_read_committed();
    life := fleet.require_incarnation(cancel_booking.incarnation);
    DELETE FROM fleet.rate_demands d USING fleet.incarnations i
    WHERE d.id = cancel_booking.booking_id AND d.booked AND d.keep_until > fleet.now()
      AND i.id = d.incarnation AND i.worker = life.worker AND i.slot = life.slot;
    RETURN jsonb_build_object('cancelled', FOUND);
END $$;
