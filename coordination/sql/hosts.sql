-- Hosts: where managers run, and which slots are whose. A host lives while its manager's session holds the host's advisory lock and
-- reports; one lock makes shares, so that each slot is one host's.

-- FL004: the name is another manager's. Locks nothing.
CREATE OR REPLACE FUNCTION fleet.refuse_host(host text, why text) RETURNS void
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    RAISE EXCEPTION 'host %: %', refuse_host.host, refuse_host.why
        USING ERRCODE = 'FL004', HINT = 'give each manager a name of its own: SOCIALFLEET_HOST';
END $$;

-- Whether nobody holds the lock of a manager's session. Takes it shared until the transaction's end; never asked of one's own.
CREATE OR REPLACE FUNCTION fleet.is_abandoned(session uuid) RETURNS boolean
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    RETURN pg_try_advisory_xact_lock_shared(fleet.lock_key('host', is_abandoned.session::text));
END $$;

-- A manager takes its host's name for as long as this connection lives, and tells what its program has. Takes the name's lock, waits up
-- to 5 s. Gives the lives of the host that nobody has proven dead. FL004 while another living manager has the name.
CREATE OR REPLACE FUNCTION fleet.open_host(
    host text, session uuid, boot_id text, pid_namespace text, pid integer, pid_started text, machine text, version text,
    labels jsonb, workers jsonb
) RETURNS jsonb
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET lock_timeout = '5s' AS $$
DECLARE
    known fleet.hosts;
    real timestamptz;
BEGIN
    PERFORM fleet.require_read_committed();
    PERFORM set_config('synchronous_commit', 'on', true);
    IF open_host.host IS NULL OR open_host.host !~ '^[A-Za-z0-9][A-Za-z0-9._-]{0,252}$' THEN
        PERFORM fleet.refuse('host', open_host.host, '1 to 253 letters, digits, dots, _ or -: set SOCIALFLEET_HOST');
    END IF;
    PERFORM pg_advisory_xact_lock(fleet.lock_key('host name', open_host.host));
    real := clock_timestamp();
    SELECT * INTO known FROM fleet.hosts h WHERE h.name = open_host.host;
    -- A manager that lost its connection comes back while the server still keeps the old one: that is no other manager.
    IF FOUND AND known.state IN ('live', 'lost') AND known.seen_at > real - interval '10 seconds'
        AND (known.boot_id, known.pid_namespace, known.manager_pid, known.manager_started)
            IS DISTINCT FROM (open_host.boot_id, open_host.pid_namespace, open_host.pid, open_host.pid_started)
        AND NOT fleet.is_abandoned(known.session) THEN
        PERFORM fleet.refuse_host(open_host.host, format('process %s, started at %s, manages it already', known.manager_pid,
            to_char(known.started_at, 'YYYY-MM-DD HH24:MI:SS')));
    END IF;
    PERFORM pg_advisory_lock(fleet.lock_key('host', open_host.session::text));
    INSERT INTO fleet.hosts AS h (name, session, boot_id, pid_namespace, manager_pid, manager_started, machine, version, labels,
        workers, state, wake_channel, started_at, seen_at, changed_by, reason)
    VALUES (open_host.host, open_host.session, open_host.boot_id, open_host.pid_namespace, open_host.pid, open_host.pid_started,
        open_host.machine, open_host.version, open_host.labels,
        ARRAY(SELECT w->>'name' FROM jsonb_array_elements(open_host.workers) w ORDER BY 1), 'live', 'untested', real, real,
        'manager', 'its manager started')
    ON CONFLICT ON CONSTRAINT hosts_pkey DO UPDATE SET session = excluded.session, boot_id = excluded.boot_id,
        pid_namespace = excluded.pid_namespace, manager_pid = excluded.manager_pid, manager_started = excluded.manager_started,
        machine = excluded.machine, version = excluded.version, labels = excluded.labels, workers = excluded.workers,
        state = 'live', wake_channel = 'untested', seen_at = excluded.seen_at,
        started_at = CASE WHEN (h.boot_id, h.pid_namespace, h.manager_pid, h.manager_started) = (excluded.boot_id,
            excluded.pid_namespace, excluded.manager_pid, excluded.manager_started) THEN h.started_at ELSE excluded.started_at END;
    PERFORM fleet.ensure_worker(w->>'name', w->>'description', true, ARRAY(SELECT jsonb_array_elements_text(w->'roles')),
            coalesce((w->>'singleton')::boolean, false))
        FROM jsonb_array_elements(open_host.workers) w ORDER BY w->>'name';
    IF known.name IS NULL THEN
        PERFORM fleet.emit('info', 'host_joined', open_host.host, format('host %s joined the fleet', open_host.host));
    ELSIF known.state <> 'live' THEN
        PERFORM fleet.greet_host(open_host.host, known.state);
    END IF;
    RETURN jsonb_build_object(
        'same_machine', known.machine IS NOT NULL AND known.machine <> '' AND known.machine = open_host.machine,
        'undead', coalesce((SELECT jsonb_agg(jsonb_build_object('id', i.id, 'worker', i.worker, 'slot', i.slot, 'pid', i.pid,
                'pid_started', i.pid_started, 'boot_id', i.boot_id, 'pid_namespace', i.pid_namespace))
            FROM (SELECT * FROM fleet.incarnations i WHERE i.host = open_host.host AND i.died_at IS NULL
                ORDER BY i.started_at DESC LIMIT 5000) i), '[]'));
