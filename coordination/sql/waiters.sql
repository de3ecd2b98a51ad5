-- Waiters: who stands in line for a content that somebody holds. A waiter is a row that its owner keeps alive by polling; one that
-- falls silent is passed over, keeps its place until its deadline, and then loses it.

-- How long a waiter may be silent: its row is written at most twice a second, and it polls four times a second. Locks nothing.
CREATE OR REPLACE FUNCTION fleet.poll_within() RETURNS interval
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN interval '1 second';

-- The request with the place that it has in the line already, if it has one that fell silent: who asks again, for the same act if for any,
-- stands where it stood. The place has a new number from then on: who had the old one, and was only slow, finds it gone, so that two never
-- have one grant. Under the content's mutex; one row, found in the content's line.
CREATE OR REPLACE FUNCTION fleet.take_up_place(ask fleet.lock_waiters) RETURNS fleet.lock_waiters
LANGUAGE plpgsql VOLATILE AS $$
DECLARE
    real timestamptz;
    standing fleet.lock_waiters;
BEGIN
    real := clock_timestamp();
    UPDATE fleet.lock_waiters t SET id = DEFAULT WHERE t.id = (SELECT w.id FROM fleet.lock_waiters w
        WHERE w.content = ask.content AND w.scope = ask.scope AND w.incarnation = ask.incarnation AND w.worker_id = ask.worker_id
          AND w.lock_type = ask.lock_type AND w.account IS NOT DISTINCT FROM ask.account AND w.besides IS NOT DISTINCT FROM ask.besides
          AND w.poll_by <= real AND w.deadline_at > real
        ORDER BY w.stands_at, w.id LIMIT 1)
    RETURNING * INTO standing;
    IF FOUND THEN
        ask.id := standing.id;
        ask.waits_since := standing.waits_since;
        ask.stands_at := least(standing.stands_at, ask.stands_at);
    END IF;
    RETURN ask;
END $$;

-- A place in the line for a request, under the content's mutex. One row, not flushed: a place that a crash forgets is asked for again.
CREATE OR REPLACE FUNCTION fleet.line_up(ask fleet.lock_waiters, wait_s double precision) RETURNS jsonb
LANGUAGE plpgsql VOLATILE AS $$
DECLARE
    standing fleet.lock_waiters;
    real timestamptz;
BEGIN
    real := clock_timestamp();
    IF ask.id IS NOT NULL THEN
        UPDATE fleet.lock_waiters w SET stands_at = ask.stands_at, ticket = ask.ticket, priority = ask.priority, score = ask.score,
            duration = ask.duration, polled_at = real, poll_by = real + fleet.poll_within(),
            deadline_at = real + make_interval(secs => wait_s)
        WHERE w.id = ask.id RETURNING * INTO standing;
    END IF;
    IF standing.id IS NULL THEN
        INSERT INTO fleet.lock_waiters (content, scope, account, lock_type, duration, priority, score, besides, ticket, incarnation,
            worker_id, waits_since, stands_at, polled_at, poll_by, deadline_at)
        VALUES (ask.content, ask.scope, ask.account, ask.lock_type, ask.duration, ask.priority, ask.score, ask.besides, ask.ticket,
            ask.incarnation, ask.worker_id, ask.waits_since, ask.stands_at, real, real + fleet.poll_within(),
            real + make_interval(secs => wait_s))
        RETURNING * INTO standing;
    END IF;
    RETURN jsonb_build_object('waiter', standing.id::text, 'position', fleet.place_in_line(standing),
        'wait_s', extract(epoch FROM standing.deadline_at - real));
END $$;

-- A waiter's place, from 1: those before it that still poll count. Locks nothing; reads the content's line.
CREATE OR REPLACE FUNCTION fleet.place_in_line(standing fleet.lock_waiters) RETURNS bigint
LANGUAGE plpgsql VOLATILE AS $$
BEGIN
    RETURN (SELECT count(*) + 1 FROM fleet.lock_waiters w
        WHERE w.content = standing.content AND (w.stands_at, w.id) < (standing.stands_at, standing.id)
          AND w.poll_by > clock_timestamp() AND w.deadline_at > clock_timestamp()
          AND (w.scope = standing.scope OR '' IN (w.scope, standing.scope)));
END $$;

