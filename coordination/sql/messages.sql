-- Messages: what one worker tells another, claimed with a lease, acknowledged, redelivered, dead-lettered with every error kept.
-- Nobody is woken in here: a NOTIFY inside the transaction would hold every other commit. The caller wakes, afterwards.

-- Refuses what no message may be. Locks nothing.
CREATE OR REPLACE FUNCTION fleet.check_message(
    type text, payload jsonb, reply_to text, dedupe_key text, ttl_s double precision, max_attempts integer
) RETURNS void
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF type IS NULL OR type NOT IN ('TASK_DELEGATION', 'RESOURCE_REQUEST', 'CONFLICT_RESOLUTION', 'STATE_SYNC', 'SYSTEM_EVENT',
        'PRIORITY_ESCALATION') THEN
        PERFORM fleet.refuse('type', type,
            'TASK_DELEGATION, RESOURCE_REQUEST, CONFLICT_RESOLUTION, STATE_SYNC, SYSTEM_EVENT or PRIORITY_ESCALATION');
    END IF;
    IF jsonb_typeof(payload) IS DISTINCT FROM 'object' OR octet_length(payload::text) > 65536 THEN
        PERFORM fleet.refuse('payload', payload::text, 'a JSON object of at most 64 kB (65536 bytes)');
    END IF;
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

-- One message to one worker, by its name, or to whichever worker has a role; the same dedupe key to the same recipient gives the
-- message that is there. The coordinator routes a role's. One flushed insert.
CREATE OR REPLACE FUNCTION fleet.send_message(
    incarnation uuid, type text, recipient text, payload jsonb, recipient_kind text DEFAULT 'worker',
    priority text DEFAULT 'medium', reply_to text DEFAULT NULL, dedupe_key text DEFAULT NULL, ttl_s double precision DEFAULT 3600,
    max_attempts integer DEFAULT 5
) RETURNS jsonb
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET lock_timeout = '5s' AS $$
#variable_conflict use_column
DECLARE
    life fleet.incarnations;
    sent fleet.messages;
    at timestamptz;
BEGIN
    PERFORM fleet.require_read_committed();
    life := fleet.require_incarnation(incarnation);
    PERFORM fleet.check_message(type, payload, reply_to, dedupe_key, ttl_s, max_attempts);
    IF recipient_kind IS NULL OR recipient_kind NOT IN ('worker', 'role') THEN
        PERFORM fleet.refuse('recipient_kind', recipient_kind, 'worker or role');
    END IF;
    IF recipient IS NULL OR recipient !~ '^[a-z][a-z0-9_-]{0,62}$' THEN
        PERFORM fleet.refuse('recipient', recipient, 'a lower-case name of 1 to 63 letters, digits, _ or -');
    END IF;
    -- A name that no worker ever had is a mistake; a role may find its first worker before the message expires.
    IF recipient_kind = 'worker' AND NOT EXISTS (SELECT 1 FROM fleet.workers w WHERE w.name = recipient)
        AND NOT EXISTS (SELECT 1 FROM fleet.incarnations i WHERE i.worker = recipient) THEN
        PERFORM fleet.refuse('recipient', recipient,
            'one of ' || coalesce((SELECT string_agg(w.name, ', ' ORDER BY w.name) FROM fleet.workers w), '(none is known yet)'));
    END IF;
    PERFORM set_config('synchronous_commit', 'on', true);
    LOOP
        at := fleet.now();
        INSERT INTO fleet.messages (type, sender, recipient_kind, recipient, routed_to, priority, rank, payload, reply_to,
            dedupe_key, sent_at, expires_at, state, max_attempts, due_at)
        VALUES (send_message.type, life.worker, send_message.recipient_kind, send_message.recipient,
            CASE send_message.recipient_kind WHEN 'worker' THEN send_message.recipient END, send_message.priority,
            fleet.priority_rank(send_message.priority), send_message.payload, send_message.reply_to::bigint,
            send_message.dedupe_key, at, at + make_interval(secs => ttl_s), 'waiting', send_message.max_attempts, at)
        ON CONFLICT (recipient_kind, recipient, dedupe_key) WHERE dedupe_key IS NOT NULL DO NOTHING
        RETURNING * INTO sent;
        IF FOUND THEN
            RETURN jsonb_build_object('id', sent.id::text, 'created', true);
        END IF;
        SELECT * INTO sent FROM fleet.messages m WHERE m.recipient_kind = send_message.recipient_kind
          AND m.recipient = send_message.recipient AND m.dedupe_key = send_message.dedupe_key;
        IF FOUND THEN
            RETURN jsonb_build_object('id', sent.id::text, 'created', false);
        END IF;
        -- The message that stood in the way was swept between the two statements: now there is room.
    END LOOP;