END $$;

-- A host that was away is there again: the alert ends. Inside its caller's transaction.
CREATE OR REPLACE FUNCTION fleet.greet_host(host text, was text) RETURNS void
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    PERFORM fleet.emit('info', 'host_back', greet_host.host, format('host %s is back (it was %s)', greet_host.host, greet_host.was));
    PERFORM fleet.clear_alert('host_lost:' || greet_host.host);
END $$;

-- The host's row if the session is still its manager's; FL004 otherwise.
CREATE OR REPLACE FUNCTION fleet.require_host(host text, session uuid) RETURNS fleet.hosts
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    known fleet.hosts;
BEGIN
    SELECT * INTO known FROM fleet.hosts h WHERE h.name = require_host.host;
    IF NOT FOUND OR known.session <> require_host.session THEN
        PERFORM fleet.refuse_host(require_host.host, 'another manager has taken it over');
    ELSIF known.state NOT IN ('live', 'lost') THEN
        PERFORM fleet.refuse_host(require_host.host, format('it counts as %s: %s', known.state, known.reason));
    END IF;
    RETURN known;
END $$;

-- A manager says that its host lives and, where something changed (slots is not null), how every slot is that has a process there or
-- should. What is no more its own is passed over. Worth telling is what a person would want to know, not that work begins or ends.
-- Touches the host's row and the slots that changed; not flushed. FL004 when the name is another's by now.
CREATE OR REPLACE FUNCTION fleet.report_host(host text, session uuid, as_of bigint, slots jsonb, wake_channel text) RETURNS void
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET lock_timeout = '5s' AS $$
DECLARE
    me fleet.hosts;
    told record;
    kind text;
    real timestamptz := clock_timestamp();
