-- Reservations: units of a pool, held until they are given back, their lease is over or their holder dies. Each has a fencing token
-- as its id; whoever comes late with one is told so and counted, and changes nothing.

-- FL001 for what no request may be. Locks nothing.
CREATE OR REPLACE FUNCTION fleet.check_reservation(
    worker_id text, duration_minutes double precision, units integer, wait_s double precision, need double precision
) RETURNS void
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF coalesce(length(worker_id), 0) NOT BETWEEN 1 AND 200 THEN
        PERFORM fleet.refuse('worker_id', worker_id, 'a text of 1 to 200 characters');
    END IF;
    IF duration_minutes IS NULL OR NOT (duration_minutes > 0 AND duration_minutes <= 1440) THEN
        PERFORM fleet.refuse('duration_minutes', duration_minutes::text, 'more than 0, at most 1440');
    END IF;
    IF units IS NULL OR units NOT BETWEEN 1 AND 1000000 THEN
        PERFORM fleet.refuse('units', units::text, 'a whole number from 1 to 1000000');
    END IF;
    IF wait_s IS NULL OR NOT (wait_s >= 0 AND wait_s <= 86400) THEN
        PERFORM fleet.refuse('wait_s', wait_s::text, 'from 0 to 86400 seconds');
    END IF;
    IF need IS NULL OR NOT (need > 0 AND need <= 1000000) THEN
        PERFORM fleet.refuse('need', need::text, 'more than 0, at most 1000000');
    END IF;
END $$;

-- The grant itself: the caller holds the pool, and there is room. Takes the asker out of the line, writes the pool back, and learns
-- from how long the wait was.
CREATE OR REPLACE FUNCTION fleet.grant_reservation(pool fleet.pools, asked fleet.reservation_queue) RETURNS fleet.reservations
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    granted fleet.reservations;
    waited_s double precision := extract(epoch FROM pool.measured_at - asked.asked_at);
    weight double precision;
BEGIN
    INSERT INTO fleet.reservations (id, resource_type, resource_id, units, need, incarnation, worker_id, priority, reserved_at,
        lease_expires_at, waited_s, estimated_s, ticket)
    VALUES (nextval('fleet.fencing_token'), asked.resource_type, asked.resource_id, asked.units, asked.need, asked.incarnation,
        asked.worker_id, asked.priority, pool.measured_at, pool.measured_at + make_interval(secs => asked.duration_s),
        CASE WHEN asked.waits THEN waited_s END, asked.estimated_s, asked.ticket)
    RETURNING * INTO granted;
    pool.reserved := pool.reserved + asked.units;
    pool.granted := pool.granted + 1;
    IF asked.waits THEN
        DELETE FROM fleet.reservation_queue q WHERE q.id = asked.id;
        pool.waits := pool.waits + 1;
        pool.wait_s := pool.wait_s + waited_s;
        pool.longest_wait_s := greatest(pool.longest_wait_s, waited_s);
        -- Waits that overlap say the same: each moves the next estimates by little.
        IF asked.reckoned_s > 0.01 THEN
            weight := greatest(0.02, 1.0 / (pool.waits + 10));
            pool.wait_factor := greatest(0.1, least(10, pool.wait_factor ^ (1 - weight)
                * greatest(0.1, least(10, waited_s / asked.reckoned_s)) ^ weight));
        END IF;
    END IF;
    PERFORM fleet.keep_pool(pool);
    RETURN granted;
END $$;

-- What the holder is told: the reservation, and who else there is room for. Locks nothing.
CREATE OR REPLACE FUNCTION fleet.tell_reservation(held fleet.reservations) RETURNS jsonb
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    RETURN jsonb_build_object('granted', true, 'reservation_id', held.id::text, 'resource_type', held.resource_type,
        'resource_id', held.resource_id, 'account', held.account, 'worker_id', held.worker_id, 'priority', held.priority, 'units', held.units,
        'reserved_at', held.reserved_at, 'lease_expires_at', held.lease_expires_at, 'waited_s', coalesce(held.waited_s, 0),
        'wake', fleet.next_for_room((SELECT p FROM fleet.pools p
            WHERE p.resource_type = held.resource_type AND p.resource_id = held.resource_id)));
END $$;

