-- Engagement locks: one worker at a time on one piece of content. The mutex is a transaction advisory lock on the content's
-- key; the lease is a row; every grant takes a new fencing token. A lock of the fleet's scope keeps everybody from the content, one
-- of an account's scope that account; all scopes of a content have one mutex. Who waits stands in waiters.sql.
-- The tables are often empty, and a plan that was made then would read them whole when they are not: hence enable_seqscan.

-- A request as a row of the line that is not in it (yet): where it would stand. An act of the ledger was in its account's line before
-- somebody asked for it: it stands there since `stands_since`, real time. Locks nothing.
CREATE OR REPLACE FUNCTION fleet.ask_for_lock(
    content text, incarnation uuid, worker_id text, lock_type text, duration interval, priority text, scope text DEFAULT '',
    account text DEFAULT NULL, score double precision DEFAULT NULL, besides bigint DEFAULT NULL, stands_since timestamptz DEFAULT NULL
) RETURNS fleet.lock_waiters
LANGUAGE plpgsql VOLATILE AS $$
DECLARE
    ask fleet.lock_waiters;
BEGIN
    ask.content := ask_for_lock.content;
    ask.scope := ask_for_lock.scope;
    ask.account := ask_for_lock.account;
    ask.lock_type := ask_for_lock.lock_type;
    ask.duration := ask_for_lock.duration;
    ask.priority := ask_for_lock.priority;
    ask.score := ask_for_lock.score;
    ask.besides := ask_for_lock.besides;
    ask.incarnation := ask_for_lock.incarnation;
    ask.worker_id := ask_for_lock.worker_id;
    ask.waits_since := clock_timestamp();
    -- One step of priority is worth so many seconds of waiting, and the highest score as much as a step. All that wait age at one
    -- pace: so the order of two never changes while they do, and nobody waits behind more than the steps and the line ahead.
    ask.stands_at := coalesce(ask_for_lock.stands_since, ask.waits_since) - make_interval(secs => fleet.setting_number('engagement_ageing_s', 60)
        * (fleet.priority_rank(ask.priority) + coalesce(ask.score, 0) / 100));
    RETURN ask;
END $$;

-- The lease of a living holder that keeps a request from its content; null where the content is free. Locks no row; each holder's
-- session lock is tried in a statement of its own, never that of the caller, who is `me`.
CREATE OR REPLACE FUNCTION fleet.lease_before(ask fleet.lock_waiters, me uuid) RETURNS fleet.engagement_locks
LANGUAGE plpgsql VOLATILE AS $$
DECLARE
    lease fleet.engagement_locks;
BEGIN
    FOR lease IN
        SELECT * FROM fleet.engagement_locks l
        WHERE l.content = ask.content AND l.lease_expires_at > clock_timestamp() AND (l.scope = ask.scope OR '' IN (l.scope, ask.scope))
        ORDER BY l.scope
    LOOP
        IF lease.incarnation = me OR NOT fleet.is_suspected(lease.incarnation) THEN
            RETURN lease;
        END IF;
    END LOOP;
    RETURN NULL;
END $$;

-- Why a request can't have its content now, or null when it can: who holds it, who stands before it and could have it, its account's
-- interval. Locks no row; tries session locks as lease_before does. Of a long line it reads no more than it looks at.
CREATE OR REPLACE FUNCTION fleet.lock_obstacle(ask fleet.lock_waiters) RETURNS jsonb
LANGUAGE plpgsql VOLATILE AS $$
DECLARE
    lease fleet.engagement_locks;
    ahead fleet.lock_waiters;
    real timestamptz;
BEGIN
    real := clock_timestamp();
    lease := fleet.lease_before(ask, ask.incarnation);
    IF lease.content IS NOT NULL THEN
        RETURN jsonb_build_object('reason', 'held', 'holder', lease.worker_id, 'lease_expires_at', lease.lease_expires_at);
    END IF;
    FOR ahead IN
        SELECT * FROM fleet.lock_waiters w
        WHERE w.content = ask.content AND w.poll_by > real AND w.deadline_at > real
          AND (w.scope = ask.scope OR '' IN (w.scope, ask.scope))
          AND (w.stands_at, w.id) < (ask.stands_at, coalesce(ask.id, 9223372036854775807))
        ORDER BY w.stands_at, w.id
    LOOP
        -- Who waits for its account's turn keeps nobody from a content that is free.
        CONTINUE WHEN fleet.account_obstacle(ahead, ask.incarnation) IS NOT NULL;
        IF ahead.incarnation = ask.incarnation OR NOT fleet.is_suspected(ahead.incarnation) THEN
            RETURN jsonb_build_object('reason', 'line', 'ahead', ahead.worker_id);
        END IF;
    END LOOP;
    RETURN fleet.account_obstacle(ask, ask.incarnation);