BEGIN
    PERFORM fleet.require_read_committed();
    PERFORM set_config('synchronous_commit', 'off', true);
    me := fleet.require_host(report_host.host, report_host.session);
    UPDATE fleet.hosts h SET seen_at = real, state = 'live', wake_channel = report_host.wake_channel
    WHERE h.name = me.name AND h.session = report_host.session;
    IF me.state = 'lost' THEN
        PERFORM fleet.greet_host(me.name, me.state);
    END IF;
    IF report_host.slots IS NULL THEN
        RETURN;
    END IF;
    FOR told IN SELECT t.*, s.state AS was, s.pid AS was_pid
        FROM jsonb_to_recordset(report_host.slots) AS t(worker text, slot integer, state text, reason text, age_s double precision,
            pid integer, pid_started text, incarnation uuid, restart_count integer, failures integer, memory_bytes bigint,
            cpu_percent double precision, step text)
        JOIN fleet.slots s ON s.worker = t.worker AND s.slot = t.slot
            AND (s.leaving = me.name OR s.host = me.name AND s.leaving IS NULL)
        WHERE (s.state, s.reason, s.pid, s.incarnation, s.restart_count, s.failures, s.memory_bytes, s.cpu_percent, s.step)
            IS DISTINCT FROM (t.state, left(t.reason, 500), t.pid, t.incarnation, t.restart_count, t.failures, t.memory_bytes,
                t.cpu_percent, t.step)
        ORDER BY t.worker, t.slot FOR UPDATE OF s
    LOOP
        UPDATE fleet.slots s SET state = told.state, reason = left(told.reason, 500), pid = told.pid,
            since = CASE WHEN (told.was, told.was_pid) IS NOT DISTINCT FROM (told.state, told.pid) THEN s.since
                ELSE real - make_interval(secs => told.age_s) END,
            pid_started = told.pid_started, incarnation = told.incarnation, restart_count = told.restart_count,
            failures = told.failures, memory_bytes = told.memory_bytes, cpu_percent = told.cpu_percent, step = told.step,
            seen_at = real
        WHERE s.worker = told.worker AND s.slot = told.slot;
        kind := replace(told.state, 'BUSY', 'READY');
        IF (replace(told.was, 'BUSY', 'READY'), told.was_pid) IS DISTINCT FROM (kind, told.pid) THEN
            PERFORM fleet.emit(CASE WHEN kind IN ('BACKOFF', 'STALLED', 'CRASH_LOOP') THEN 'error' ELSE 'info' END,
                'slot_' || lower(kind), told.worker || '/' || told.slot, format('%s/%s is %s%s', told.worker, told.slot, kind,
                    CASE WHEN told.reason <> '' THEN ': ' || told.reason ELSE '' END),
                jsonb_build_object('pid', told.pid, 'host', me.name));
        END IF;
    END LOOP;
    -- What was taken from this host and has ended here may begin elsewhere.
    PERFORM fleet.hand_over(me.name, report_host.as_of, report_host.slots);
END $$;

-- The host has heard that these slots are no more its own, and none of them is among what it still holds.
CREATE OR REPLACE FUNCTION fleet.hand_over(host text, as_of bigint, held jsonb) RETURNS void
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    PERFORM fleet.forget_leaving(s.worker, s.slot) FROM fleet.slots s
    WHERE s.leaving = hand_over.host AND s.leaving_number <= hand_over.as_of
      AND NOT EXISTS (SELECT 1 FROM jsonb_array_elements(hand_over.held) t
          WHERE t->>'worker' = s.worker AND (t->>'slot')::integer = s.slot);
END $$;

-- Nothing of the slot runs on the host that it left: its new one may begin, and one that nobody wants is no more.
CREATE OR REPLACE FUNCTION fleet.forget_leaving(worker text, slot integer) RETURNS void
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    UPDATE fleet.slots s SET leaving = NULL, leaving_number = NULL, pid = NULL, pid_started = NULL, incarnation = NULL, step = NULL,
        memory_bytes = NULL, cpu_percent = NULL, state = CASE WHEN s.host IS NULL THEN 'STOPPED' ELSE 'STARTING' END,
        reason = CASE WHEN s.host IS NULL THEN 'no live host admits it' ELSE 'it moved here' END,
        since = clock_timestamp(), seen_at = clock_timestamp()
    WHERE s.worker = forget_leaving.worker AND s.slot = forget_leaving.slot;
    DELETE FROM fleet.slots s WHERE s.worker = forget_leaving.worker AND s.slot = forget_leaving.slot AND s.host IS NULL
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

