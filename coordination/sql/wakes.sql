-- Wake-ups: a NOTIFY that names its addressee and carries nothing else, outside every business transaction, sent only where somebody
-- sleeps. Nothing depends on one: what is lost costs a poll.

-- The caller is about to wait for wake-ups of that name; true where that is news. Then it must look once more, in a statement of its
-- own: who made something before the mark saw nobody sleep. Only where it is news it waits for who holds the name awake (may_sleep), and
-- holds the name and its own row until the commit.
CREATE OR REPLACE FUNCTION fleet.fall_asleep(life fleet.incarnations, name text) RETURNS boolean
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF EXISTS (SELECT 1 FROM fleet.sleepers s WHERE s.name = fall_asleep.name AND s.incarnation = life.id AND s.asleep) THEN
        RETURN false;
    END IF;
    PERFORM pg_advisory_xact_lock(fleet.lock_key('asleep', name));
    INSERT INTO fleet.sleepers (name, incarnation, worker, slot, asleep, changed_at)
    VALUES (fall_asleep.name, life.id, life.worker, life.slot, true, clock_timestamp())
    ON CONFLICT ON CONSTRAINT sleepers_pkey DO UPDATE SET asleep = true, changed_at = excluded.changed_at;
    RETURN true;
END $$;

-- Whether whoever listens for a name must be woken: one of them sleeps, or was not told for a second, or nothing is known of them. One
-- read; locks nothing.
CREATE OR REPLACE FUNCTION fleet.is_to_be_told(name text) RETURNS boolean
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    RETURN (SELECT bool_or(s.asleep OR s.changed_at < clock_timestamp() - interval '1 second') IS NOT FALSE FROM fleet.sleepers s
        WHERE s.name = is_to_be_told.name);
END $$;

-- For who makes something that whoever listens for a name must see. False: all are awake, and none falls asleep until the caller's
-- commit: it waits for that, and then looks once more. True: they are to be woken afterwards. Waits for nobody, nor may its caller
-- afterwards; holds the name until the commit.
CREATE OR REPLACE FUNCTION fleet.may_sleep(name text) RETURNS boolean
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    is_held boolean;
BEGIN
    SELECT pg_try_advisory_xact_lock_shared(fleet.lock_key('asleep', name)) INTO is_held;
    RETURN NOT is_held OR fleet.is_to_be_told(name);
END $$;

-- Wakes whoever listens for a name: at once where one of them sleeps or nothing is known of them; nobody where all are awake and will
-- look again by themselves, or were told within the last second: that is one read. Not flushed; waits for the commit of who is falling
-- asleep and takes no jobs, passes over those whom another tells. True: told.
CREATE OR REPLACE FUNCTION fleet.wake(worker text) RETURNS boolean
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET lock_timeout = '5s' AS $$
BEGIN
    PERFORM fleet.require_read_committed();
    PERFORM set_config('synchronous_commit', 'off', true);
    IF coalesce(length(worker), 0) NOT BETWEEN 1 AND 200 THEN
        PERFORM fleet.refuse('worker', worker, 'a text of 1 to 200 characters');
    END IF;
    -- Who falls asleep from here on looks once more, and sees what the caller committed before. Who is falling asleep may have looked
    -- already, and is waited for until it is seen to sleep; but who takes jobs looks once more after that (claim_jobs).
    IF worker NOT LIKE '%/jobs' THEN
        PERFORM pg_advisory_xact_lock_shared(fleet.lock_key('asleep', worker));
    END IF;
    IF NOT fleet.is_to_be_told(worker) THEN
        RETURN false;
    END IF;
    WITH sleeping AS MATERIALIZED (
        SELECT s.incarnation FROM fleet.sleepers s
        WHERE s.name = wake.worker AND (s.asleep OR s.changed_at < clock_timestamp() - interval '1 second') FOR UPDATE SKIP LOCKED
    )
    UPDATE fleet.sleepers s SET asleep = false, changed_at = clock_timestamp() FROM sleeping
    WHERE s.name = wake.worker AND s.incarnation = sleeping.incarnation;
    IF NOT FOUND AND EXISTS (SELECT 1 FROM fleet.sleepers s WHERE s.name = wake.worker) THEN
        RETURN false;  -- whoever holds the others tells them, after the caller's commit
    END IF;
    PERFORM pg_notify('fleet_wake', wake.worker);
    RETURN true;
END $$;
