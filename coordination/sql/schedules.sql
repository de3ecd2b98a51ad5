-- Schedules: slots of fleet time, each decided once across all processes: fired by one of them, or skipped. All follow one line, the
-- one registered last: who still has another is told when that one's slots are.

-- FL001 unless it is one: an interval, or a cron line in a zone that has a slot in the next ten years. Locks nothing.
CREATE OR REPLACE FUNCTION fleet.require_line(
    interval_s double precision, stagger_s double precision, cron text, zone text, policy text, catch_up integer
) RETURNS void
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF cron IS NULL AND (interval_s IS NULL OR NOT (interval_s >= 1 AND interval_s <= 31622400)) THEN
        PERFORM fleet.refuse('interval_s', interval_s::text, 'from 1 second to 366 days');
    END IF;
    IF cron IS NOT NULL AND interval_s IS NOT NULL THEN
        PERFORM fleet.refuse('interval_s', interval_s::text, 'no value where there is a cron line');
    END IF;
    IF stagger_s IS NULL OR NOT (stagger_s >= 0 AND stagger_s <= coalesce(interval_s, 86400)) THEN
        PERFORM fleet.refuse('stagger_s', stagger_s::text, 'from 0 to the interval, for a cron line to 86400 seconds');
    END IF;
    IF policy IS NULL OR policy NOT IN ('skip', 'fire_once', 'fire_all') THEN
        PERFORM fleet.refuse('policy', policy, 'skip, fire_once or fire_all');
    END IF;
    IF catch_up IS NULL OR catch_up NOT BETWEEN 1 AND 1000 THEN
        PERFORM fleet.refuse('catch_up', catch_up::text, 'a whole number from 1 to 1000');
    END IF;
    IF cron IS NOT NULL THEN
        PERFORM fleet.require_zone(zone);
        IF fleet.next_cron_slot(cron, zone, fleet.now()) IS NULL THEN
            PERFORM fleet.refuse('cron', cron, 'a line with a day that comes within ten years');
        END IF;
    ELSIF zone IS NOT NULL THEN
        PERFORM fleet.refuse('zone', zone, 'no value without a cron line');
    END IF;
END $$;

-- A schedule's line in words. Locks nothing.
CREATE OR REPLACE FUNCTION fleet.tell_line(schedule fleet.schedules) RETURNS text
LANGUAGE sql IMMUTABLE
RETURN CASE WHEN (schedule).cron IS NULL THEN format('every %s s', (schedule).interval_s)
    ELSE format('%s in %s', (schedule).cron, (schedule).zone) END;

-- Up to n slots of a schedule, all after `after` and not after `until`, in order. Locks nothing.
CREATE OR REPLACE FUNCTION fleet.slots_of(schedule fleet.schedules, after timestamptz, until timestamptz, n integer) RETURNS timestamptz[]
LANGUAGE plpgsql IMMUTABLE AS $$
DECLARE
    stagger interval := make_interval(secs => schedule.stagger_s);
    number bigint;
BEGIN
    IF schedule.cron IS NOT NULL THEN
        RETURN ARRAY(SELECT at + stagger
            FROM unnest(fleet.cron_slots(schedule.cron, schedule.zone, after - stagger, until - stagger, n)) at);
    END IF;
    -- Slots have numbers on the grid: adding the interval again and again would drift.
    number := floor((extract(epoch FROM after)::double precision - schedule.stagger_s) / schedule.interval_s) - 1;
    RETURN ARRAY(
        SELECT slot FROM (SELECT to_timestamp((number + i) * schedule.interval_s + schedule.stagger_s) AS slot
            FROM generate_series(0, least(n + 3, 2 + (extract(epoch FROM until - after) / schedule.interval_s)::bigint + 2)) i) s
        WHERE slot > after AND slot <= until ORDER BY slot LIMIT n);
END $$;

-- A schedule's first slot after an instant. Locks nothing.
CREATE OR REPLACE FUNCTION fleet.slot_after(schedule fleet.schedules, after timestamptz) RETURNS timestamptz
LANGUAGE plpgsql IMMUTABLE AS $$
BEGIN
    RETURN (fleet.slots_of(schedule, after, after + interval '87600 hours', 1))[1];
END $$;

