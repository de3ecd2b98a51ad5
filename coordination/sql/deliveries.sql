-- Deliveries: a message is claimed with a lease, acknowledged, or delivered again until it is a dead letter with every error kept.
-- The order is the message's turn: priority, where a step of it is worth ten minutes of waiting, then time.

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

-- Takes up to n due messages of a worker in the order of their turns. One statement; the caller has said that its commit is flushed.
CREATE OR REPLACE FUNCTION fleet.take_messages(life fleet.incarnations, n integer, lease_s double precision) RETURNS jsonb
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    at timestamptz := fleet.now();
    rate double precision := coalesce((SELECT c.rate FROM fleet.clock c), 1);
    claimed jsonb;
BEGIN
    WITH picked AS MATERIALIZED (
        SELECT m.id FROM fleet.messages m
        WHERE m.routed_to = life.worker AND m.state = 'waiting' AND m.due_at <= at AND m.expires_at > at
          -- The last turn that anything due can have: what is due much later isn't read.
          AND m.turn <= (at - '2000-01-01 00:00:00+00'::timestamptz) - interval '10 minutes'
        ORDER BY m.turn, m.id LIMIT n FOR UPDATE SKIP LOCKED
    ), taken AS (
        UPDATE fleet.messages m SET state = 'claimed', attempts = m.attempts + 1, incarnation = life.id,
            lease = nextval('fleet.fencing_token'), lease_expires_at = clock_timestamp() + make_interval(secs => lease_s),
            waited_s = coalesce(m.waited_s, extract(epoch FROM at - m.sent_at) / rate)
        FROM picked WHERE m.id = picked.id
        RETURNING m.*
    )
    SELECT coalesce(jsonb_agg(jsonb_build_object('id', t.id::text, 'type', t.type, 'sender', t.sender, 'to', t.recipient_kind,
        'payload', t.payload, 'priority', t.priority, 'reply_to', t.reply_to::text, 'attempt', t.attempts, 'lease', t.lease,
        'sent_at', t.sent_at, 'expires_at', t.expires_at) ORDER BY t.turn, t.id), '[]')
    INTO claimed FROM taken t;
    RETURN claimed;
END $$;

-- Frees up to 100 of a worker's claimed messages whose holder died, or whose lease is over; gives how many. First who is dead, each lock
-- tried in a statement of its own and never the caller's; then their rows, locked in order, passing over what others lock. Reads an index
-- of the claimed ones alone.
CREATE OR REPLACE FUNCTION fleet.free_messages(life fleet.incarnations, worker text) RETURNS integer
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    holder uuid;
    gone uuid[] := '{}';
    held fleet.messages;
    freed integer := 0;
BEGIN
    FOR holder IN
        SELECT DISTINCT m.incarnation FROM fleet.messages m
        WHERE m.routed_to = free_messages.worker AND m.state = 'claimed' AND m.incarnation <> life.id
    LOOP
        IF fleet.is_suspected(holder) THEN
            gone := gone || holder;
        END IF;
    END LOOP;
    FOR held IN
        SELECT * FROM fleet.messages m WHERE m.routed_to = free_messages.worker AND m.state = 'claimed'
          AND (m.incarnation = ANY(gone) OR m.lease_expires_at < clock_timestamp())
        ORDER BY m.id LIMIT 100 FOR UPDATE SKIP LOCKED
    LOOP
        PERFORM fleet.end_delivery(held, 'its holder ended or ran out of its lease', 0);
        freed := freed + 1;
    END LOOP;
    RETURN freed;
END $$;

-- Takes up to n due messages of the caller's worker, by priority with ageing, then time. First it frees those whose holder died, or
-- whose lease is over, its own among them: a worker with one slot has nobody else to notice. Where there are none the caller falls
-- asleep, unless it says that it will look again. One commit, flushed where something was found.
CREATE OR REPLACE FUNCTION fleet.claim_messages(
    incarnation uuid, n integer DEFAULT 1, lease_s double precision DEFAULT 300, sleeps boolean DEFAULT true
) RETURNS jsonb
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET lock_timeout = '5s' AS $$
DECLARE
    life fleet.incarnations;
    freed integer;
    claimed jsonb;
BEGIN
    PERFORM fleet.require_read_committed();
    life := fleet.require_incarnation(incarnation);
    PERFORM fleet.require_batch(n);
    PERFORM fleet.require_lease_s(lease_s);
    IF sleeps IS NULL THEN
        PERFORM fleet.refuse('sleeps', NULL, 'true or false');
    END IF;
    freed := fleet.free_messages(life, life.worker);
    claimed := fleet.take_messages(life, n, lease_s);
    IF claimed = '[]' AND sleeps AND fleet.fall_asleep(life, life.worker || '/messages') THEN
        claimed := fleet.take_messages(life, n, lease_s);
    END IF;
    -- That somebody sleeps need not be on disk.
    PERFORM set_config('synchronous_commit', CASE WHEN freed = 0 AND claimed = '[]' THEN 'off' ELSE 'on' END, true);
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

-- The lease of a message that takes longer goes on for lease_s real seconds from now. FL002 when it is lost: stop. Flushed.
CREATE OR REPLACE FUNCTION fleet.renew_message(incarnation uuid, message bigint, lease bigint, lease_s double precision DEFAULT 300)
RETURNS jsonb
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET lock_timeout = '5s' AS $$
DECLARE
    held fleet.messages;
    until timestamptz;