-- The life that is to be woken when a lock of that scope is given back: the first in line that polls; null where nobody waits. Locks
-- nothing.
CREATE OR REPLACE FUNCTION fleet.next_in_line(content text, scope text) RETURNS uuid
LANGUAGE plpgsql VOLATILE AS $$
BEGIN
    RETURN (SELECT w.incarnation FROM fleet.lock_waiters w
        WHERE w.content = next_in_line.content AND (w.scope = next_in_line.scope OR '' IN (w.scope, next_in_line.scope))
          AND w.poll_by > clock_timestamp() AND w.deadline_at > clock_timestamp()
        ORDER BY w.stands_at, w.id LIMIT 1);
END $$;

-- Asks whether a waiter's turn has come: the lease, or why it still waits; `over` once it waits no more (granted, timed out, engaged
-- meanwhile, or its place is gone). Reads first, and takes the content's mutex only where the content is free and the waiter the
-- first. Else it writes the waiter's own row at most twice a second, not flushed. FL003 as every call.
CREATE OR REPLACE FUNCTION fleet.poll_lock(incarnation uuid, waiter bigint) RETURNS jsonb
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET lock_timeout = '5s' SET enable_seqscan = off AS $$
DECLARE
    standing fleet.lock_waiters;
    answer jsonb;
    escalated boolean := false;
BEGIN
    PERFORM fleet.require_read_committed();
    PERFORM fleet.check_incarnation(incarnation);
    PERFORM set_config('synchronous_commit', 'off', true);
    SELECT * INTO standing FROM fleet.lock_waiters w WHERE w.id = poll_lock.waiter AND w.incarnation = poll_lock.incarnation;
    IF NOT FOUND THEN
        RETURN fleet.tell_end(incarnation, waiter);
    END IF;
    IF standing.deadline_at <= clock_timestamp() THEN
        RETURN fleet.end_wait(standing, 'timed_out');
    END IF;
    answer := fleet.lock_obstacle(standing);
    IF answer IS NULL THEN
        PERFORM pg_advisory_xact_lock(fleet.lock_key('content', standing.content));
        SELECT * INTO standing FROM fleet.lock_waiters w WHERE w.id = poll_lock.waiter FOR UPDATE;
        IF NOT FOUND THEN
            RETURN fleet.tell_end(incarnation, waiter);
        END IF;
        IF standing.lock_type <> 'analysis' AND fleet.is_engaged(standing.content,
            fleet.setting_number('engagement_window_hours', 24), standing.besides, standing.scope)
        THEN
            RETURN fleet.end_wait(standing, 'refused_engaged');
        END IF;
        answer := fleet.grant_lock(standing);
        IF (answer->>'granted')::boolean THEN
            RETURN answer || '{"over": true}';
        END IF;
    END IF;
    IF standing.polled_at < clock_timestamp() - fleet.poll_within() / 2 THEN
        UPDATE fleet.lock_waiters w SET polled_at = clock_timestamp(), poll_by = clock_timestamp() + fleet.poll_within()
        WHERE w.id = standing.id;
        escalated := fleet.escalate_wait(standing);
    END IF;
    RETURN answer || jsonb_build_object('granted', false, 'over', false, 'position', fleet.place_in_line(standing),
        'wait_s', extract(epoch FROM standing.deadline_at - clock_timestamp()), 'escalated', escalated);
END $$;

-- What became of one that stands in line no more: the lease that it was granted, however often it asks, or nothing. Locks nothing; one
-- row read.
CREATE OR REPLACE FUNCTION fleet.tell_end(incarnation uuid, waiter bigint) RETURNS jsonb
LANGUAGE plpgsql VOLATILE AS $$
DECLARE
    lease fleet.engagement_locks;
BEGIN
    SELECT * INTO lease FROM fleet.engagement_locks l
    WHERE l.waiter = tell_end.waiter AND l.incarnation = tell_end.incarnation AND l.lease_expires_at > clock_timestamp();
    RETURN CASE WHEN FOUND THEN fleet.tell_lease(lease) || '{"over": true}'
        ELSE '{"granted": false, "over": true, "reason": "gone"}'::jsonb END;
END $$;

-- Takes a waiter out of the line, and counts how its conflict ended. Where another call was faster, what that one did is told. One row,
-- not flushed.
CREATE OR REPLACE FUNCTION fleet.end_wait(standing fleet.lock_waiters, outcome text) RETURNS jsonb
LANGUAGE plpgsql VOLATILE AS $$
BEGIN
    DELETE FROM fleet.lock_waiters w WHERE w.id = standing.id;
    IF NOT FOUND THEN
        RETURN fleet.tell_end(standing.incarnation, standing.id);
    END IF;
    PERFORM fleet.count_lock(standing.incarnation, outcome,
        extract(epoch FROM clock_timestamp() - standing.waits_since)::double precision);
    RETURN jsonb_build_object('granted', false, 'over', true, 'reason',
        CASE outcome WHEN 'refused_engaged' THEN 'recent_engagement' ELSE outcome END);
