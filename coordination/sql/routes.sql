-- Routes: which worker gets what is sent to a role, and which role gets what names nobody. Persons set them; the coordinator follows them.

-- The route of a type and kind: the kind's own, else the type's; null where there is neither. Locks nothing.
CREATE OR REPLACE FUNCTION fleet.find_route(type text, kind text) RETURNS fleet.routes
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    route fleet.routes;
BEGIN
    SELECT * INTO route FROM fleet.routes r WHERE r.type = find_route.type AND r.kind IN (find_route.kind, '*')
    ORDER BY (r.kind = '*') LIMIT 1;
    RETURN route;
END $$;

-- A person says which role gets a type of message, or a kind of it ('*' is any), at which priority (null: the type's) and which of the
-- workers that have the role. One upsert and its audit row, flushed.
CREATE OR REPLACE FUNCTION fleet.set_route(type text, kind text, role text, priority text, policy text, actor text, reason text)
RETURNS jsonb
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET lock_timeout = '5s' AS $$
DECLARE
    before jsonb;
    changed fleet.routes;
BEGIN
    PERFORM fleet.require_read_committed();
    PERFORM set_config('synchronous_commit', 'on', true);
    PERFORM fleet.require_message_type(type);
    IF kind IS NULL OR kind !~ '^(\*|[a-z][a-z0-9_.-]{0,62})$' THEN
        PERFORM fleet.refuse('kind', kind, '* for any, or the name of a kind of payload');
    END IF;
    IF role IS NULL OR role !~ '^[a-z][a-z0-9_-]{0,62}$' THEN
        PERFORM fleet.refuse('role', role, 'a lower-case name of 1 to 63 letters, digits, _ or -');
    END IF;
    IF priority IS NOT NULL THEN
        PERFORM fleet.priority_rank(priority);
    END IF;
    IF policy IS NULL OR policy NOT IN ('least_loaded', 'round_robin', 'first') THEN
        PERFORM fleet.refuse('policy', policy, 'least_loaded, round_robin or first');
    END IF;
    SELECT to_jsonb(r) INTO before FROM fleet.routes r WHERE r.type = set_route.type AND r.kind = set_route.kind FOR UPDATE;
    -- Before the row is written, whose rules would refuse a missing actor or reason without its name.
    PERFORM fleet.write_audit(actor, 'set_route', type || ' ' || kind, set_route.reason, jsonb_build_object('before', before,
        'after', jsonb_build_object('role', set_route.role, 'priority', set_route.priority, 'policy', set_route.policy)));
    INSERT INTO fleet.routes AS r (type, kind, role, priority, policy, changed_by, reason, changed_at)
    VALUES (set_route.type, set_route.kind, set_route.role, set_route.priority, set_route.policy, left(actor, 200), left(set_route.reason, 1000),
        fleet.now())
    ON CONFLICT ON CONSTRAINT routes_pkey DO UPDATE SET role = excluded.role, priority = excluded.priority, policy = excluded.policy,
        changed_by = excluded.changed_by, reason = excluded.reason, changed_at = excluded.changed_at
    RETURNING * INTO changed;
    RETURN to_jsonb(changed) - 'last_worker';
END $$;

-- A person takes a route away. Audited, flushed. FL001 where there is none.
CREATE OR REPLACE FUNCTION fleet.remove_route(type text, kind text, actor text, reason text) RETURNS jsonb
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET lock_timeout = '5s' AS $$
DECLARE
    removed fleet.routes;
BEGIN
    PERFORM fleet.require_read_committed();
    PERFORM set_config('synchronous_commit', 'on', true);
    DELETE FROM fleet.routes r WHERE r.type = remove_route.type AND r.kind = remove_route.kind RETURNING * INTO removed;
    IF NOT FOUND THEN
        PERFORM fleet.refuse('kind', kind, format('a kind of %s that has a route: %s', type, coalesce((SELECT string_agg(r.kind, ', ' ORDER BY r.kind)
            FROM fleet.routes r WHERE r.type = remove_route.type), '(none has)')));
    END IF;
    PERFORM fleet.write_audit(actor, 'remove_route', type || ' ' || kind, remove_route.reason, jsonb_build_object('before', to_jsonb(removed)));
    RETURN to_jsonb(removed) - 'last_worker';
END $$;

-- The workers that run: a process of theirs beat within the last 15 s and is not paused or draining. Locks nothing.
CREATE OR REPLACE FUNCTION fleet.running_workers() RETURNS text[]
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    RETURN coalesce((SELECT array_agg(DISTINCT h.worker) FROM fleet.heartbeats h JOIN fleet.incarnations i ON i.id = h.incarnation
        WHERE h.beat_at > clock_timestamp() - interval '15 seconds' AND h.state NOT IN ('PAUSED', 'DRAINING') AND i.ended_at IS NULL), '{}');
END $$;

-- Takes messages of roles back from workers that can't take them now: one that was disabled since or lost the role, one whose process
-- is gone while another's with the role runs. Locks those rows, in their order, and passes over what others hold.
CREATE OR REPLACE FUNCTION fleet.unroute_messages(life fleet.incarnations, running text[]) RETURNS void
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    idle text;
BEGIN
    -- What a process died with, whose worker has no other: nobody of that worker would notice.
    FOR idle IN
        SELECT DISTINCT m.routed_to FROM fleet.messages m
        WHERE m.recipient_kind = 'role' AND m.state = 'claimed' AND NOT m.routed_to = ANY(running) ORDER BY 1
    LOOP
        PERFORM fleet.free_messages(life, idle);
    END LOOP;
    WITH stranded AS MATERIALIZED (
        SELECT m.id FROM fleet.messages m JOIN fleet.workers w ON w.name = m.routed_to
        WHERE m.recipient_kind = 'role' AND m.state = 'waiting' AND m.routed_to IS NOT NULL AND (NOT (w.enabled AND m.recipient = ANY(w.roles))
            OR (NOT w.name = ANY(running) AND EXISTS (SELECT 1 FROM fleet.workers o
                WHERE o.enabled AND m.recipient = ANY(o.roles) AND o.name = ANY(running))))
        ORDER BY m.id FOR UPDATE OF m SKIP LOCKED
    )
    UPDATE fleet.messages m SET routed_to = NULL FROM stranded s WHERE m.id = s.id;
END $$;

-- The worker that gets a role's message: of the enabled ones that have the role, one that runs before one that doesn't; among those
-- by the route's policy. null where there is none. loads: each worker's open messages. Locks nothing.
CREATE OR REPLACE FUNCTION fleet.choose_worker(role text, route fleet.routes, loads jsonb, running text[]) RETURNS text
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    policy text := coalesce(CASE WHEN route.role = choose_worker.role THEN route.policy END, 'least_loaded');
BEGIN
    RETURN (SELECT w.name FROM fleet.workers w WHERE w.enabled AND choose_worker.role = ANY(w.roles) AND loads ? w.name
        ORDER BY (w.name = ANY(running)) DESC,
            CASE policy WHEN 'least_loaded' THEN (loads->>w.name)::integer
                WHEN 'round_robin' THEN (w.name <= coalesce(route.last_worker, ''))::integer ELSE 0 END,
            w.name LIMIT 1);
END $$;

-- Gives up to n messages of roles to workers, in the order of their turns; takes back first what a worker can't take any more. What no
-- worker can take stays until it expires. Where there were fewer than n the caller falls asleep. Locks the messages and the routes that
-- go round, those in the order of their key. Gives who is to be woken. One flushed commit.
CREATE OR REPLACE FUNCTION fleet.route_messages(incarnation uuid, n integer DEFAULT 100) RETURNS jsonb
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET lock_timeout = '5s' AS $$
DECLARE
    life fleet.incarnations;
    routed jsonb;
BEGIN
    PERFORM fleet.require_read_committed();
    life := fleet.require_incarnation(incarnation);
    PERFORM fleet.require_batch(n);
    PERFORM set_config('synchronous_commit', 'on', true);
    PERFORM fleet.unroute_messages(life, fleet.running_workers());
    routed := fleet.route_batch(n);
    IF jsonb_array_length(routed) < n AND fleet.fall_asleep(life, life.worker) THEN
        routed := routed || fleet.route_batch(n - jsonb_array_length(routed));
    END IF;
    RETURN routed;
END $$;

-- One batch of route_messages.
CREATE OR REPLACE FUNCTION fleet.route_batch(n integer) RETURNS jsonb
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    waiting record;
    running text[] := fleet.running_workers();
    route fleet.routes;
    loads jsonb;
    chosen text;
    routed jsonb := '[]';
    able text[];
    at timestamptz;
BEGIN
    PERFORM 1 FROM fleet.routes r WHERE r.policy = 'round_robin' ORDER BY r.type, r.kind FOR UPDATE;
    at := fleet.now();
    able := ARRAY(SELECT DISTINCT unnest(w.roles) FROM fleet.workers w WHERE w.enabled);
    FOR waiting IN
        WITH picked AS MATERIALIZED (
            SELECT m.id, m.recipient, m.type, m.payload->>'kind' AS kind FROM fleet.messages m
            WHERE m.recipient_kind = 'role' AND m.state = 'waiting' AND m.routed_to IS NULL AND m.expires_at > at
              -- Those that nobody can take must not fill the batch.
              AND m.recipient = ANY(able)
            ORDER BY m.routed_to, m.turn, m.id LIMIT n FOR UPDATE SKIP LOCKED  -- routed_to is null: as the index has them
        )
        SELECT * FROM picked
    LOOP
        -- Counted once, and only where there is something to give, then kept up: one count a message would read all that wait each time.
        IF loads IS NULL THEN
            SELECT coalesce(jsonb_object_agg(w.name, (SELECT count(*) FROM fleet.messages m WHERE m.routed_to = w.name
                AND m.state IN ('waiting', 'claimed'))), '{}') INTO loads FROM fleet.workers w WHERE w.enabled AND w.roles <> '{}';
        END IF;
        route := fleet.find_route(waiting.type, waiting.kind);
        chosen := fleet.choose_worker(waiting.recipient, route, loads, running);
        CONTINUE WHEN chosen IS NULL;  -- disabled a moment ago
        UPDATE fleet.messages m SET routed_to = chosen WHERE m.id = waiting.id;
        IF route.policy = 'round_robin' THEN
            UPDATE fleet.routes r SET last_worker = chosen WHERE r.type = route.type AND r.kind = route.kind;
        END IF;
        loads := jsonb_set(loads, ARRAY[chosen], to_jsonb((loads->>chosen)::integer + 1));
        routed := routed || jsonb_build_object('id', waiting.id::text, 'role', waiting.recipient, 'worker', chosen);
    END LOOP;
    RETURN routed;
END $$;