-- Asks for units of a pool: a reservation, or why not; with wait_s a place in the line, to be polled. An api_quota's resource_id is
-- an operation, an endpoint or a pool of one, with @ and an account's name where it is not the default's, by its kind one of these only
-- (see quota_row); of the kind priority the requests are had as critical ones. The ticket is the
-- caller's own name for the request, or one is made: asked again under it, after an answer that was lost, it is the same request, as long
-- as it waits or what it was granted is held. Takes the pool's row, never waits for a holder. One flushed commit.
CREATE OR REPLACE FUNCTION fleet.reserve_resource(
    incarnation uuid, resource_type text, resource_id text, worker_id text, priority text DEFAULT 'medium',
    duration_minutes double precision DEFAULT 30, units integer DEFAULT 1, wait_s double precision DEFAULT 0,
    kind text DEFAULT NULL, need double precision DEFAULT 1, ticket uuid DEFAULT NULL
) RETURNS jsonb
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET lock_timeout = '5s' AS $$
DECLARE
    asked fleet.reservation_queue;
    pool fleet.pools;
    real timestamptz;
    before record;
    room integer;
    answer jsonb;
BEGIN
    PERFORM fleet.require_read_committed();
    PERFORM fleet.require_incarnation(incarnation);
    asked.rank := fleet.priority_rank(priority);
    PERFORM fleet.require_resource(resource_type, resource_id, kind);
    PERFORM fleet.check_reservation(worker_id, duration_minutes, units, wait_s, need);
    IF resource_type = 'api_quota' THEN
        IF wait_s > 0 THEN
            PERFORM fleet.refuse('wait_s', wait_s::text, '0 for api_quota: the answer says when to ask again');
        END IF;
        RETURN fleet.reserve_api_quota(incarnation, worker_id, fleet.quota_row(split_part(resource_id, '@', 1), kind), units,
            CASE kind WHEN 'priority' THEN 'critical' ELSE priority END, fleet.quota_account(resource_id), duration_minutes, ticket);
    END IF;
    IF ticket IS NOT NULL THEN
        PERFORM fleet.hold_ticket(ticket);
        answer := fleet.poll_reservation(incarnation, ticket);
        IF (answer->>'granted')::boolean OR (answer->>'waits')::boolean THEN
            RETURN answer;
        END IF;
    END IF;
    pool := fleet.hold_pool(resource_type, resource_id, kind);  -- as it is after the poll, which may have freed units
    real := pool.measured_at;
    IF kind <> coalesce(pool.kind, '') THEN
        -- Whoever is gone keeps no pool from what it is asked for now.
        pool := fleet.end_overdue(pool, incarnation, true);
        pool := fleet.end_waits(pool, incarnation);
        pool := fleet.pool_as_kind(pool, kind);
    END IF;
    PERFORM fleet.require_fit(pool, units);
    asked.id := 9223372036854775807;  -- behind all that are there
    asked.ticket := coalesce(ticket, gen_random_uuid());
    asked.resource_type := resource_type;
    asked.resource_id := resource_id;
    asked.units := units;
    asked.need := need;
    asked.incarnation := incarnation;
    asked.worker_id := worker_id;
    asked.priority := priority;
    asked.duration_s := duration_minutes * 60;
    asked.waits := false;
    asked.asked_at := real;
    asked.place := real - make_interval(secs => asked.rank * pool.ageing_s);
    pool := fleet.end_overdue(pool, incarnation, pool.capacity - pool.reserved < asked.units);
    room := pool.capacity - pool.reserved;
    before := fleet.line_before(pool, asked, real);
    IF pool.strategy <> 'priority' THEN
        DELETE FROM fleet.reservation_queue q
        WHERE q.resource_type = asked.resource_type AND q.resource_id = asked.resource_id AND q.worker_id = asked.worker_id
          AND NOT q.waits;
    END IF;
    IF before.requests = 0 AND room >= asked.units THEN
        RETURN fleet.tell_reservation(fleet.grant_reservation(pool, asked));
    END IF;
    pool.conflicts := pool.conflicts + 1;
    asked.reckoned_s := fleet.reckon_wait(pool, asked.units, before.units, real);
    asked.estimated_s := asked.reckoned_s * pool.wait_factor;
    IF pool.hold_s IS NULL THEN
        asked.reckoned_s := NULL;  -- reckoned from leases: no measure of how well it is reckoned
    END IF;
    IF wait_s > 0 AND (SELECT count(*) FROM fleet.reservation_queue q WHERE q.resource_type = asked.resource_type
        AND q.resource_id = asked.resource_id AND q.waits AND q.poll_by > real) >= pool.queue_bound THEN
        pool.overflows := pool.overflows + 1;
        PERFORM fleet.keep_pool(pool);
        RETURN jsonb_build_object('granted', false, 'waits', false, 'reason', 'overflow', 'queue_bound', pool.queue_bound,
            'wake', fleet.next_for_room(pool));
    END IF;
    asked.waits := wait_s > 0;
    IF asked.waits OR pool.strategy <> 'priority' THEN
        -- Who asks without waiting counts among the claimants for two seconds: others leave it its share meanwhile.
        asked.poll_by := real + make_interval(secs => CASE WHEN asked.waits THEN 1 ELSE 2 END);
        asked.deadline_at := real + make_interval(secs => CASE WHEN asked.waits THEN reserve_resource.wait_s ELSE 2 END);
        INSERT INTO fleet.reservation_queue (ticket, resource_type, resource_id, units, need, incarnation, worker_id, priority, rank,
            duration_s, waits, asked_at, place, poll_by, deadline_at, reckoned_s, estimated_s)
        VALUES (asked.ticket, asked.resource_type, asked.resource_id, asked.units, asked.need, asked.incarnation, asked.worker_id, asked.priority,
            asked.rank, asked.duration_s, asked.waits, asked.asked_at, asked.place, asked.poll_by, asked.deadline_at,
            asked.reckoned_s, asked.estimated_s);
    END IF;
    PERFORM fleet.keep_pool(pool);
    RETURN jsonb_build_object('granted', false, 'waits', asked.waits,
        'reason', CASE WHEN asked.units > pool.capacity THEN 'above_capacity' WHEN asked.waits THEN 'waiting'
            WHEN room >= asked.units THEN 'others_wait' ELSE 'no_room' END,
        'ticket', CASE WHEN asked.waits THEN asked.ticket END, 'queue_position', before.requests + 1,
        'estimated_wait_minutes', round((asked.estimated_s / 60)::numeric, 6), 'wake', fleet.next_for_room(pool));
