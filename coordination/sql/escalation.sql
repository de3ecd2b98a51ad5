-- Escalation: what waits too long, and what somebody says is urgent, rises, and a person hears of it before it is too late.

-- Whether what was escalated is still open: a message or a job that is not over; of anything else, that somebody said so within the
-- hour. A message or job whose id is none is over. Locks nothing; one row read.
CREATE OR REPLACE FUNCTION fleet.is_pressing(kind text, id text, last_at timestamptz) RETURNS boolean
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF kind IS NULL OR kind NOT IN ('message', 'job') THEN
        RETURN last_at > clock_timestamp() - interval '1 hour';
    END IF;
    IF id IS NULL OR id !~ '^[1-9][0-9]{0,17}$' THEN
        RETURN false;
    END IF;
    RETURN CASE kind
        WHEN 'message' THEN EXISTS (SELECT 1 FROM fleet.messages m WHERE m.id = is_pressing.id::bigint AND m.finished_at IS NULL)
        ELSE EXISTS (SELECT 1 FROM fleet.jobs j WHERE j.id = is_pressing.id::bigint) END;
END $$;

-- Raises the priority of what somebody says is urgent: a waiting message or job, by one step where no priority is given, never lower
-- than it is. What the fleet has no row for is told alone. At critical a person is alerted, until it is over. Locks that row and the
-- alert's key; flushed.
CREATE OR REPLACE FUNCTION fleet.escalate(incarnation uuid, kind text, id text, reason text, priority text DEFAULT NULL) RETURNS jsonb
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET lock_timeout = '5s' AS $$
DECLARE
    ranks constant text[] := ARRAY['low', 'medium', 'high', 'critical'];
    life fleet.incarnations;
    before integer;
    after integer;
BEGIN
    PERFORM fleet.require_read_committed();
    life := fleet.require_incarnation(incarnation);
    IF kind IS NULL OR kind !~ '^[a-z][a-z0-9_.-]{0,62}$' THEN
        PERFORM fleet.refuse('kind', kind, 'message, job, or the name of what is urgent');
    END IF;
    IF id IS NULL OR length(id) NOT BETWEEN 1 AND 200 OR (kind IN ('message', 'job') AND id !~ '^[1-9][0-9]{0,17}$') THEN
        PERFORM fleet.refuse('id', id, CASE WHEN kind IN ('message', 'job') THEN 'the id of a ' || kind ELSE '1 to 200 characters' END);
    END IF;
    after := CASE WHEN priority IS NOT NULL THEN fleet.priority_rank(priority) END;
    PERFORM set_config('synchronous_commit', 'on', true);
    IF kind = 'message' THEN
        SELECT m.rank INTO before FROM fleet.messages m WHERE m.id = escalate.id::bigint AND m.finished_at IS NULL FOR UPDATE;
    ELSIF kind = 'job' THEN
        SELECT j.rank INTO before FROM fleet.jobs j WHERE j.id = escalate.id::bigint FOR UPDATE;
    END IF;
    IF kind IN ('message', 'job') AND before IS NULL THEN
        RETURN jsonb_build_object('raised', false, 'priority', NULL, 'alerted', false);  -- it is over
    END IF;
    after := greatest(before, coalesce(after, CASE WHEN before IS NOT NULL THEN least(before + 1, 4) END, 3));
    IF kind = 'message' AND after > before THEN
        UPDATE fleet.messages m SET rank = after, priority = ranks[after] WHERE m.id = escalate.id::bigint;
    ELSIF kind = 'job' AND after > before THEN
        UPDATE fleet.jobs j SET rank = after, priority = ranks[after], order_at = j.order_at - (after - before) * interval '10 minutes'
        WHERE j.id = escalate.id::bigint;
    END IF;
    IF after = 4 THEN
        PERFORM fleet.raise_alert('escalation:' || kind || ':' || id, 'critical', 'escalation', life.worker || '/' || life.slot,
            format('%s %s is urgent: %s', kind, id, coalesce(reason, 'no reason given')), jsonb_build_object('kind', kind, 'id', id));
    ELSE
        PERFORM fleet.emit('warning', 'escalated', life.worker || '/' || life.slot,
            format('%s %s is %s now: %s', kind, id, ranks[after], coalesce(reason, 'no reason given')),
            jsonb_build_object('kind', kind, 'id', id));
    END IF;
    RETURN jsonb_build_object('raised', after > coalesce(before, 0), 'priority', ranks[after], 'alerted', after = 4);