END $$;

-- One row for each enabled worker, the sender's own name among them; those that have the dedupe key already get no second one.
-- Gives the rows made. A worker that is enabled later gets none.
CREATE OR REPLACE FUNCTION fleet.broadcast_message(
    incarnation uuid, type text, payload jsonb, priority text DEFAULT 'medium', dedupe_key text DEFAULT NULL,
    ttl_s double precision DEFAULT 3600, max_attempts integer DEFAULT 5
) RETURNS jsonb
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET lock_timeout = '5s' AS $$
#variable_conflict use_column
DECLARE
    life fleet.incarnations;
    at timestamptz;
    sent jsonb;
BEGIN
    PERFORM fleet.require_read_committed();
    life := fleet.require_incarnation(incarnation);
    PERFORM fleet.check_message(type, payload, NULL, dedupe_key, ttl_s, max_attempts);
    PERFORM set_config('synchronous_commit', 'on', true);
    at := fleet.now();
    WITH made AS (
        INSERT INTO fleet.messages (type, sender, recipient_kind, recipient, routed_to, priority, rank, payload, dedupe_key,
            sent_at, expires_at, state, max_attempts, due_at)
        SELECT broadcast_message.type, life.worker, 'all', w.name, w.name, broadcast_message.priority,
            fleet.priority_rank(broadcast_message.priority), broadcast_message.payload, broadcast_message.dedupe_key, at,
            at + make_interval(secs => ttl_s), 'waiting', broadcast_message.max_attempts, at
        FROM fleet.workers w WHERE w.enabled ORDER BY w.name  -- in one order: two broadcasts of one key never wait in a circle
        ON CONFLICT (recipient_kind, recipient, dedupe_key) WHERE dedupe_key IS NOT NULL DO NOTHING
        RETURNING id, routed_to
    )
    SELECT coalesce(jsonb_agg(jsonb_build_object('id', m.id::text, 'worker', m.routed_to) ORDER BY m.id), '[]') INTO sent FROM made m;
    RETURN sent;
END $$;

-- The end of a delivery without success: another one retry_in_s of fleet time later, or dead with every error kept; with null it
-- is dead at once. The caller holds the row. An expired broadcast dies without a word: nobody in particular was asked.
CREATE OR REPLACE FUNCTION fleet.end_delivery(held fleet.messages, error text, retry_in_s double precision) RETURNS text
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    at timestamptz := fleet.now();
    is_expired boolean := held.expires_at <= at;
    is_dead boolean := is_expired OR retry_in_s IS NULL OR held.attempts >= held.max_attempts;
BEGIN
    UPDATE fleet.messages m SET state = CASE WHEN is_dead THEN 'dead' ELSE 'waiting' END, incarnation = NULL, lease = NULL,
        lease_expires_at = NULL,
        errors = m.errors || jsonb_build_object('attempt', m.attempts, 'at', at, 'by', m.routed_to, 'error',
            left(end_delivery.error, 2000)),
        due_at = CASE WHEN is_dead THEN m.due_at ELSE at + make_interval(secs => retry_in_s) END,
        finished_at = CASE WHEN is_dead THEN at END
    WHERE m.id = held.id;
    IF is_dead AND NOT (is_expired AND held.recipient_kind = 'all') THEN
        PERFORM fleet.emit(CASE WHEN is_expired THEN 'warning' ELSE 'error' END, 'dead_letter', coalesce(held.routed_to, held.recipient),
            format('message %s (%s from %s to %s %s) is a dead letter after %s of %s attempts: %s', held.id, held.type, held.sender,
                held.recipient_kind, held.recipient, held.attempts, held.max_attempts, end_delivery.error),
            jsonb_build_object('message', held.id::text));
    END IF;
    RETURN CASE WHEN is_dead THEN 'dead' ELSE 'waiting' END;
