-- What came of an act: its sender's report, a dead sender's act set aside, and a person's decision.

-- What came of a send, in one transaction: result, history, grant with the answer's headers, lock. Open to the sender of that
-- attempt even after its incarnation ended, since it alone knows. An unknown outcome is parked for a person. `wake` is the life
-- that waits for the lock, to be woken afterwards.
CREATE OR REPLACE FUNCTION fleet.settle(
    incarnation uuid, intent bigint, attempt integer, outcome text, worker_id text, platform_id text DEFAULT NULL,
    status integer DEFAULT NULL, reason text DEFAULT NULL, response_headers jsonb DEFAULT '{}',
    retry_after_s double precision DEFAULT NULL
) RETURNS jsonb
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET lock_timeout = '10s' AS $$
DECLARE
    known fleet.intents;
    tried fleet.attempts;
    other bigint;
BEGIN
    PERFORM fleet.require_read_committed();
    PERFORM set_config('synchronous_commit', 'on', true);
    IF outcome IS NULL OR outcome NOT IN ('posted', 'rejected', 'retry_at', 'unknown', 'not_written') THEN
        PERFORM fleet.refuse('outcome', outcome, 'posted, rejected, retry_at, unknown or not_written');
    END IF;
    IF (outcome = 'posted') <> (platform_id IS NOT NULL) THEN
        PERFORM fleet.refuse('platform_id', platform_id, 'the platform''s id for posted, nothing otherwise');
    END IF;
    SELECT * INTO tried FROM fleet.attempts a
    WHERE a.intent = settle.intent AND a.attempt = settle.attempt AND a.incarnation = settle.incarnation;
    IF NOT FOUND THEN
        PERFORM fleet.refuse('attempt', settle.attempt::text, 'an attempt that this incarnation began on intent ' || settle.intent);
    END IF;
    SELECT * INTO known FROM fleet.intents i WHERE i.id = settle.intent;
    PERFORM pg_advisory_xact_lock(fleet.lock_key('content', known.content));
    SELECT * INTO known FROM fleet.intents i WHERE i.id = settle.intent FOR UPDATE;
    IF settle.outcome = 'posted' THEN
        -- A post that is another intent's already is not this one's; the truth is not known, and never adopted.
        other := fleet.intent_posted_as(known, settle.platform_id);
        IF other IS NOT NULL THEN
            outcome := 'unknown';
            reason := format('the platform''s answer names post %s, which is intent %s''s', settle.platform_id, other);
        END IF;
    END IF;
    UPDATE fleet.attempts a SET settled_at = fleet.now(), outcome = settle.outcome, status = settle.status,
        reason = left(settle.reason, 1000),
        headers = settle.response_headers || jsonb_strip_nulls(jsonb_build_object('platform_id', settle.platform_id))
    WHERE a.intent = settle.intent AND a.attempt = settle.attempt AND a.settled_at IS NULL;
    IF NOT FOUND THEN
        RETURN fleet.get_intent(known.id);  -- reported before: the same report twice changes nothing
    END IF;
    IF settle.outcome = 'not_written' OR (settle.outcome = 'retry_at' AND settle.status IS NULL) THEN
        PERFORM fleet.drop_grant(tried.grant_id);
    ELSIF EXISTS (SELECT 1 FROM fleet.rate_grants g WHERE g.id = tried.grant_id) THEN
        PERFORM fleet.settle_grant(settle.incarnation, tried.grant_id, settle.platform_id IS NOT NULL,
            coalesce(settle.response_headers, '{}'), settle.status);
    END IF;
    IF known.state <> 'sending' OR known.attempt IS DISTINCT FROM settle.attempt THEN
        PERFORM fleet.emit('error', 'late_report', worker_id, format(
            '%s is %s, and its sender reports late: %s', fleet.name_act(known), known.state,
            concat_ws(' ', settle.outcome, settle.platform_id, settle.reason)), jsonb_build_object('intent', known.id::text));
        RETURN fleet.get_intent(known.id);
    END IF;
    CASE settle.outcome
    WHEN 'posted' THEN
        PERFORM fleet.mark_posted(known, settle.platform_id, worker_id, settle.reason, settle.incarnation, tried.fencing_token);
        PERFORM fleet.emit('info', 'posted', worker_id, CASE known.action WHEN 'like' THEN 'done: ' || fleet.name_act(known)
            ELSE format('posted %s as %s%s', fleet.name_act(known), settle.platform_id, fleet.quote_text(known)) END,
            jsonb_build_object('intent', known.id::text, 'action', known.action, 'platform_id', settle.platform_id));
    WHEN 'rejected' THEN
        PERFORM fleet.move_intent(known.id, 'rejected', worker_id, settle.reason, settle.incarnation, tried.fencing_token);
        -- Tried, and without success: it opens no window, and the rate of success knows it.
        INSERT INTO fleet.engagements (content, action, account, worker_id, incarnation, intent, success, engaged_at)
        VALUES (known.content, known.action, known.account, worker_id, settle.incarnation, known.id, false, fleet.now());
        PERFORM fleet.emit('warning', 'rejected', worker_id,
            format('%s was rejected: %s', fleet.name_act(known), settle.reason),
            jsonb_build_object('intent', known.id::text, 'status', settle.status));
    WHEN 'retry_at' THEN
        PERFORM fleet.move_intent(known.id, 'retry_at', worker_id, settle.reason, settle.incarnation, tried.fencing_token, NULL,
            fleet.now() + make_interval(secs => greatest(1, coalesce(settle.retry_after_s, 60))));
        PERFORM fleet.emit('warning', 'retry', worker_id, format('%s is tried again in %s s: %s', fleet.name_act(known),
            round(greatest(1, coalesce(settle.retry_after_s, 60))), settle.reason),
            jsonb_build_object('intent', known.id::text, 'status', settle.status));
    WHEN 'not_written' THEN
        PERFORM fleet.move_intent(known.id, 'ready', worker_id, 'not written: ' || coalesce(settle.reason, ''),
            settle.incarnation, tried.fencing_token);
    WHEN 'unknown' THEN
        PERFORM fleet.move_intent(known.id, 'unknown', worker_id, settle.reason, settle.incarnation, tried.fencing_token);
        PERFORM fleet.park(known.id, worker_id, 'nobody knows whether it was posted: ' || coalesce(settle.reason, ''));
    END CASE;
    RETURN fleet.get_intent(known.id) || jsonb_build_object('wake', fleet.free_lock(known.content, tried.fencing_token));