-- Gives a slot to a host, or to nobody (null). A living host that had it drains first.
CREATE OR REPLACE FUNCTION fleet.move_slot(worker text, slot integer, host text, why text) RETURNS void
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    known fleet.slots;
    number bigint;
BEGIN
    SELECT * INTO known FROM fleet.slots s WHERE s.worker = move_slot.worker AND s.slot = move_slot.slot FOR UPDATE;
    IF known.host IS NOT NULL AND known.leaving IS NULL THEN
        UPDATE fleet.hosts h SET share_number = h.share_number + 1 WHERE h.name = known.host AND h.state = 'live'
        RETURNING h.share_number INTO number;
    END IF;
    UPDATE fleet.slots s SET host = move_slot.host, assigned_at = clock_timestamp(),
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

-- Makes the shares: every wanted slot that no living, admissible host has goes to the admissible one with the fewest slots that run;
-- where these differ by more than one, one slot a pass goes over. Under the shares' lock, which the caller holds. Reads all slots.
CREATE OR REPLACE FUNCTION fleet.assign_slots(me text) RETURNS void
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    one record;
    target text;
    gained jsonb := '{}';  -- what hosts were given in this pass
    loads jsonb;
BEGIN
    PERFORM fleet.find_lost_hosts(me);
    INSERT INTO fleet.slots (worker, slot, state, reason, since, restart_count, seen_at)
    SELECT w.name, n, 'STARTING', 'no host has it yet', clock_timestamp(), 0, clock_timestamp()
    FROM fleet.workers w, generate_series(1, w.replicas) n
    WHERE NOT EXISTS (SELECT 1 FROM fleet.slots s WHERE s.worker = w.name AND s.slot = n)
    ON CONFLICT DO NOTHING;
    -- What was leaving a host that is no more.
    PERFORM fleet.forget_leaving(s.worker, s.slot) FROM fleet.slots s JOIN fleet.hosts h ON h.name = s.leaving
    WHERE h.state <> 'live';
    -- What nobody wants any more.
    FOR one IN SELECT s.worker, s.slot FROM fleet.slots s LEFT JOIN fleet.workers w ON w.name = s.worker
        WHERE s.host IS NOT NULL AND s.slot > coalesce(w.replicas, 0) ORDER BY s.worker, s.slot
    LOOP
        PERFORM fleet.move_slot(one.worker, one.slot, NULL, 'fewer are wanted');
    END LOOP;
    DELETE FROM fleet.slots s WHERE s.host IS NULL AND s.leaving IS NULL
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
    ORDER BY o.running - t.running DESC, s.state = 'BUSY', s.slot DESC, s.worker, (t.host).name LIMIT 1;
    IF FOUND THEN
        PERFORM fleet.move_slot(one.worker, one.slot, one.target, 'the other host has fewer to run');
    END IF;
END $$;