END $$;

-- Why a renewal or a release found nothing to change; counted on its pool. Takes the pool's row.
CREATE OR REPLACE FUNCTION fleet.note_late(incarnation uuid, reservation_id bigint) RETURNS jsonb
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    lost fleet.reservations;
BEGIN
    SELECT * INTO lost FROM fleet.reservations r WHERE r.id = note_late.reservation_id;
    IF NOT FOUND THEN
        RETURN jsonb_build_object('lost', true, 'why', 'unknown');
    END IF;
    UPDATE fleet.pools p SET late = p.late + 1 WHERE p.resource_type = lost.resource_type AND p.resource_id = lost.resource_id;
    RETURN jsonb_build_object('lost', true, 'why', CASE WHEN lost.incarnation <> note_late.incarnation THEN 'not_yours'
        ELSE coalesce(lost.end_reason, 'expired') END);
END $$;

-- Prolongs a reservation that is still one's own, from now on; else says why it is lost. One row by key, flushed.
CREATE OR REPLACE FUNCTION fleet.renew_reservation(incarnation uuid, reservation_id bigint, duration_minutes double precision DEFAULT 30)
RETURNS jsonb
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET lock_timeout = '5s' AS $$
DECLARE
    renewed fleet.reservations;
BEGIN
    PERFORM fleet.require_read_committed();
    PERFORM fleet.require_incarnation(incarnation);
    PERFORM fleet.check_reservation('-', duration_minutes, 1, 0, 1);
    PERFORM set_config('synchronous_commit', 'on', true);
    UPDATE fleet.reservations r SET lease_expires_at = clock_timestamp() + make_interval(secs => duration_minutes * 60)
    WHERE r.id = renew_reservation.reservation_id AND r.incarnation = renew_reservation.incarnation AND r.ended_at IS NULL
      AND r.lease_expires_at > clock_timestamp()
    RETURNING * INTO renewed;
    IF NOT FOUND THEN
        RETURN fleet.note_late(incarnation, reservation_id);
    END IF;
    RETURN jsonb_build_object('lost', false, 'lease_expires_at', renewed.lease_expires_at);
END $$;

-- Gives a reservation back; else says why there is nothing to give back. Takes the pool's row; flushed. Gives whom to wake.
CREATE OR REPLACE FUNCTION fleet.release_resource(incarnation uuid, reservation_id bigint) RETURNS jsonb
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET lock_timeout = '5s' AS $$
DECLARE
    held fleet.reservations;
    pool fleet.pools;
    held_s double precision;
    share double precision;
