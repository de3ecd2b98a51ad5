-- Bookings: a later time for a request, held for who booked it. A booking is a place in line that is due at that time.

-- The earliest time at which one more request has room in every window behind all who wait and have booked, taken. It expires
-- a minute after it is due. Locks the endpoint's row and its pools'; one insert.
CREATE OR REPLACE FUNCTION fleet.schedule_request(
    incarnation uuid, endpoint text, worker_id text, priority text DEFAULT 'medium', account text DEFAULT 'default'
) RETURNS jsonb
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET lock_timeout = '5s' AS $$
DECLARE
    rank integer;
    limits fleet.rate_limits[];
    one fleet.rate_limits;
    own fleet.rate_limits;
    at timestamptz;
    rate double precision;
    ahead integer;
    opens timestamptz;
    booked fleet.rate_demands;
BEGIN
    PERFORM fleet.require_read_committed();
    PERFORM set_config('synchronous_commit', 'on', true);
    PERFORM fleet.require_incarnation(schedule_request.incarnation);
    rank := fleet.priority_rank(schedule_request.priority);
    limits := fleet.lock_rate_rows(schedule_request.account, schedule_request.endpoint);
    SELECT c.at, c.rate INTO at, rate FROM fleet.read_clock() c;
    opens := at;
    SELECT coalesce(sum(d.units), 0) INTO ahead FROM fleet.rate_demands d
    WHERE d.account = schedule_request.account AND d.endpoint = schedule_request.endpoint AND d.waiting AND d.keep_until > at;
    FOREACH one IN ARRAY limits LOOP
        one := fleet.weigh(one, at, rate, ahead + 1);
        IF one.endpoint = schedule_request.endpoint THEN
            own := one;
            IF ahead >= greatest(1000, one.limits[cardinality(one.limits)]) THEN
                PERFORM fleet.refuse('endpoint', one.endpoint, 'one with fewer than ' || ahead || ' requests in line');
            END IF;
        END IF;
        opens := greatest(opens, coalesce(
            fleet.frees_when(one, at, 1 + CASE WHEN one.kind = 'endpoint' THEN ahead ELSE 0 END),
            at + interval '15 seconds'), one.blocked_until);
    END LOOP;
    INSERT INTO fleet.rate_demands (account, endpoint, incarnation, worker_id, rank, units, booked, waiting, used,
        first_asked_at, asked_at, returns_at, keep_until)
    VALUES (own.account, own.endpoint, schedule_request.incarnation, schedule_request.worker_id, rank, 1, true, true, 0,
        at, at, opens, opens + greatest(1, rate) * interval '60 seconds')
    RETURNING * INTO booked;
    own.line_until := greatest(own.line_until, booked.keep_until);
    PERFORM fleet.keep_rate_limit(own);
    RETURN jsonb_build_object('booking_id', booked.id::text, 'execute_at', booked.returns_at, 'expires_at', booked.keep_until,
        'estimated_delay_seconds', round(greatest(0, extract(epoch FROM booked.returns_at - at)), 3));
END $$;

-- Gives a booking back; false where it is used, over or somebody else's. One row by key.
CREATE OR REPLACE FUNCTION fleet.cancel_booking(incarnation uuid, booking_id bigint) RETURNS jsonb
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET lock_timeout = '5s' AS $$
BEGIN
    PERFORM fleet.require_read_committed();
    PERFORM fleet.require_incarnation(cancel_booking.incarnation);
    DELETE FROM fleet.rate_demands d
    WHERE d.id = cancel_booking.booking_id AND d.booked AND d.incarnation = cancel_booking.incarnation AND d.keep_until > fleet.now();
    RETURN jsonb_build_object('cancelled', FOUND);
END $$;