-- Fires a slot if one is due and nobody has. Locks the schedule's row, in which the next undecided slot stands: each slot is decided
-- once, with a row of its own (of more than 1000 missed at once the older ones are only counted). What was missed: `skip` counts it
-- and fires what is not late; `fire_once` fires the latest; `fire_all` fires one after the other, at most the catch_up latest. An
-- interval's first slot is at once, a cron line's when it comes. With `registers` false the caller says only by which line it would
-- go where there is none. wait_s is real seconds until the next slot at the clock's present rate. One flushed commit where it fires.
CREATE OR REPLACE FUNCTION fleet.fire_slot(
    incarnation uuid, name text, interval_s double precision DEFAULT NULL, stagger_s double precision DEFAULT 0,
    cron text DEFAULT NULL, zone text DEFAULT NULL, policy text DEFAULT 'skip', catch_up integer DEFAULT 24,
    registers boolean DEFAULT true
) RETURNS jsonb
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET lock_timeout = '5s' AS $$
DECLARE
    most_rows constant integer := 1000;
    -- A cron line's slot is late from then on; an interval's with the next one. Real seconds.
    late_after_s constant double precision := 120;
    life fleet.incarnations;
    schedule fleet.schedules;
    before text;
    at timestamptz;
    due timestamptz[];
    number integer;
    older bigint := 0;
    keep integer;
    slot timestamptz;
    missed bigint := 0;
    late_s double precision;
    is_new boolean;
    changed boolean := false;
    rate double precision := coalesce((SELECT c.rate FROM fleet.clock c), 1);
