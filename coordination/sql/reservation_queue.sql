-- The line for a pool: by place, which is the time of asking less ageing_s for each step of priority, so that a low one that waited
-- long enough is before a high one that came later. First come within one priority. The head waits for room: a small request never
-- passes a large one, but for one that is larger than all the pool has now. Where shares count, whoever holds least for its need is
-- first; one that waited too long is before all.

-- How many live requests, and units of them, are before one in the line of a pool. Passed over, each in its place, are who is past its
-- poll_by, and who wants more than the pool has now. Locks nothing; reads the pool's queue once and, where shares count, its holders.
CREATE OR REPLACE FUNCTION fleet.line_before(
    pool fleet.pools, asked fleet.reservation_queue, moment timestamptz, OUT requests bigint, OUT units bigint
) LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF pool.strategy = 'priority' THEN
        SELECT count(*), coalesce(sum(q.units), 0) INTO line_before.requests, line_before.units
        FROM fleet.reservation_queue q
        WHERE q.resource_type = pool.resource_type AND q.resource_id = pool.resource_id AND q.waits
          AND q.poll_by > moment AND q.deadline_at > moment AND q.units <= pool.capacity AND q.id <> asked.id
          AND (q.place, q.id) < (asked.place, asked.id);
        RETURN;
    END IF;
    SELECT l.requests, l.units INTO line_before.requests, line_before.units
    FROM fleet.line_by_share(pool, asked, moment) l WHERE l.id = asked.id;
END $$;

-- The line of a pool where shares count, and with it one who asks, if any: each with what is before it. Locks nothing; reads the pool's
-- queue and its holders once.
CREATE OR REPLACE FUNCTION fleet.line_by_share(pool fleet.pools, asked fleet.reservation_queue, moment timestamptz)
RETURNS TABLE (id bigint, waits boolean, ticket uuid, incarnation uuid, requests bigint, units bigint)
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    RETURN QUERY WITH held AS (
        SELECT r.worker_id, sum(r.units) AS units, max(r.need) AS need FROM fleet.reservations r
        WHERE r.resource_type = pool.resource_type AND r.resource_id = pool.resource_id AND r.ended_at IS NULL
        GROUP BY r.worker_id
    ), line AS (
        SELECT l.*, NOT (l.waits AND l.asked_at < moment - make_interval(secs => pool.escalate_after_s)) AS timely,
            coalesce(h.units, 0) / CASE pool.strategy WHEN 'equal' THEN 1 ELSE greatest(l.need, coalesce(h.need, 0)) END AS share
        FROM (SELECT * FROM fleet.reservation_queue q
            WHERE q.resource_type = pool.resource_type AND q.resource_id = pool.resource_id AND q.id IS DISTINCT FROM asked.id
              AND q.poll_by > moment AND q.deadline_at > moment AND q.units <= pool.capacity
              AND (q.waits OR q.worker_id IS DISTINCT FROM asked.worker_id)
            UNION ALL SELECT asked.* WHERE asked.id IS NOT NULL) l
        LEFT JOIN held h ON h.worker_id = l.worker_id
    )
    SELECT l.id, l.waits, l.ticket, l.incarnation, row_number() OVER standing - 1, (sum(l.units) OVER standing - l.units)::bigint
    FROM line l WINDOW standing AS (ORDER BY l.timely, l.share, l.place, l.id ROWS UNBOUNDED PRECEDING);
END $$;

-- Real seconds until so many units can be had behind those before, as the present holders let expect, each for as long as reservations
-- were held lately; null for more than the pool has now. Not calibrated. Locks nothing; reads the pool's holders.
CREATE OR REPLACE FUNCTION fleet.reckon_wait(pool fleet.pools, asked_units integer, units_before bigint, moment timestamptz)
RETURNS double precision
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    -- What a capacity that shrank leaves over comes free for nobody.
    overhang integer := greatest(0, pool.reserved - pool.capacity);
    missing bigint := asked_units + units_before - greatest(0, pool.capacity - pool.reserved);
    held bigint;
    lease_s double precision;
    hold_s double precision;
    first_s double precision;
    turn bigint;
