-- Shares: which slots are whose. Made under one lock, by whichever host comes first, so that each slot is one host's.

-- The host has heard that these slots are no more its own, and none of them is among what it still holds.
CREATE OR REPLACE FUNCTION fleet.hand_over(host text, as_of bigint, held jsonb) RETURNS void
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    PERFORM fleet.forget_leaving(s.worker, s.slot) FROM fleet.slots s
    WHERE s.leaving = hand_over.host AND s.leaving_number <= hand_over.as_of
      AND NOT EXISTS (SELECT 1 FROM jsonb_array_elements(hand_over.held) t
          WHERE t->>'worker' = s.worker AND (t->>'slot')::integer = s.slot);
END $$;

-- Nothing of the slot runs on the host that it left: its new one may begin, and one that nobody wants is no more, but for what a person
-- said of it: that holds when it is wanted again.
CREATE OR REPLACE FUNCTION fleet.forget_leaving(worker text, slot integer) RETURNS void
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    PERFORM set_config('synchronous_commit', 'on', true);  -- whose a slot is, no server's crash takes back
    UPDATE fleet.slots s SET leaving = NULL, leaving_number = NULL, pid = NULL, pid_started = NULL, incarnation = NULL, step = NULL,
        memory_bytes = NULL, cpu_percent = NULL, state = CASE WHEN s.host IS NULL THEN 'STOPPED' ELSE 'STARTING' END,
        reason = CASE WHEN s.host IS NULL THEN 'no live host admits it' ELSE 'it moved here' END,
        since = clock_timestamp(), seen_at = clock_timestamp()
    WHERE s.worker = forget_leaving.worker AND s.slot = forget_leaving.slot;
    DELETE FROM fleet.slots s WHERE s.worker = forget_leaving.worker AND s.slot = forget_leaving.slot AND s.host IS NULL
        AND NOT s.stopped AND NOT s.paused
        AND NOT EXISTS (SELECT 1 FROM fleet.workers w WHERE w.name = s.worker AND s.slot <= w.replicas);
END $$;

-- Whether a host may have a worker's slots: it lives and takes work, its program has the worker, and the placement fits. Without a
-- search_path of its own it becomes part of the query that asks, for every slot each second.
CREATE OR REPLACE FUNCTION fleet.admits(host fleet.hosts, worker fleet.workers) RETURNS boolean
LANGUAGE sql IMMUTABLE AS $$
    SELECT (host).state = 'live' AND NOT (host).draining AND (worker).name = ANY((host).workers)
        AND coalesce((worker).placement->>'host', (host).name) = (host).name
        AND (host).labels @> coalesce((worker).placement->'labels', '{}')
$$;

-- Which hosts are lost, by whoever comes first: the session's lock is free and it was silent for more than 3 s, or it was silent for
-- more than 10 s. A cut-off manager stops what acts after 8 s of silence, on its own clock. `me` is the caller's, alive by asking.
CREATE OR REPLACE FUNCTION fleet.find_lost_hosts(me text) RETURNS void
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    known fleet.hosts;
    silent_s double precision;
BEGIN
    FOR known IN SELECT * FROM fleet.hosts h WHERE h.state = 'live' AND h.name <> find_lost_hosts.me
        AND h.seen_at < clock_timestamp() - interval '3 seconds' ORDER BY h.name
    LOOP
        silent_s := extract(epoch FROM clock_timestamp() - known.seen_at);
        CONTINUE WHEN silent_s <= 10 AND NOT fleet.is_abandoned(known.session);
        UPDATE fleet.hosts h SET state = 'lost' WHERE h.name = known.name AND h.seen_at = known.seen_at AND h.state = 'live';
        CONTINUE WHEN NOT FOUND;
        PERFORM fleet.emit('error', 'host_lost', known.name, format('host %s is lost: its manager was silent for %s s', known.name,
            round(silent_s::numeric, 1)));
        PERFORM fleet.raise_alert('host_lost:' || known.name, 'error', 'host_lost', known.name,
            format('host %s is lost: its manager is silent since %s', known.name, to_char(known.seen_at, 'HH24:MI:SS')), '{}');
    END LOOP;
