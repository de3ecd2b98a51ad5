-- Hosts: where managers run. A host lives while its manager's session holds the host's advisory lock and reports.

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
    SELECT * INTO known FROM fleet.hosts h WHERE h.name = open_host.host FOR NO KEY UPDATE;
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
    real timestamptz;
BEGIN
    PERFORM fleet.require_read_committed();
    PERFORM set_config('synchronous_commit', 'off', true);
    PERFORM 1 FROM fleet.hosts h WHERE h.name = report_host.host FOR NO KEY UPDATE;
    real := clock_timestamp();
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
    PERFORM 1 FROM fleet.incarnations i WHERE i.host = known.name AND i.died_at IS NULL ORDER BY i.id FOR NO KEY UPDATE;
    UPDATE fleet.incarnations i SET died_at = real, death = left(format('%s says that host %s is gone: %s', actor, known.name,
            declare_host_gone.reason), 500), ended_at = coalesce(i.ended_at, real), end_reason = coalesce(i.end_reason, 'its host is gone')
    WHERE i.host = known.name AND i.died_at IS NULL AND i.started_at <= known.seen_at + interval '10 seconds';
    GET DIAGNOSTICS closed = ROW_COUNT;
    PERFORM fleet.clear_alert('host_lost:' || known.name);
    PERFORM fleet.emit('warning', 'host_gone', known.name, format('host %s is gone, says %s: %s', known.name, actor,
        declare_host_gone.reason));
    RETURN jsonb_build_object('host', known.name, 'incarnations', closed);
END $$;