BEGIN
    IF asked_units > pool.capacity THEN
        RETURN NULL;
    END IF;
    IF missing <= 0 THEN
        RETURN 0;
    END IF;
    SELECT sum(r.units), avg(extract(epoch FROM r.lease_expires_at - r.reserved_at)) INTO held, lease_s FROM fleet.reservations r
    WHERE r.resource_type = pool.resource_type AND r.resource_id = pool.resource_id AND r.ended_at IS NULL;
    IF coalesce(held, 0) = 0 THEN
        RETURN coalesce(pool.hold_s, 60);
    END IF;
    hold_s := coalesce(pool.hold_s, lease_s);
    turn := greatest(1, held - overhang);
    SELECT e.ends_in_s INTO first_s FROM (
        SELECT h.ends_in_s, sum(h.units) OVER (ORDER BY h.ends_in_s, h.id) AS freed FROM (
            SELECT r.id, r.units, greatest(0, extract(epoch FROM least(r.lease_expires_at,
                r.reserved_at + make_interval(secs => hold_s)) - moment)) AS ends_in_s
            FROM fleet.reservations r
            WHERE r.resource_type = pool.resource_type AND r.resource_id = pool.resource_id AND r.ended_at IS NULL) h) e
    WHERE e.freed > overhang + (missing - 1) % turn ORDER BY e.freed LIMIT 1;
    -- Whoever gets a unit holds it for as long again.
    RETURN first_s + (missing - 1) / turn * hold_s;
END $$;

-- The waiters that the pool's room is enough for, first in line first: whom to wake, afterwards, with
-- wake_incarnation. Locks nothing.
CREATE OR REPLACE FUNCTION fleet.next_for_room(pool fleet.pools) RETURNS jsonb
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    real timestamptz := clock_timestamp();
    room integer := pool.capacity - pool.reserved;
BEGIN
    IF room <= 0 THEN
        RETURN '[]';
    END IF;
    IF pool.strategy <> 'priority' THEN
        -- Each grant changes the shares: the first few of the line look for themselves.
        RETURN coalesce((SELECT jsonb_agg(jsonb_build_object('ticket', f.ticket, 'incarnation', f.incarnation) ORDER BY f.requests) FROM (
            SELECT l.* FROM fleet.line_by_share(pool, NULL, real) l WHERE l.waits ORDER BY l.requests LIMIT least(room, 4)) f), '[]');
    END IF;
    RETURN coalesce((SELECT jsonb_agg(jsonb_build_object('ticket', l.ticket, 'incarnation', l.incarnation) ORDER BY l.place, l.id) FROM (
        SELECT f.*, sum(f.units) OVER (ORDER BY f.place, f.id) AS wanted FROM (
            SELECT q.id, q.ticket, q.incarnation, q.place, q.units FROM fleet.reservation_queue q
            WHERE q.resource_type = pool.resource_type AND q.resource_id = pool.resource_id AND q.waits AND q.deadline_at > real
              AND q.poll_by > real AND q.units <= pool.capacity ORDER BY q.place, q.id LIMIT 16) f) l
        WHERE l.wanted <= room), '[]');
END $$;

-- A waiter that waited escalate_after_s rises by one priority and the coordinator is told, once; past alert_after_s a person is.
-- The caller holds the pool and the waiter's row; gives the changed waiter.
CREATE OR REPLACE FUNCTION fleet.escalate_waiter(incarnation uuid, pool fleet.pools, asked fleet.reservation_queue)
RETURNS fleet.reservation_queue
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    names constant text[] := ARRAY['low', 'medium', 'high', 'critical'];
    waited_s double precision := extract(epoch FROM pool.measured_at - asked.asked_at);
    named text := format('%s %s', pool.resource_type, pool.resource_id);
BEGIN
    IF asked.escalated_at IS NULL AND waited_s >= pool.escalate_after_s THEN
        asked.escalated_at := pool.measured_at;
        IF asked.rank < 4 THEN
            asked.rank := asked.rank + 1;
            asked.priority := names[asked.rank];
            asked.place := asked.place - make_interval(secs => pool.ageing_s);
        END IF;
        PERFORM fleet.send_message(incarnation => escalate_waiter.incarnation, type => 'PRIORITY_ESCALATION', recipient => 'coordinator',
            payload => jsonb_build_object('kind', 'reservation', 'ticket', asked.ticket, 'resource_type', pool.resource_type,
                'resource_id', pool.resource_id, 'worker_id', asked.worker_id, 'units', asked.units, 'priority', asked.priority,
                'waited_s', round(waited_s::numeric, 1), 'reason',
                format('%s waits for %s of %s, which has %s', asked.worker_id, asked.units, named, pool.capacity)),
            recipient_kind => 'role', priority => 'high', dedupe_key => 'reservation:' || asked.id);
    END IF;
    IF asked.alerted_at IS NULL AND waited_s >= pool.alert_after_s THEN
        asked.alerted_at := pool.measured_at;
        PERFORM fleet.raise_alert(fleet.pool_key(pool.resource_type, pool.resource_id), 'warning', 'long_wait', asked.worker_id,
            format('%s waits for %s since %s s: more capacity, or fewer who hold it', asked.worker_id, named, round(waited_s)),
            jsonb_build_object('ticket', asked.ticket));
    END IF;
    UPDATE fleet.reservation_queue q SET escalated_at = asked.escalated_at, alerted_at = asked.alerted_at, rank = asked.rank,
        priority = asked.priority, place = asked.place WHERE q.id = asked.id;
    RETURN asked;