BEGIN
    PERFORM fleet.require_read_committed();
    life := fleet.require_incarnation(incarnation);
    IF coalesce(length(fire_slot.name), 0) NOT BETWEEN 1 AND 200 THEN
        PERFORM fleet.refuse('name', fire_slot.name, 'a text of 1 to 200 characters');
    END IF;
    IF registers OR NOT EXISTS (SELECT 1 FROM fleet.schedules s WHERE s.name = fire_slot.name) THEN
        PERFORM fleet.require_line(fire_slot.interval_s, fire_slot.stagger_s, fire_slot.cron, fire_slot.zone, fire_slot.policy,
            fire_slot.catch_up);
    END IF;
    PERFORM set_config('synchronous_commit', 'on', true);
    LOOP
        INSERT INTO fleet.schedules (name, interval_s, stagger_s, cron, zone, policy, catch_up, worker, registered_by, registered_at)
        VALUES (fire_slot.name, fire_slot.interval_s, fire_slot.stagger_s, fire_slot.cron, fire_slot.zone, fire_slot.policy,
            fire_slot.catch_up, life.worker, life.id, fleet.now())
        ON CONFLICT ON CONSTRAINT schedules_pkey DO NOTHING;
        is_new := FOUND;
        SELECT * INTO schedule FROM fleet.schedules s WHERE s.name = fire_slot.name FOR UPDATE;
        EXIT WHEN FOUND;  -- else the one that stood there was removed between the two statements
    END LOOP;
    at := fleet.now();

    IF registers AND NOT is_new AND (schedule.interval_s, schedule.cron, schedule.zone, schedule.stagger_s)
        IS DISTINCT FROM (fire_slot.interval_s, fire_slot.cron, fire_slot.zone, fire_slot.stagger_s) THEN
        before := fleet.tell_line(schedule);
        schedule.interval_s := fire_slot.interval_s;
        schedule.cron := fire_slot.cron;
        schedule.zone := fire_slot.zone;
        schedule.stagger_s := fire_slot.stagger_s;
        schedule.next_slot_at := NULL;
        IF fleet.tell_line(schedule) <> before THEN
            PERFORM fleet.emit('info', 'schedule_changed', life.worker || '/' || life.slot,
                format('schedule %s goes by %s from now on, before by %s', schedule.name, fleet.tell_line(schedule), before),
                jsonb_build_object('schedule', schedule.name));
        END IF;
    ELSIF schedule.next_slot_at IS NULL AND schedule.last_slot_at IS NOT NULL THEN
        schedule.next_slot_at := fleet.slot_after(schedule, schedule.last_slot_at);  -- a row of an earlier release
        changed := true;
    END IF;
    IF schedule.next_slot_at IS NULL THEN
        -- A line's slots count from its registration on; an interval's present slot is one of them.
        IF schedule.cron IS NULL THEN
            schedule.next_slot_at := fleet.slot_after(schedule, greatest(at - make_interval(secs => schedule.interval_s),
                coalesce(schedule.last_slot_at, '-infinity')));
        ELSE
            schedule.next_slot_at := fleet.slot_after(schedule, at);
        END IF;
    END IF;
    IF registers AND (before IS NOT NULL OR (schedule.policy, schedule.catch_up, schedule.worker)
        IS DISTINCT FROM (fire_slot.policy, fire_slot.catch_up, life.worker)) THEN
        schedule.policy := fire_slot.policy;
        schedule.catch_up := fire_slot.catch_up;
        schedule.worker := life.worker;
        schedule.registered_by := life.id;
        schedule.registered_at := at;
        changed := true;
    END IF;

    IF schedule.next_slot_at <= at AND NOT schedule.paused THEN
        due := schedule.next_slot_at || fleet.slots_of(schedule, schedule.next_slot_at, at, 100000);
        -- A fine grid and a long absence: the newest of the missed have rows, what is older is only counted.
        IF cardinality(due) > 100000 AND schedule.cron IS NULL THEN
            older := floor(extract(epoch FROM at - schedule.next_slot_at) / schedule.interval_s)::bigint + 1;
            due := fleet.slots_of(schedule, at - make_interval(secs => most_rows * schedule.interval_s), at, 2 * most_rows);
            older := older - cardinality(due);
        END IF;
        WHILE cardinality(due) > 100000 LOOP
            number := cardinality(due);
            older := older + number - most_rows;
            due := due[number - most_rows + 1:] || fleet.slots_of(schedule, due[number], at, 100000);
        END LOOP;
        number := cardinality(due);
        keep := number;
        IF schedule.policy = 'fire_all' THEN
            keep := greatest(1, number - schedule.catch_up + 1);
        END IF;
        slot := due[keep];
        missed := keep - 1 + older;
        IF schedule.policy = 'skip' AND schedule.cron IS NOT NULL
            AND at - slot > make_interval(secs => late_after_s * greatest(1, rate)) THEN
            slot := NULL;
            missed := missed + 1;
        END IF;
        INSERT INTO fleet.schedule_slots (schedule, slot_at, incarnation, fired_at, skipped_before, state)
        SELECT fire_slot.name, d.at_slot, fire_slot.incarnation, at, 0, 'skipped'
        FROM unnest(due) WITH ORDINALITY AS d (at_slot, place)
        WHERE d.place <= keep AND d.place > keep - most_rows AND d.at_slot IS DISTINCT FROM slot;
        IF slot IS NOT NULL THEN
            late_s := greatest(0, extract(epoch FROM at - slot));
            INSERT INTO fleet.schedule_slots (schedule, slot_at, incarnation, fired_at, skipped_before)
            VALUES (fire_slot.name, slot, fire_slot.incarnation, at, missed);
        END IF;
        schedule.last_slot_at := due[keep];
        schedule.next_slot_at := CASE WHEN keep < number THEN due[keep + 1] ELSE fleet.slot_after(schedule, at) END;
        schedule.fired := schedule.fired + (slot IS NOT NULL)::integer;
        schedule.skipped := schedule.skipped + missed;
        schedule.late_s := schedule.late_s + coalesce(late_s, 0);
        schedule.latest_s := greatest(schedule.latest_s, coalesce(late_s, 0));
        IF schedule.told_at IS NOT NULL THEN
            schedule.told_at := NULL;
            PERFORM fleet.clear_alert('schedule:' || schedule.name);
        END IF;
        changed := true;
        DELETE FROM fleet.schedule_slots o WHERE o.schedule = fire_slot.name AND o.slot_at < at - interval '40 days';
    END IF;
    IF is_new OR changed THEN
        UPDATE fleet.schedules s SET interval_s = schedule.interval_s, cron = schedule.cron, zone = schedule.zone,
            stagger_s = schedule.stagger_s, policy = schedule.policy, catch_up = schedule.catch_up, worker = schedule.worker,
            registered_by = schedule.registered_by, registered_at = schedule.registered_at, last_slot_at = schedule.last_slot_at,
            next_slot_at = schedule.next_slot_at, fired = schedule.fired, skipped = schedule.skipped, late_s = schedule.late_s,
            latest_s = schedule.latest_s, told_at = schedule.told_at
        WHERE s.name = schedule.name;
    END IF;
    IF slot IS NOT NULL THEN
        PERFORM fleet.tell_standing_schedules(schedule.name);
    END IF;
    IF schedule.paused THEN
        schedule.next_slot_at := fleet.slot_after(schedule, at);  -- by then it may go on again
    END IF;
    RETURN jsonb_build_object('fired', slot IS NOT NULL, 'slot_at', coalesce(slot, schedule.last_slot_at, schedule.next_slot_at),
        'skipped', missed, 'next_at', schedule.next_slot_at, 'late_s', coalesce(late_s, 0), 'paused', schedule.paused,
        'wait_s', greatest(0, extract(epoch FROM schedule.next_slot_at - at)) / rate);