-- What this host should run, after slots that nobody has were given out and commands were moved on (by whoever comes first: nobody
-- waits for another's pass). Reads the host's own slots and parts; not flushed. FL004 when the name is another's by now.
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

-- A manager leaves in good order: the others take its slots with their next pass.
CREATE OR REPLACE FUNCTION fleet.close_host(host text, session uuid, reason text) RETURNS void
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET lock_timeout = '5s' AS $$
BEGIN
    UPDATE fleet.hosts h SET state = 'left', seen_at = clock_timestamp(), changed_by = 'manager', reason = left(close_host.reason, 500)
    WHERE h.name = close_host.host AND h.session = close_host.session AND h.state IN ('live', 'lost');
    IF FOUND THEN
        PERFORM fleet.emit('info', 'host_left', close_host.host, format('host %s left: %s', close_host.host, close_host.reason));
    END IF;
    PERFORM pg_advisory_unlock(fleet.lock_key('host', close_host.session::text));
END $$;

-- FL001 unless the fleet knows the host; its row is locked.
CREATE OR REPLACE FUNCTION fleet.require_known_host(host text) RETURNS fleet.hosts
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    known fleet.hosts;
BEGIN
    SELECT * INTO known FROM fleet.hosts h WHERE h.name = require_known_host.host FOR UPDATE;
    IF NOT FOUND THEN
        PERFORM fleet.refuse('host', require_known_host.host,
            'one of ' || coalesce((SELECT string_agg(h.name, ', ' ORDER BY h.name) FROM fleet.hosts h), '(none is known yet)'));
    END IF;
    RETURN known;
END $$;

-- A person takes a host out of service, so that its slots move, or back into it. Audited, flushed; takes the host's row.
CREATE OR REPLACE FUNCTION fleet.drain_host(host text, draining boolean, actor text, reason text) RETURNS jsonb
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET lock_timeout = '5s' AS $$
DECLARE
    known fleet.hosts;
BEGIN
    PERFORM fleet.require_read_committed();
    PERFORM set_config('synchronous_commit', 'on', true);
    known := fleet.require_known_host(drain_host.host);
    IF drain_host.draining IS NULL THEN
        PERFORM fleet.refuse('draining', NULL, 'true or false');
    END IF;
    PERFORM fleet.write_audit(actor, CASE WHEN drain_host.draining THEN 'drain_host' ELSE 'undrain_host' END, known.name,
        drain_host.reason);
    UPDATE fleet.hosts h SET draining = drain_host.draining, changed_by = drain_host.actor, reason = drain_host.reason
    WHERE h.name = known.name;
    RETURN jsonb_build_object('host', known.name, 'draining', drain_host.draining,
        'slots', (SELECT count(*) FROM fleet.slots s WHERE known.name IN (s.host, s.leaving)));
END $$;

-- A person vouches that nothing of a host runs any more: its lives count as proven dead. FL001 while its manager lives. Audited, flushed.
CREATE OR REPLACE FUNCTION fleet.declare_host_gone(host text, actor text, reason text) RETURNS jsonb
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET lock_timeout = '5s' AS $$
DECLARE
    known fleet.hosts;
    closed integer;
    real timestamptz;
BEGIN
    PERFORM fleet.require_read_committed();
    PERFORM set_config('synchronous_commit', 'on', true);
    known := fleet.require_known_host(declare_host_gone.host);
    real := clock_timestamp();
    IF known.state IN ('live', 'lost') AND (known.seen_at > real - interval '10 seconds' OR NOT fleet.is_abandoned(known.session)) THEN
        PERFORM fleet.refuse('host', known.name, 'a host whose manager ended; this one''s was heard '
            || round(extract(epoch FROM real - known.seen_at)::numeric) || ' s ago or still holds its connection');
    END IF;
    PERFORM fleet.write_audit(actor, 'declare_host_gone', known.name, declare_host_gone.reason);
    UPDATE fleet.hosts h SET state = 'gone', changed_by = declare_host_gone.actor, reason = declare_host_gone.reason
    WHERE h.name = known.name;
    UPDATE fleet.incarnations i SET died_at = real, death = left(format('%s says that host %s is gone: %s', actor, known.name,
            declare_host_gone.reason), 500), ended_at = coalesce(i.ended_at, real), end_reason = coalesce(i.end_reason, 'its host is gone')
    WHERE i.host = known.name AND i.died_at IS NULL AND i.started_at <= known.seen_at + interval '10 seconds';
    GET DIAGNOSTICS closed = ROW_COUNT;
    PERFORM fleet.clear_alert('host_lost:' || known.name);
    PERFORM fleet.emit('warning', 'host_gone', known.name, format('host %s is gone, says %s: %s', known.name, actor,
        declare_host_gone.reason));
    RETURN jsonb_build_object('host', known.name, 'incarnations', closed);
END $$;
