-- Process ends: the proof that a process is dead. A session's lost lock only suggests it; what its parent reaped, or what nobody finds
-- in /proc any more, is dead.

-- Keeps the ends that a host's manager tells, each once, and closes the lives that they prove dead; gives how many. A number means a
-- process only within its boot and PID namespace. Flushed: whoever told them forgets them then.
CREATE OR REPLACE FUNCTION fleet.record_process_ends(host text, ends jsonb) RETURNS integer
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET lock_timeout = '5s' AS $$
DECLARE
    closed integer;
    real timestamptz;
BEGIN
    real := clock_timestamp();  -- before any wait: ago_s counts from when it was told
    PERFORM fleet.require_read_committed();
    PERFORM set_config('synchronous_commit', 'on', true);
    INSERT INTO fleet.process_ends (host, boot_id, pid_namespace, pid, pid_started, worker, slot, exit_code, how, ended_at)
    SELECT DISTINCT ON (e.boot_id, e.pid_namespace, e.pid, e.pid_started)
        record_process_ends.host, e.boot_id, e.pid_namespace, e.pid, e.pid_started, e.worker, e.slot, e.exit_code,
        left(e.how, 500), real - make_interval(secs => e.ago_s)
    FROM jsonb_to_recordset(record_process_ends.ends) AS e(worker text, slot integer, pid integer, pid_started text, boot_id text,
        pid_namespace text, exit_code integer, how text, ago_s double precision)
    ORDER BY e.boot_id, e.pid_namespace, e.pid, e.pid_started, e.exit_code NULLS LAST  -- one end may be told twice in a batch
    -- Whoever reaped it knows better than one who found it gone.
    ON CONFLICT ON CONSTRAINT process_ends_pkey DO UPDATE SET exit_code = excluded.exit_code, how = excluded.how,
        ended_at = least(process_ends.ended_at, excluded.ended_at)
        WHERE process_ends.exit_code IS NULL AND excluded.exit_code IS NOT NULL;
    -- A life names its host as its process saw it; within one boot the number, its namespace and its start time say it all. Taken by key:
    -- a manager that was thought gone, or a person who says so of its host, may be closing the same lives.
    UPDATE fleet.incarnations i SET died_at = e.ended_at, death = e.how, ended_at = coalesce(i.ended_at, e.ended_at),
        end_reason = coalesce(i.end_reason, e.how)
    FROM (SELECT i.id, p.ended_at, p.how
        FROM jsonb_to_recordset(record_process_ends.ends) AS e(pid integer, pid_started text, boot_id text, pid_namespace text)
        JOIN fleet.process_ends p ON (p.boot_id, p.pid_namespace, p.pid, p.pid_started, p.host)
            = (e.boot_id, e.pid_namespace, e.pid, e.pid_started, record_process_ends.host)
        JOIN fleet.incarnations i
            ON (i.boot_id, i.pid_namespace, i.pid, i.pid_started) = (e.boot_id, e.pid_namespace, e.pid, e.pid_started)
        WHERE i.died_at IS NULL AND (i.host = record_process_ends.host OR e.boot_id <> '')
        ORDER BY i.id FOR NO KEY UPDATE OF i) e
    WHERE i.id = e.id;
    GET DIAGNOSTICS closed = ROW_COUNT;
    RETURN closed;
END $$;

-- Wakes who takes jobs of the kinds that processes which are proven dead still hold: each claim takes such jobs back, but who sleeps
-- claims nothing. A call of its own, once the ends are recorded. Waits until the dead's sessions are gone too, which a claim asks for:
-- half a second at most, and then only for the jobs of those whose session stays nobody is woken. Not flushed; gives how many names were
-- told.
CREATE OR REPLACE FUNCTION fleet.wake_heirs() RETURNS integer
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET lock_timeout = '500ms' AS $$
DECLARE
    staying uuid[];
    gone uuid[] := '{}';
    holder uuid;
    heir text;
    told integer := 0;
BEGIN
    PERFORM fleet.require_read_committed();
    PERFORM set_config('synchronous_commit', 'off', true);
    staying := ARRAY(SELECT DISTINCT i.id FROM fleet.jobs j JOIN fleet.incarnations i ON i.id = j.incarnation
        WHERE j.state = 'running' AND i.died_at IS NOT NULL);
    FOR look IN 0..20 LOOP
        FOREACH holder IN ARRAY staying LOOP
            IF fleet.is_suspected(holder) THEN
                staying := array_remove(staying, holder);
                gone := gone || holder;
            END IF;
        END LOOP;
        EXIT WHEN staying = '{}' OR look = 20;
        PERFORM pg_sleep(0.025);
    END LOOP;
    FOREACH heir IN ARRAY fleet.takers_of(ARRAY(SELECT DISTINCT j.kind FROM fleet.jobs j
        WHERE j.state = 'running' AND j.incarnation = ANY(gone)))
    LOOP
        told := told + fleet.wake(heir)::integer;
    END LOOP;
    RETURN told;
END $$;

-- Whether a life's process is proven dead. False means: nobody knows. Locks nothing; one row read.
CREATE OR REPLACE FUNCTION fleet.is_dead(incarnation uuid) RETURNS boolean
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    RETURN coalesce((SELECT i.died_at IS NOT NULL FROM fleet.incarnations i WHERE i.id = is_dead.incarnation), false);
END $$;