END $$;

-- A person pauses a schedule, or lets it go on: slots meanwhile are none. Audited, flushed; takes the schedule's row.
CREATE OR REPLACE FUNCTION fleet.pause_schedule(name text, paused boolean, actor text, reason text) RETURNS jsonb
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET lock_timeout = '5s' AS $$
DECLARE
    schedule fleet.schedules;
    at timestamptz;
BEGIN
    PERFORM fleet.require_read_committed();
    IF paused IS NULL THEN
        PERFORM fleet.refuse('paused', NULL, 'true or false');
    END IF;
    PERFORM set_config('synchronous_commit', 'on', true);
    SELECT * INTO schedule FROM fleet.schedules s WHERE s.name = pause_schedule.name FOR UPDATE;
    IF NOT FOUND THEN
        PERFORM fleet.refuse('name', pause_schedule.name, 'the name of a schedule: see socialfleet schedules list');
    END IF;
    at := fleet.now();
    PERFORM fleet.write_audit(actor, CASE WHEN paused THEN 'pause_schedule' ELSE 'resume_schedule' END, schedule.name, reason);
    IF schedule.paused AND NOT pause_schedule.paused THEN
        schedule.next_slot_at := fleet.slot_after(schedule, at);
    END IF;
    UPDATE fleet.schedules s SET paused = pause_schedule.paused, next_slot_at = schedule.next_slot_at, told_at = NULL,
        paused_reason = CASE WHEN pause_schedule.paused THEN left(pause_schedule.actor || ': ' || pause_schedule.reason, 500) END
    WHERE s.name = schedule.name;
    PERFORM fleet.clear_alert('schedule:' || schedule.name);
    RETURN jsonb_build_object('name', schedule.name, 'paused', pause_schedule.paused, 'next_at', schedule.next_slot_at);
END $$;

-- Every schedule, and how well it keeps its slots: fired and skipped since ever, fleet seconds by which firings were late (sum and
-- most), and for how long the next slot has been due. Reads schedules; locks nothing.
CREATE OR REPLACE FUNCTION fleet.get_schedule_status() RETURNS jsonb
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    at timestamptz := fleet.now();
BEGIN
    RETURN coalesce((SELECT jsonb_agg(jsonb_build_object('name', s.name, 'worker', s.worker, 'line', fleet.tell_line(s),
            'interval_s', s.interval_s, 'cron', s.cron, 'zone', s.zone, 'stagger_s', s.stagger_s, 'policy', s.policy,
            'paused', s.paused, 'paused_reason', s.paused_reason, 'last_slot_at', s.last_slot_at, 'next_slot_at', s.next_slot_at,
            'fired', s.fired, 'skipped', s.skipped,
            'quality', CASE WHEN s.fired + s.skipped > 0 THEN round(s.fired::numeric / (s.fired + s.skipped), 4) END,
            'late_s', round(s.late_s::numeric, 3), 'latest_s', round(s.latest_s::numeric, 3),
            'overdue_s', CASE WHEN s.paused THEN 0 ELSE round(greatest(0, extract(epoch FROM at - s.next_slot_at))::numeric, 3) END,
            'stands_still', s.told_at IS NOT NULL) ORDER BY s.name)
        FROM fleet.schedules s), '[]');
END $$;
