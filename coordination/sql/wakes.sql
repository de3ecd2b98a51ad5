-- Wake-ups: a NOTIFY that names its addressee and carries nothing else, outside every business transaction, sent only where somebody
-- sleeps. Nothing depends on one: what is lost costs a poll.

-- The caller is about to wait for wake-ups of that name; true where that is news. Then it must look once more, in a statement of its
-- own: who made something before the mark saw nobody sleep. Locks its own row until the commit, and only where it is news.
CREATE OR REPLACE FUNCTION fleet.fall_asleep(life fleet.incarnations, name text) RETURNS boolean
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF EXISTS (SELECT 1 FROM fleet.sleepers s WHERE s.name = fall_asleep.name AND s.incarnation = life.id AND s.asleep) THEN
        RETURN false;
    END IF;
    INSERT INTO fleet.sleepers (name, incarnation, worker, slot, asleep, changed_at)
    VALUES (fall_asleep.name, life.id, life.worker, life.slot, true, clock_timestamp())
    ON CONFLICT ON CONSTRAINT sleepers_pkey DO UPDATE SET asleep = true, changed_at = excluded.changed_at;
    RETURN true;
END $$;

-- Wakes whoever listens for a name: at once where one of them sleeps or nothing is known of them; nobody where all are awake and will
-- look again by themselves, or were told within the last second: that is one read. Not flushed; waits for who tells them too. True: told.
CREATE OR REPLACE FUNCTION fleet.wake(worker text) RETURNS boolean
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET lock_timeout = '5s' AS $$
DECLARE
    sleeper record;
    is_known boolean := false;
    is_needed boolean;
BEGIN
    PERFORM fleet.require_read_committed();
    PERFORM set_config('synchronous_commit', 'off', true);
    IF coalesce(length(worker), 0) NOT BETWEEN 1 AND 200 THEN
        PERFORM fleet.refuse('worker', worker, 'a text of 1 to 200 characters');
    END IF;
    -- Who falls asleep from here on looks once more, and sees what the caller committed before.
    SELECT bool_or(s.asleep OR s.changed_at < clock_timestamp() - interval '1 second') INTO is_needed FROM fleet.sleepers s
    WHERE s.name = wake.worker;
    IF NOT is_needed THEN
        RETURN false;
    END IF;
    is_needed := false;
    FOR sleeper IN SELECT s.asleep, s.changed_at FROM fleet.sleepers s WHERE s.name = wake.worker ORDER BY s.incarnation FOR UPDATE LOOP
        is_known := true;
        is_needed := is_needed OR sleeper.asleep OR sleeper.changed_at < clock_timestamp() - interval '1 second';
    END LOOP;
    IF is_known AND NOT is_needed THEN
        RETURN false;
    END IF;
    UPDATE fleet.sleepers s SET asleep = false, changed_at = clock_timestamp() WHERE s.name = wake.worker;
    PERFORM pg_notify('fleet_wake', wake.worker);
    RETURN true;
END $$;
