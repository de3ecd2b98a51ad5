-- Heartbeats: what the work loop has done, told by a thread that has its own connection.

-- Real seconds until a message for the caller's worker is due; null while none waits. One that somebody holds is due when its
-- lease ends, or at once when its holder lost its session. Reads the worker's open messages by index; locks no row.
CREATE OR REPLACE FUNCTION fleet.mail_due_in_s(life fleet.incarnations) RETURNS double precision
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    at timestamptz := fleet.now();
    due_s double precision;
    held record;
BEGIN
    -- A backlog has its first due message near the index's head: only what waits for later is looked through.
    IF EXISTS (SELECT 1 FROM fleet.messages m WHERE m.routed_to = life.worker AND m.state = 'waiting'
        AND m.due_at <= at AND m.expires_at > at) THEN
        RETURN 0;
    END IF;
    due_s := (SELECT extract(epoch FROM min(m.due_at) - at) FROM fleet.messages m
        WHERE m.routed_to = life.worker AND m.state = 'waiting' AND m.expires_at > m.due_at AND m.expires_at > at)
        / coalesce((SELECT c.rate FROM fleet.clock c), 1);
    FOR held IN
        SELECT m.incarnation AS holder, min(m.lease_expires_at) AS until FROM fleet.messages m
        WHERE m.routed_to = life.worker AND m.state = 'claimed'
        GROUP BY m.incarnation ORDER BY m.incarnation
    LOOP
        IF held.holder <> life.id AND fleet.is_suspected(held.holder) THEN
            RETURN 0;
        END IF;
        due_s := least(due_s, extract(epoch FROM held.until - clock_timestamp()));  -- least() passes over a null
    END LOOP;
    RETURN CASE WHEN due_s IS NOT NULL THEN greatest(0, due_s) END;
END $$;

-- One upsert, not flushed. Gives back all that an idle worker must know: whether it may work, whether messages wait, which course
-- the fleet clock is on, the version of settings and flags, and the worker's settings where that is not the version it knows.
CREATE OR REPLACE FUNCTION fleet.beat(
    incarnation uuid, state text, reason text, step text, progress bigint, healthy boolean, health jsonb, memory_bytes bigint,
    known_version bigint DEFAULT NULL
) RETURNS jsonb
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET lock_timeout = '5s' AS $$
DECLARE
    life fleet.incarnations;
    real timestamptz := clock_timestamp();
    latest bigint;
BEGIN
    PERFORM fleet.require_read_committed();
    PERFORM set_config('synchronous_commit', 'off', true);
    life := fleet.require_incarnation(incarnation);
    IF beat.state IS NULL OR beat.state NOT IN ('STARTING', 'READY', 'BUSY', 'PAUSED', 'DRAINING') THEN
        PERFORM fleet.refuse('state', beat.state, 'STARTING, READY, BUSY, PAUSED or DRAINING');
    END IF;
    INSERT INTO fleet.heartbeats AS h
        (incarnation, worker, slot, state, reason, step, progress, progressed_at, beat_at, healthy, health, memory_bytes)
    VALUES (life.id, life.worker, life.slot, beat.state, left(beat.reason, 500), beat.step, beat.progress, real, real,
        beat.healthy, beat.health, beat.memory_bytes)
    ON CONFLICT ON CONSTRAINT heartbeats_pkey DO UPDATE SET
        state = excluded.state, reason = excluded.reason, step = excluded.step, progress = excluded.progress,
        progressed_at = CASE WHEN h.progress = excluded.progress THEN h.progressed_at ELSE excluded.progressed_at END,
        beat_at = excluded.beat_at, healthy = excluded.healthy, health = excluded.health,
        memory_bytes = excluded.memory_bytes;
    latest := fleet.configuration_version();
    RETURN jsonb_build_object(
        'version', latest,
        'settings', CASE WHEN known_version IS DISTINCT FROM latest THEN fleet.get_settings(life.worker || '_') END,
        'enabled', fleet.flag_enabled(life.worker || '_enabled'),
        'paused', coalesce(
            (SELECT coalesce(w.paused_reason, 'paused') FROM fleet.workers w WHERE w.name = life.worker AND w.paused),
            (SELECT coalesce(s.paused_reason, 'paused') FROM fleet.slots s
                WHERE s.worker = life.worker AND s.slot = life.slot AND s.paused)),
        'mail_in_s', fleet.mail_due_in_s(life),
        'clock', coalesce((SELECT c::text FROM fleet.clock c), ''));
END $$;