END $$;

-- The reservation that one's request with a ticket was granted and that one still holds; null without one. Locks nothing; an index read.
CREATE OR REPLACE FUNCTION fleet.granted_for(incarnation uuid, ticket uuid) RETURNS fleet.reservations
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    held fleet.reservations;
BEGIN
    SELECT * INTO held FROM fleet.reservations r WHERE r.ticket = granted_for.ticket AND r.incarnation = granted_for.incarnation
      AND r.ended_at IS NULL AND r.lease_expires_at > clock_timestamp();
    RETURN held;
END $$;

-- Who asks again with a ticket, or gives it up, comes after a request with it that is still under way. Takes an advisory lock until the
-- transaction's end, before any row.
CREATE OR REPLACE FUNCTION fleet.hold_ticket(ticket uuid) RETURNS void
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    PERFORM pg_advisory_xact_lock(fleet.lock_key('ticket', ticket::text));
END $$;

-- What became of a ticket that does not wait: the reservation, as long as it is held, else that it does not wait. Locks nothing.
CREATE OR REPLACE FUNCTION fleet.tell_ticket(incarnation uuid, ticket uuid) RETURNS jsonb
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    held fleet.reservations;
BEGIN
    held := fleet.granted_for(incarnation, ticket);
    IF held.id IS NULL THEN
        RETURN jsonb_build_object('granted', false, 'waits', false, 'reason', 'not_waiting');
    END IF;
    RETURN fleet.tell_reservation(held);
END $$;

-- A waiter asks whether it is its turn, at least once a second; asked again after it was granted, the answer is the same. It reads, and
-- takes the pool's row only if it is the head and there may be room; its sign of life is written at most twice a second, not flushed.
-- A grant is.
CREATE OR REPLACE FUNCTION fleet.poll_reservation(incarnation uuid, ticket uuid) RETURNS jsonb
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET lock_timeout = '5s' AS $$
DECLARE
    asked fleet.reservation_queue;
    pool fleet.pools;
    granted fleet.reservations;
    real timestamptz;
    ahead record;
    due boolean;
    was_escalated boolean;
BEGIN
    PERFORM fleet.require_read_committed();
    PERFORM fleet.require_incarnation(incarnation);
    SELECT * INTO asked FROM fleet.reservation_queue q
    WHERE q.ticket = poll_reservation.ticket AND q.incarnation = poll_reservation.incarnation AND q.waits;
    IF NOT FOUND THEN
        RETURN fleet.tell_ticket(incarnation, ticket);
    END IF;
    SELECT * INTO pool FROM fleet.pools p WHERE p.resource_type = asked.resource_type AND p.resource_id = asked.resource_id;
    real := clock_timestamp();
    ahead := fleet.line_before(pool, asked, real);
    due := asked.deadline_at <= real
        OR (asked.escalated_at IS NULL AND asked.asked_at + make_interval(secs => pool.escalate_after_s) <= real)
        OR (asked.alerted_at IS NULL AND asked.asked_at + make_interval(secs => pool.alert_after_s) <= real)
        OR (ahead.requests = 0 AND fleet.has_room(pool, asked.units, real));
    IF NOT due AND asked.poll_by < real + interval '0.5 seconds' THEN
        -- The head sees by itself that a holder died: whoever died can't wake it.
        due := ahead.requests = 0 AND fleet.has_suspects(pool, poll_reservation.incarnation);
        IF NOT due THEN
            PERFORM set_config('synchronous_commit', 'off', true);
            UPDATE fleet.reservation_queue q SET poll_by = real + interval '1 second' WHERE q.id = asked.id;
        END IF;
    END IF;
    IF NOT due THEN
        RETURN fleet.tell_place(pool, asked, ahead.requests, ahead.units, real);
    END IF;
    pool := fleet.hold_pool(asked.resource_type, asked.resource_id, NULL);
    real := pool.measured_at;
    SELECT * INTO asked FROM fleet.reservation_queue q WHERE q.id = asked.id FOR UPDATE;
    IF NOT FOUND THEN
        RETURN fleet.tell_ticket(incarnation, ticket);
    END IF;
    pool := fleet.end_overdue(pool, asked.incarnation, pool.capacity - pool.reserved < asked.units);
    ahead := fleet.line_before(pool, asked, real);
    IF ahead.requests = 0 AND pool.capacity - pool.reserved >= asked.units AND asked.deadline_at > real THEN
        granted := fleet.grant_reservation(pool, asked);
        RETURN fleet.tell_reservation(granted);
    END IF;
    IF asked.deadline_at <= real THEN
        DELETE FROM fleet.reservation_queue q WHERE q.id = asked.id;
        pool.time_outs := pool.time_outs + 1;
        PERFORM fleet.keep_pool(pool);
        RETURN jsonb_build_object('granted', false, 'waits', false, 'reason', 'time_out', 'wake', fleet.next_for_room(pool));
    END IF;
    was_escalated := asked.escalated_at IS NOT NULL;
    asked := fleet.escalate_waiter(poll_reservation.incarnation, pool, asked);
    UPDATE fleet.reservation_queue q SET poll_by = real + interval '1 second' WHERE q.id = asked.id;
    IF NOT was_escalated AND asked.escalated_at IS NOT NULL THEN
        pool.escalated := pool.escalated + 1;
    END IF;
    PERFORM fleet.keep_pool(pool);
    RETURN fleet.tell_place(pool, asked, ahead.requests, ahead.units, real);