END $$;

-- Takes up to n due messages of the caller's worker, by priority, then time. First it frees those whose holder died, or whose
-- lease is over, its own among them: a worker with one slot has nobody else to notice. One flushed commit.
CREATE OR REPLACE FUNCTION fleet.claim_messages(incarnation uuid, n integer DEFAULT 1, lease_s double precision DEFAULT 300)
RETURNS jsonb
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET lock_timeout = '5s' AS $$
DECLARE
    life fleet.incarnations;
    at timestamptz;
    held fleet.messages;
    claimed jsonb;
BEGIN
    PERFORM fleet.require_read_committed();
    life := fleet.require_incarnation(incarnation);
    PERFORM fleet.require_batch(n);
    PERFORM fleet.require_lease_s(lease_s);
    PERFORM set_config('synchronous_commit', 'on', true);
    FOR held IN
        SELECT * FROM fleet.messages m WHERE m.routed_to = life.worker AND m.state = 'claimed'
          AND (m.incarnation <> life.id OR m.lease_expires_at < clock_timestamp())
        ORDER BY m.id LIMIT 100 FOR UPDATE SKIP LOCKED
    LOOP
        IF held.lease_expires_at < clock_timestamp() OR (held.incarnation <> life.id AND fleet.is_suspected(held.incarnation)) THEN
            PERFORM fleet.end_delivery(held, 'its holder ended or ran out of its lease', 0);
        END IF;
    END LOOP;
    at := fleet.now();
    WITH picked AS MATERIALIZED (
        SELECT m.id FROM fleet.messages m
        WHERE m.routed_to = life.worker AND m.state = 'waiting' AND m.due_at <= at AND m.expires_at > at
        ORDER BY m.rank DESC, m.due_at, m.id LIMIT n FOR UPDATE SKIP LOCKED
    ), taken AS (
        UPDATE fleet.messages m SET state = 'claimed', attempts = m.attempts + 1, incarnation = life.id,
            lease = nextval('fleet.fencing_token'), lease_expires_at = clock_timestamp() + make_interval(secs => lease_s)
        FROM picked WHERE m.id = picked.id
        RETURNING m.*
    )
    SELECT coalesce(jsonb_agg(jsonb_build_object('id', t.id::text, 'type', t.type, 'sender', t.sender, 'to', t.recipient_kind,
        'payload', t.payload, 'priority', t.priority, 'reply_to', t.reply_to::text, 'attempt', t.attempts, 'lease', t.lease,
        'sent_at', t.sent_at, 'expires_at', t.expires_at) ORDER BY t.rank DESC, t.due_at, t.id), '[]')
    INTO claimed FROM taken t;
    RETURN claimed;
END $$;

-- The message that (incarnation, lease) holds, locked. FL002 when the lease is lost.
CREATE OR REPLACE FUNCTION fleet.held_message(incarnation uuid, message bigint, lease bigint) RETURNS fleet.messages
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    held fleet.messages;
BEGIN
    PERFORM fleet.require_read_committed();
    PERFORM set_config('synchronous_commit', 'on', true);
    SELECT * INTO held FROM fleet.messages m WHERE m.id = held_message.message AND m.state = 'claimed'
      AND m.incarnation = held_message.incarnation AND m.lease = held_message.lease FOR UPDATE;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'the lease % on message % is lost', lease, message
            USING ERRCODE = 'FL002', HINT = 'stop work on this message: somebody else has it, or it ended';
    END IF;
    RETURN held;
END $$;

-- The message is done. Flushed.
CREATE OR REPLACE FUNCTION fleet.acknowledge_message(incarnation uuid, message bigint, lease bigint) RETURNS jsonb
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET lock_timeout = '5s' AS $$
DECLARE
    held fleet.messages := fleet.held_message(incarnation, message, lease);
BEGIN
    UPDATE fleet.messages m SET state = 'acknowledged', finished_at = fleet.now(), incarnation = NULL, lease = NULL,
        lease_expires_at = NULL WHERE m.id = held.id;
    RETURN jsonb_build_object('state', 'acknowledged');
END $$;

