-- Pools: shared things with a capacity, one row each, which is the mutex over the pool's reservations and queue. A thing for one
-- holder is a pool of one. The table itself refuses a use above capacity; what a shrinking capacity leaves over is let run out.

-- FL001 unless such a thing can be reserved. Locks nothing.
CREATE OR REPLACE FUNCTION fleet.require_resource(resource_type text, resource_id text, kind text) RETURNS void
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF NOT EXISTS (SELECT 1 FROM fleet.resource_kinds k WHERE k.resource_type = require_resource.resource_type) THEN
        PERFORM fleet.refuse('resource_type', require_resource.resource_type, 'one of '
            || (SELECT string_agg(DISTINCT k.resource_type, ', ' ORDER BY k.resource_type) FROM fleet.resource_kinds k));
    END IF;
    IF coalesce(length(resource_id), 0) NOT BETWEEN 1 AND 512 THEN
        PERFORM fleet.refuse('resource_id', resource_id, 'a text of 1 to 512 characters');
    END IF;
    IF kind IS NOT NULL AND NOT EXISTS (SELECT 1 FROM fleet.resource_kinds k
        WHERE k.resource_type = require_resource.resource_type AND k.kind = require_resource.kind) THEN
        PERFORM fleet.refuse('kind', require_resource.kind, 'no value, or one of '
            || (SELECT string_agg(k.kind, ', ' ORDER BY k.kind) FROM fleet.resource_kinds k
                WHERE k.resource_type = require_resource.resource_type));
    END IF;
END $$;

-- A pool as it would be made at first use: its kind's capacity; without a kind that of the type's only one, else one. Locks nothing.
CREATE OR REPLACE FUNCTION fleet.unmade_pool(resource_type text, resource_id text, kind text) RETURNS fleet.pools
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    made fleet.pools;
    known integer;
BEGIN
    SELECT count(*), min(k.kind), min(k.capacity) INTO known, made.kind, made.capacity FROM fleet.resource_kinds k
    WHERE k.resource_type = unmade_pool.resource_type AND (unmade_pool.kind IS NULL OR k.kind = unmade_pool.kind);
    IF known > 1 THEN
        made.kind := NULL;
        made.capacity := 1;
    END IF;
    made.resource_type := unmade_pool.resource_type;
    made.resource_id := unmade_pool.resource_id;
    made.min_capacity := made.capacity;
    made.max_capacity := made.capacity;
    made.reserved := 0;
    made.strategy := 'priority';
    made.ageing_s := 60;
    made.wait_factor := 1;
    made.escalate_after_s := 300;
    RETURN made;
END $$;

-- A pool as it is for who names a kind, or none: one that nobody configured and nobody uses takes the kind on; the caller has taken off
-- what is held by nobody any more, and names those in line who are gone. FL001 where it is of another kind. Locks nothing; reads whether
-- anybody waits.
CREATE OR REPLACE FUNCTION fleet.pool_as_kind(pool fleet.pools, kind text, gone uuid[] DEFAULT '{}') RETURNS fleet.pools
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    made fleet.pools;
BEGIN
    IF pool_as_kind.kind IS NULL OR pool_as_kind.kind IS NOT DISTINCT FROM pool.kind THEN
        RETURN pool;
    END IF;
    IF pool.is_standing OR pool.reserved > 0 OR EXISTS (SELECT 1 FROM fleet.reservation_queue q
        WHERE q.resource_type = pool.resource_type AND q.resource_id = pool.resource_id AND q.deadline_at > clock_timestamp()
          AND q.incarnation <> ALL (gone)) THEN
        PERFORM fleet.refuse('kind', pool_as_kind.kind, 'no value, or what the pool has: ' || coalesce(pool.kind, 'none'));
    END IF;
    made := fleet.unmade_pool(pool.resource_type, pool.resource_id, pool_as_kind.kind);
    pool.kind := made.kind;
    pool.capacity := made.capacity;
    pool.min_capacity := made.min_capacity;
    pool.max_capacity := made.max_capacity;
    RETURN pool;
