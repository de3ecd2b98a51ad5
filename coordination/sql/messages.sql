-- Messages: what one worker tells another, one, whoever has a role, or all. How they are delivered is in deliveries.sql.
-- Nobody is woken in here: a NOTIFY inside the transaction would hold every other commit. The caller wakes, afterwards.

-- FL001 unless it is a type of message. Locks nothing.
CREATE OR REPLACE FUNCTION fleet.require_message_type(type text) RETURNS void
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF type IS NULL OR type NOT IN ('TASK_DELEGATION', 'RESOURCE_REQUEST', 'CONFLICT_RESOLUTION', 'STATE_SYNC', 'SYSTEM_EVENT',
        'PRIORITY_ESCALATION') THEN
        PERFORM fleet.refuse('type', type,
            'TASK_DELEGATION, RESOURCE_REQUEST, CONFLICT_RESOLUTION, STATE_SYNC, SYSTEM_EVENT or PRIORITY_ESCALATION');
    END IF;
END $$;

-- Refuses what no message may be. Locks nothing.
CREATE OR REPLACE FUNCTION fleet.check_message(
    type text, payload jsonb, reply_to text, dedupe_key text, ttl_s double precision, max_attempts integer
) RETURNS void
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    PERFORM fleet.require_message_type(type);
    IF jsonb_typeof(payload) IS DISTINCT FROM 'object' OR octet_length(payload::text) > 65536 THEN
        PERFORM fleet.refuse('payload', payload::text, 'a JSON object of at most 64 kB (65536 bytes)');
    END IF;
    PERFORM fleet.check_payload(type, payload);
    IF reply_to !~ '^[1-9][0-9]{0,17}$' THEN
        PERFORM fleet.refuse('reply_to', reply_to, 'no value, or the id of a message');
    END IF;
    IF length(dedupe_key) NOT BETWEEN 1 AND 500 THEN
        PERFORM fleet.refuse('dedupe_key', dedupe_key, 'no value, or a text of 1 to 500 characters');
    END IF;
    IF ttl_s IS NULL OR NOT (ttl_s >= 1 AND ttl_s <= 2592000) THEN
        PERFORM fleet.refuse('ttl_s', ttl_s::text, 'from 1 to 2592000 seconds (30 days)');
    END IF;
    IF max_attempts IS NULL OR max_attempts NOT BETWEEN 1 AND 1000 THEN
        PERFORM fleet.refuse('max_attempts', max_attempts::text, 'a whole number from 1 to 1000');
    END IF;
END $$;

-- The insert of a message: the one that is there under the same dedupe key, else a new one. Checks everything; the caller has said that
-- its commit is flushed. Inside a writer's own transaction; not granted to any role.
CREATE OR REPLACE FUNCTION fleet.post_message(
    sender text, type text, recipient_kind text, recipient text, payload jsonb, priority text DEFAULT NULL, reply_to text DEFAULT NULL,
    dedupe_key text DEFAULT NULL, ttl_s double precision DEFAULT 3600, max_attempts integer DEFAULT 5
) RETURNS jsonb
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
    route fleet.routes;
    chosen text := post_message.recipient;
    urgency text := post_message.priority;
    sent fleet.messages;
    at timestamptz;
