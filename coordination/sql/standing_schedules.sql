-- Schedules that stand still: told to a person, and removed where no program has them any more.

-- Raises an alert for each schedule that should have fired ten real minutes, and an interval, ago and did not; one whose worker a
-- person stopped or paused is none. Gives how many are new. Whoever fires one looks at the others: no process alone keeps this up.
-- Takes their rows, and passes over what others hold.
CREATE OR REPLACE FUNCTION fleet.tell_standing_schedules(but text DEFAULT NULL) RETURNS integer
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    allowed_s constant double precision := 600;
    at timestamptz;
    rate double precision := coalesce((SELECT c.rate FROM fleet.clock c), 1);
    standing fleet.schedules;
    told integer := 0;
BEGIN
    at := fleet.now();
    FOR standing IN
        SELECT s.* FROM fleet.schedules s
        WHERE s.next_slot_at < at - make_interval(secs => allowed_s * rate)
          AND s.next_slot_at < at - make_interval(secs => coalesce(s.interval_s, 0))
          AND s.told_at IS NULL AND NOT s.paused AND s.name IS DISTINCT FROM but
          AND NOT EXISTS (SELECT 1 FROM fleet.workers w WHERE w.name = s.worker AND (NOT w.enabled OR w.paused OR w.replicas = 0))
          AND NOT EXISTS (SELECT 1 FROM fleet.flags f WHERE f.name = s.worker || '_enabled' AND NOT f.enabled)
        ORDER BY s.name LIMIT 20 FOR UPDATE SKIP LOCKED
    LOOP
        UPDATE fleet.schedules s SET told_at = clock_timestamp() WHERE s.name = standing.name;
        PERFORM fleet.raise_alert('schedule:' || standing.name, 'error', 'schedule_stopped', coalesce(standing.worker, standing.name),
            format('schedule %s stands still: its slot of %s was not fired (it goes by %s)', standing.name, standing.next_slot_at,
                fleet.tell_line(standing)), jsonb_build_object('schedule', standing.name, 'slot_at', standing.next_slot_at));
        told := told + 1;
    END LOOP;
    RETURN told;
END $$;

-- Removes schedules that stand still because no program has them any more, with their slots and alerts, and tells each by an event: told
-- of three real days ago while a life of their worker, which decided a later slot of another schedule an hour ago, has not asked for them
-- since, or thirty days ago. That a life beats is no sign: one whose first run fails asks for none. Who asks for one again registers it
-- anew. Gives how many. Takes their rows, and passes over what others hold.
CREATE OR REPLACE FUNCTION fleet.retire_schedules() RETURNS integer
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    real timestamptz;
    since timestamptz;
    gone fleet.schedules;
    retired integer := 0;
BEGIN
    real := clock_timestamp();
    since := fleet.now() - make_interval(secs => 3600 * coalesce((SELECT c.rate FROM fleet.clock c), 1));
    FOR gone IN
        SELECT s.* FROM fleet.schedules s
        WHERE NOT s.paused AND (s.told_at < real - interval '30 days' OR (s.told_at < real - interval '3 days' AND EXISTS (
            SELECT 1 FROM fleet.schedules other JOIN fleet.schedule_slots o ON o.schedule = other.name
            JOIN fleet.incarnations i ON i.id = o.incarnation JOIN fleet.heartbeats h ON h.incarnation = i.id
            WHERE other.worker = s.worker AND other.name <> s.name AND o.slot_at > s.next_slot_at AND o.fired_at < since
              AND i.worker = s.worker AND i.ended_at IS NULL AND h.state = 'READY' AND h.beat_at > real - interval '1 minute')))
        ORDER BY s.name LIMIT 20 FOR UPDATE SKIP LOCKED
    LOOP
        DELETE FROM fleet.schedule_slots o WHERE o.schedule = gone.name;
        DELETE FROM fleet.schedules s WHERE s.name = gone.name;
        PERFORM fleet.clear_alert('schedule:' || gone.name);
        PERFORM fleet.emit('warning', 'schedule_retired', coalesce(gone.worker, gone.name),
            format('schedule %s is removed: nobody asks for it any more (it went by %s, last at %s)', gone.name, fleet.tell_line(gone),
                gone.last_slot_at), jsonb_build_object('schedule', gone.name));
        retired := retired + 1;
    END LOOP;
    RETURN retired;
END $$;

-- The same for who fires none, and the end of those that nobody has any more: gives how many are newly found to stand still. Reads one
-- index.
CREATE OR REPLACE FUNCTION fleet.check_schedules(incarnation uuid) RETURNS integer
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET lock_timeout = '5s' AS $$
BEGIN
    PERFORM fleet.require_read_committed();
    PERFORM fleet.require_incarnation(incarnation);
    PERFORM fleet.retire_schedules();
    RETURN fleet.tell_standing_schedules();
END $$;