BEGIN
    PERFORM fleet.require_read_committed();
    PERFORM fleet.require_incarnation(incarnation);
    SELECT * INTO held FROM fleet.reservations r WHERE r.id = release_resource.reservation_id;
    IF NOT FOUND OR held.incarnation <> release_resource.incarnation OR held.ended_at IS NOT NULL THEN
        RETURN fleet.note_late(incarnation, reservation_id);
    END IF;
    IF held.resource_type = 'api_quota' THEN
        SELECT * INTO held FROM fleet.reservations r WHERE r.id = held.id AND r.ended_at IS NULL FOR UPDATE;
        IF NOT FOUND THEN
            RETURN fleet.note_late(incarnation, reservation_id);
        END IF;
        PERFORM fleet.end_quota(held, 'released');
        RETURN jsonb_build_object('lost', false, 'released', true);
    END IF;
    pool := fleet.hold_pool(held.resource_type, held.resource_id, NULL);
    UPDATE fleet.reservations r SET ended_at = pool.measured_at, end_reason = 'released' WHERE r.id = held.id AND r.ended_at IS NULL;
    IF NOT FOUND THEN
        RETURN fleet.note_late(incarnation, reservation_id);
    END IF;
    held_s := extract(epoch FROM pool.measured_at - held.reserved_at);
    -- The mean of all at first, of the last thirty or so later on.
    share := greatest(0.03, 1.0 / greatest(1, pool.granted - (SELECT count(*) FROM fleet.reservations r
        WHERE r.resource_type = pool.resource_type AND r.resource_id = pool.resource_id AND r.ended_at IS NULL)));
    pool.hold_s := coalesce(pool.hold_s * (1 - share) + held_s * share, held_s);
    pool.reserved := pool.reserved - held.units;
    PERFORM fleet.keep_pool(pool);
    RETURN jsonb_build_object('lost', false, 'released', true, 'wake', fleet.next_for_room(pool));
END $$;

-- Whether a worker's request for so many units would be granted now, else the place that it would get and its likely wait, null for more
-- than the pool has now; without a resource_id that of the type's pool, of the kind if one is named, that is soonest. A pool that nobody
-- made is as its first use would make it. FL001 for more than it can ever have. Locks nothing, promises nothing.
CREATE OR REPLACE FUNCTION fleet.check_availability(
    incarnation uuid, resource_type text, resource_id text DEFAULT NULL, priority text DEFAULT 'medium', units integer DEFAULT 1,
    worker_id text DEFAULT '-', kind text DEFAULT NULL, need double precision DEFAULT 1
) RETURNS jsonb
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    asked fleet.reservation_queue;
    pool fleet.pools;
    real timestamptz;
    before record;
    wait_s double precision;
    soonest_s double precision;
    soonest jsonb;
    largest fleet.pools;
BEGIN
    PERFORM fleet.require_incarnation(incarnation);
    PERFORM fleet.require_resource(resource_type, coalesce(resource_id, '-'), kind);
    PERFORM fleet.check_reservation(worker_id, 1, units, 0, need);
    asked.rank := fleet.priority_rank(priority);
    IF resource_type = 'api_quota' THEN
        RETURN fleet.check_quotas(incarnation, resource_id, kind, worker_id, asked.rank, units);
    END IF;
    asked.id := 9223372036854775807;
    asked.units := units;
    asked.need := need;
    asked.worker_id := worker_id;
    asked.waits := false;
    FOR pool IN SELECT * FROM fleet.pools p WHERE p.resource_type = check_availability.resource_type
        AND (p.resource_id = check_availability.resource_id OR check_availability.resource_id IS NULL
            AND (check_availability.kind IS NULL OR p.kind = check_availability.kind))
        ORDER BY p.is_standing DESC, p.resource_id LIMIT 1000
    LOOP
        real := clock_timestamp();
        IF kind <> coalesce(pool.kind, '') THEN
            pool.measured_at := real;
            pool.reserved := pool.reserved - fleet.lost_units(pool, incarnation, real);
            pool := fleet.pool_as_kind(pool, kind, fleet.lost_waiters(pool, incarnation));
        END IF;
        IF largest.resource_id IS NULL OR pool.max_capacity > largest.max_capacity THEN
            largest := pool;
        END IF;
        CONTINUE WHEN check_availability.units > pool.max_capacity AND pool.max_capacity > 0;
        asked.asked_at := real;
        asked.place := real - make_interval(secs => asked.rank * pool.ageing_s);
        before := fleet.line_before(pool, asked, real);
        IF before.requests = 0 AND (fleet.has_room(pool, asked.units, real)
            OR pool.capacity - pool.reserved + fleet.lost_units(pool, incarnation, real) >= asked.units) THEN
            RETURN jsonb_build_object('available', true, 'resource_id', pool.resource_id);
        END IF;
        wait_s := fleet.reckon_wait(pool, asked.units, before.units, real) * pool.wait_factor;
        IF soonest IS NULL OR wait_s < soonest_s THEN
            soonest_s := coalesce(wait_s, 'infinity');
            soonest := jsonb_build_object('available', false, 'resource_id', pool.resource_id,
                'queue_position', before.requests + 1, 'estimated_wait_minutes', round((wait_s / 60)::numeric, 6));
        END IF;
    END LOOP;
    IF soonest IS NULL THEN
        IF largest.resource_id IS NULL THEN
            largest := fleet.unmade_pool(resource_type, resource_id, kind);
        END IF;
        PERFORM fleet.require_fit(largest, units);
        RETURN jsonb_build_object('available', true, 'resource_id', resource_id);
    END IF;
    RETURN soonest;
END $$;