BEGIN
    PERFORM fleet.check_message(type, payload, reply_to, dedupe_key, ttl_s, max_attempts);
    IF recipient_kind IS NULL OR recipient_kind NOT IN ('worker', 'role') THEN
        PERFORM fleet.refuse('recipient_kind', recipient_kind, 'worker or role');
    END IF;
    IF recipient_kind = 'role' THEN
        route := fleet.find_route(type, payload->>'kind');
        IF chosen IS NULL AND route IS NULL THEN
            PERFORM fleet.refuse('recipient', NULL, format('the name of a role: no route says who gets %s of kind %s',
                type, coalesce(payload->>'kind', '(none)')));
        END IF;
        chosen := coalesce(chosen, route.role);
        urgency := coalesce(urgency, route.priority);
    END IF;
    urgency := coalesce(urgency, fleet.priority_of_type(type));
    IF chosen IS NULL OR chosen !~ '^[a-z][a-z0-9_-]{0,62}$' THEN
        PERFORM fleet.refuse('recipient', chosen, 'a lower-case name of 1 to 63 letters, digits, _ or -');
    END IF;
    -- A name that no worker ever had is a mistake; a role may find its first worker before the message expires.
    IF recipient_kind = 'worker' AND NOT EXISTS (SELECT 1 FROM fleet.workers w WHERE w.name = chosen)
        AND NOT EXISTS (SELECT 1 FROM fleet.incarnations i WHERE i.worker = chosen) THEN
        PERFORM fleet.refuse('recipient', chosen,
            'one of ' || coalesce((SELECT string_agg(w.name, ', ' ORDER BY w.name) FROM fleet.workers w), '(none is known yet)'));
    END IF;
    LOOP
        at := fleet.now();
        INSERT INTO fleet.messages (type, sender, recipient_kind, recipient, routed_to, priority, rank, payload, reply_to,
            dedupe_key, sent_at, expires_at, state, max_attempts, due_at)
        VALUES (post_message.type, post_message.sender, post_message.recipient_kind, chosen,
            CASE post_message.recipient_kind WHEN 'worker' THEN chosen END, urgency, fleet.priority_rank(urgency),
            post_message.payload, post_message.reply_to::bigint, post_message.dedupe_key, at, at + make_interval(secs => ttl_s),
            'waiting', post_message.max_attempts, at)
        ON CONFLICT (recipient_kind, recipient, dedupe_key) WHERE dedupe_key IS NOT NULL DO NOTHING
        RETURNING * INTO sent;
        IF FOUND THEN
            RETURN jsonb_build_object('id', sent.id::text, 'created', true, 'recipient', chosen);
        END IF;
        SELECT * INTO sent FROM fleet.messages m WHERE m.recipient_kind = post_message.recipient_kind
          AND m.recipient = chosen AND m.dedupe_key = post_message.dedupe_key;
        IF FOUND THEN
            RETURN jsonb_build_object('id', sent.id::text, 'created', false, 'recipient', chosen);
        END IF;
        -- The message that stood in the way was swept between the two statements: now there is room.
    END LOOP;
END $$;

-- One message to one worker, by its name, or to whichever worker has a role; the same dedupe key to the same recipient gives the
-- message that is there. No recipient: the role that the route of its type and kind names. No priority: the route's, else the type's.
-- The coordinator gives a role's to a worker. One flushed insert.
CREATE OR REPLACE FUNCTION fleet.send_message(
    incarnation uuid, type text, recipient text, payload jsonb, recipient_kind text DEFAULT 'worker',
    priority text DEFAULT NULL, reply_to text DEFAULT NULL, dedupe_key text DEFAULT NULL, ttl_s double precision DEFAULT 3600,
    max_attempts integer DEFAULT 5
) RETURNS jsonb
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET lock_timeout = '5s' AS $$
DECLARE
    life fleet.incarnations;
BEGIN
    PERFORM fleet.require_read_committed();
    life := fleet.require_incarnation(incarnation);
    PERFORM set_config('synchronous_commit', 'on', true);
    RETURN fleet.post_message(life.worker, type, recipient_kind, recipient, payload, priority, reply_to, dedupe_key, ttl_s,
        max_attempts);
END $$;

-- A task for whoever the route of its kind names. Its priority follows from urgency and complexity: the urgency, where a complex task is
-- begun a step sooner, since it takes longer, and a simple one a step later; only what is urgent itself is critical. One flushed insert.
CREATE OR REPLACE FUNCTION fleet.delegate_task(
    incarnation uuid, payload jsonb, urgency text DEFAULT 'medium', complexity text DEFAULT 'moderate', reply_to text DEFAULT NULL,
    dedupe_key text DEFAULT NULL, ttl_s double precision DEFAULT 3600, max_attempts integer DEFAULT 5
) RETURNS jsonb
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET lock_timeout = '5s' AS $$
DECLARE
    ranks constant text[] := ARRAY['low', 'medium', 'high', 'critical'];
    rank integer := array_position(ranks, urgency);
    step integer := array_position(ARRAY['simple', 'moderate', 'complex'], complexity) - 2;
BEGIN
    IF rank IS NULL THEN
        PERFORM fleet.refuse('urgency', urgency, 'low, medium, high or critical');
    END IF;
    IF step IS NULL THEN
        PERFORM fleet.refuse('complexity', complexity, 'simple, moderate or complex');
    END IF;
    RETURN fleet.send_message(incarnation, 'TASK_DELEGATION', NULL, payload, 'role',
        ranks[CASE WHEN rank = 4 THEN 4 ELSE greatest(1, least(3, rank + step)) END], reply_to, dedupe_key, ttl_s, max_attempts);
END $$;

-- The key that a broadcast takes alone and who registers takes shared, each until its commit: nobody falls between the two.
CREATE OR REPLACE FUNCTION fleet.broadcast_key() RETURNS bigint
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN fleet.lock_key('messages', 'broadcast');

