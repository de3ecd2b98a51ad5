-- Heartbeats: what the work loop has done, told by a thread that has its own connection.

-- One upsert, not flushed. Gives back the versions whose change means: read settings and flags again.
CREATE OR REPLACE FUNCTION fleet.beat(
    incarnation uuid, state text, reason text, step text, progress bigint, healthy boolean, health jsonb, memory_bytes bigint
) RETURNS jsonb
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    life fleet.incarnations;
    real timestamptz := clock_timestamp();
BEGIN
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
    RETURN jsonb_build_object('configuration_version',
        greatest((SELECT max(version) FROM fleet.settings), (SELECT max(version) FROM fleet.flags), 0));
END $$;