END $$;

-- What nobody took in half of its time: its priority rises by one step, the role system_issue is told once, and an alert is open for
-- its recipient until nothing of that kind waits any more. One at a time; locks those messages, up to n, and each alert's key. Flushed.
CREATE OR REPLACE FUNCTION fleet.escalate_messages(incarnation uuid, n integer DEFAULT 100) RETURNS jsonb
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET lock_timeout = '5s' AS $$
DECLARE
    life fleet.incarnations;
    at timestamptz;
    late fleet.messages;
    urgency text;
    addressee text;
    open record;
    escalated jsonb := '[]';
BEGIN
    PERFORM fleet.require_read_committed();
    life := fleet.require_incarnation(incarnation);
    PERFORM fleet.require_batch(n);
    PERFORM set_config('synchronous_commit', 'on', true);
    -- One coordinator at a time: two would take the alerts' locks in different orders.
    PERFORM pg_advisory_xact_lock(fleet.lock_key('messages', 'escalation'));
    at := fleet.now();
    FOR late IN
        SELECT * FROM fleet.messages m
        WHERE m.state = 'waiting' AND m.attempts = 0 AND m.escalated_at IS NULL AND m.recipient_kind <> 'all'
          AND m.type <> 'PRIORITY_ESCALATION' AND m.expires_at > at AND at >= m.sent_at + (m.expires_at - m.sent_at) / 2
        ORDER BY m.id LIMIT n FOR UPDATE SKIP LOCKED
    LOOP
        urgency := (ARRAY['low', 'medium', 'high', 'critical'])[least(late.rank + 1, 4)];
        UPDATE fleet.messages m SET escalated_at = at, priority = urgency, rank = fleet.priority_rank(urgency) WHERE m.id = late.id;
        addressee := late.recipient_kind || ' ' || late.recipient;
        PERFORM fleet.raise_alert('messages_wait:' || addressee, 'warning', 'messages_wait', life.worker || '/' || life.slot,
            format('message %s (%s from %s) waits for %s: half of its time is over', late.id, late.type, late.sender, addressee),
            jsonb_build_object('message', late.id::text, 'recipient_kind', late.recipient_kind, 'recipient', late.recipient));
        PERFORM fleet.post_message(life.worker, 'PRIORITY_ESCALATION', 'role', 'system_issue', jsonb_build_object('kind', 'message',
            'id', late.id::text, 'priority', urgency, 'reason', format('%s waits for %s since %s', late.type, addressee,
                to_char(late.sent_at AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:MI:SS "UTC"'))), NULL, late.id::text,
            'escalation:' || late.id, greatest(1, extract(epoch FROM late.expires_at - at)));
        escalated := escalated || jsonb_build_object('id', late.id::text, 'to', addressee, 'priority', urgency);
    END LOOP;
    FOR open IN
        SELECT a.key FROM fleet.alerts a WHERE a.cleared_at IS NULL AND (
            (a.kind = 'messages_wait' AND NOT EXISTS (SELECT 1 FROM fleet.messages m WHERE m.state = 'waiting'
                AND m.escalated_at IS NOT NULL AND m.recipient_kind = a.data->>'recipient_kind'
                AND m.recipient = a.data->>'recipient' AND m.expires_at > at))
            OR (a.key LIKE 'escalation:%' AND NOT fleet.is_pressing(a.data->>'kind', a.data->>'id', a.last_at)))
        ORDER BY a.key
    LOOP
        PERFORM fleet.clear_alert(open.key);
    END LOOP;
    RETURN escalated;
END $$;