END $$;

-- The other intent of the account that has this platform id already; null when there is none. A like has no id of its own:
-- it carries the liked post's. Locks nothing.
CREATE OR REPLACE FUNCTION fleet.intent_posted_as(known fleet.intents, platform_id text) RETURNS bigint
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    RETURN (SELECT i.id FROM fleet.intents i WHERE i.account = known.account AND known.action <> 'like'
        AND i.platform_id = intent_posted_as.platform_id AND i.action <> 'like' AND i.id <> known.id);
END $$;

-- posted: with the platform's id (a like's is its target), the engagement's history and the post to measure, in the caller's
-- transaction.
CREATE OR REPLACE FUNCTION fleet.mark_posted(
    known fleet.intents, platform_id text, actor text, reason text, incarnation uuid, token bigint
) RETURNS void
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    at timestamptz;
BEGIN
    PERFORM fleet.move_intent(known.id, 'posted', actor, mark_posted.reason, incarnation, token,
        CASE known.action WHEN 'like' THEN known.target ELSE mark_posted.platform_id END);
    at := fleet.now();
    INSERT INTO fleet.engagements (content, action, account, worker_id, incarnation, intent, success, engaged_at)
    VALUES (known.content, known.action, known.account, actor, incarnation, known.id, true, at);
    IF known.action <> 'like' THEN
        INSERT INTO fleet.tracked_posts (account, platform_id, intent, posted_at, next_reading_at)
        VALUES (known.account, mark_posted.platform_id, known.id, at,
            at + make_interval(secs => fleet.setting_number('metrics_first_reading_s', 900)))
        ON CONFLICT ON CONSTRAINT tracked_posts_pkey DO NOTHING;
    END IF;