END $$;

-- A pool with its measures of use brought up to a moment. Locks nothing.
CREATE OR REPLACE FUNCTION fleet.measure_pool(pool fleet.pools, moment timestamptz) RETURNS fleet.pools
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    elapsed_s double precision := greatest(0, extract(epoch FROM moment - pool.measured_at));
    fading double precision := exp(-least(elapsed_s / 300, 50));
BEGIN
    pool.reserved_unit_s := pool.reserved_unit_s + pool.reserved * elapsed_s;
    pool.capacity_unit_s := pool.capacity_unit_s + pool.capacity * elapsed_s;
    pool.recent_use := pool.recent_use * fading
        + least(1, pool.reserved::double precision / greatest(1, pool.capacity)) * (1 - fading);
    pool.measured_at := moment;
    RETURN pool;
END $$;

-- The alert of a pool. Locks nothing.
CREATE OR REPLACE FUNCTION fleet.pool_key(resource_type text, resource_id text) RETURNS text
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    RETURN 'pool:' || left(resource_type || ' ' || resource_id, 200);
END $$;

-- FL001 for more units than a pool can ever have; one that a person closed may be opened again as large as ever. Locks nothing.
CREATE OR REPLACE FUNCTION fleet.require_fit(pool fleet.pools, units integer) RETURNS void
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF require_fit.units > pool.max_capacity AND pool.max_capacity > 0 THEN
        PERFORM fleet.refuse('units', require_fit.units::text, format('at most what %s can have: %s',
            concat_ws(' ', pool.resource_type, pool.resource_id), pool.max_capacity));
    END IF;
END $$;

-- Takes the pool's row, made at first use as of this kind, and brings its measures up to the time read after the wait (`measured_at`).
CREATE OR REPLACE FUNCTION fleet.hold_pool(resource_type text, resource_id text, kind text) RETURNS fleet.pools
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    pool fleet.pools;
BEGIN
    -- Flushed whatever the server's default is: a crash that forgot a reservation would give its units out again.
    PERFORM set_config('synchronous_commit', 'on', true);
    LOOP
        SELECT * INTO pool FROM fleet.pools p
        WHERE p.resource_type = hold_pool.resource_type AND p.resource_id = hold_pool.resource_id FOR UPDATE;
        EXIT WHEN FOUND;
        pool := fleet.unmade_pool(resource_type, resource_id, kind);
        INSERT INTO fleet.pools (resource_type, resource_id, kind, capacity, min_capacity, max_capacity, is_standing)
        VALUES (pool.resource_type, pool.resource_id, pool.kind, pool.capacity, pool.capacity, pool.capacity, false)
        ON CONFLICT ON CONSTRAINT pools_pkey DO NOTHING;
    END LOOP;
    RETURN fleet.measure_pool(pool, clock_timestamp());
END $$;

-- Writes back what changed of a pool that is held. What is over a capacity that shrank only ever gets less here. One row by key.
CREATE OR REPLACE FUNCTION fleet.keep_pool(pool fleet.pools) RETURNS void
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    UPDATE fleet.pools p SET kind = pool.kind, capacity = pool.capacity, min_capacity = pool.min_capacity,
        max_capacity = pool.max_capacity, reserved = pool.reserved, overhang = least(pool.overhang, greatest(0, pool.reserved - pool.capacity)),
        strategy = pool.strategy, queue_bound = pool.queue_bound, ageing_s = pool.ageing_s,
        escalate_after_s = pool.escalate_after_s, alert_after_s = pool.alert_after_s, is_standing = pool.is_standing,
        load = pool.load, hold_s = pool.hold_s, wait_factor = pool.wait_factor, granted = pool.granted, conflicts = pool.conflicts,
        overflows = pool.overflows, time_outs = pool.time_outs, expired = pool.expired, recovered = pool.recovered,
        late = pool.late, escalated = pool.escalated, waits = pool.waits, wait_s = pool.wait_s,
        longest_wait_s = pool.longest_wait_s, reserved_unit_s = pool.reserved_unit_s, capacity_unit_s = pool.capacity_unit_s,
        recent_use = pool.recent_use, measured_at = pool.measured_at
    WHERE p.resource_type = pool.resource_type AND p.resource_id = pool.resource_id;
