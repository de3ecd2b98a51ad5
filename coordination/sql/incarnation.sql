-- Incarnations: one life of one process. Liveness is a session advisory lock, not a row.

-- The one place where text becomes an advisory-lock key: the first 8 bytes of sha256. The text's bytes are those of a UTF-8 database;
-- convert_to would give them too, but keep the planner from writing the whole into its caller. Locks nothing.
CREATE OR REPLACE FUNCTION fleet.lock_key(namespace text, value text) RETURNS bigint
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN ('x' || encode(substr(sha256(decode(replace(namespace || ':' || value, '\', '\\'), 'escape')), 1, 8), 'hex'))::bit(64)::bigint;

-- Takes the session lock (waits up to 5 s), then publishes the row and gives the worker the broadcasts that it missed. Call once, on
-- the incarnation's own connection.
CREATE OR REPLACE FUNCTION fleet.open_incarnation(
    incarnation uuid, worker text, slot integer, host text, pid integer, pid_started text, boot_id text, pid_namespace text
) RETURNS jsonb
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET lock_timeout = '5s' AS $$
BEGIN
    IF open_incarnation.worker IS NULL OR open_incarnation.worker !~ '^[a-z][a-z0-9_-]{0,62}$' THEN
        PERFORM fleet.refuse('worker', open_incarnation.worker, 'a lower-case name of 1 to 63 letters, digits, _ or -');
    END IF;
    -- A session lock counts: taken twice it would outlive its closing.
    IF EXISTS (SELECT 1 FROM fleet.incarnations i WHERE i.id = open_incarnation.incarnation) THEN
        PERFORM fleet.refuse('incarnation', incarnation::text, 'an id that no life had before: each is opened once');
    END IF;
    PERFORM pg_advisory_lock(fleet.lock_key('incarnation', incarnation::text));
    PERFORM fleet.welcome(open_incarnation.worker, open_incarnation.slot, incarnation);
    INSERT INTO fleet.incarnations (id, worker, slot, host, pid, pid_started, boot_id, pid_namespace, started_at)
    VALUES (incarnation, open_incarnation.worker, open_incarnation.slot, open_incarnation.host, open_incarnation.pid,
        open_incarnation.pid_started, open_incarnation.boot_id, open_incarnation.pid_namespace, clock_timestamp());
    RETURN jsonb_build_object('incarnation', incarnation, 'backend_pid', pg_backend_pid());
END $$;

-- Ends a life in good order: the row is closed and the session lock given back.
CREATE OR REPLACE FUNCTION fleet.close_incarnation(incarnation uuid, reason text) RETURNS void
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET lock_timeout = '5s' AS $$
BEGIN
    UPDATE fleet.incarnations SET ended_at = clock_timestamp(), end_reason = left(coalesce(reason, 'it was closed'), 500)
    WHERE id = incarnation AND ended_at IS NULL;
    DELETE FROM fleet.sleepers s WHERE s.incarnation = close_incarnation.incarnation;
    PERFORM pg_advisory_unlock(fleet.lock_key('incarnation', incarnation::text));
END $$;

-- FL003 unless the incarnation is registered and not ended; the refused are counted. One row read; it does not prove that its
-- lock is held.
CREATE OR REPLACE FUNCTION fleet.require_incarnation(incarnation uuid) RETURNS fleet.incarnations
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    life fleet.incarnations;
BEGIN
    SELECT * INTO life FROM fleet.incarnations i WHERE i.id = require_incarnation.incarnation AND i.ended_at IS NULL;
    IF NOT FOUND THEN
        PERFORM fleet.refuse_incarnation(incarnation);
    END IF;
    RETURN life;
END $$;

-- The same for who needs nothing but to know: a third of the cost, which is that of reading twenty columns. Locks nothing.
CREATE OR REPLACE FUNCTION fleet.check_incarnation(incarnation uuid) RETURNS void
LANGUAGE plpgsql VOLATILE AS $$
BEGIN
    PERFORM 1 FROM fleet.incarnations i WHERE i.id = check_incarnation.incarnation AND i.ended_at IS NULL;
    IF NOT FOUND THEN
        PERFORM fleet.refuse_incarnation(incarnation);
    END IF;
END $$;

-- FL003. Locks nothing.
CREATE OR REPLACE FUNCTION fleet.refuse_incarnation(incarnation uuid) RETURNS void
LANGUAGE plpgsql VOLATILE AS $$
BEGIN
    PERFORM nextval('fleet.late_words');  -- stays counted though this transaction is undone
    RAISE EXCEPTION 'incarnation % is not registered or has ended', incarnation
        USING ERRCODE = 'FL003', HINT = 'stop acting and connect again as a new incarnation';
END $$;

-- Whether the process behind an incarnation lost its session lock. Takes the lock shared until the transaction's end, so it
-- must be a statement of its own, and never be asked from the incarnation's own session (which always gets its own lock).
CREATE OR REPLACE FUNCTION fleet.is_suspected(incarnation uuid) RETURNS boolean
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    free boolean;
BEGIN
    SELECT pg_try_advisory_xact_lock_shared(fleet.lock_key('incarnation', incarnation::text)) INTO free;
    RETURN free;
END $$;

-- Since when (real time) a life certainly sends nothing any more; null where nobody knows. Its process is proven dead, or reported
-- it over itself: closed it in good order, or goes on as another life. A lost session or long silence proves nothing: a process that
-- was stopped may go on. The caller asks of no life of its own. A few rows read; tries the life's lock.
CREATE OR REPLACE FUNCTION fleet.silent_since(incarnation uuid) RETURNS timestamptz
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    life fleet.incarnations;
    free boolean;
BEGIN
    SELECT * INTO life FROM fleet.incarnations i WHERE i.id = silent_since.incarnation;
    IF NOT FOUND THEN
        RETURN '-infinity';  -- so long ago that nothing else is known of it
    ELSIF life.died_at IS NOT NULL OR life.end_reason <> fleet.fell_silent() THEN
        RETURN coalesce(life.died_at, life.ended_at);
    END IF;
    free := fleet.is_suspected(life.id);
    RETURN (SELECT min(n.started_at) FROM fleet.incarnations n
        WHERE free AND (n.host, n.boot_id, n.pid_namespace, n.pid, n.pid_started, n.worker, n.slot)
            = (life.host, life.boot_id, life.pid_namespace, life.pid, life.pid_started, life.worker, life.slot)
          AND n.started_at > life.started_at);
END $$;

-- The reason that is written of a life whose end nobody told. Pure.
CREATE OR REPLACE FUNCTION fleet.fell_silent() RETURNS text
LANGUAGE sql IMMUTABLE
RETURN 'it fell silent without a word';