END $$;

-- A waiter goes; what it was granted without having heard of it goes back, also what is being granted meanwhile. Names the life that
-- waits next (`wake`). Takes the content's mutex; not flushed unless a lock goes back.
CREATE OR REPLACE FUNCTION fleet.leave_line(incarnation uuid, waiter bigint) RETURNS jsonb
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET lock_timeout = '5s' SET enable_seqscan = off AS $$
DECLARE
    theirs text;
    standing fleet.lock_waiters;
    lease fleet.engagement_locks;
BEGIN
    PERFORM fleet.require_read_committed();
    PERFORM fleet.check_incarnation(incarnation);
    PERFORM set_config('synchronous_commit', 'off', true);
    theirs := coalesce(
        (SELECT w.content FROM fleet.lock_waiters w WHERE w.id = leave_line.waiter AND w.incarnation = leave_line.incarnation),
        (SELECT l.content FROM fleet.engagement_locks l WHERE l.waiter = leave_line.waiter AND l.incarnation = leave_line.incarnation));
    IF theirs IS NULL THEN
        RETURN jsonb_build_object('left', false, 'wake', NULL);
    END IF;
    PERFORM pg_advisory_xact_lock(fleet.lock_key('content', theirs));
    SELECT * INTO standing FROM fleet.lock_waiters w WHERE w.id = leave_line.waiter;
    IF FOUND THEN
        PERFORM fleet.end_wait(standing, 'given_up');
        RETURN jsonb_build_object('left', true, 'wake', NULL);
    END IF;
    SELECT * INTO lease FROM fleet.engagement_locks l
    WHERE l.content = theirs AND l.waiter = leave_line.waiter AND l.incarnation = leave_line.incarnation;
    IF NOT FOUND THEN
        RETURN jsonb_build_object('left', false, 'wake', NULL);
    END IF;
    PERFORM set_config('synchronous_commit', 'on', true);
    RETURN jsonb_build_object('left', true, 'wake', fleet.free_lock(lease.content, lease.fencing_token));
END $$;

-- What a request came to whose answer was lost, its place or its lock, goes back: its ticket names it. Names the life that waits next
-- (`wake`). Takes the content's mutex, and so waits for a request that is still under it; flushed.
CREATE OR REPLACE FUNCTION fleet.return_lost_lock(incarnation uuid, content text, ticket uuid) RETURNS jsonb
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET lock_timeout = '5s' AS $$
DECLARE
    standing fleet.lock_waiters;
    lease fleet.engagement_locks;
BEGIN
    PERFORM fleet.require_read_committed();
    PERFORM fleet.check_incarnation(incarnation);
    PERFORM set_config('synchronous_commit', 'on', true);
    PERFORM pg_advisory_xact_lock(fleet.lock_key('content', return_lost_lock.content));
    SELECT * INTO standing FROM fleet.lock_waiters w WHERE w.content = return_lost_lock.content
      AND w.ticket = return_lost_lock.ticket AND w.incarnation = return_lost_lock.incarnation;
    IF FOUND THEN
        PERFORM fleet.end_wait(standing, 'given_up');
        RETURN '{"wake": null}'::jsonb;
    END IF;
    SELECT * INTO lease FROM fleet.engagement_locks l WHERE l.content = return_lost_lock.content
      AND l.ticket = return_lost_lock.ticket AND l.incarnation = return_lost_lock.incarnation;
    RETURN jsonb_build_object('wake', CASE WHEN FOUND THEN fleet.free_lock(lease.content, lease.fencing_token) END);
END $$;

-- One that has waited for engagement_escalation_s is told to whoever coordinates, once: a message of the role. Says whether it did.
-- Its priority has risen by waiting, as everybody's. One row and one message.
CREATE OR REPLACE FUNCTION fleet.escalate_wait(standing fleet.lock_waiters) RETURNS boolean
LANGUAGE plpgsql VOLATILE AS $$
DECLARE
    waited_s double precision;