END $$;

-- A person makes or changes a pool; null leaves a value as it is. A capacity below what is reserved takes nothing from anybody:
-- no more is given until enough came back. Audited, flushed; takes the pool's row.
CREATE OR REPLACE FUNCTION fleet.configure_pool(
    resource_type text, resource_id text, actor text, reason text, capacity integer DEFAULT NULL, kind text DEFAULT NULL,
    min_capacity integer DEFAULT NULL, max_capacity integer DEFAULT NULL, strategy text DEFAULT NULL,
    queue_bound integer DEFAULT NULL, ageing_s double precision DEFAULT NULL, escalate_after_s double precision DEFAULT NULL,
    alert_after_s double precision DEFAULT NULL
) RETURNS jsonb
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET lock_timeout = '5s' AS $$
DECLARE
    pool fleet.pools;
    before jsonb;
    given record;
BEGIN
    PERFORM fleet.require_read_committed();
    PERFORM fleet.require_resource(resource_type, resource_id, kind);
    IF resource_type = 'api_quota' THEN
        PERFORM fleet.refuse('resource_type', resource_type, 'any but api_quota: its capacity is the rate limit itself');
    END IF;
    IF strategy NOT IN ('priority', 'equal', 'proportional') THEN
        PERFORM fleet.refuse('strategy', strategy, 'priority, equal or proportional');
    END IF;
    IF queue_bound NOT BETWEEN 0 AND 10000 THEN
        PERFORM fleet.refuse('queue_bound', queue_bound::text, 'a whole number from 0 to 10000');
    END IF;
    FOR given IN SELECT * FROM (VALUES ('capacity', configure_pool.capacity, 0), ('min_capacity', configure_pool.min_capacity, 0),
        ('max_capacity', configure_pool.max_capacity, 1)) v (name, value, lowest)
    LOOP
        IF NOT coalesce(given.value BETWEEN given.lowest AND 1000000, true) THEN
            PERFORM fleet.refuse(given.name, given.value::text, 'a whole number from ' || given.lowest || ' to 1000000');
        END IF;
    END LOOP;
    FOR given IN SELECT * FROM (VALUES ('ageing_s', configure_pool.ageing_s, 86400),
        ('escalate_after_s', configure_pool.escalate_after_s, 604800),
        ('alert_after_s', configure_pool.alert_after_s, 604800)) v (name, value, highest)
    LOOP
        IF NOT coalesce(given.value >= 0.001 AND given.value <= given.highest, true) THEN
            PERFORM fleet.refuse(given.name, given.value::text, 'from 0.001 to ' || given.highest || ' seconds');
        END IF;
    END LOOP;
    IF configure_pool.min_capacity > configure_pool.max_capacity THEN
        PERFORM fleet.refuse('min_capacity', configure_pool.min_capacity::text, 'at most max_capacity');
    END IF;
    -- One that is new has its kind's capacity; one that there is keeps its own.
    pool := fleet.hold_pool(resource_type, resource_id, kind);
    before := fleet.describe_pool(pool);
    pool.is_standing := true;
    pool.kind := coalesce(configure_pool.kind, pool.kind);
    pool.strategy := coalesce(configure_pool.strategy, pool.strategy);
    pool.queue_bound := coalesce(configure_pool.queue_bound, pool.queue_bound);
    pool.ageing_s := coalesce(configure_pool.ageing_s, pool.ageing_s);
    pool.escalate_after_s := coalesce(configure_pool.escalate_after_s, pool.escalate_after_s);
    pool.alert_after_s := coalesce(configure_pool.alert_after_s, pool.alert_after_s);
    -- A capacity that a person sets is the most there is, from which load takes away; the least follows it down.
    pool.capacity := coalesce(configure_pool.capacity,
        greatest(coalesce(configure_pool.min_capacity, pool.min_capacity),
            least(coalesce(configure_pool.max_capacity, pool.max_capacity), pool.capacity)));
    pool.min_capacity := least(coalesce(configure_pool.min_capacity,
        CASE WHEN pool.min_capacity = pool.max_capacity THEN pool.capacity ELSE pool.min_capacity END), pool.capacity);
    pool.max_capacity := greatest(coalesce(configure_pool.max_capacity, configure_pool.capacity, pool.max_capacity), pool.capacity);
    pool.overhang := greatest(0, pool.reserved - pool.capacity);
    PERFORM fleet.keep_pool(pool);
    -- Those that wait already stand where they would if it had always been so.
    UPDATE fleet.reservation_queue q SET place = q.asked_at - make_interval(secs => q.rank * pool.ageing_s)
    WHERE q.resource_type = pool.resource_type AND q.resource_id = pool.resource_id
      AND pool.ageing_s IS DISTINCT FROM (before->>'ageing_s')::double precision;
    PERFORM fleet.write_audit(actor, 'configure_pool', pool.resource_type || ' ' || pool.resource_id, configure_pool.reason,
        jsonb_build_object('before', before, 'after', fleet.describe_pool(pool)));
    RETURN fleet.describe_pool(pool) || jsonb_build_object('wake', fleet.next_for_room(pool));