END $$;

-- Why a request's account can't engage now, or null when it can. Under an interval an account's contents compete for its next
-- engagement: it has one engaging lock at a time, and of those that wait with a free content the first in line goes, so that a
-- newcomer never takes the turn of one who waited. Locks no row; tries session locks as lease_before does.
CREATE OR REPLACE FUNCTION fleet.account_obstacle(ask fleet.lock_waiters, me uuid) RETURNS jsonb
LANGUAGE plpgsql VOLATILE AS $$
DECLARE
    lease fleet.engagement_locks;
    ahead fleet.lock_waiters;
    real timestamptz;
    left_s double precision;
BEGIN
    IF NOT fleet.is_spaced(ask.account, ask.lock_type) THEN
        RETURN NULL;
    END IF;
    left_s := fleet.interval_left_s(ask.account, ask.lock_type, ask.besides);
    IF left_s > 0 THEN
        RETURN jsonb_build_object('reason', 'interval', 'retry_after_s', left_s / coalesce((SELECT c.rate FROM fleet.clock c), 1));
    END IF;
    real := clock_timestamp();
    FOR lease IN
        SELECT * FROM fleet.engagement_locks l
        WHERE l.account = ask.account AND l.content <> ask.content AND l.lease_expires_at > real AND fleet.is_engaging(l.lock_type)
        ORDER BY l.content, l.scope
    LOOP
        IF lease.incarnation = me OR NOT fleet.is_suspected(lease.incarnation) THEN
            RETURN jsonb_build_object('reason', 'interval', 'holder', lease.worker_id);
        END IF;
    END LOOP;
    FOR ahead IN
        SELECT * FROM fleet.lock_waiters w
        WHERE w.account = ask.account AND w.content <> ask.content AND fleet.is_engaging(w.lock_type)
          AND w.poll_by > real AND w.deadline_at > real
          AND (w.stands_at, w.id) < (ask.stands_at, coalesce(ask.id, 9223372036854775807))
        ORDER BY w.stands_at, w.id
    LOOP
        lease := fleet.lease_before(ahead, me);
        CONTINUE WHEN lease.content IS NOT NULL;
        IF ahead.incarnation = me OR NOT fleet.is_suspected(ahead.incarnation) THEN
            RETURN jsonb_build_object('reason', 'interval', 'ahead', ahead.worker_id);
        END IF;
    END LOOP;
    RETURN NULL;
END $$;

-- The grant itself, under the content's mutex, which the caller holds. Gives the new lease, or why there is none. Under an interval
-- it takes the account's row, as the last gate before a send does. Flushed when granted.
CREATE OR REPLACE FUNCTION fleet.grant_lock(ask fleet.lock_waiters) RETURNS jsonb
LANGUAGE plpgsql VOLATILE AS $$
DECLARE
    lease fleet.engagement_locks;
    obstacle jsonb;
    real timestamptz;
    overtakes boolean := false;
BEGIN
    IF fleet.is_spaced(ask.account, ask.lock_type) THEN
        PERFORM 1 FROM fleet.accounts a WHERE a.name = ask.account FOR UPDATE;
    END IF;
    obstacle := fleet.lock_obstacle(ask);
    IF obstacle IS NOT NULL THEN
        RETURN jsonb_build_object('granted', false) || obstacle;
    END IF;
    real := clock_timestamp();
    -- What is left of former holders goes, also of another scope: none of them may write any more.
    FOR lease IN
        SELECT * FROM fleet.engagement_locks l WHERE l.content = ask.content AND (l.scope = ask.scope OR '' IN (l.scope, ask.scope))
        ORDER BY l.scope FOR UPDATE
    LOOP
        overtakes := overtakes OR lease.lease_expires_at > real;
        DELETE FROM fleet.engagement_locks l WHERE l.content = lease.content AND l.scope = lease.scope;
    END LOOP;
    IF ask.id IS NOT NULL THEN
        DELETE FROM fleet.lock_waiters w WHERE w.id = ask.id;
    END IF;
    RETURN fleet.take_lock(ask.content, ask.scope, ask.account, ask.id, ask.ticket, ask.lock_type, ask.priority, ask.incarnation,
        ask.worker_id, ask.duration, ask.waits_since, overtakes);
END $$;

