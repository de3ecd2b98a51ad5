-- Desired state, actual slots and commands: what should run, what runs, and what persons asked for.

-- Makes the row of a worker that was found in the program; leaves what persons set.
CREATE OR REPLACE FUNCTION fleet.ensure_worker(
    name text, description text, enabled boolean DEFAULT true, roles text[] DEFAULT '{}'
) RETURNS void
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    INSERT INTO fleet.workers AS w (name, enabled, replicas, description, roles, changed_by, reason, changed_at)
    VALUES (ensure_worker.name, ensure_worker.enabled, 1, ensure_worker.description, ensure_worker.roles, 'manager',
        'found in the program', fleet.now())
    ON CONFLICT ON CONSTRAINT workers_pkey DO UPDATE SET description = excluded.description, roles = excluded.roles
        WHERE (w.description, w.roles) IS DISTINCT FROM (excluded.description, excluded.roles);
END $$;

-- What this host's manager should run. Locks nothing.
CREATE OR REPLACE FUNCTION fleet.get_desired() RETURNS jsonb
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    RETURN coalesce((SELECT jsonb_agg(jsonb_build_object('name', w.name, 'enabled', w.enabled, 'replicas', w.replicas)
        ORDER BY w.name) FROM fleet.workers w), '[]');
END $$;

-- A manager tells the state of its slots; a change of state is an event. Not flushed.
CREATE OR REPLACE FUNCTION fleet.report_slots(host text, slots jsonb) RETURNS void
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    told record;
    known fleet.slots;
    real timestamptz := clock_timestamp();
BEGIN
    PERFORM set_config('synchronous_commit', 'off', true);
    FOR told IN SELECT * FROM jsonb_to_recordset(report_slots.slots) AS t(
        worker text, slot integer, state text, reason text, pid integer, restart_count integer, age_s double precision)
        ORDER BY t.worker, t.slot
    LOOP
        SELECT * INTO known FROM fleet.slots s
        WHERE s.worker = told.worker AND s.slot = told.slot AND s.host = report_slots.host;
        INSERT INTO fleet.slots (worker, slot, host, state, reason, since, pid, restart_count, seen_at)
        VALUES (told.worker, told.slot, report_slots.host, told.state, left(told.reason, 500),
            real - make_interval(secs => told.age_s), told.pid, told.restart_count, real)
        ON CONFLICT ON CONSTRAINT slots_pkey DO UPDATE SET state = excluded.state, reason = excluded.reason,
            since = excluded.since, pid = excluded.pid, restart_count = excluded.restart_count, seen_at = excluded.seen_at;
        IF (known.state, known.pid) IS DISTINCT FROM (told.state, told.pid) THEN
            PERFORM fleet.emit(CASE told.state WHEN 'BACKOFF' THEN 'error' ELSE 'info' END, 'slot_' || lower(told.state),
                told.worker || '/' || told.slot, format('%s/%s is %s%s', told.worker, told.slot, told.state,
                    CASE WHEN told.reason <> '' THEN ': ' || told.reason ELSE '' END),
                jsonb_build_object('pid', told.pid, 'host', report_slots.host));
        END IF;
    END LOOP;
END $$;

-- A person asks: the desired state changes now, the command row waits for the manager. Audited, flushed.
CREATE OR REPLACE FUNCTION fleet.request_command(action text, worker text, slot integer, actor text, reason text) RETURNS jsonb
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET lock_timeout = '5s' AS $$
DECLARE
    asked fleet.commands;
    slots integer;
BEGIN
    IF action IS NULL OR action NOT IN ('start', 'stop', 'restart') THEN
        PERFORM fleet.refuse('action', action, 'start, stop or restart');
    END IF;
    IF NOT EXISTS (SELECT 1 FROM fleet.workers w WHERE w.name = request_command.worker) THEN
        PERFORM fleet.refuse('worker', request_command.worker,
            'one of ' || coalesce((SELECT string_agg(w.name, ', ' ORDER BY w.name) FROM fleet.workers w), '(none is known yet)'));
    END IF;
    SELECT w.replicas INTO slots FROM fleet.workers w WHERE w.name = request_command.worker;
    IF request_command.slot IS NOT NULL AND request_command.action <> 'restart' THEN
        PERFORM fleet.refuse('slot', request_command.slot::text, 'no value: ' || action || ' is for the whole worker');
    END IF;
    IF request_command.slot NOT BETWEEN 1 AND slots THEN
        PERFORM fleet.refuse('slot', request_command.slot::text, CASE slots WHEN 0 THEN 'no value: it has none'
            ELSE 'a number from 1 to ' || slots END);
    END IF;
    PERFORM fleet.write_audit(actor, request_command.action, request_command.worker
        || coalesce('/' || request_command.slot, ''), request_command.reason);
    IF request_command.action IN ('start', 'stop') THEN
        UPDATE fleet.workers w SET enabled = (request_command.action = 'start'), changed_by = actor,
            reason = request_command.reason, changed_at = fleet.now()
        WHERE w.name = request_command.worker;
    END IF;
    INSERT INTO fleet.commands (action, worker, slot, requested_by, reason, requested_at, state)
    VALUES (request_command.action, request_command.worker, request_command.slot, actor, request_command.reason,
        clock_timestamp(), 'pending')
    RETURNING * INTO asked;
    RETURN jsonb_build_object('id', asked.id::text, 'state', asked.state);
END $$;

-- The manager takes what is pending, oldest first; and again, after a minute, what a manager took that ended since.
CREATE OR REPLACE FUNCTION fleet.take_commands() RETURNS jsonb
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET lock_timeout = '5s' AS $$
DECLARE
    taken jsonb;
BEGIN
    WITH picked AS MATERIALIZED (
        SELECT c.id FROM fleet.commands c
        WHERE c.state = 'pending' OR (c.state = 'running' AND c.taken_at < clock_timestamp() - interval '1 minute')
        ORDER BY c.id LIMIT 50 FOR UPDATE SKIP LOCKED
    ), moved AS (
        UPDATE fleet.commands c SET state = 'running', taken_at = clock_timestamp() FROM picked WHERE c.id = picked.id RETURNING c.*
    )
    SELECT coalesce(jsonb_agg(jsonb_build_object('id', m.id::text, 'action', m.action, 'worker', m.worker, 'slot', m.slot)
        ORDER BY m.id), '[]') INTO taken FROM moved m;
    RETURN taken;
END $$;

CREATE OR REPLACE FUNCTION fleet.finish_command(command bigint, succeeded boolean, result text) RETURNS void
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    UPDATE fleet.commands c SET state = CASE WHEN succeeded THEN 'done' ELSE 'failed' END,
        result = left(finish_command.result, 1000), finished_at = clock_timestamp()
    WHERE c.id = finish_command.command AND c.state IN ('pending', 'running');
END $$;

CREATE OR REPLACE FUNCTION fleet.get_command(command bigint) RETURNS jsonb
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    RETURN (SELECT jsonb_build_object('id', c.id::text, 'action', c.action, 'worker', c.worker, 'state', c.state,
        'result', c.result) FROM fleet.commands c WHERE c.id = get_command.command);
END $$;