BEGIN
    PERFORM fleet.require_lease_s(lease_s);
    held := fleet.held_message(incarnation, message, lease);
    -- One whose time is over may have been taken for lost by somebody a moment ago: it isn't lengthened.
    IF held.lease_expires_at < clock_timestamp() THEN
        RAISE EXCEPTION 'the lease % on message % ran out', lease, message
            USING ERRCODE = 'FL002', HINT = 'stop work on this message: it is delivered again';
    END IF;
    until := clock_timestamp() + make_interval(secs => lease_s);
    UPDATE fleet.messages m SET lease_expires_at = until WHERE m.id = held.id;
    RETURN jsonb_build_object('lease_expires_at', until);
END $$;

-- The message is done. A reply {payload, type, priority, ttl_s, max_attempts} goes to its sender in the same transaction: both are, or
-- neither, so that an answer is given once however often the message was delivered. Flushed.
CREATE OR REPLACE FUNCTION fleet.acknowledge_message(incarnation uuid, message bigint, lease bigint, reply jsonb DEFAULT NULL) RETURNS jsonb
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET lock_timeout = '5s' AS $$
DECLARE
    held fleet.messages := fleet.held_message(incarnation, message, lease);
    answer jsonb;
BEGIN
    IF jsonb_typeof(reply) NOT IN ('object', 'null') THEN
        PERFORM fleet.refuse('reply', reply::text, 'no value, or an object with the payload of an answer');
    END IF;
    IF reply->>'ttl_s' !~ '^[0-9]{1,7}(\.[0-9]+)?$' THEN
        PERFORM fleet.refuse('reply.ttl_s', reply->>'ttl_s', 'no value (an hour), or from 1 to 2592000 seconds (30 days)');
    END IF;
    IF reply->>'max_attempts' !~ '^[0-9]{1,4}$' THEN
        PERFORM fleet.refuse('reply.max_attempts', reply->>'max_attempts', 'no value (5), or a whole number from 1 to 1000');
    END IF;
    IF jsonb_typeof(reply) = 'object' THEN
        answer := fleet.post_message(held.routed_to, coalesce(reply->>'type', held.type), 'worker', held.sender, reply->'payload',
            coalesce(reply->>'priority', held.priority), held.id::text, 'reply:' || held.id,
            coalesce((reply->>'ttl_s')::double precision, 3600), coalesce((reply->>'max_attempts')::integer, 5));
    END IF;
    UPDATE fleet.messages m SET state = 'acknowledged', finished_at = fleet.now(), incarnation = NULL, lease = NULL,
        lease_expires_at = NULL WHERE m.id = held.id;
    RETURN jsonb_build_object('state', 'acknowledged', 'reply', answer->>'id', 'to', answer->>'recipient');
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
    IF counts IS NULL THEN
        PERFORM fleet.refuse('counts', NULL, 'true or false');
    END IF;
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

-- Somebody reported on a message with a lease that was lost: counted with the message, whose row is locked for that. The report itself
-- was refused, and what a refused call wrote is gone with it, so this is a call of its own. A dead caller's report counts too. Not flushed.
CREATE OR REPLACE FUNCTION fleet.count_late_report(incarnation uuid, message bigint, lease bigint) RETURNS void
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET lock_timeout = '1s' AS $$
DECLARE
    late fleet.incarnations;
BEGIN
    PERFORM fleet.require_read_committed();
    PERFORM set_config('synchronous_commit', 'off', true);
    SELECT * INTO late FROM fleet.incarnations i WHERE i.id = count_late_report.incarnation;
    UPDATE fleet.messages m SET late_reports = m.late_reports + 1 WHERE m.id = count_late_report.message AND late.id IS NOT NULL
      AND m.routed_to = late.worker;
    IF FOUND THEN
        PERFORM fleet.emit('warning', 'lease_lost', late.worker || '/' || late.slot,
            format('a report on message %s came with a lease that was lost', message),
            jsonb_build_object('message', message::text, 'lease', lease));
    END IF;
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
    PERFORM fleet.require_batch(n);
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
    -- A broadcast's key is remembered for a week beyond its time, as its messages are.
    DELETE FROM fleet.broadcasts b WHERE b.expires_at < at - interval '7 days';
    RETURN jsonb_build_object('expired', expired, 'broadcasts', broadcasts);
END $$;

-- A person sends a dead letter once more, as if it were sent now: attempts and time to live begin anew, a role's is routed anew, every
-- error stays. Audited with when it was sent before, flushed. FL005 where it is not dead.
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
        jsonb_build_object('attempts', dead.attempts, 'sent_at', dead.sent_at, 'error', dead.errors->-1->>'error'));
    at := fleet.now();
    UPDATE fleet.messages m SET state = 'waiting', attempts = 0, due_at = at, finished_at = NULL, waited_s = NULL, escalated_at = NULL,
        sent_at = at, expires_at = at + (m.expires_at - m.sent_at),
        routed_to = CASE m.recipient_kind WHEN 'role' THEN NULL ELSE m.routed_to END
    WHERE m.id = dead.id RETURNING * INTO dead;
    RETURN jsonb_build_object('id', dead.id::text, 'state', dead.state, 'recipient_kind', dead.recipient_kind,
        'recipient', dead.recipient, 'expires_at', dead.expires_at);
END $$;