END $$;

-- What of a pool a person sets. Locks nothing.
CREATE OR REPLACE FUNCTION fleet.describe_pool(pool fleet.pools) RETURNS jsonb
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    RETURN jsonb_build_object('resource_type', pool.resource_type, 'resource_id', pool.resource_id, 'kind', pool.kind,
        'total_capacity', pool.capacity, 'min_capacity', pool.min_capacity, 'max_capacity', pool.max_capacity,
        'strategy', pool.strategy, 'queue_bound', pool.queue_bound, 'ageing_s', pool.ageing_s,
        'escalate_after_s', pool.escalate_after_s, 'alert_after_s', pool.alert_after_s);
END $$;

-- A system worker says how loaded the thing is (0 idle, 1 full): up to a half the capacity is max_capacity, from 0.95 on
-- min_capacity, between them in proportion. Nobody loses what they hold. Takes the pool's row; flushed.
CREATE OR REPLACE FUNCTION fleet.adjust_capacity(incarnation uuid, resource_type text, resource_id text, load double precision)
RETURNS jsonb
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET lock_timeout = '5s' AS $$
DECLARE
    life fleet.incarnations;
    pool fleet.pools;
    before integer;
    relief double precision;
BEGIN
    PERFORM fleet.require_read_committed();
    life := fleet.require_incarnation(incarnation);
    PERFORM fleet.require_resource(resource_type, resource_id, NULL);
    IF adjust_capacity.load IS NULL OR NOT (adjust_capacity.load >= 0 AND adjust_capacity.load <= 1000) THEN
        PERFORM fleet.refuse('load', adjust_capacity.load::text, 'from 0 (idle) over 1 (full) to 1000');
    END IF;
    IF NOT EXISTS (SELECT 1 FROM fleet.pools p WHERE p.resource_type = adjust_capacity.resource_type
        AND p.resource_id = adjust_capacity.resource_id) THEN
        PERFORM fleet.refuse('resource_id', adjust_capacity.resource_id, 'the id of a pool');
    END IF;
    pool := fleet.hold_pool(resource_type, resource_id, NULL);
    before := pool.capacity;
    relief := greatest(0, least(1, (0.95 - adjust_capacity.load) / 0.45));
    pool.load := adjust_capacity.load;
    pool.capacity := pool.min_capacity + round((pool.max_capacity - pool.min_capacity) * relief)::integer;
    pool.overhang := greatest(0, pool.reserved - pool.capacity);
    PERFORM fleet.keep_pool(pool);
    IF pool.capacity <> before THEN
        PERFORM fleet.emit('info', 'capacity', life.worker || '/' || life.slot, format('the capacity of %s %s is %s, it was %s: load %s',
            pool.resource_type, pool.resource_id, pool.capacity, before, round(adjust_capacity.load::numeric, 2)));
    END IF;
    RETURN jsonb_build_object('capacity', pool.capacity, 'before', before, 'reserved', pool.reserved,
        'wake', fleet.next_for_room(pool));