-- Not done: delivered again retry_in_s of fleet time later, or dead (at once where that is null). An attempt that doesn't count
-- was not the message's fault, and leaves no error. Gives the state, and the real seconds until it is due. Flushed.
CREATE OR REPLACE FUNCTION fleet.reject_message(
    incarnation uuid, message bigint, lease bigint, error text, retry_in_s double precision, counts boolean DEFAULT true
) RETURNS jsonb
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET lock_timeout = '5s' AS $$
DECLARE
    held fleet.messages := fleet.held_message(incarnation, message, lease);
    wait_s double precision;
    next_state text := 'waiting';
BEGIN
    IF NOT coalesce(retry_in_s >= 0 AND retry_in_s <= 2592000, true) THEN
        PERFORM fleet.refuse('retry_in_s', retry_in_s::text, 'no value (never again), or from 0 to 2592000 seconds (30 days)');
    END IF;
    IF counts OR retry_in_s IS NULL THEN
        next_state := fleet.end_delivery(held, coalesce(error, 'no reason given'), retry_in_s);
    ELSE
        UPDATE fleet.messages m SET state = 'waiting', attempts = m.attempts - 1, incarnation = NULL, lease = NULL,
            lease_expires_at = NULL, due_at = fleet.now() + make_interval(secs => retry_in_s) WHERE m.id = held.id;
    END IF;
    IF next_state = 'waiting' THEN
        wait_s := retry_in_s / coalesce((SELECT c.rate FROM fleet.clock c), 1);
    END IF;
    RETURN jsonb_build_object('state', next_state, 'wait_s', wait_s);
END $$;

-- Gives each waiting message of a role to an enabled worker that has it, the one with the fewest waiting messages; takes it back
-- from a worker that has been disabled since. What no worker can take stays until it expires. Gives who is to be woken.
CREATE OR REPLACE FUNCTION fleet.route_messages(incarnation uuid, n integer DEFAULT 100) RETURNS jsonb
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET lock_timeout = '5s' AS $$
DECLARE
    waiting record;
    loads jsonb;
    chosen text;
    routed jsonb := '[]';
BEGIN
    PERFORM fleet.require_read_committed();
    PERFORM fleet.require_incarnation(incarnation);
    PERFORM fleet.require_batch(n);
    PERFORM set_config('synchronous_commit', 'on', true);
    WITH stranded AS MATERIALIZED (
        SELECT m.id FROM fleet.messages m JOIN fleet.workers w ON w.name = m.routed_to
        WHERE m.recipient_kind = 'role' AND m.state = 'waiting' AND NOT (w.enabled AND m.recipient = ANY(w.roles))
        ORDER BY m.id FOR UPDATE OF m SKIP LOCKED
    )
    UPDATE fleet.messages m SET routed_to = NULL FROM stranded s WHERE m.id = s.id;
    -- Counted once, then kept up: one count a message would read all that wait each time.
    SELECT coalesce(jsonb_object_agg(w.name, (SELECT count(*) FROM fleet.messages m WHERE m.routed_to = w.name
        AND m.state IN ('waiting', 'claimed'))), '{}') INTO loads FROM fleet.workers w WHERE w.enabled AND w.roles <> '{}';
    FOR waiting IN
        WITH able AS MATERIALIZED (SELECT DISTINCT unnest(w.roles) AS role FROM fleet.workers w WHERE w.enabled),
        picked AS MATERIALIZED (
            SELECT m.id, m.recipient FROM fleet.messages m
            WHERE m.state = 'waiting' AND m.routed_to IS NULL AND m.expires_at > fleet.now()
              -- Those that nobody can take must not fill the batch.
              AND m.recipient IN (SELECT a.role FROM able a)
            ORDER BY m.rank DESC, m.due_at, m.id LIMIT n FOR UPDATE SKIP LOCKED
        )
        SELECT * FROM picked
    LOOP
        SELECT w.name INTO chosen FROM fleet.workers w WHERE w.enabled AND waiting.recipient = ANY(w.roles) AND loads ? w.name
        ORDER BY (loads->>w.name)::integer, w.name LIMIT 1;
        CONTINUE WHEN NOT FOUND;  -- disabled a moment ago
        UPDATE fleet.messages m SET routed_to = chosen WHERE m.id = waiting.id;
        loads := jsonb_set(loads, ARRAY[chosen], to_jsonb((loads->>chosen)::integer + 1));
        routed := routed || jsonb_build_object('id', waiting.id::text, 'role', waiting.recipient, 'worker', chosen);
    END LOOP;
    RETURN routed;
