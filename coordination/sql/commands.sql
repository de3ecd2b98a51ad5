-- Commands: what persons ask of workers. Asking changes the desired state at once and leaves a part a slot; each part is carried out by
-- the host that has the slot. Parts of a rolling restart wait for the one before; a canary's first one is watched and judged.

-- What a command would do: {"targets": [{worker, slot, host, action, mode, pinned, void, refusal}], "changes": [text]}: a
-- void target's desired state stays as it is. FL001 where it can't be. Locks nothing.
CREATE OR REPLACE FUNCTION fleet.plan_command(action text, selector text, host text, args jsonb) RETURNS jsonb
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    token text;
    known fleet.workers;
    number integer;
    targets jsonb := '[]';
    changes text[] := '{}';
    whole text[] := '{}';
    strategy text := coalesce(plan_command.args->>'strategy', 'at_once');
    wanted integer;
BEGIN
    IF plan_command.action IS NULL OR plan_command.action NOT IN
        ('start', 'stop', 'restart', 'pause', 'resume', 'drain', 'scale', 'set', 'logs') THEN
        PERFORM fleet.refuse('action', plan_command.action, 'start, stop, restart, pause, resume, drain, scale, set or logs');
    END IF;
    IF plan_command.host IS NOT NULL AND NOT EXISTS (SELECT 1 FROM fleet.hosts h WHERE h.name = plan_command.host) THEN
        PERFORM fleet.refuse('host', plan_command.host,
            'one of ' || coalesce((SELECT string_agg(h.name, ', ' ORDER BY h.name) FROM fleet.hosts h), '(none is known yet)'));
    END IF;
    IF plan_command.selector IS NULL AND plan_command.host IS NULL THEN
        PERFORM fleet.refuse('selector', NULL, 'a worker, a slot such as poster/1, * for all, or a host');
    END IF;
    PERFORM fleet.require_command_args(plan_command.action, plan_command.host, plan_command.args);
    FOR token IN SELECT DISTINCT trim(t) FROM unnest(string_to_array(coalesce(plan_command.selector, '*'), ',')) t ORDER BY 1 LOOP
        IF token = '*' THEN
            whole := whole || ARRAY(SELECT w.name FROM fleet.workers w);
            CONTINUE;
        END IF;
        SELECT * INTO known FROM fleet.workers w WHERE w.name = split_part(token, '/', 1);
        IF NOT FOUND THEN
            PERFORM fleet.refuse('worker', split_part(token, '/', 1), 'one of '
                || coalesce((SELECT string_agg(w.name, ', ' ORDER BY w.name) FROM fleet.workers w), '(none is known yet)'));
        END IF;
        IF token = known.name THEN
            whole := whole || known.name;
            CONTINUE;
        END IF;
        number := CASE WHEN split_part(token, '/', 2) ~ '^[1-9][0-9]{0,3}$' THEN split_part(token, '/', 2)::integer END;
        IF number IS NULL OR number > known.replicas THEN
            PERFORM fleet.refuse('slot', substr(token, length(known.name) + 2), CASE known.replicas WHEN 0 THEN 'no value: it has none'
                ELSE 'a number from 1 to ' || known.replicas END);
        END IF;
        IF plan_command.action IN ('scale', 'set') THEN
            PERFORM fleet.refuse('slot', number::text, 'no value: ' || plan_command.action || ' is for the whole worker');
        END IF;
        IF plan_command.action = 'start' AND NOT known.enabled THEN
            PERFORM fleet.refuse('slot', token, 'no slot alone while ' || known.name || ' is stopped as a whole ('
                || coalesce(known.stopped_reason, known.reason) || '): start ' || known.name);
        END IF;
        targets := targets || jsonb_build_object('worker', known.name, 'slot', number);
    END LOOP;
    whole := ARRAY(SELECT DISTINCT w FROM unnest(whole) w ORDER BY w);
    IF plan_command.action = 'set' THEN
        RETURN jsonb_build_object('targets', '[]'::jsonb, 'whole', to_jsonb(whole), 'changes', (
            SELECT jsonb_agg(w || ': ' || (SELECT string_agg(format('%s is %s', replace(a.key, '_', ' '),
                CASE WHEN a.value = '{}' THEN 'any host' ELSE coalesce(a.value #>> '{}', 'none') END), ', ' ORDER BY a.key)
                FROM jsonb_each(plan_command.args) a)) FROM unnest(whole) w));
    ELSIF plan_command.action = 'scale' THEN
        wanted := (plan_command.args->>'replicas')::integer;
        FOR known IN SELECT * FROM fleet.workers w WHERE w.name = ANY(whole) ORDER BY w.name LOOP
            IF known.singleton AND wanted > 1 THEN
                PERFORM fleet.refuse('replicas', wanted::text, '0 or 1: ' || known.name
                    || ' is a singleton, a second one would do the same work again');
            END IF;
            changes := changes || format('%s: from %s to %s slots', known.name, known.replicas, wanted);
            targets := targets || coalesce((SELECT jsonb_agg(jsonb_build_object('worker', known.name, 'slot', n, 'host',
                    (SELECT s.host FROM fleet.slots s WHERE s.worker = known.name AND s.slot = n),
                    'action', CASE WHEN n > known.replicas THEN 'start' ELSE 'drain' END, 'mode', 'plain', 'pinned', n <= known.replicas,
                    'refusal', CASE WHEN n > known.replicas THEN fleet.why_no_start(known.name, n, 'scale') END) ORDER BY n)
                FROM generate_series(least(known.replicas, wanted) + 1, greatest(known.replicas, wanted)) n), '[]');
        END LOOP;
        RETURN jsonb_build_object('targets', targets, 'changes', to_jsonb(changes), 'whole', to_jsonb(whole));
    END IF;
    targets := coalesce((
        SELECT jsonb_agg(jsonb_build_object('worker', t.worker, 'slot', t.slot, 'host', s.host, 'action', plan_command.action,
            'mode', CASE WHEN plan_command.action <> 'restart' OR strategy = 'at_once' AND NOT w.singleton THEN 'plain'
                WHEN w.singleton THEN 'stop_first' ELSE 'surge' END,
            'pinned', plan_command.action = 'drain' AND plan_command.selector IS NULL,
            'void', void IS NOT NULL, 'refusal', CASE WHEN void IS NOT NULL THEN void
                WHEN plan_command.action IN ('restart', 'start') THEN fleet.why_no_start(t.worker, t.slot, plan_command.action) END)
            ORDER BY t.worker, t.slot)
        FROM (SELECT w.name AS worker, n AS slot FROM fleet.workers w, generate_series(1, w.replicas) n WHERE w.name = ANY(whole)
            UNION SELECT t.worker, t.slot FROM jsonb_to_recordset(targets) AS t(worker text, slot integer)) t
        JOIN fleet.workers w ON w.name = t.worker
        LEFT JOIN fleet.slots s ON s.worker = t.worker AND s.slot = t.slot
        -- What holds for the whole worker is lifted for the whole worker: less can't come true, and changes nothing.
        CROSS JOIN LATERAL (SELECT CASE
            WHEN plan_command.selector IS NULL OR plan_command.host IS NULL AND t.worker = ANY(whole) THEN NULL
            WHEN plan_command.action = 'start' AND NOT w.enabled THEN format('%s is stopped as a whole (%s): start %s', w.name,
                coalesce(w.stopped_reason, w.reason), w.name)
            WHEN plan_command.action = 'resume' AND w.paused THEN format('%s is paused as a whole (%s): resume %s', w.name,
                coalesce(w.paused_reason, w.reason), w.name) END AS void) v
        WHERE plan_command.host IS NULL OR s.host = plan_command.host), '[]');
    IF plan_command.host IS NOT NULL AND targets = '[]' AND plan_command.selector IS NOT NULL THEN
        PERFORM fleet.refuse('selector', plan_command.selector, 'a slot that host ' || plan_command.host || ' has');
    END IF;
    IF plan_command.host IS NOT NULL AND plan_command.selector IS NULL AND plan_command.action IN ('drain', 'start') THEN
        changes := changes || format('host %s %s', plan_command.host,
            CASE plan_command.action WHEN 'drain' THEN 'takes no more slots and gives its own away' ELSE 'takes slots again' END);
    ELSIF plan_command.host IS NOT NULL THEN
        whole := '{}';
    END IF;
    IF plan_command.action IN ('start', 'stop', 'drain', 'pause', 'resume') AND NOT (plan_command.action IN ('drain', 'start')
        AND plan_command.selector IS NULL) THEN
        changes := changes || ARRAY(SELECT format('%s: %s', w, CASE plan_command.action WHEN 'start' THEN 'should run'
                WHEN 'pause' THEN 'is paused' WHEN 'resume' THEN 'goes on' ELSE 'should not run' END) FROM unnest(whole) w)
            || ARRAY(SELECT format('%s/%s: %s', t->>'worker', t->>'slot', CASE plan_command.action WHEN 'start' THEN 'should run'
                WHEN 'pause' THEN 'is paused' WHEN 'resume' THEN 'goes on' ELSE 'should not run' END)
                FROM jsonb_array_elements(targets) t WHERE NOT t->>'worker' = ANY(whole) AND NOT (t->>'void')::boolean);
    END IF;
    RETURN jsonb_build_object('targets', targets, 'changes', to_jsonb(changes), 'whole', to_jsonb(whole));
END $$;

-- FL001 unless a command's arguments are what its action takes. Locks nothing.
CREATE OR REPLACE FUNCTION fleet.require_command_args(action text, host text, args jsonb) RETURNS void
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    takes text[] := CASE require_command_args.action WHEN 'restart' THEN ARRAY['strategy', 'watch_s'] WHEN 'scale' THEN ARRAY['replicas']
        WHEN 'set' THEN ARRAY['placement', 'memory_limit_mb', 'cpu_limit_percent', 'nice'] WHEN 'logs' THEN ARRAY['lines']
        ELSE '{}' END;
    unknown text;
BEGIN
    IF args IS NULL OR jsonb_typeof(args) <> 'object' THEN
        PERFORM fleet.refuse('args', args::text, 'a JSON object');
    END IF;
    SELECT k INTO unknown FROM jsonb_object_keys(args) k WHERE NOT k = ANY(takes) LIMIT 1;
    IF FOUND THEN
        PERFORM fleet.refuse('args', unknown, CASE WHEN takes = '{}' THEN 'nothing for ' || action
            ELSE array_to_string(takes, ', ') END);
    END IF;
    IF action = 'restart' THEN
        IF coalesce(args->>'strategy', 'at_once') NOT IN ('at_once', 'rolling', 'canary') THEN
            PERFORM fleet.refuse('strategy', args->>'strategy', 'at_once, rolling or canary');
        END IF;
        PERFORM fleet.require_limit(args, 'watch_s', 1, 86400, false);
    ELSIF action = 'scale' THEN
        PERFORM fleet.require_limit(args, 'replicas', 0, 1000, false);
        IF NOT args ? 'replicas' THEN
            PERFORM fleet.refuse('replicas', NULL, 'a whole number from 0 to 1000');
        END IF;
    ELSIF action = 'logs' THEN
        PERFORM fleet.require_limit(args, 'lines', 1, 100000, false);
    ELSIF action = 'set' THEN
        IF args = '{}' THEN
            PERFORM fleet.refuse('args', '{}', 'at least one of ' || array_to_string(takes, ', '));
        END IF;
        IF args ? 'placement' THEN
            PERFORM fleet.require_placement(args->'placement');
        END IF;
        PERFORM fleet.require_limit(args, 'memory_limit_mb', 16, 1048576, true);
        PERFORM fleet.require_limit(args, 'cpu_limit_percent', 1, 100000, true);
        PERFORM fleet.require_limit(args, 'nice', 0, 19, false);
    END IF;
    IF action IN ('scale', 'set') AND host IS NOT NULL THEN
        PERFORM fleet.refuse('host', host, 'no value: ' || action || ' is for the whole worker');
    END IF;
END $$;

-- Why a slot would not run though it is asked to; null where it would. A start lifts what a person stopped. Locks nothing.
CREATE OR REPLACE FUNCTION fleet.why_no_start(worker text, slot integer, action text DEFAULT 'start') RETURNS text
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    RETURN (SELECT CASE WHEN f.enabled IS NOT FALSE AND why_no_start.action = 'start' THEN NULL ELSE fleet.why_not(
            CASE WHEN why_no_start.action = 'start' THEN jsonb_populate_record(w, '{"enabled": true}') ELSE w END,
            CASE WHEN why_no_start.action = 'start' THEN jsonb_populate_record(s, '{"stopped": false}') ELSE s END, f) END
        FROM fleet.workers w LEFT JOIN fleet.slots s ON s.worker = w.name AND s.slot = why_no_start.slot
        LEFT JOIN fleet.flags f ON f.name = w.name || '_enabled' WHERE w.name = why_no_start.worker);
END $$;

-- Says what request_command would do, and changes nothing: {"parts": [...], "changes": [text]}.
CREATE OR REPLACE FUNCTION fleet.preview_command(action text, selector text, host text, args jsonb) RETURNS jsonb
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    plan jsonb := fleet.plan_command(preview_command.action, preview_command.selector, preview_command.host, preview_command.args);
BEGIN
    RETURN jsonb_build_object('parts', plan->'targets', 'changes', plan->'changes');
END $$;

-- Puts a plan's changes into the desired state. Takes the rows of the hosts, then of the workers and slots that are meant. Under the
-- shares' lock, which the caller holds.
CREATE OR REPLACE FUNCTION fleet.apply_command(action text, selector text, host text, args jsonb, plan jsonb, actor text, reason text)
RETURNS void
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    why text := left(actor || ': ' || apply_command.reason, 500);
    whole text[] := ARRAY(SELECT jsonb_array_elements_text(plan->'whole'));
    a text := apply_command.action;
    at timestamptz;
BEGIN
    IF a IN ('restart', 'logs') THEN
        RETURN;
    END IF;
    PERFORM fleet.hold_hosts();
    PERFORM fleet.make_slots();  -- what is said of a slot holds also where no pass has made it yet
    PERFORM 1 FROM fleet.workers w WHERE w.name = ANY(whole) ORDER BY w.name FOR NO KEY UPDATE;
    at := fleet.now();
    IF apply_command.selector IS NULL AND a IN ('drain', 'start') THEN
        UPDATE fleet.hosts h SET draining = (a = 'drain'), changed_by = actor, reason = apply_command.reason
        WHERE h.name = apply_command.host;
        RETURN;
    ELSIF a = 'set' THEN
        UPDATE fleet.workers w SET placement = coalesce(args->'placement', w.placement),
            memory_limit_mb = CASE WHEN args ? 'memory_limit_mb' THEN (args->>'memory_limit_mb')::integer ELSE w.memory_limit_mb END,
            cpu_limit_percent = CASE WHEN args ? 'cpu_limit_percent' THEN (args->>'cpu_limit_percent')::integer
                ELSE w.cpu_limit_percent END,
            nice = coalesce((args->>'nice')::integer, w.nice), changed_by = actor, reason = apply_command.reason, changed_at = at
        WHERE w.name = ANY(whole);
        RETURN;
    ELSIF a = 'scale' THEN
        UPDATE fleet.workers w SET replicas = (args->>'replicas')::integer, changed_by = actor, reason = apply_command.reason,
            changed_at = at WHERE w.name = ANY(whole);
        RETURN;
    END IF;
    -- A whole worker's order holds for each of its slots.
    UPDATE fleet.workers w SET
        enabled = CASE WHEN a IN ('start', 'stop', 'drain') THEN a = 'start' ELSE w.enabled END,
        stopped_reason = CASE a WHEN 'start' THEN NULL WHEN 'stop' THEN 'stopped by ' || why WHEN 'drain' THEN 'drained by ' || why
            ELSE w.stopped_reason END,
        paused = CASE WHEN a IN ('pause', 'resume') THEN a = 'pause' ELSE w.paused END,
        paused_reason = CASE a WHEN 'pause' THEN 'paused by ' || why WHEN 'resume' THEN NULL ELSE w.paused_reason END,
        changed_by = actor, reason = apply_command.reason, changed_at = at
    WHERE w.name = ANY(whole);
    UPDATE fleet.slots s SET
        stopped = CASE WHEN a = 'start' THEN false WHEN a IN ('stop', 'drain') AND NOT s.worker = ANY(whole) THEN true ELSE s.stopped END,
        stopped_reason = CASE WHEN a = 'start' THEN NULL WHEN a IN ('stop', 'drain') AND NOT s.worker = ANY(whole)
            THEN CASE a WHEN 'stop' THEN 'stopped by ' ELSE 'drained by ' END || why ELSE s.stopped_reason END,
        paused = CASE WHEN a = 'resume' THEN false WHEN a = 'pause' AND NOT s.worker = ANY(whole) THEN true ELSE s.paused END,
        paused_reason = CASE WHEN a = 'resume' THEN NULL WHEN a = 'pause' AND NOT s.worker = ANY(whole) THEN 'paused by ' || why
            ELSE s.paused_reason END
    WHERE s.worker = ANY(whole) OR EXISTS (
        SELECT 1 FROM jsonb_to_recordset(plan->'targets') AS t(worker text, slot integer, void boolean)
        WHERE t.worker = s.worker AND t.slot = s.slot AND t.void IS NOT TRUE);
END $$;

-- A person asks: the desired state changes now, each slot that is meant gets a part. One command at a time; audited, flushed.
CREATE OR REPLACE FUNCTION fleet.request_command(
    action text, selector text, host text, args jsonb, actor text, reason text, idempotency_key text, timeout_s double precision
) RETURNS jsonb
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET lock_timeout = '5s' AS $$
DECLARE
    asked fleet.commands;
    plan jsonb;
    real timestamptz;
BEGIN
    PERFORM fleet.require_read_committed();
    PERFORM set_config('synchronous_commit', 'on', true);
    IF timeout_s IS NULL OR NOT (timeout_s > 0 AND timeout_s <= 86400) THEN
        PERFORM fleet.refuse('timeout_s', timeout_s::text, 'more than 0, at most 86400 seconds');
    END IF;
    -- The same lock as the shares': what a plan says of slots and hosts still holds when it is applied.
    PERFORM pg_advisory_xact_lock(fleet.lock_key('hosts', 'shares'));
    IF request_command.idempotency_key IS NOT NULL THEN
        SELECT * INTO asked FROM fleet.commands c WHERE c.idempotency_key = request_command.idempotency_key;
        IF FOUND THEN
            IF (asked.action, asked.selector, asked.host, asked.args) IS DISTINCT FROM (request_command.action,
                request_command.selector, request_command.host, request_command.args) THEN
                PERFORM fleet.refuse('idempotency_key', request_command.idempotency_key, 'a key that no other command has: '
                    || asked.action || ' ' || coalesce(asked.selector, asked.host) || ' has it');
            END IF;
            RETURN fleet.get_command(asked.id) || '{"repeated": true}';
        END IF;
    END IF;
    plan := fleet.plan_command(request_command.action, request_command.selector, request_command.host, request_command.args);
    real := clock_timestamp();
    INSERT INTO fleet.commands (action, selector, worker, slot, host, args, requested_by, reason, requested_at, state,
        idempotency_key, expires_at)
    VALUES (request_command.action, request_command.selector,
        CASE WHEN request_command.selector !~ '[*,]' THEN split_part(request_command.selector, '/', 1) END,
        CASE WHEN request_command.selector !~ '[*,]' THEN nullif(split_part(request_command.selector, '/', 2), '')::integer END,
        request_command.host, request_command.args, left(actor, 200), left(request_command.reason, 1000), real, 'pending',
        request_command.idempotency_key, real + make_interval(secs => timeout_s
            + CASE WHEN args->>'strategy' = 'canary' THEN coalesce((args->>'watch_s')::double precision, 60) ELSE 0 END))
    RETURNING * INTO asked;
    PERFORM fleet.write_audit(actor, request_command.action, coalesce(request_command.selector, 'host ' || request_command.host),
        request_command.reason, jsonb_build_object('command', asked.id, 'host', request_command.host, 'args', request_command.args,
            'changes', plan->'changes'));
    PERFORM fleet.apply_command(request_command.action, request_command.selector, request_command.host, request_command.args, plan,
        actor, request_command.reason);
    PERFORM fleet.supersede(asked.id, plan->'targets');
    UPDATE fleet.commands c SET result = (SELECT left(string_agg(t, '; '), 1000) FROM jsonb_array_elements_text(plan->'changes') t)
    WHERE c.id = asked.id AND plan->'targets' = '[]';
    INSERT INTO fleet.command_parts (command, ordinal, action, mode, worker, slot, host, pinned, state, result, finished_at)
    SELECT asked.id, row_number() OVER (ORDER BY o.n), t.action, t.mode, t.worker, t.slot, CASE WHEN t.pinned THEN t.host END, t.pinned,
        CASE WHEN t.refusal IS NULL THEN 'waiting' ELSE 'failed' END, left(t.refusal, 1000),
        CASE WHEN t.refusal IS NOT NULL THEN real END
    FROM jsonb_array_elements(plan->'targets') WITH ORDINALITY AS o(e, n),
        jsonb_to_record(o.e) AS t(worker text, slot integer, host text, action text, mode text, pinned boolean, refusal text);
    PERFORM fleet.settle_command(asked.id);
    RETURN fleet.get_command(asked.id) || '{"repeated": false}';
END $$;

-- A command with its parts in their order; FL001 where there is none of that id. Locks nothing.
CREATE OR REPLACE FUNCTION fleet.get_command(command bigint) RETURNS jsonb
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    shown jsonb;
BEGIN
    SELECT jsonb_build_object('id', c.id::text, 'action', c.action, 'selector', c.selector, 'worker', c.worker, 'slot', c.slot,
        'host', c.host, 'args', c.args, 'state', c.state, 'result', c.result, 'requested_by', c.requested_by, 'reason', c.reason,
        'requested_at', c.requested_at, 'taken_at', c.taken_at, 'finished_at', c.finished_at, 'expires_at', c.expires_at,
        'parts', coalesce((SELECT jsonb_agg(jsonb_build_object('id', p.id::text, 'ordinal', p.ordinal, 'action', p.action,
            'mode', p.mode, 'worker', p.worker, 'slot', p.slot, 'host', coalesce(p.host, s.host), 'state', p.state,
            'result', p.result, 'output', p.output, 'watch_until', p.watch_until) ORDER BY p.ordinal)
            FROM fleet.command_parts p LEFT JOIN fleet.slots s ON s.worker = p.worker AND s.slot = p.slot
            WHERE p.command = c.id), '[]'))
    INTO shown FROM fleet.commands c WHERE c.id = get_command.command;
    IF NOT FOUND THEN
        PERFORM fleet.refuse('command', get_command.command::text, 'the id of a command');
    END IF;
    RETURN shown;
END $$;

-- What a person did on a host while the database was away, told afterwards: a finished command, audited; a start or stop becomes the
-- desired state of the slots that are the host's. What can't be is audited too, as a failed command. A second telling of one key is the
-- first one. Flushed.
CREATE OR REPLACE FUNCTION fleet.adopt_override(
    host text, action text, selector text, actor text, reason text, idempotency_key text DEFAULT NULL
) RETURNS jsonb
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET lock_timeout = '5s' AS $$
DECLARE
    plan jsonb;
    done bigint;
    refusal text;
    -- It was done already: what is wrong with its words can't be refused any more.
    who text := coalesce(nullif(trim(adopt_override.actor), ''), 'somebody');
    why text := coalesce(nullif(trim(regexp_replace(adopt_override.reason, '[[:cntrl:]]+', ' ', 'g')), ''), 'no reason given');
    real timestamptz;
BEGIN
    PERFORM fleet.require_read_committed();
    PERFORM set_config('synchronous_commit', 'on', true);
    IF adopt_override.action IS NULL OR adopt_override.action NOT IN ('start', 'stop', 'restart') THEN
        PERFORM fleet.refuse('action', adopt_override.action, 'start, stop or restart');
    END IF;
    PERFORM pg_advisory_xact_lock(fleet.lock_key('hosts', 'shares'));
    SELECT c.id INTO done FROM fleet.commands c WHERE c.idempotency_key = adopt_override.idempotency_key;
    IF FOUND THEN
        RETURN jsonb_build_object('command', done::text, 'repeated', true);
    END IF;
    BEGIN
        plan := fleet.plan_command(adopt_override.action, adopt_override.selector, adopt_override.host, '{}');
    EXCEPTION WHEN SQLSTATE 'FL001' THEN
        refusal := SQLERRM;
    END;
    refusal := coalesce(refusal, (SELECT string_agg(DISTINCT t.refusal, '; ')
        FROM jsonb_to_recordset(plan->'targets') AS t(void boolean, refusal text) WHERE t.void));
    real := clock_timestamp();
    INSERT INTO fleet.commands (action, selector, host, requested_by, reason, requested_at, state, result, taken_at, finished_at,
        expires_at, idempotency_key)
    VALUES (adopt_override.action, adopt_override.selector, adopt_override.host, left(who, 200), left(why, 1000), real,
        CASE WHEN refusal IS NULL THEN 'done' ELSE 'failed' END,
        left(coalesce('done on the host while the database was away, and not taken over: ' || refusal,
            'done on the host while the database was away'), 1000), real, real, real, adopt_override.idempotency_key)
    RETURNING id INTO done;
    PERFORM fleet.write_audit(who, adopt_override.action, adopt_override.selector, why,
        jsonb_build_object('command', done, 'host', adopt_override.host, 'told_afterwards', true, 'changes', plan->'changes',
            'refused', refusal));
    IF refusal IS NOT NULL THEN
        PERFORM fleet.emit('warning', 'order_refused', adopt_override.host, format('%s %s, done on %s while the database was away, is not '
            'taken over: %s', adopt_override.action, adopt_override.selector, adopt_override.host, refusal));
        IF NOT EXISTS (SELECT 1 FROM jsonb_to_recordset(plan->'targets') AS t(void boolean) WHERE t.void IS NOT TRUE) THEN
            RETURN jsonb_build_object('command', done::text, 'refused', refusal);
        END IF;
    END IF;
    PERFORM fleet.apply_command(adopt_override.action, adopt_override.selector, adopt_override.host, '{}', plan, who, why);
    PERFORM fleet.supersede(done, plan->'targets');
    RETURN jsonb_strip_nulls(jsonb_build_object('command', done::text, 'changes', plan->'changes', 'refused', refusal));
END $$;