-- One message for each worker that is there: those that are enabled, and those that run. One that starts within ttl_s is given it when
-- it registers. The same dedupe key is the same broadcast: whoever has it gets no second one. Gives the messages made. Waits for those
-- who register at this moment, and they for it; one flushed commit.
CREATE OR REPLACE FUNCTION fleet.broadcast_message(
    incarnation uuid, type text, payload jsonb, priority text DEFAULT NULL, dedupe_key text DEFAULT NULL,
    ttl_s double precision DEFAULT 3600, max_attempts integer DEFAULT 5
) RETURNS jsonb
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET lock_timeout = '5s' AS $$
#variable_conflict use_column
DECLARE
    life fleet.incarnations;
    urgency text := coalesce(broadcast_message.priority, fleet.priority_of_type(broadcast_message.type));
    at timestamptz;
    told fleet.broadcasts;
    sent jsonb;
BEGIN
    PERFORM fleet.require_read_committed();
    life := fleet.require_incarnation(incarnation);
    PERFORM fleet.check_message(type, payload, NULL, dedupe_key, ttl_s, max_attempts);
    PERFORM set_config('synchronous_commit', 'on', true);
    PERFORM pg_advisory_xact_lock(fleet.broadcast_key());
    at := fleet.now();
    SELECT * INTO told FROM fleet.broadcasts b WHERE b.dedupe_key = broadcast_message.dedupe_key;
    IF NOT FOUND THEN
        INSERT INTO fleet.broadcasts (type, sender, priority, rank, payload, dedupe_key, max_attempts, sent_at, expires_at)
        VALUES (broadcast_message.type, life.worker, urgency, fleet.priority_rank(urgency), broadcast_message.payload,
            broadcast_message.dedupe_key, broadcast_message.max_attempts, at, at + make_interval(secs => ttl_s))
        RETURNING * INTO told;
    ELSIF told.expires_at <= at THEN
        RETURN '[]';
    END IF;
    WITH made AS (
        INSERT INTO fleet.messages (type, sender, recipient_kind, recipient, routed_to, priority, rank, payload, broadcast, dedupe_key,
            sent_at, expires_at, state, max_attempts, due_at)
        SELECT told.type, told.sender, 'all', w.name, w.name, told.priority, told.rank, told.payload, told.id, told.dedupe_key,
            told.sent_at, told.expires_at, 'waiting', told.max_attempts, told.sent_at
        FROM (SELECT w.name FROM fleet.workers w WHERE w.enabled UNION SELECT i.worker FROM fleet.incarnations i WHERE i.ended_at IS NULL) w
        ORDER BY w.name
        ON CONFLICT DO NOTHING
        RETURNING id, routed_to
    )
    SELECT coalesce(jsonb_agg(jsonb_build_object('id', m.id::text, 'worker', m.routed_to) ORDER BY m.id), '[]') INTO sent FROM made m;
    RETURN sent;
END $$;

-- A worker registers: it is given each broadcast that lives and that it has not had, once. In the registering transaction, and before
-- its row: until its commit no broadcast is made. Reads the living broadcasts; one insert a broadcast that it missed.
CREATE OR REPLACE FUNCTION fleet.welcome(worker text, slot integer, incarnation uuid) RETURNS integer
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    at timestamptz;
    given integer;
BEGIN
    PERFORM pg_advisory_xact_lock_shared(fleet.broadcast_key());
    at := fleet.now();
    INSERT INTO fleet.messages (type, sender, recipient_kind, recipient, routed_to, priority, rank, payload, broadcast, dedupe_key,
        sent_at, expires_at, state, max_attempts, due_at)
    SELECT b.type, b.sender, 'all', welcome.worker, welcome.worker, b.priority, b.rank, b.payload, b.id, b.dedupe_key, b.sent_at,
        b.expires_at, 'waiting', b.max_attempts, b.sent_at
    FROM fleet.broadcasts b
    WHERE b.expires_at > at AND NOT EXISTS (SELECT 1 FROM fleet.messages m WHERE m.broadcast = b.id AND m.recipient = welcome.worker)
    ORDER BY b.id
    ON CONFLICT DO NOTHING;  -- its other slot registers at the same moment
    GET DIAGNOSTICS given = ROW_COUNT;
    -- Whoever had the slot before sleeps no more; this one counts as asleep until it has looked.
    DELETE FROM fleet.sleepers s WHERE s.worker = welcome.worker AND s.slot = welcome.slot;
    INSERT INTO fleet.sleepers (name, incarnation, worker, slot, asleep, changed_at)
    VALUES (welcome.worker || '/messages', welcome.incarnation, welcome.worker, welcome.slot, true, clock_timestamp());
    RETURN given;
END $$;