END $$;

-- Takes all hosts' rows, by name. Whoever changes slots that are not its own host's does so first: a host that reports has its own row,
-- and then its slots.
CREATE OR REPLACE FUNCTION fleet.hold_hosts() RETURNS void
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    PERFORM 1 FROM fleet.hosts h ORDER BY h.name FOR NO KEY UPDATE;
END $$;

-- Gives a slot to a host, or to nobody (null). A living host that had it drains first. Flushed.
CREATE OR REPLACE FUNCTION fleet.move_slot(worker text, slot integer, host text, why text) RETURNS void
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    known fleet.slots;
    number bigint;
BEGIN
    PERFORM set_config('synchronous_commit', 'on', true);
    PERFORM fleet.hold_hosts();
    SELECT * INTO known FROM fleet.slots s WHERE s.worker = move_slot.worker AND s.slot = move_slot.slot FOR UPDATE;
    IF known.host IS NOT NULL AND known.leaving IS NULL THEN
        UPDATE fleet.hosts h SET share_number = h.share_number + 1 WHERE h.name = known.host AND h.state = 'live'
        RETURNING h.share_number INTO number;
    END IF;
    UPDATE fleet.slots s SET host = move_slot.host,
        leaving = CASE WHEN known.leaving IS NOT NULL THEN nullif(known.leaving, move_slot.host)
            WHEN number IS NOT NULL THEN known.host END,
        leaving_number = CASE WHEN known.leaving IS NOT NULL AND known.leaving IS DISTINCT FROM move_slot.host
            THEN known.leaving_number ELSE number END
    WHERE s.worker = move_slot.worker AND s.slot = move_slot.slot;
    IF known.host IS NOT NULL THEN
        PERFORM fleet.emit('info', 'slot_moved', known.worker || '/' || known.slot, format('%s/%s moves from %s to %s: %s',
            known.worker, known.slot, known.host, coalesce(move_slot.host, 'nowhere'), move_slot.why));
    END IF;
    IF number IS NULL AND known.host IS NOT NULL AND known.leaving IS NULL THEN
        PERFORM fleet.forget_leaving(move_slot.worker, move_slot.slot);
    END IF;
END $$;

-- What each living host has: its slots, and those of them that should run. Reads all slots.
CREATE OR REPLACE FUNCTION fleet.loads() RETURNS TABLE (host fleet.hosts, running bigint, slots bigint)
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    RETURN QUERY SELECT h, count(s.worker) FILTER (WHERE fleet.why_not(w, s, f) IS NULL), count(s.worker)
    FROM fleet.hosts h LEFT JOIN fleet.slots s ON s.host = h.name LEFT JOIN fleet.workers w ON w.name = s.worker
    LEFT JOIN fleet.flags f ON f.name = w.name || '_enabled' WHERE h.state = 'live' GROUP BY h.name;
END $$;

-- Makes the row of each wanted slot that has none. Under the shares' lock, which the caller holds.
CREATE OR REPLACE FUNCTION fleet.make_slots() RETURNS void
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    INSERT INTO fleet.slots (worker, slot, state, reason, since, restart_count, seen_at)
    SELECT w.name, n, 'STARTING', 'no host has it yet', clock_timestamp(), 0, clock_timestamp()
    FROM fleet.workers w, generate_series(1, w.replicas) n
    WHERE NOT EXISTS (SELECT 1 FROM fleet.slots s WHERE s.worker = w.name AND s.slot = n)
    ON CONFLICT DO NOTHING;
END $$;

-- Makes the shares: every wanted slot that no living, admissible host has goes to the admissible one with the fewest slots that run;
-- where these differ by more than one, one slot a pass goes over, of the worker that has most more there than here. Under the shares'
-- lock, which the caller holds. Reads all slots.
CREATE OR REPLACE FUNCTION fleet.assign_slots(me text) RETURNS void
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    one record;
    target text;
    gained jsonb := '{}';  -- what hosts were given in this pass
    loads jsonb;
