-- Schedules: slots on a fixed grid of fleet time, each fired once across all processes.

-- Fires the current slot if nobody has; slots missed before it are counted as skipped, not made up. Locks the schedule's row.
-- The first call ever fires at once. wait_s is real seconds until the next slot at the clock's present rate.
CREATE OR REPLACE FUNCTION fleet.fire_slot(incarnation uuid, name text, interval_s double precision, stagger_s double precision)
RETURNS jsonb
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET lock_timeout = '5s' AS $$
DECLARE
    schedule fleet.schedules;
    at timestamptz;
    slot timestamptz;
    next_slot timestamptz;
    missed bigint := 0;
    fired boolean := false;
    rate double precision := coalesce((SELECT c.rate FROM fleet.clock c), 1);
BEGIN
    PERFORM fleet.require_read_committed();
    PERFORM fleet.require_incarnation(incarnation);
    IF coalesce(length(fire_slot.name), 0) NOT BETWEEN 1 AND 200 THEN
        PERFORM fleet.refuse('name', fire_slot.name, 'a text of 1 to 200 characters');
    END IF;
    IF fire_slot.interval_s IS NULL OR NOT (fire_slot.interval_s >= 1 AND fire_slot.interval_s <= 31622400) THEN
        PERFORM fleet.refuse('interval_s', fire_slot.interval_s::text, 'from 1 second to 366 days');
    END IF;
    IF stagger_s IS NULL OR NOT (stagger_s >= 0 AND stagger_s <= fire_slot.interval_s) THEN
        PERFORM fleet.refuse('stagger_s', stagger_s::text, 'from 0 to the interval');
    END IF;
    INSERT INTO fleet.schedules (name, interval_s) VALUES (fire_slot.name, fire_slot.interval_s)
    ON CONFLICT ON CONSTRAINT schedules_pkey DO NOTHING;
    SELECT * INTO schedule FROM fleet.schedules s WHERE s.name = fire_slot.name FOR UPDATE;
    at := fleet.now();
    slot := to_timestamp(floor((extract(epoch FROM at)::double precision - stagger_s) / fire_slot.interval_s)
        * fire_slot.interval_s + stagger_s);
    next_slot := slot + make_interval(secs => fire_slot.interval_s);
    IF schedule.last_slot_at IS NULL OR slot > schedule.last_slot_at THEN
        fired := true;
        IF schedule.last_slot_at IS NOT NULL AND schedule.interval_s = fire_slot.interval_s THEN
            missed := greatest(0, round(extract(epoch FROM slot - schedule.last_slot_at) / fire_slot.interval_s) - 1);
        END IF;
        INSERT INTO fleet.schedule_slots (schedule, slot_at, incarnation, fired_at, skipped_before)
        VALUES (fire_slot.name, slot, fire_slot.incarnation, at, missed);
        UPDATE fleet.schedules s SET last_slot_at = slot, interval_s = fire_slot.interval_s, fired = s.fired + 1,
            skipped = s.skipped + missed
        WHERE s.name = fire_slot.name;
        DELETE FROM fleet.schedule_slots o WHERE o.schedule = fire_slot.name AND o.slot_at < at - interval '30 days';
    END IF;
    RETURN jsonb_build_object('fired', fired, 'slot_at', slot, 'skipped', missed, 'next_at', next_slot,
        'wait_s', greatest(0, extract(epoch FROM next_slot - at)) / rate);
END $$;