BEGIN
    waited_s := extract(epoch FROM clock_timestamp() - standing.waits_since);
    IF standing.escalated_at IS NOT NULL OR waited_s < fleet.setting_number('engagement_escalation_s', 60) THEN
        RETURN false;
    END IF;
    UPDATE fleet.lock_waiters w SET escalated_at = clock_timestamp() WHERE w.id = standing.id AND w.escalated_at IS NULL;
    IF NOT FOUND THEN
        RETURN false;
    END IF;
    PERFORM fleet.count_lock(standing.incarnation, 'escalated');
    PERFORM fleet.send_message(standing.incarnation, type => 'PRIORITY_ESCALATION', recipient => 'coordinator',
        payload => jsonb_build_object('kind', 'engagement_lock', 'content', left(standing.content, 200), 'worker_id', standing.worker_id,
            'priority', standing.priority, 'waited_s', round(waited_s::numeric, 1),
            'reason', format('%s waits for %s since %s s', standing.worker_id, left(standing.content, 200), round(waited_s::numeric)),
            'holders', coalesce((SELECT jsonb_agg(l.worker_id ORDER BY l.scope) FROM fleet.engagement_locks l
                WHERE l.content = standing.content), '[]')),
        recipient_kind => 'role', priority => CASE standing.priority WHEN 'critical' THEN 'critical' ELSE 'high' END,
        dedupe_key => 'lock_waiter:' || standing.id);
    RETURN true;
END $$;

-- Asks whoever coordinates to settle who may have a content: a message with all who contend, its holders, those in line and the
-- caller, one for each holder's lease. Gives whether there is a conflict to settle: other workers than the caller's. One message, flushed.
CREATE OR REPLACE FUNCTION fleet.escalate_conflict(incarnation uuid, tweet_id text, priority text DEFAULT 'medium') RETURNS jsonb
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET lock_timeout = '5s' AS $$
DECLARE
    life fleet.incarnations;
    real timestamptz;
    contenders jsonb;
BEGIN
    PERFORM fleet.require_read_committed();
    life := fleet.require_incarnation(incarnation);
    PERFORM fleet.priority_rank(priority);
    real := clock_timestamp();
    contenders := (SELECT jsonb_agg(jsonb_build_object('worker', c.worker, 'priority', c.priority, 'since', c.since) ORDER BY c.since)
        FROM (SELECT DISTINCT ON (a.worker) * FROM (
            SELECT i.worker, l.priority, l.acquired_at AS since FROM fleet.engagement_locks l
            JOIN fleet.incarnations i ON i.id = l.incarnation
            WHERE l.content = escalate_conflict.tweet_id AND l.lease_expires_at > real
            UNION ALL
            SELECT i.worker, w.priority, w.waits_since FROM fleet.lock_waiters w JOIN fleet.incarnations i ON i.id = w.incarnation
            WHERE w.content = escalate_conflict.tweet_id AND w.poll_by > real AND w.deadline_at > real
            UNION ALL
            SELECT life.worker, escalate_conflict.priority, real) a ORDER BY a.worker, a.since LIMIT 100) c);
    IF jsonb_array_length(contenders) < 2 THEN
        RETURN '{"escalated": false}'::jsonb;
    END IF;
    PERFORM fleet.send_message(incarnation, type => 'CONFLICT_RESOLUTION', recipient => 'coordinator',
        payload => jsonb_build_object('kind', 'resource', 'thing', 'content ' || left(tweet_id, 200), 'contenders', contenders),
        recipient_kind => 'role', priority => 'high',
        dedupe_key => 'lock:' || left(tweet_id, 300) || ':' || life.worker || ':' || coalesce((SELECT max(l.fencing_token)
            FROM fleet.engagement_locks l WHERE l.content = escalate_conflict.tweet_id)::text, ''));
    PERFORM fleet.count_lock(incarnation, 'escalated');
    RETURN '{"escalated": true}'::jsonb;
END $$;

-- A sleeper is told to look: a notification on its own channel, `fleet_` and its id without dashes. It carries that name alone, and
-- nothing depends on it. Not flushed, in no business transaction; locks nothing of the fleet's.
CREATE OR REPLACE FUNCTION fleet.wake_incarnation(sleeper uuid) RETURNS void
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    channel text := 'fleet_' || replace(wake_incarnation.sleeper::text, '-', '');
BEGIN
    PERFORM set_config('synchronous_commit', 'off', true);
    IF channel IS NULL THEN
        PERFORM fleet.refuse('sleeper', NULL, 'the id of a life');
    END IF;
    PERFORM pg_notify(channel, channel);
END $$;