BEGIN
    PERFORM fleet.find_lost_hosts(me);
    PERFORM fleet.make_slots();
    -- What was leaving a host that is no more.
    IF EXISTS (SELECT 1 FROM fleet.slots s JOIN fleet.hosts h ON h.name = s.leaving WHERE h.state <> 'live') THEN
        PERFORM fleet.hold_hosts();
        PERFORM fleet.forget_leaving(s.worker, s.slot) FROM fleet.slots s JOIN fleet.hosts h ON h.name = s.leaving
        WHERE h.state <> 'live';
    END IF;
    -- What nobody wants any more.
    FOR one IN SELECT s.worker, s.slot FROM fleet.slots s LEFT JOIN fleet.workers w ON w.name = s.worker
        WHERE s.host IS NOT NULL AND s.slot > coalesce(w.replicas, 0) ORDER BY s.worker, s.slot
    LOOP
        PERFORM fleet.move_slot(one.worker, one.slot, NULL, 'fewer are wanted');
    END LOOP;
    DELETE FROM fleet.slots s WHERE s.host IS NULL AND s.leaving IS NULL AND NOT s.stopped AND NOT s.paused
        AND NOT EXISTS (SELECT 1 FROM fleet.workers w WHERE w.name = s.worker AND s.slot <= w.replicas);
    FOR one IN
        SELECT s.worker, s.slot, s.host, h.state AS host_state, h.draining, w AS wanted
        FROM fleet.slots s JOIN fleet.workers w ON w.name = s.worker LEFT JOIN fleet.hosts h ON h.name = s.host
        WHERE s.slot <= w.replicas AND (h.name IS NULL OR NOT fleet.admits(h, w)) ORDER BY s.worker, s.slot
    LOOP
        loads := coalesce(loads, (SELECT jsonb_object_agg((l.host).name, jsonb_build_array(l.running, l.slots)) FROM fleet.loads() l), '{}');
        SELECT h.name INTO target FROM fleet.hosts h
        CROSS JOIN LATERAL (SELECT coalesce((gained->>h.name)::integer, 0) AS more) g
        WHERE fleet.admits(h, one.wanted)
        ORDER BY (loads->h.name->>0)::integer + g.more, (loads->h.name->>1)::integer + g.more,
            (SELECT count(*) FROM fleet.slots s WHERE s.worker = one.worker AND s.host = h.name), h.name LIMIT 1;
        IF target IS NOT NULL THEN
            gained := gained || jsonb_build_object(target, coalesce((gained->>target)::integer, 0) + 1);
        END IF;
        -- A lost host's slot that nobody else may have waits for it.
        CONTINUE WHEN target IS NULL AND (one.host IS NULL OR one.host_state IS DISTINCT FROM 'live');
        PERFORM fleet.move_slot(one.worker, one.slot, target, CASE WHEN one.host IS NULL THEN 'nobody had it'
            WHEN one.host_state IS NULL THEN 'its host is unknown'
            WHEN one.host_state = 'left' THEN 'its host was stopped'
            WHEN one.host_state <> 'live' THEN 'its host is ' || one.host_state
            WHEN one.draining THEN 'its host is taken out of service' ELSE 'its host does not admit it any more' END);
    END LOOP;
    IF EXISTS (SELECT 1 FROM fleet.slots s WHERE s.leaving IS NOT NULL) THEN
        RETURN;  -- one at a time
    END IF;
    WITH loads AS MATERIALIZED (SELECT * FROM fleet.loads() l)
    SELECT s.worker, s.slot, (t.host).name AS target INTO one
    FROM loads o JOIN loads t ON o.running - t.running > 1 JOIN fleet.slots s ON s.host = (o.host).name
    JOIN fleet.workers w ON w.name = s.worker LEFT JOIN fleet.flags f ON f.name = w.name || '_enabled'
    WHERE fleet.admits(t.host, w) AND fleet.why_not(w, s, f) IS NULL
    ORDER BY o.running - t.running DESC, s.state = 'BUSY',
        -- Replicas apart: one host's end must not take all of them.
        (SELECT count(*) FILTER (WHERE r.host = (o.host).name) - count(*) FILTER (WHERE r.host = (t.host).name)
            FROM fleet.slots r WHERE r.worker = s.worker) DESC,
        s.slot DESC, s.worker, (t.host).name LIMIT 1;
    IF FOUND THEN
        PERFORM fleet.move_slot(one.worker, one.slot, one.target, 'the other host has fewer to run');
    END IF;