END $$;

-- Sets an intent aside for a person, loudly.
CREATE OR REPLACE FUNCTION fleet.park(intent bigint, actor text, reason text) RETURNS void
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    parked fleet.intents;
BEGIN
    parked := fleet.move_intent(park.intent, 'parked', actor, park.reason);
    PERFORM fleet.emit('error', 'parked', actor, format(
        '%s is parked: %s. Look on the platform, then: socialfleet ledger mark-posted|resume|cancel %s',
        fleet.name_act(parked), park.reason, park.intent), jsonb_build_object('intent', park.intent::text));
END $$;

-- Why nobody reports any more what came of an act; a person decides by it whether a late write is still to be feared. Locks nothing.
CREATE OR REPLACE FUNCTION fleet.tell_orphan(sender uuid, me uuid) RETURNS text
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    RETURN CASE WHEN sender = me THEN 'what came of the send was never reported'
        WHEN fleet.is_dead(sender) THEN (SELECT format('its sender is dead (%s) and had not reported what came of the send', i.death)
            FROM fleet.incarnations i WHERE i.id = sender)
        ELSE 'its sender is silent since the send, and nobody has proven it dead: it may still be written' END;
END $$;

-- Parks one act whose sender lost its session lock and whose lease and grace are over, or that the caller itself began and
-- never settled (it asks between its sends); gives its id, or null when there is none.
CREATE OR REPLACE FUNCTION fleet.park_orphan(incarnation uuid, account text, grace_s double precision) RETURNS text
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET lock_timeout = '5s'
SET plan_cache_mode = force_generic_plan AS $$  -- to plan it anew takes longer than to run it (ADR-0052)
DECLARE
    life fleet.incarnations;
    candidate fleet.intents;
BEGIN
    PERFORM fleet.require_read_committed();
    life := fleet.require_incarnation(incarnation);
    FOR candidate IN
        SELECT * FROM fleet.intents i
        WHERE i.account = park_orphan.account AND i.state = 'sending' AND (i.incarnation = park_orphan.incarnation
          OR i.claimed_until + make_interval(secs => grace_s) < clock_timestamp())
        ORDER BY i.id
    LOOP
        IF candidate.incarnation = park_orphan.incarnation OR fleet.is_suspected(candidate.incarnation) THEN
            PERFORM pg_advisory_xact_lock(fleet.lock_key('content', candidate.content));
            PERFORM 1 FROM fleet.intents i
            WHERE i.id = candidate.id AND i.state = 'sending' AND i.attempt = candidate.attempt FOR UPDATE;
            IF FOUND THEN
                PERFORM fleet.park(candidate.id, life.worker || '/' || life.slot, fleet.tell_orphan(candidate.incarnation, life.id));
                PERFORM fleet.free_lock(candidate.content, candidate.fencing_token);
            END IF;
            RETURN candidate.id::text;  -- one content a transaction: the caller asks again
        END IF;
    END LOOP;
    RETURN NULL;
END $$;

-- A person's decision: approve, cancel, resume (a parked act may be sent again), mark_posted (it is on the platform).
CREATE OR REPLACE FUNCTION fleet.decide_intent(
    intent bigint, decision text, actor text, reason text, platform_id text DEFAULT NULL
) RETURNS jsonb
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET lock_timeout = '5s' AS $$
DECLARE
    known fleet.intents;
    other bigint;
    told text;