END $$;

-- Ends the messages whose time is over and that nobody holds; a role's that no worker could take says which roles there are.
-- Gives how many there were, of them the broadcasts.
CREATE OR REPLACE FUNCTION fleet.expire_messages(incarnation uuid, n integer DEFAULT 1000) RETURNS jsonb
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET lock_timeout = '5s' AS $$
DECLARE
    at timestamptz := fleet.now();
    held fleet.messages;
    expired integer := 0;
    broadcasts integer := 0;
    roles text;
BEGIN
    PERFORM fleet.require_read_committed();
    PERFORM fleet.require_incarnation(incarnation);
    PERFORM set_config('synchronous_commit', 'on', true);
    SELECT string_agg(format('%s (%s)', r.role, r.workers), ', ' ORDER BY r.role) INTO roles FROM (
        SELECT role, string_agg(w.name || CASE WHEN w.enabled THEN '' ELSE ', stopped' END, '; ' ORDER BY w.name) AS workers
        FROM fleet.workers w, unnest(w.roles) role GROUP BY role) r;
    FOR held IN
        SELECT * FROM fleet.messages m WHERE m.expires_at <= at
          AND (m.state = 'waiting' OR (m.state = 'claimed' AND m.lease_expires_at < clock_timestamp()))
        ORDER BY m.id LIMIT n FOR UPDATE SKIP LOCKED
    LOOP
        PERFORM fleet.end_delivery(held, CASE
            WHEN held.recipient_kind = 'role' AND held.routed_to IS NULL THEN format(
                'it expired: no running worker has the role %s; the roles are %s', held.recipient, coalesce(roles, '(none)'))
            WHEN held.state = 'claimed' THEN 'it expired: its holder ended or ran out of its lease'
            ELSE format('it expired: %s did not take it in time', held.routed_to) END, NULL);
        expired := expired + 1;
        broadcasts := broadcasts + (held.recipient_kind = 'all')::integer;
    END LOOP;
    RETURN jsonb_build_object('expired', expired, 'broadcasts', broadcasts);
END $$;

-- A person sends a dead letter once more: attempts and time to live begin anew, a role's is routed anew, every error stays.
-- Audited, flushed. FL005 where it is not dead.
CREATE OR REPLACE FUNCTION fleet.replay_message(message bigint, actor text, reason text) RETURNS jsonb
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET lock_timeout = '5s' AS $$
DECLARE
    dead fleet.messages;
    at timestamptz;
BEGIN
    PERFORM fleet.require_read_committed();
    PERFORM set_config('synchronous_commit', 'on', true);
    SELECT * INTO dead FROM fleet.messages m WHERE m.id = replay_message.message FOR UPDATE;
    IF NOT FOUND THEN
        PERFORM fleet.refuse('message', replay_message.message::text, 'the id of a message: socialfleet messages list');
    END IF;
    IF dead.state <> 'dead' THEN
        RAISE EXCEPTION 'message % is %: only a dead letter is sent once more', dead.id, dead.state
            USING ERRCODE = 'FL005', DETAIL = json_build_object('message', dead.id::text, 'state', dead.state),
            HINT = 'look at it with: socialfleet messages show ' || dead.id;
    END IF;
    PERFORM fleet.write_audit(actor, 'replay_message', dead.id::text, replay_message.reason,
        jsonb_build_object('attempts', dead.attempts, 'error', dead.errors->-1->>'error'));
    at := fleet.now();
    UPDATE fleet.messages m SET state = 'waiting', attempts = 0, due_at = at, finished_at = NULL,
        expires_at = at + (m.expires_at - m.sent_at),
        routed_to = CASE m.recipient_kind WHEN 'role' THEN NULL ELSE m.routed_to END
    WHERE m.id = dead.id RETURNING * INTO dead;
    RETURN jsonb_build_object('id', dead.id::text, 'state', dead.state, 'recipient_kind', dead.recipient_kind,
        'recipient', dead.recipient, 'expires_at', dead.expires_at);
END $$;