END $$;

-- What this host should run, after slots that nobody has were given out and commands were moved on (by whoever comes first: nobody
-- waits for another's pass). Reads the host's own slots and parts; flushed where a slot moved or a command went on. FL004 when the name is
-- another's by now.
CREATE OR REPLACE FUNCTION fleet.get_share(host text, session uuid) RETURNS jsonb
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET lock_timeout = '5s' AS $$
DECLARE
    me fleet.hosts;
BEGIN
    PERFORM fleet.require_read_committed();
    PERFORM set_config('synchronous_commit', 'off', true);
    me := fleet.require_host(get_share.host, get_share.session);
    IF pg_try_advisory_xact_lock(fleet.lock_key('hosts', 'shares')) THEN
        PERFORM fleet.assign_slots(me.name);
        PERFORM fleet.move_commands_on();
    END IF;
    PERFORM fleet.take_parts(me.name);
    RETURN (SELECT jsonb_build_object(
        'number', h.share_number,
        'last_event', (SELECT coalesce(max(e.id), 0) FROM fleet.events e),
        'slots', coalesce((SELECT jsonb_agg(jsonb_build_object('worker', s.worker, 'slot', s.slot,
                'runs', fleet.why_not(w, s, f) IS NULL, 'paused', w.paused OR s.paused,
                'reason', coalesce(fleet.why_not(w, s, f), CASE WHEN w.paused THEN w.paused_reason WHEN s.paused THEN s.paused_reason END, ''),
                'singleton', w.singleton, 'memory_mb', w.memory_limit_mb, 'cpu_percent', w.cpu_limit_percent, 'nice', w.nice)
                ORDER BY s.worker, s.slot)
            FROM fleet.slots s JOIN fleet.workers w ON w.name = s.worker LEFT JOIN fleet.flags f ON f.name = w.name || '_enabled'
            WHERE s.host = h.name AND s.leaving IS NULL AND s.slot <= w.replicas), '[]'),
        'parts', coalesce((SELECT jsonb_agg(jsonb_build_object('id', p.id::text, 'command', p.command::text, 'action', p.action,
                'mode', p.mode, 'worker', p.worker, 'slot', p.slot, 'args', c.args,
                'remaining_s', greatest(0, extract(epoch FROM c.expires_at - clock_timestamp())),
                'age_s', extract(epoch FROM clock_timestamp() - p.taken_at)) ORDER BY p.id)
            FROM fleet.command_parts p JOIN fleet.commands c ON c.id = p.command
            WHERE p.host = h.name AND p.state = 'running'), '[]'),
        'progress', coalesce((SELECT jsonb_agg(jsonb_build_object('worker', s.worker, 'slot', s.slot,
                'age_s', extract(epoch FROM clock_timestamp() - b.progressed_at)))
            FROM fleet.slots s JOIN fleet.heartbeats b ON b.incarnation = s.incarnation WHERE s.host = h.name), '[]'))
        FROM fleet.hosts h WHERE h.name = me.name);
END $$;

-- Why a slot should not run; null where it should. Locks nothing; becomes part of the query that asks.
CREATE OR REPLACE FUNCTION fleet.why_not(worker fleet.workers, slot fleet.slots, flag fleet.flags) RETURNS text
LANGUAGE sql IMMUTABLE AS $$
    SELECT CASE WHEN NOT (worker).enabled THEN coalesce((worker).stopped_reason, 'stopped by ' || (worker).changed_by || ': '
            || (worker).reason)
        WHEN (slot).stopped THEN coalesce((slot).stopped_reason, 'this slot is stopped')
        WHEN NOT (flag).enabled THEN 'flag ' || (flag).name || ' is off: ' || (flag).changed_by || ': ' || (flag).reason END
$$;
