-- Engagement locks: one worker at a time on one piece of content. The mutex is a transaction advisory lock on the content's
-- key; the lease is a row; every grant takes a new fencing token.

-- The fleet time so many hours ago, read once: asked for each row it would keep every query from its index. Locks nothing.
CREATE OR REPLACE FUNCTION fleet.hours_ago(hours double precision) RETURNS timestamptz
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF hours IS NULL OR NOT (hours >= 0 AND hours <= 1000000) THEN
        PERFORM fleet.refuse('hours', hours::text, 'from 0 to 1000000');
    END IF;
    RETURN fleet.now() - make_interval(secs => hours * 3600);
END $$;

-- Whether the content was engaged within the window; also while an act on it is under way or undecided. An intent that asks
-- ignores itself. Locks nothing.
CREATE OR REPLACE FUNCTION fleet.is_engaged(tweet_id text, hours double precision, besides bigint DEFAULT NULL) RETURNS boolean
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    since timestamptz := fleet.hours_ago(hours);
BEGIN
    RETURN EXISTS (
        SELECT 1 FROM fleet.engagements e
        WHERE e.content = is_engaged.tweet_id AND e.success AND e.action <> 'analysis' AND e.engaged_at > since
          AND (besides IS NULL OR e.intent IS DISTINCT FROM besides)
    ) OR EXISTS (
        SELECT 1 FROM fleet.intents i
        WHERE i.content = is_engaged.tweet_id AND i.state IN ('sending', 'unknown', 'parked')
          AND (besides IS NULL OR i.id <> besides)
    );
END $$;

-- The same for callers: a jsonb boolean.
CREATE OR REPLACE FUNCTION fleet.has_recent_engagement(incarnation uuid, tweet_id text, hours double precision DEFAULT 24)
RETURNS jsonb
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    RETURN to_jsonb(fleet.is_engaged(tweet_id, hours));
END $$;

-- The grant itself, under the content's mutex, which the caller holds. Gives the new lease, or null with the holder's reason.
CREATE OR REPLACE FUNCTION fleet.grant_lock(
    content text, incarnation uuid, worker_id text, lock_type text, duration interval, priority text
) RETURNS jsonb
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    lease fleet.engagement_locks;
    real timestamptz;
    leased boolean;
BEGIN
    -- Flushed whatever the server's default is: a crash that forgot a grant would give its token out again.
    PERFORM set_config('synchronous_commit', 'on', true);
    SELECT * INTO lease FROM fleet.engagement_locks l WHERE l.content = grant_lock.content FOR UPDATE;
    leased := FOUND;
    real := clock_timestamp();
    IF leased AND lease.lease_expires_at > real THEN
        IF lease.incarnation = grant_lock.incarnation OR NOT fleet.is_suspected(lease.incarnation) THEN
            RETURN jsonb_build_object('granted', false, 'reason', 'held', 'holder', lease.worker_id,
                'lease_expires_at', lease.lease_expires_at);
        END IF;
    END IF;
    INSERT INTO fleet.engagement_locks
        (content, lock_type, priority, incarnation, worker_id, fencing_token, acquired_at, lease_expires_at)
    VALUES (grant_lock.content, grant_lock.lock_type, grant_lock.priority, grant_lock.incarnation, grant_lock.worker_id,
        nextval('fleet.fencing_token'), real, real + duration)
    ON CONFLICT ON CONSTRAINT engagement_locks_pkey DO UPDATE SET
        lock_type = excluded.lock_type, priority = excluded.priority, incarnation = excluded.incarnation,
        worker_id = excluded.worker_id, fencing_token = excluded.fencing_token, acquired_at = excluded.acquired_at,
        lease_expires_at = excluded.lease_expires_at
    RETURNING * INTO lease;
    RETURN jsonb_build_object('granted', true, 'content', lease.content, 'fencing_token', lease.fencing_token,
        'lease_expires_at', lease.lease_expires_at);
END $$;