BEGIN
    PERFORM fleet.require_read_committed();
    PERFORM set_config('synchronous_commit', 'on', true);
    IF decision IS NULL OR decision NOT IN ('approve', 'cancel', 'resume', 'mark_posted') THEN
        PERFORM fleet.refuse('decision', decision, 'approve, cancel, resume or mark_posted');
    END IF;
    PERFORM fleet.write_audit(actor, decision, 'intent ' || decide_intent.intent, decide_intent.reason,
        jsonb_strip_nulls(jsonb_build_object('platform_id', decide_intent.platform_id)));
    SELECT * INTO known FROM fleet.intents i WHERE i.id = decide_intent.intent;
    IF NOT FOUND THEN
        PERFORM fleet.refuse('intent', decide_intent.intent::text, 'the id of an intent that is there');
    END IF;
    PERFORM pg_advisory_xact_lock(fleet.lock_key('content', known.content));
    SELECT * INTO known FROM fleet.intents i WHERE i.id = decide_intent.intent FOR UPDATE;
    IF decision = 'approve' THEN
        IF known.state NOT IN ('awaiting_approval', 'ready') THEN
            RAISE EXCEPTION 'intent % is %: only one that waits for approval can be approved', known.id, known.state
                USING ERRCODE = 'FL005', DETAIL = json_build_object('intent', known.id::text, 'state', known.state);
        END IF;
        IF known.state = 'awaiting_approval' THEN
            PERFORM fleet.move_intent(known.id, 'ready', actor, decide_intent.reason);
        END IF;
        UPDATE fleet.intents i SET approved_by = actor WHERE i.id = known.id;
    ELSIF decision = 'cancel' THEN
        PERFORM fleet.move_intent(known.id, 'cancelled', actor, decide_intent.reason);
        PERFORM fleet.free_lock(known.content, known.fencing_token);
    ELSIF known.state <> 'parked' THEN
        RAISE EXCEPTION 'intent % is %: only a parked one can be decided so', known.id, known.state
            USING ERRCODE = 'FL005', DETAIL = json_build_object('intent', known.id::text, 'state', known.state);
    ELSIF decision = 'resume' THEN
        SELECT a.headers->>'platform_id' INTO told FROM fleet.attempts a
        WHERE a.intent = known.id AND a.outcome = 'posted' LIMIT 1;
        IF FOUND AND fleet.intent_posted_as(known, told) IS NULL THEN
            RAISE EXCEPTION 'intent % is on the platform as %: its sender reported so late', known.id, told
                USING ERRCODE = 'FL005', DETAIL = json_build_object('intent', known.id::text, 'state', known.state),
                HINT = format('socialfleet ledger mark-posted %s --platform-id %s', known.id, told);
        END IF;
        PERFORM fleet.move_intent(known.id, 'ready', actor, decide_intent.reason);
        UPDATE fleet.intents i SET approved_by = actor WHERE i.id = known.id;
    ELSE
        IF decide_intent.platform_id IS NULL OR decide_intent.platform_id !~ '^[0-9]{1,19}$' THEN
            PERFORM fleet.refuse('platform_id', decide_intent.platform_id, 'the id that X gave the post: 1 to 19 digits');
        END IF;
        IF known.action = 'like' AND decide_intent.platform_id <> known.target THEN
            PERFORM fleet.refuse('platform_id', decide_intent.platform_id, 'the id of the liked post: ' || known.target);
        END IF;
        other := fleet.intent_posted_as(known, decide_intent.platform_id);
        IF other IS NOT NULL THEN
            PERFORM fleet.refuse('platform_id', decide_intent.platform_id, format(
                'an id that intent %s doesn''t have (socialfleet ledger show %s); where this act has none of its own on the platform: '
                'socialfleet ledger resume %s to send it again, or socialfleet ledger cancel %s', other, other, known.id, known.id));
        END IF;
        PERFORM fleet.mark_posted(known, decide_intent.platform_id, actor, decide_intent.reason, NULL, NULL);
    END IF;
    RETURN fleet.get_intent(known.id);
END $$;
