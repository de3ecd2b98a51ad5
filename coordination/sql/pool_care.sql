-- The care for pools: what holders that died or outstayed their lease leave behind, and waiters that never come back. Whoever asks for
-- room looks after one pool, the coordinator after all.

-- Frees the units of those that outstayed their lease and, where asked, of those whose process lost its session lock, the caller's
-- own apart. The caller holds the pool; gives it changed, and not yet written back.
CREATE OR REPLACE FUNCTION fleet.end_overdue(pool fleet.pools, me uuid, also_suspects boolean) RETURNS fleet.pools
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    real timestamptz := pool.measured_at;
    holder uuid;
    freed record;
BEGIN
    IF pool.reserved = 0 THEN
        RETURN pool;
    END IF;
    WITH ended AS (
        UPDATE fleet.reservations r SET ended_at = real, end_reason = 'expired'
        WHERE r.resource_type = pool.resource_type AND r.resource_id = pool.resource_id AND r.ended_at IS NULL
          AND r.lease_expires_at <= real
        RETURNING r.units
    )
    SELECT count(*) AS number, coalesce(sum(e.units), 0) AS units INTO freed FROM ended e;
    pool.reserved := pool.reserved - freed.units;
    pool.expired := pool.expired + freed.number;
    IF also_suspects THEN
        FOR holder IN
            SELECT DISTINCT r.incarnation FROM fleet.reservations r
            WHERE r.resource_type = pool.resource_type AND r.resource_id = pool.resource_id AND r.ended_at IS NULL
              AND r.incarnation <> me
        LOOP
            CONTINUE WHEN NOT fleet.is_suspected(holder);
            WITH ended AS (
                UPDATE fleet.reservations r SET ended_at = real, end_reason = 'holder_died'
                WHERE r.resource_type = pool.resource_type AND r.resource_id = pool.resource_id AND r.ended_at IS NULL
                  AND r.incarnation = holder
                RETURNING r.units
            )
            SELECT count(*) AS number, coalesce(sum(e.units), 0) AS units INTO freed FROM ended e;
            pool.reserved := pool.reserved - freed.units;
            pool.recovered := pool.recovered + freed.number;
        END LOOP;
    END IF;
    RETURN pool;
END $$;

-- Whether any holder but the caller lost its session lock. Each lock is tried in a statement of its own.
CREATE OR REPLACE FUNCTION fleet.has_suspects(pool fleet.pools, me uuid) RETURNS boolean
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    holder uuid;
BEGIN
    FOR holder IN SELECT DISTINCT r.incarnation FROM fleet.reservations r WHERE r.resource_type = pool.resource_type
        AND r.resource_id = pool.resource_id AND r.ended_at IS NULL AND r.incarnation <> me
    LOOP
        IF fleet.is_suspected(holder) THEN
            RETURN true;
        END IF;
    END LOOP;
    RETURN false;
END $$;

-- The units of a pool that would come free to who asks: of leases that are over, and of holders, the caller apart, that lost their
-- session lock. Each lock is tried in a statement of its own.
CREATE OR REPLACE FUNCTION fleet.lost_units(pool fleet.pools, me uuid, moment timestamptz) RETURNS bigint
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    held record;
    lost bigint := 0;
BEGIN
    FOR held IN
        SELECT r.incarnation, sum(r.units) AS units, sum(r.units) FILTER (WHERE r.lease_expires_at <= moment) AS overdue
        FROM fleet.reservations r
        WHERE r.resource_type = pool.resource_type AND r.resource_id = pool.resource_id AND r.ended_at IS NULL GROUP BY r.incarnation
    LOOP
        lost := lost + coalesce(held.overdue, 0);
        IF held.incarnation <> me AND fleet.is_suspected(held.incarnation) THEN
            lost := lost + held.units - coalesce(held.overdue, 0);
        END IF;
    END LOOP;
    RETURN lost;
END $$;

-- The processes of those silent in a pool's line that lost their session lock, the caller's own apart: they never come back. Each lock is
-- tried in a statement of its own.
CREATE OR REPLACE FUNCTION fleet.lost_waiters(pool fleet.pools, me uuid) RETURNS uuid[]
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    waiter uuid;
    lost uuid[] := '{}';
BEGIN
    FOR waiter IN SELECT DISTINCT q.incarnation FROM fleet.reservation_queue q WHERE q.resource_type = pool.resource_type
        AND q.resource_id = pool.resource_id AND q.poll_by <= pool.measured_at AND q.incarnation <> me
    LOOP
        IF fleet.is_suspected(waiter) THEN
            lost := lost || waiter;
        END IF;
    END LOOP;
    RETURN lost;
END $$;

-- Takes those out of the line whose time is over, and those that never come back. The caller holds the pool; gives it changed, and not
-- yet written back.
CREATE OR REPLACE FUNCTION fleet.end_waits(pool fleet.pools, me uuid) RETURNS fleet.pools
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    lost uuid[] := fleet.lost_waiters(pool, me);
    ended bigint;
BEGIN
    WITH gone AS (
        DELETE FROM fleet.reservation_queue q WHERE q.resource_type = pool.resource_type AND q.resource_id = pool.resource_id
          AND (q.deadline_at <= pool.measured_at OR q.incarnation = ANY (lost))
        RETURNING q.waits
    )
    SELECT count(*) FILTER (WHERE g.waits) INTO ended FROM gone g;
    pool.time_outs := pool.time_outs + ended;
    RETURN pool;
END $$;