-- The lease of a request that nothing stands in the way of, under the content's mutex: a row with a new token, and counted; who waited
-- for nothing is one more and no more. Flushed.
CREATE OR REPLACE FUNCTION fleet.take_lock(
    content text, scope text, account text, waiter bigint, ticket uuid, lock_type text, priority text, incarnation uuid, worker_id text,
    duration interval, asked_at timestamptz, overtakes boolean
) RETURNS jsonb
LANGUAGE plpgsql VOLATILE AS $$
DECLARE
    real timestamptz;
    at timestamptz;
    token bigint;
BEGIN
    -- Flushed whatever the server's default is: a crash that forgot a grant would give its token out again.
    PERFORM set_config('synchronous_commit', 'on', true);
    real := clock_timestamp();
    INSERT INTO fleet.engagement_locks
        (content, scope, account, waiter, ticket, lock_type, priority, incarnation, worker_id, fencing_token, acquired_at, lease_expires_at)
    VALUES (content, scope, account, waiter, ticket, lock_type, priority, incarnation, worker_id, nextval('fleet.fencing_token'), real,
        real + duration)
    RETURNING fencing_token INTO token;
    at := date_bin('5 minutes', fleet.now(), 'epoch');
    UPDATE fleet.lock_measures m SET granted = m.granted + 1
    WHERE m.counted_at = at AND m.incarnation = take_lock.incarnation
      AND waiter IS NULL AND NOT overtakes AND real - asked_at < interval '1 millisecond';
    IF NOT FOUND THEN
        PERFORM fleet.count_lock(incarnation, CASE WHEN waiter IS NULL THEN 'granted' ELSE 'granted_after_waiting' END,
            extract(epoch FROM real - asked_at)::double precision, overtakes);
    END IF;
    RETURN jsonb_build_object('granted', true, 'content', content, 'fencing_token', token, 'lease_expires_at', real + duration);
END $$;

-- A lease as its holder is told of it. Locks nothing.
CREATE OR REPLACE FUNCTION fleet.tell_lease(lease fleet.engagement_locks) RETURNS jsonb
LANGUAGE plpgsql VOLATILE AS $$
BEGIN
    RETURN jsonb_build_object('granted', true, 'content', lease.content, 'fencing_token', lease.fencing_token,
        'lease_expires_at', lease.lease_expires_at);
END $$;

-- FL001 unless a request for a lock makes sense. Locks nothing.
CREATE OR REPLACE FUNCTION fleet.check_lock_request(
    tweet_id text, worker_id text, lock_type text, duration_minutes double precision, priority text, wait_s double precision,
    scope text, account text, score double precision
) RETURNS void
LANGUAGE plpgsql VOLATILE AS $$
DECLARE
    rank integer := fleet.priority_rank(priority);
BEGIN
    PERFORM fleet.check_content(tweet_id);
    IF coalesce(length(worker_id), 0) NOT BETWEEN 1 AND 200 THEN
        PERFORM fleet.refuse('worker_id', worker_id, 'a text of 1 to 200 characters');
    END IF;
    IF lock_type IS NULL OR lock_type NOT IN ('quote', 'reply', 'like', 'analysis', 'post', 'follow') THEN
        PERFORM fleet.refuse('lock_type', lock_type, 'quote, reply, like, analysis, post or follow');
    END IF;
    IF duration_minutes IS NULL OR NOT (duration_minutes > 0 AND duration_minutes <= 1440) THEN
        PERFORM fleet.refuse('duration_minutes', duration_minutes::text, 'more than 0, at most 1440');
    END IF;
    IF wait_s IS NULL OR NOT (wait_s >= 0 AND wait_s <= 86400) THEN
        PERFORM fleet.refuse('wait_s', wait_s::text, 'from 0 to 86400 seconds');
    END IF;
    IF scope IS NULL OR scope NOT IN ('fleet', 'account', 'act') THEN
        PERFORM fleet.refuse('scope', scope, 'fleet, account or act');
    END IF;
    IF scope = 'act' AND account IS NULL THEN
        PERFORM fleet.refuse('account', NULL, 'the account whose act it is');
    END IF;
    IF account IS NOT NULL THEN
        PERFORM fleet.require_account(account);
    END IF;
    IF score IS NOT NULL AND NOT (score >= 0 AND score <= 100) THEN
        PERFORM fleet.refuse('score', score::text, 'no value, or from 0 to 100');
    END IF;
END $$;