-- Asks for the content. Waits only for the content's mutex (microseconds), never for its holder. One flushed commit.
CREATE OR REPLACE FUNCTION fleet.request_lock(
    incarnation uuid, tweet_id text, worker_id text, lock_type text, duration_minutes double precision DEFAULT 15,
    priority text DEFAULT 'medium'
) RETURNS jsonb
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET lock_timeout = '5s' AS $$
BEGIN
    PERFORM fleet.require_read_committed();
    PERFORM fleet.require_incarnation(incarnation);
    PERFORM fleet.priority_rank(priority);
    IF coalesce(length(tweet_id), 0) NOT BETWEEN 1 AND 512 THEN
        PERFORM fleet.refuse('tweet_id', tweet_id, 'a text of 1 to 512 characters');
    END IF;
    IF coalesce(length(worker_id), 0) NOT BETWEEN 1 AND 200 THEN
        PERFORM fleet.refuse('worker_id', worker_id, 'a text of 1 to 200 characters');
    END IF;
    IF lock_type IS NULL OR lock_type NOT IN ('quote', 'reply', 'like', 'analysis', 'post', 'follow') THEN
        PERFORM fleet.refuse('lock_type', lock_type, 'quote, reply, like, analysis, post or follow');
    END IF;
    IF duration_minutes IS NULL OR NOT (duration_minutes > 0 AND duration_minutes <= 1440) THEN
        PERFORM fleet.refuse('duration_minutes', duration_minutes::text, 'more than 0, at most 1440');
    END IF;
    PERFORM pg_advisory_xact_lock(fleet.lock_key('content', tweet_id));
    IF lock_type <> 'analysis' AND fleet.is_engaged(tweet_id, fleet.setting_number('engagement_window_hours', 24))
    THEN
        RETURN jsonb_build_object('granted', false, 'reason', 'recent_engagement');
    END IF;
    RETURN fleet.grant_lock(tweet_id, incarnation, worker_id, lock_type,
        make_interval(secs => duration_minutes * 60), priority);
END $$;

-- FL002 for a writer whose (content, incarnation, token) is not the lease any more.
CREATE OR REPLACE FUNCTION fleet.lock_lost(content text, token bigint) RETURNS void
LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'the lock on % with fencing token % is lost', quote_literal(content), token
        USING ERRCODE = 'FL002', HINT = 'stop work on this content; ask for the lock again';
END $$;

-- Prolongs a lease that is still one's own, from now on. FL002 when it is lost or over.
CREATE OR REPLACE FUNCTION fleet.renew_lock(incarnation uuid, content text, token bigint, duration_minutes double precision)
RETURNS jsonb
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET lock_timeout = '5s' AS $$
DECLARE
    expires timestamptz;
BEGIN
    PERFORM fleet.require_read_committed();
    PERFORM fleet.require_incarnation(incarnation);
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

-- Gives the content back; an analysis leaves its history here, acts leave theirs in the ledger's settle. FL002 when lost.
CREATE OR REPLACE FUNCTION fleet.release_lock(incarnation uuid, content text, token bigint, success boolean DEFAULT NULL)
RETURNS jsonb
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET lock_timeout = '5s' AS $$
DECLARE
    lease fleet.engagement_locks;
BEGIN
    PERFORM fleet.require_read_committed();
    PERFORM fleet.require_incarnation(incarnation);
    PERFORM pg_advisory_xact_lock(fleet.lock_key('content', release_lock.content));
    DELETE FROM fleet.engagement_locks l
    WHERE l.content = release_lock.content AND l.incarnation = release_lock.incarnation AND l.fencing_token = token
    RETURNING * INTO lease;
    IF NOT FOUND THEN
        PERFORM fleet.lock_lost(release_lock.content, token);
    END IF;
    IF success IS NOT NULL THEN
        IF lease.lock_type <> 'analysis' THEN
            PERFORM fleet.refuse('success', success::text, 'no value for a ' || lease.lock_type
                || ' lock: the ledger writes the history of acts');
        END IF;
        INSERT INTO fleet.engagements (content, action, account, worker_id, incarnation, success, engaged_at)
        VALUES (lease.content, 'analysis', NULL, lease.worker_id, lease.incarnation, release_lock.success, fleet.now());
    END IF;
    RETURN jsonb_build_object('released', true);
END $$;

-- Counts over the last hours of fleet time; a person's reader gives a null incarnation. Locks nothing; one range read.
CREATE OR REPLACE FUNCTION fleet.get_engagement_stats(incarnation uuid, hours double precision DEFAULT 24) RETURNS jsonb
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    since timestamptz := fleet.hours_ago(hours);
BEGIN
    RETURN (
        SELECT jsonb_build_object(
            'total_engagements', count(*),
            'successful_engagements', count(*) FILTER (WHERE e.success),
            'quote_tweets', count(*) FILTER (WHERE e.action = 'quote'),
            'replies', count(*) FILTER (WHERE e.action = 'reply'),
            'likes', count(*) FILTER (WHERE e.action = 'like'),
            'posts', count(*) FILTER (WHERE e.action = 'post'),
            'success_rate', CASE WHEN count(*) = 0 THEN NULL
                ELSE round(count(*) FILTER (WHERE e.success)::numeric / count(*), 4) END)
        FROM fleet.engagements e
        WHERE e.action <> 'analysis' AND e.engaged_at > since);
END $$;