END $$;

-- Whether a pool has so much room, counting what outstayed its lease. Locks nothing.
CREATE OR REPLACE FUNCTION fleet.has_room(pool fleet.pools, units integer, moment timestamptz) RETURNS boolean
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    RETURN pool.capacity - pool.reserved >= units OR pool.capacity - pool.reserved + coalesce((
        SELECT sum(r.units) FROM fleet.reservations r WHERE r.resource_type = pool.resource_type
          AND r.resource_id = pool.resource_id AND r.ended_at IS NULL AND r.lease_expires_at <= moment), 0) >= units;
END $$;

-- What a waiter is told: its place and what it may expect. Locks nothing.
CREATE OR REPLACE FUNCTION fleet.tell_place(
    pool fleet.pools, asked fleet.reservation_queue, requests bigint, units bigint, moment timestamptz
) RETURNS jsonb
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    wait_s double precision := fleet.reckon_wait(pool, asked.units, units, moment) * pool.wait_factor;
BEGIN
    RETURN jsonb_build_object('granted', false, 'waits', true, 'ticket', asked.ticket,
        'reason', CASE WHEN asked.units > pool.capacity THEN 'above_capacity' ELSE 'waiting' END, 'queue_position', requests + 1, 'estimated_wait_minutes', round((wait_s / 60)::numeric, 6),
        'deadline_at', asked.deadline_at);
END $$;

-- Who no longer wants what it asked for leaves the line, or gives back what it was granted meanwhile. Waits for a request that is still
-- under way; takes the pool's row, flushed; gives whom to wake.
CREATE OR REPLACE FUNCTION fleet.leave_queue(incarnation uuid, ticket uuid) RETURNS jsonb
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET lock_timeout = '5s' AS $$
DECLARE
    asked fleet.reservation_queue;
    pool fleet.pools;
    held fleet.reservations;
BEGIN
    PERFORM fleet.require_read_committed();
    PERFORM fleet.require_incarnation(incarnation);
    PERFORM fleet.hold_ticket(ticket);
    SELECT * INTO asked FROM fleet.reservation_queue q WHERE q.ticket = leave_queue.ticket AND q.incarnation = leave_queue.incarnation;
    IF FOUND THEN
        pool := fleet.hold_pool(asked.resource_type, asked.resource_id, NULL);
        DELETE FROM fleet.reservation_queue q WHERE q.id = asked.id;
        IF FOUND THEN
            PERFORM fleet.keep_pool(pool);
            RETURN jsonb_build_object('left', true, 'released', false, 'wake', fleet.next_for_room(pool));
        END IF;
    END IF;
    held := fleet.granted_for(incarnation, ticket);
    IF held.id IS NULL THEN
        RETURN jsonb_build_object('left', false, 'released', false);
    END IF;
    RETURN jsonb_build_object('left', false) || fleet.release_resource(incarnation, held.id);
END $$;