-- Asks for the content: the lease, or why not. Its scope: the fleet's, the account's ("default" where none is named), or that of an
-- act of the account, to decide about it: as the ledger will lock it, and without an interval, which the send keeps. With wait_s > 0 a request that only has to wait gets a place in the line (its
-- `waiter`, for poll_lock). Waits only for the content's mutex (microseconds), never for its holder; what a living holder has is
-- refused without the mutex. What a lost answer granted goes back by its ticket (return_lost_lock). One commit, flushed when granted.
CREATE OR REPLACE FUNCTION fleet.request_lock(
    incarnation uuid, tweet_id text, worker_id text, lock_type text, duration_minutes double precision DEFAULT 15,
    priority text DEFAULT 'medium', wait_s double precision DEFAULT 0, scope text DEFAULT 'fleet', account text DEFAULT NULL,
    score double precision DEFAULT NULL, besides bigint DEFAULT NULL, ticket uuid DEFAULT NULL
) RETURNS jsonb
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET lock_timeout = '5s' SET enable_seqscan = off AS $$
DECLARE
    ask fleet.lock_waiters;
    answer jsonb;
    lease fleet.engagement_locks;
    locked text;
    duration interval;
    asked_at timestamptz;
BEGIN
    account := CASE WHEN scope = 'account' THEN coalesce(account, 'default') ELSE account END;
    PERFORM fleet.require_read_committed(), fleet.check_incarnation(incarnation),
        fleet.check_lock_request(tweet_id, worker_id, lock_type, duration_minutes, priority, wait_s, scope, account, score);
    locked := CASE scope WHEN 'account' THEN account WHEN 'act' THEN fleet.act_scope(account) ELSE '' END;
    account := CASE WHEN scope <> 'act' THEN account END;
    duration := make_interval(secs => duration_minutes * 60);
    asked_at := clock_timestamp();
    IF wait_s = 0 THEN
        SELECT l.incarnation, l.worker_id, l.lease_expires_at INTO lease.incarnation, lease.worker_id, lease.lease_expires_at
        FROM fleet.engagement_locks l WHERE l.content = tweet_id AND l.scope = locked AND l.lease_expires_at > asked_at;
        IF FOUND AND lease.incarnation <> request_lock.incarnation AND NOT fleet.is_suspected(lease.incarnation)
            AND NOT (lock_type <> 'analysis' AND fleet.is_engaged(tweet_id, fleet.setting_number('engagement_window_hours', 24),
                besides, locked))
        THEN
            RETURN fleet.refuse_lock(incarnation, jsonb_build_object('granted', false, 'reason', 'held', 'holder', lease.worker_id,
                'lease_expires_at', lease.lease_expires_at));
        END IF;
    END IF;
    PERFORM pg_advisory_xact_lock(fleet.lock_key('content', tweet_id));
    IF lock_type <> 'analysis'
        AND fleet.is_engaged(tweet_id, fleet.setting_number('engagement_window_hours', 24), besides, locked)
    THEN
        RETURN fleet.refuse_lock(incarnation, jsonb_build_object('granted', false, 'reason', 'recent_engagement'));
    END IF;
    -- Where nobody has the content or waits for it, dead or alive, and no account's turn is to be kept, nothing is to be decided.
    PERFORM 1 FROM fleet.engagement_locks l WHERE l.content = tweet_id
    UNION ALL SELECT 1 FROM fleet.lock_waiters w WHERE w.content = tweet_id;
    IF NOT FOUND AND NOT fleet.is_spaced(account, lock_type) THEN
        RETURN fleet.take_lock(tweet_id, locked, account, NULL, ticket, lock_type, priority, incarnation, worker_id, duration, asked_at, false);
    END IF;
    ask := fleet.ask_for_lock(tweet_id, incarnation, worker_id, lock_type, duration, priority, locked, account, score, besides);
    ask.ticket := request_lock.ticket;
    ask := fleet.take_up_place(ask);
    answer := fleet.grant_lock(ask);
    IF (answer->>'granted')::boolean THEN
        RETURN answer;
    END IF;
    answer := fleet.refuse_lock(incarnation, answer);
    RETURN CASE WHEN wait_s > 0 THEN answer || fleet.line_up(ask, wait_s) ELSE answer END;
END $$;

-- Counts a refusal and gives it on; one row that nobody else writes, not flushed.
CREATE OR REPLACE FUNCTION fleet.refuse_lock(incarnation uuid, answer jsonb) RETURNS jsonb
LANGUAGE plpgsql VOLATILE AS $$
BEGIN
    PERFORM set_config('synchronous_commit', 'off', true);
    PERFORM fleet.count_lock(incarnation, CASE answer->>'reason' WHEN 'recent_engagement' THEN 'refused_engaged'
        WHEN 'interval' THEN 'refused_interval' ELSE 'refused_held' END);
    RETURN answer;
END $$;