END $$;

-- Every pool, or those of a type, or one: capacity, use, queue, waits and what went wrong; the rate limiter's pools too; where
-- `standing`, without those that were made at first use. Locks nothing; reads each pool's
-- queue and its last waits.
CREATE OR REPLACE FUNCTION fleet.get_pool_status(
    incarnation uuid, resource_type text DEFAULT NULL, resource_id text DEFAULT NULL, standing boolean DEFAULT false
) RETURNS jsonb
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    real timestamptz := clock_timestamp();
BEGIN
    RETURN coalesce((
        SELECT jsonb_agg(fleet.describe_pool(p) || jsonb_build_object(
            'available_capacity', greatest(0, p.capacity - p.reserved), 'reserved_capacity', p.reserved,
            'waiting_queue', q.depth, 'oldest_wait_s', q.oldest_s, 'load', p.load,
            'is_standing', p.is_standing, 'utilization_percent', round(100.0 * p.reserved / greatest(1, p.capacity), 1),
            'recent_utilization_percent', round((100 * p.recent_use)::numeric, 1),
            'mean_utilization_percent', CASE WHEN p.capacity_unit_s > 0
                THEN round((100 * p.reserved_unit_s / p.capacity_unit_s)::numeric, 1) END,
            'health', CASE WHEN p.reserved < 0.8 * p.capacity THEN 'healthy' WHEN p.reserved < 0.95 * p.capacity THEN 'warning'
                ELSE 'critical' END,
            'granted', p.granted, 'conflicts', p.conflicts, 'overflows', p.overflows, 'time_outs', p.time_outs,
            'expired', p.expired, 'recovered', p.recovered, 'late', p.late, 'escalated', p.escalated,
            'availability', CASE WHEN p.granted + p.conflicts > 0 THEN round(1 - least(1, p.conflicts::numeric
                / (p.granted + p.conflicts)), 4) END,
            'waits', p.waits, 'wait_s', p.wait_s, 'longest_wait_s', p.longest_wait_s, 'hold_s', p.hold_s,
            'wait_factor', p.wait_factor, 'estimate_error_p90', e.p90)
            ORDER BY p.resource_type, p.resource_id)
        FROM fleet.pools stored, LATERAL fleet.measure_pool(stored, real) p,
            LATERAL (SELECT count(*) AS depth, extract(epoch FROM real - min(w.asked_at)) AS oldest_s FROM fleet.reservation_queue w
                WHERE w.resource_type = p.resource_type AND w.resource_id = p.resource_id AND w.waits AND w.deadline_at > real) q,
            LATERAL (SELECT percentile_cont(0.9) WITHIN GROUP (ORDER BY abs(l.estimated_s - l.waited_s) / l.waited_s) AS p90
                FROM (SELECT r.estimated_s, r.waited_s FROM fleet.reservations r
                    WHERE r.resource_type = p.resource_type AND r.resource_id = p.resource_id AND r.estimated_s IS NOT NULL
                      AND r.waited_s > 0 ORDER BY r.id DESC LIMIT 200) l) e
        WHERE (stored.is_standing OR NOT get_pool_status.standing)
          AND (get_pool_status.resource_type IS NULL OR stored.resource_type = get_pool_status.resource_type)
          AND (get_pool_status.resource_id IS NULL OR stored.resource_id = get_pool_status.resource_id)), '[]')
        || CASE WHEN coalesce(resource_type, 'api_quota') = 'api_quota' THEN fleet.describe_api_pools(incarnation, resource_id)
            ELSE '[]' END;
END $$;