-- The coordinator's care: holders that outstayed or died, waiters whose time is over or who died, those that wait long, in up to n pools,
-- each under its row, in the order of their names, passing over those in use; the alerts of waits that are over, quotas that nobody holds
-- any more, and every pool that nobody used for ten minutes. Takes no row of a pool where nothing is to be done. Gives what was done, whom
-- to wake, and as `last` the pool after which the next call, another transaction, goes on; null where there is none.
CREATE OR REPLACE FUNCTION fleet.tidy_pools(
    incarnation uuid, n integer DEFAULT 20, after_type text DEFAULT NULL, after_id text DEFAULT NULL
) RETURNS jsonb
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET lock_timeout = '5s' AS $$
DECLARE
    seen fleet.pools;
    pool fleet.pools;
    asked fleet.reservation_queue;
    real timestamptz;
    owner uuid;
    lost uuid[] := '{}';
    was_escalated boolean;
    done_expired bigint := 0;
    done_recovered bigint := 0;
    done_time_outs bigint := 0;
    done_escalated bigint := 0;
    dropped integer;
    looked_at integer := 0;
    last jsonb;
    woken jsonb := '[]';
BEGIN
    PERFORM fleet.require_read_committed();
    PERFORM fleet.require_incarnation(incarnation);
    PERFORM fleet.require_batch(n);
    WITH old AS MATERIALIZED (
        SELECT p.ctid FROM fleet.pools p
        WHERE NOT p.is_standing AND p.reserved = 0 AND p.measured_at < clock_timestamp() - interval '10 minutes'
          AND NOT EXISTS (SELECT 1 FROM fleet.reservation_queue q
              WHERE q.resource_type = p.resource_type AND q.resource_id = p.resource_id)
        FOR UPDATE SKIP LOCKED)
    DELETE FROM fleet.pools p USING old WHERE p.ctid = old.ctid;
    GET DIAGNOSTICS dropped = ROW_COUNT;
    FOR owner IN
        SELECT r.incarnation FROM fleet.reservations r WHERE r.ended_at IS NULL AND r.resource_type <> 'api_quota'
        UNION SELECT q.incarnation FROM fleet.reservation_queue q WHERE q.poll_by <= clock_timestamp()
    LOOP
        CONTINUE WHEN owner = tidy_pools.incarnation;
        IF fleet.is_suspected(owner) THEN
            lost := lost || owner;
        END IF;
    END LOOP;
    real := clock_timestamp();
    FOR seen IN
        SELECT * FROM fleet.pools p WHERE (after_type IS NULL OR (p.resource_type, p.resource_id) > (after_type, after_id))
        AND (EXISTS (SELECT 1 FROM fleet.reservations r
            WHERE r.resource_type = p.resource_type AND r.resource_id = p.resource_id AND r.ended_at IS NULL
              AND (r.lease_expires_at <= real OR r.incarnation = ANY (lost)))
        OR EXISTS (SELECT 1 FROM fleet.reservation_queue q
            WHERE q.resource_type = p.resource_type AND q.resource_id = p.resource_id
              AND (q.deadline_at <= real OR q.incarnation = ANY (lost) OR q.waits AND q.poll_by > real
                  AND (q.escalated_at IS NULL AND q.asked_at <= real - make_interval(secs => p.escalate_after_s)
                    OR q.alerted_at IS NULL AND q.asked_at <= real - make_interval(secs => p.alert_after_s)))))
        ORDER BY p.resource_type, p.resource_id LIMIT n
    LOOP
        looked_at := looked_at + 1;
        last := CASE WHEN looked_at = n THEN jsonb_build_array(seen.resource_type, seen.resource_id) END;
        PERFORM 1 FROM fleet.pools p
        WHERE p.resource_type = seen.resource_type AND p.resource_id = seen.resource_id FOR UPDATE SKIP LOCKED;
        CONTINUE WHEN NOT FOUND;
        pool := fleet.hold_pool(seen.resource_type, seen.resource_id, NULL);
        real := pool.measured_at;
        seen := pool;
        pool := fleet.end_overdue(pool, tidy_pools.incarnation, true);
        pool := fleet.end_waits(pool, tidy_pools.incarnation);
        FOR asked IN SELECT * FROM fleet.reservation_queue q WHERE q.resource_type = pool.resource_type
            AND q.resource_id = pool.resource_id AND q.waits AND q.poll_by > real AND (q.escalated_at IS NULL OR q.alerted_at IS NULL)
            AND q.asked_at <= real - make_interval(secs => least(pool.escalate_after_s, pool.alert_after_s))
            ORDER BY q.place, q.id FOR UPDATE
        LOOP
            was_escalated := asked.escalated_at IS NOT NULL;
            asked := fleet.escalate_waiter(tidy_pools.incarnation, pool, asked);
            IF NOT was_escalated AND asked.escalated_at IS NOT NULL THEN
                pool.escalated := pool.escalated + 1;
            END IF;
        END LOOP;
        done_expired := done_expired + pool.expired - seen.expired;
        done_recovered := done_recovered + pool.recovered - seen.recovered;
        done_time_outs := done_time_outs + pool.time_outs - seen.time_outs;
        done_escalated := done_escalated + pool.escalated - seen.escalated;
        woken := woken || fleet.next_for_room(pool);
        PERFORM fleet.keep_pool(pool);
    END LOOP;
    PERFORM fleet.clear_alert(a.key) FROM fleet.alerts a WHERE a.kind = 'long_wait' AND starts_with(a.key, 'pool:') AND a.cleared_at IS NULL
      AND NOT EXISTS (SELECT 1 FROM fleet.reservation_queue q
          WHERE q.alerted_at IS NOT NULL AND a.key = fleet.pool_key(q.resource_type, q.resource_id));
    RETURN jsonb_build_object('quotas', fleet.end_lost_quotas(NULL, NULL, tidy_pools.incarnation), 'expired', done_expired,
        'recovered', done_recovered, 'time_outs', done_time_outs, 'escalated', done_escalated, 'dropped', dropped, 'last', last, 'wake', woken);
END $$;