-- FL002 for a writer whose (content, incarnation, token) is not the lease any more. The miss is counted by a sequence, since all
-- else that this transaction wrote is undone.
CREATE OR REPLACE FUNCTION fleet.lock_lost(content text, token bigint) RETURNS void
LANGUAGE plpgsql AS $$
BEGIN
    PERFORM nextval('fleet.lock_misses');
    RAISE EXCEPTION 'the lock on % with fencing token % is lost', quote_literal(content), token
        USING ERRCODE = 'FL002', HINT = 'stop work on this content; ask for the lock again';
END $$;

-- Prolongs a lease that is still one's own, from now on. FL002 when it is lost or over. Takes the content's mutex; one flushed commit.
CREATE OR REPLACE FUNCTION fleet.renew_lock(incarnation uuid, content text, token bigint, duration_minutes double precision DEFAULT 15)
RETURNS jsonb
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET lock_timeout = '5s' SET enable_seqscan = off AS $$
DECLARE
    expires timestamptz;
BEGIN
    PERFORM fleet.require_read_committed();
    PERFORM fleet.check_incarnation(incarnation);
    PERFORM set_config('synchronous_commit', 'on', true);
    IF duration_minutes IS NULL OR NOT (duration_minutes > 0 AND duration_minutes <= 1440) THEN
        PERFORM fleet.refuse('duration_minutes', duration_minutes::text, 'more than 0, at most 1440');
    END IF;
    PERFORM pg_advisory_xact_lock(fleet.lock_key('content', renew_lock.content));
    UPDATE fleet.engagement_locks l SET lease_expires_at = clock_timestamp() + make_interval(secs => duration_minutes * 60)
    WHERE l.content = renew_lock.content AND l.incarnation = renew_lock.incarnation AND l.fencing_token = token
      AND l.lease_expires_at > clock_timestamp()
    RETURNING l.lease_expires_at INTO expires;
    IF NOT FOUND THEN
        PERFORM fleet.lock_lost(renew_lock.content, token);
    END IF;
    RETURN jsonb_build_object('content', renew_lock.content, 'fencing_token', token, 'lease_expires_at', expires);
END $$;

-- Gives the content back; an analysis leaves its history here, acts leave theirs in the ledger's settle. FL002 when lost. Names the
-- life that waits for it (`wake`), to be woken afterwards. Takes the content's mutex; one flushed commit.
CREATE OR REPLACE FUNCTION fleet.release_lock(incarnation uuid, content text, token bigint, success boolean DEFAULT NULL)
RETURNS jsonb
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET lock_timeout = '5s' SET enable_seqscan = off AS $$
DECLARE
    lease fleet.engagement_locks;
BEGIN
    PERFORM fleet.require_read_committed(), fleet.check_incarnation(incarnation), set_config('synchronous_commit', 'on', true);
    PERFORM pg_advisory_xact_lock(fleet.lock_key('content', release_lock.content));
    DELETE FROM fleet.engagement_locks l
    WHERE l.content = release_lock.content AND l.incarnation = release_lock.incarnation AND l.fencing_token = token
    RETURNING l.scope, l.lock_type, l.account, l.worker_id INTO lease.scope, lease.lock_type, lease.account, lease.worker_id;
    IF NOT FOUND THEN
        PERFORM fleet.lock_lost(release_lock.content, token);
    END IF;
    IF success IS NOT NULL THEN
        IF lease.lock_type <> 'analysis' THEN
            PERFORM fleet.refuse('success', success::text, 'no value for a ' || lease.lock_type
                || ' lock: the ledger writes the history of acts');
        END IF;
        INSERT INTO fleet.engagements (content, action, account, worker_id, incarnation, success, engaged_at)
        VALUES (content, 'analysis', lease.account, lease.worker_id, incarnation, release_lock.success, fleet.now());
    END IF;
    RETURN jsonb_build_object('released', true, 'wake', fleet.next_in_line(content, lease.scope));
END $$;

-- Gives back what the ledger held, in the ledger's own transaction; gives the life that waits for it, or null. The caller holds the
-- content's mutex, or has shown that nobody holds the lease any more.
CREATE OR REPLACE FUNCTION fleet.free_lock(content text, token bigint) RETURNS uuid
LANGUAGE plpgsql VOLATILE AS $$
DECLARE
    freed text;
BEGIN
    DELETE FROM fleet.engagement_locks l WHERE l.content = free_lock.content AND l.fencing_token = free_lock.token
    RETURNING l.scope INTO freed;
    RETURN CASE WHEN FOUND THEN fleet.next_in_line(free_lock.content, freed) END;
END $$;
