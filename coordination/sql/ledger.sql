-- The ledger of outside acts: never twice, never lost. An act is an intent; every transition is a compare-and-set here, and
-- leaves a row. Forbidden transitions are refused with FL005.

-- Which state may follow which. Locks nothing.
CREATE OR REPLACE FUNCTION fleet.may_become(from_state text, to_state text) RETURNS boolean
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN CASE from_state
    WHEN 'draft' THEN to_state IN ('awaiting_approval', 'ready', 'cancelled', 'expired')
    WHEN 'awaiting_approval' THEN to_state IN ('ready', 'cancelled', 'expired')
    WHEN 'ready' THEN to_state IN ('claimed', 'awaiting_approval', 'cancelled', 'expired')
    WHEN 'claimed' THEN to_state IN ('sending', 'ready', 'retry_at', 'awaiting_approval', 'rejected', 'expired', 'dry_run', 'cancelled')
    WHEN 'sending' THEN to_state IN ('posted', 'rejected', 'retry_at', 'unknown', 'ready', 'parked')
    WHEN 'retry_at' THEN to_state IN ('ready', 'cancelled', 'expired')
    WHEN 'unknown' THEN to_state IN ('posted', 'ready', 'parked')
    WHEN 'parked' THEN to_state IN ('posted', 'ready', 'cancelled')
    ELSE false END;

-- The limiter's endpoint that an action is a request of. Locks nothing.
CREATE OR REPLACE FUNCTION fleet.endpoint_of(action text) RETURNS text
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN CASE action WHEN 'like' THEN 'like_tweet' ELSE 'post_tweet' END;

-- The one way by which an intent changes state; the caller holds its row.
CREATE OR REPLACE FUNCTION fleet.move_intent(
    intent bigint, to_state text, actor text, reason text, incarnation uuid DEFAULT NULL, token bigint DEFAULT NULL,
    platform_id text DEFAULT NULL, retry_at timestamptz DEFAULT NULL
) RETURNS fleet.intents
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    before fleet.intents;
    moved fleet.intents;
BEGIN
    SELECT * INTO before FROM fleet.intents i WHERE i.id = move_intent.intent FOR UPDATE;
    IF NOT FOUND THEN
        PERFORM fleet.refuse('intent', move_intent.intent::text, 'the id of an intent that is there');
    END IF;
    IF NOT fleet.may_become(before.state, to_state) THEN
        RAISE EXCEPTION 'intent % is %: it can''t become %', intent, before.state, to_state
            USING ERRCODE = 'FL005', DETAIL = json_build_object('intent', intent::text, 'state', before.state, 'to', to_state),
            HINT = 'look at it with: socialfleet ledger show ' || intent;
    END IF;
    UPDATE fleet.intents i SET state = to_state, reason = left(move_intent.reason, 1000), updated_at = fleet.now(),
        incarnation = CASE WHEN to_state IN ('claimed', 'sending') THEN coalesce(move_intent.incarnation, i.incarnation) END,
        fencing_token = CASE WHEN to_state IN ('claimed', 'sending') THEN coalesce(move_intent.token, i.fencing_token) END,
        claimed_until = CASE WHEN to_state IN ('claimed', 'sending') THEN i.claimed_until END,
        sending_since = CASE WHEN to_state = 'sending' THEN clock_timestamp() END,
        retry_at = CASE WHEN to_state = 'retry_at' THEN move_intent.retry_at END,
        platform_id = CASE WHEN to_state = 'posted' THEN move_intent.platform_id END
    WHERE i.id = move_intent.intent RETURNING * INTO moved;
    INSERT INTO fleet.intent_transitions
        (intent, from_state, to_state, at, real_at, incarnation, fencing_token, attempt, actor, reason)
    VALUES (intent, before.state, to_state, moved.updated_at, clock_timestamp(), move_intent.incarnation,
        coalesce(move_intent.token, before.fencing_token), moved.attempt, actor, left(move_intent.reason, 1000));
    RETURN moved;
END $$;

-- FL001 unless action, target and text make an act. Locks nothing.
CREATE OR REPLACE FUNCTION fleet.require_act(action text, target text, text text) RETURNS void
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF require_act.action IS NULL OR require_act.action NOT IN ('post', 'reply', 'quote', 'like') THEN
        PERFORM fleet.refuse('action', require_act.action, 'post, reply, quote or like');
    END IF;
    IF require_act.action = 'post' THEN
        IF coalesce(length(require_act.target), 0) NOT BETWEEN 1 AND 512 THEN
            PERFORM fleet.refuse('target', require_act.target, 'a text of 1 to 512 characters');
        END IF;
    -- One post has one name: with a leading zero it would be another content, engaged a second time.
    ELSIF require_act.target IS NULL OR require_act.target !~ '^[1-9][0-9]{0,18}$' THEN
        PERFORM fleet.refuse('target', require_act.target, 'the id that X gave the post: 1 to 19 digits, the first no zero');
    END IF;
    IF require_act.action = 'like' THEN
        IF require_act.text IS DISTINCT FROM '' THEN
            PERFORM fleet.refuse('text', require_act.text, 'an empty text: a like has none');
        END IF;
    ELSIF coalesce(length(require_act.text), 0) NOT BETWEEN 1 AND 25000 OR trim(require_act.text, E' \t\r\n') = '' THEN
        PERFORM fleet.refuse('text', require_act.text, 'a text of 1 to 25000 characters that is not blank');
    END IF;
END $$;

-- Shared by both doors below: validates, asks the policy, keeps uniqueness, freezes the bytes. The same act proposed again
-- gives the intent that is there. What the policy refuses is kept as rejected; the same refusal again gives that one.
CREATE OR REPLACE FUNCTION fleet.add_intent(
    account text, action text, target text, text text, at timestamptz, deadline timestamptz, proposed_by text,
    by_person boolean, origin jsonb
) RETURNS jsonb
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
    owner fleet.accounts;
    added fleet.intents;
    now_at timestamptz := fleet.now();
    first_state text;
    refusal text;
    subject text;
BEGIN
    PERFORM fleet.require_read_committed();
    owner := fleet.require_account(add_intent.account);
    PERFORM fleet.require_act(add_intent.action, add_intent.target, add_intent.text);
    IF jsonb_typeof(add_intent.origin) IS DISTINCT FROM 'object' THEN
        PERFORM fleet.refuse('origin', add_intent.origin::text, 'a JSON object');
    END IF;
    IF add_intent.deadline <= greatest(now_at, coalesce(add_intent.at, now_at)) THEN
        PERFORM fleet.refuse('deadline', add_intent.deadline::text, 'a time after both now and the time of the act');
    END IF;
    PERFORM set_config('synchronous_commit', 'on', true);
    refusal := 'policy: ' || fleet.judge_act(owner, add_intent.action, add_intent.target, add_intent.origin->>'author_id');
    first_state := CASE WHEN refusal IS NOT NULL THEN 'rejected'
        WHEN owner.sandbox OR add_intent.by_person THEN 'ready' ELSE 'awaiting_approval' END;
    IF refusal IS NOT NULL THEN
        -- No index keeps rejected intents apart: one proposer at a time looks, then adds.
        PERFORM pg_advisory_xact_lock(fleet.lock_key('refusal',
            owner.name || ':' || add_intent.action || ':' || add_intent.target));
    END IF;
    LOOP
        SELECT * INTO added FROM fleet.intents i
        WHERE i.account = owner.name AND i.action = add_intent.action AND i.target = add_intent.target
          AND i.state NOT IN ('rejected', 'expired', 'cancelled', 'dry_run');
        IF NOT FOUND AND refusal IS NOT NULL THEN
            SELECT * INTO added FROM fleet.intents i
            WHERE i.account = owner.name AND i.action = add_intent.action AND i.target = add_intent.target
              AND i.state = 'rejected' AND i.reason = refusal ORDER BY i.id LIMIT 1;
        END IF;
        IF FOUND THEN
            RETURN jsonb_build_object('id', added.id::text, 'state', added.state, 'reason', added.reason, 'created', false,
                'due', false);
        END IF;
        INSERT INTO fleet.intents (account, action, target, content, text, state, reason, not_before, deadline, proposed_by,
            by_person, origin, created_at, updated_at)
        VALUES (owner.name, add_intent.action, add_intent.target,
            CASE add_intent.action WHEN 'post' THEN 'slot:' || owner.name || ':' || add_intent.target ELSE add_intent.target END,
            add_intent.text, first_state, refusal, coalesce(add_intent.at, now_at), add_intent.deadline,
            add_intent.proposed_by, add_intent.by_person, add_intent.origin, now_at, now_at)
        ON CONFLICT (account, action, target) WHERE state NOT IN ('rejected', 'expired', 'cancelled', 'dry_run') DO NOTHING
        RETURNING * INTO added;
        EXIT WHEN FOUND;
        -- Another proposer was faster. Where its act ended unsent meanwhile, there is room again.
    END LOOP;
    INSERT INTO fleet.intent_transitions (intent, from_state, to_state, at, real_at, attempt, actor, reason)
    VALUES (added.id, NULL, first_state, now_at, clock_timestamp(), 0, add_intent.proposed_by,
        CASE first_state WHEN 'awaiting_approval' THEN 'a worker proposed it for an account that is not the sandbox''s'
            ELSE refusal END);
    subject := fleet.name_act(added);
    PERFORM fleet.emit('info', 'intent_' || first_state, add_intent.proposed_by, CASE first_state
        WHEN 'rejected' THEN format('refused %s: %s', subject, refusal)
        ELSE format('%s %s for %s%s', CASE first_state WHEN 'ready' THEN 'planned' ELSE 'waits for approval:' END, subject,
            to_char(added.not_before, 'HH24:MI:SS "UTC"'), fleet.quote_text(added)) END,
        jsonb_build_object('intent', added.id::text, 'account', added.account));
    RETURN jsonb_build_object('id', added.id::text, 'state', added.state, 'reason', added.reason, 'created', true,
        'due', first_state = 'ready' AND added.not_before <= now_at);
END $$;

-- An act as a person reads it: "post 12", "reply 13 to 1999", "like 14 of 1999". Locks nothing.
CREATE OR REPLACE FUNCTION fleet.name_act(known fleet.intents) RETURNS text
LANGUAGE plpgsql IMMUTABLE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    RETURN known.action || ' ' || known.id || CASE known.action WHEN 'post' THEN '' WHEN 'reply' THEN ' to ' || known.target
        ELSE ' of ' || known.target END;
END $$;

-- ": " and the act's text on one line's length; nothing for an act without one. Locks nothing.
CREATE OR REPLACE FUNCTION fleet.quote_text(known fleet.intents) RETURNS text
LANGUAGE plpgsql IMMUTABLE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    RETURN CASE WHEN known.text = '' THEN '' ELSE ': ' || fleet.shorten(known.text, 160) END;
END $$;

-- A worker proposes an act. For an account that is not the sandbox's it waits for a person's approval.
CREATE OR REPLACE FUNCTION fleet.propose(
    incarnation uuid, account text, action text, target text, text text, at timestamptz DEFAULT NULL,
    deadline timestamptz DEFAULT NULL, origin jsonb DEFAULT '{}'
) RETURNS jsonb
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET lock_timeout = '5s' AS $$
DECLARE
    life fleet.incarnations := fleet.require_incarnation(incarnation);
BEGIN
    RETURN fleet.add_intent(account, action, target, text, at, deadline, life.worker || '/' || life.slot, false, origin);
END $$;

-- A person proposes an act by hand; that is its approval, and lifts no policy. Audited. Not for the worker role.
CREATE OR REPLACE FUNCTION fleet.propose_by_person(
    actor text, account text, action text, target text, text text, at timestamptz DEFAULT NULL,
    deadline timestamptz DEFAULT NULL, origin jsonb DEFAULT '{}'
) RETURNS jsonb
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET lock_timeout = '5s' AS $$
DECLARE
    added jsonb;
BEGIN
    added := fleet.add_intent(account, action, target, text, at, deadline, actor, true,
        jsonb_build_object('by', 'hand') || origin);
    PERFORM fleet.write_audit(actor, 'propose', 'intent ' || (added->>'id'), 'proposed by hand', added);
    RETURN added;
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
        DELETE FROM fleet.engagement_locks l WHERE l.content = known.content AND l.fencing_token = known.fencing_token;
    ELSIF known.state <> 'parked' THEN
        RAISE EXCEPTION 'intent % is %: only a parked one can be decided so', known.id, known.state
            USING ERRCODE = 'FL005', DETAIL = json_build_object('intent', known.id::text, 'state', known.state);
    ELSIF decision = 'resume' THEN
        SELECT a.headers->>'platform_id' INTO told FROM fleet.attempts a
        WHERE a.intent = known.id AND a.outcome = 'posted' LIMIT 1;
        IF FOUND THEN
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
            PERFORM fleet.refuse('platform_id', decide_intent.platform_id, 'an id that intent ' || other || ' doesn''t have');
        END IF;
        PERFORM fleet.mark_posted(known, decide_intent.platform_id, actor, decide_intent.reason, NULL, NULL);
    END IF;
    RETURN fleet.get_intent(known.id);
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
    at timestamptz := fleet.now();
BEGIN
    PERFORM fleet.move_intent(known.id, 'posted', actor, mark_posted.reason, incarnation, token,
        CASE known.action WHEN 'like' THEN known.target ELSE mark_posted.platform_id END);
    INSERT INTO fleet.engagements (content, action, account, worker_id, incarnation, intent, success, engaged_at)
    VALUES (known.content, known.action, known.account, actor, incarnation, known.id, true, at);
    IF known.action <> 'like' THEN
        INSERT INTO fleet.tracked_posts (account, platform_id, intent, posted_at, next_reading_at)
        VALUES (known.account, mark_posted.platform_id, known.id, at,
            at + make_interval(secs => fleet.setting_number('metrics_first_reading_s', 900)))
        ON CONFLICT ON CONSTRAINT tracked_posts_pkey DO NOTHING;
    END IF;
END $$;

-- Before claiming: what is overdue expires, claims of the dead and retries that are due become ready. Skips what others hold.
CREATE OR REPLACE FUNCTION fleet.tidy_intents(incarnation uuid, account text) RETURNS integer
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET lock_timeout = '5s' AS $$
DECLARE
    life fleet.incarnations;
    candidate fleet.intents;
    at timestamptz;
    moved integer := 0;
BEGIN
    PERFORM fleet.require_read_committed();
    life := fleet.require_incarnation(incarnation);
    at := fleet.now();
    FOR candidate IN
        SELECT * FROM fleet.intents i
        WHERE i.account = tidy_intents.account AND (
            (i.state IN ('draft', 'awaiting_approval', 'ready', 'retry_at') AND i.deadline <= at)
            OR (i.state = 'retry_at' AND i.retry_at <= at)
            OR i.state = 'claimed')
        ORDER BY i.id LIMIT 200 FOR UPDATE SKIP LOCKED
    LOOP
        IF candidate.state = 'claimed' THEN
            IF candidate.claimed_until <= clock_timestamp() OR (candidate.incarnation <> tidy_intents.incarnation
                AND fleet.is_suspected(candidate.incarnation)) THEN
                PERFORM fleet.move_intent(candidate.id, 'ready', life.worker || '/' || life.slot,
                    'its claimant ended or ran out of time before it sent anything');
                DELETE FROM fleet.engagement_locks l
                WHERE l.content = candidate.content AND l.fencing_token = candidate.fencing_token;
                moved := moved + 1;
            END IF;
        ELSIF candidate.deadline <= at THEN
            PERFORM fleet.move_intent(candidate.id, 'expired', life.worker || '/' || life.slot,
                format('its deadline %s passed', candidate.deadline));
            PERFORM fleet.emit('warning', 'intent_expired', life.worker || '/' || life.slot,
                format('%s expired: its deadline passed', fleet.name_act(candidate)),
                jsonb_build_object('intent', candidate.id::text));
            moved := moved + 1;
        ELSE
            PERFORM fleet.move_intent(candidate.id, 'ready', life.worker || '/' || life.slot, 'its time to retry came');
            moved := moved + 1;
        END IF;
    END LOOP;
    RETURN moved;
END $$;

-- The next due intent, claimed, with the lock on its content: one transaction, one content. {"intent": null} when none is due.
CREATE OR REPLACE FUNCTION fleet.claim_intent(incarnation uuid, account text, worker_id text, lease_s double precision)
RETURNS jsonb
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET lock_timeout = '5s' AS $$
DECLARE
    candidate fleet.intents;
    lease jsonb;
    at timestamptz;
BEGIN
    PERFORM fleet.require_read_committed();
    PERFORM fleet.require_incarnation(incarnation);
    IF lease_s IS NULL OR NOT (lease_s > 0 AND lease_s <= 3600) THEN
        PERFORM fleet.refuse('lease_s', lease_s::text, 'more than 0, at most 3600 seconds');
    END IF;
    IF (fleet.get_kill_switch()->>'on')::boolean THEN
        RETURN jsonb_build_object('intent', NULL, 'blocked', 'the kill switch is on');
    END IF;
    at := fleet.now();
    SELECT * INTO candidate FROM fleet.intents i
    WHERE i.account = claim_intent.account AND i.state = 'ready' AND i.not_before <= at
      AND NOT EXISTS (SELECT 1 FROM fleet.engagement_locks l
          WHERE l.content = i.content AND l.lease_expires_at > clock_timestamp())
    ORDER BY i.not_before, i.id LIMIT 1;
    IF NOT FOUND THEN
        RETURN jsonb_build_object('intent', NULL, 'blocked', NULL);
    END IF;
    PERFORM pg_advisory_xact_lock(fleet.lock_key('content', candidate.content));
    SELECT * INTO candidate FROM fleet.intents i WHERE i.id = candidate.id AND i.state = 'ready' FOR UPDATE;
    IF NOT FOUND THEN
        RETURN jsonb_build_object('intent', NULL, 'blocked', 'another poster was faster');
    END IF;
    lease := fleet.grant_lock(candidate.content, incarnation, worker_id, candidate.action, make_interval(secs => lease_s), 'medium');
    IF NOT (lease->>'granted')::boolean THEN
        RETURN jsonb_build_object('intent', NULL, 'blocked', 'another poster was faster');
    END IF;
    UPDATE fleet.intents i SET claimed_until = (lease->>'lease_expires_at')::timestamptz WHERE i.id = candidate.id;
    PERFORM fleet.move_intent(candidate.id, 'claimed', worker_id, NULL, incarnation, (lease->>'fencing_token')::bigint);
    RETURN jsonb_build_object('intent', fleet.get_intent(candidate.id), 'blocked', NULL, 'content', candidate.content,
        'fencing_token', lease->'fencing_token', 'lease_expires_at', lease->'lease_expires_at',
        'user_id', (SELECT a.platform_user_id FROM fleet.accounts a WHERE a.name = candidate.account));
END $$;

-- A claim given back before anything was sent: the intent is ready again (or waits until retry_after_s), its lock is free,
-- its grant returned.
CREATE OR REPLACE FUNCTION fleet.unclaim_intent(
    incarnation uuid, intent bigint, token bigint, worker_id text, reason text, retry_after_s double precision DEFAULT NULL,
    grant_id bigint DEFAULT NULL
) RETURNS jsonb
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET lock_timeout = '5s' AS $$
DECLARE
    known fleet.intents;
BEGIN
    PERFORM fleet.require_read_committed();
    SELECT * INTO known FROM fleet.intents i WHERE i.id = unclaim_intent.intent;
    PERFORM pg_advisory_xact_lock(fleet.lock_key('content', known.content));
    SELECT * INTO known FROM fleet.intents i WHERE i.id = unclaim_intent.intent AND i.state = 'claimed'
      AND i.incarnation = unclaim_intent.incarnation AND i.fencing_token = token FOR UPDATE;
    IF FOUND THEN
        IF retry_after_s IS NULL THEN
            PERFORM fleet.move_intent(known.id, 'ready', worker_id, unclaim_intent.reason, incarnation, token);
        ELSE
            PERFORM fleet.move_intent(known.id, 'retry_at', worker_id, unclaim_intent.reason, incarnation, token, NULL,
                fleet.now() + make_interval(secs => retry_after_s));
        END IF;
        DELETE FROM fleet.engagement_locks l WHERE l.content = known.content AND l.fencing_token = token;
    END IF;
    -- Not one that an attempt began with, which may have used it: that one is the settlement's.
    PERFORM fleet.return_grant(unclaim_intent.incarnation, grant_id);
    RETURN fleet.get_intent(unclaim_intent.intent);
END $$;

-- The last gate before the socket. Every check is a statement of its own, in this order; when the answer says sending, the
-- commit is flushed and the caller may write to the socket within half a second. A refusal moves the intent on, frees the
-- lock and returns the grant.
CREATE OR REPLACE FUNCTION fleet.begin_send(
    incarnation uuid, intent bigint, token bigint, grant_id bigint, worker_id text, http_deadline_s double precision,
    fence_seen bigint DEFAULT 0
) RETURNS jsonb
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET lock_timeout = '500ms' AS $$
DECLARE
    known fleet.intents;
    owner fleet.accounts;
    lease fleet.engagement_locks;
    switch jsonb;
    identity text[];
    fence bigint;
    distrust text;
    refusal text;
    at timestamptz;
BEGIN
    PERFORM fleet.require_read_committed();
    PERFORM set_config('synchronous_commit', 'on', true);
    IF http_deadline_s IS NULL OR NOT (http_deadline_s > 0 AND http_deadline_s <= 60) THEN
        PERFORM fleet.refuse('http_deadline_s', http_deadline_s::text, 'more than 0, at most 60 seconds');
    END IF;
    IF fence_seen IS NULL THEN
        PERFORM fleet.refuse('fence_seen', NULL, 'the highest fencing token kept, 0 when there is none');
    END IF;
    SELECT * INTO known FROM fleet.intents i WHERE i.id = begin_send.intent;
    IF NOT FOUND THEN
        PERFORM fleet.refuse('intent', begin_send.intent::text, 'the id of an intent that is there');
    END IF;
    PERFORM pg_advisory_xact_lock(fleet.lock_key('content', known.content));
    SELECT * INTO owner FROM fleet.accounts a WHERE a.name = known.account FOR UPDATE;
    SELECT * INTO known FROM fleet.intents i WHERE i.id = begin_send.intent FOR UPDATE;
    IF known.state <> 'claimed' OR known.incarnation IS DISTINCT FROM begin_send.incarnation
        OR known.fencing_token IS DISTINCT FROM token THEN
        RAISE EXCEPTION 'intent % is %: it is not claimed by this incarnation with token %', known.id, known.state, token
            USING ERRCODE = 'FL005', DETAIL = json_build_object('intent', known.id::text, 'state', known.state);
    END IF;
    SELECT * INTO lease FROM fleet.engagement_locks l WHERE l.content = known.content FOR UPDATE;
    IF NOT FOUND OR lease.incarnation IS DISTINCT FROM begin_send.incarnation OR lease.fencing_token IS DISTINCT FROM token
        OR lease.lease_expires_at < clock_timestamp() + make_interval(secs => http_deadline_s + 2) THEN
        PERFORM fleet.lock_lost(known.content, token);
    END IF;
    IF fleet.is_suspected(begin_send.incarnation) THEN
        RAISE EXCEPTION 'incarnation % does not hold its session lock', begin_send.incarnation
            USING ERRCODE = 'FL003', HINT = 'stop acting and connect again as a new incarnation';
    END IF;
    PERFORM pg_advisory_xact_lock_shared(fleet.lock_key('kill', 'global'));
    switch := fleet.get_kill_switch();
    IF (switch->>'on')::boolean THEN
        RETURN fleet.refuse_send(known, 'ready', worker_id, 'the kill switch is on: ' || (switch->>'reason'), grant_id);
    END IF;
    identity := fleet.cluster_identity();
    SELECT s.last_value INTO fence FROM fleet.fencing_token s;
    distrust := CASE
        WHEN NOT EXISTS (SELECT 1 FROM fleet.installation n
            WHERE n.system_identifier = identity[1] AND n.timeline = identity[2])
        THEN 'the database is not the one that this fleet knows: a failover or a restore'
        WHEN fence < fence_seen
        THEN format('the database''s fence %s is below %s, seen before: it was restored from a backup', fence, fence_seen) END;
    IF distrust IS NOT NULL THEN
        PERFORM fleet.distrust_cluster(distrust, fence_seen);
        RETURN fleet.refuse_send(known, 'ready', worker_id, distrust, grant_id);
    END IF;
    IF owner.sandbox IS NOT TRUE AND NOT known.by_person AND known.approved_by IS NULL THEN
        RETURN fleet.refuse_send(known, 'awaiting_approval', worker_id,
            'the account is not the sandbox''s: a person approves what a worker proposed', grant_id);
    END IF;
    -- An opt-out that is being recorded goes first: once it has answered, nothing is let through.
    PERFORM pg_advisory_xact_lock_shared(fleet.lock_key('author', owner.platform || ':' || (known.origin->>'author_id')));
    refusal := fleet.judge_act(owner, known.action, known.target, known.origin->>'author_id');
    IF refusal IS NOT NULL THEN
        RETURN fleet.refuse_send(known, 'rejected', worker_id, 'policy: ' || refusal, grant_id);
    END IF;
    IF fleet.is_engaged(known.content, fleet.setting_number('engagement_window_hours', 24), known.id) THEN
        RETURN fleet.refuse_send(known, 'rejected', worker_id, 'recent_engagement', grant_id);
    END IF;
    PERFORM 1 FROM fleet.rate_grants g
    WHERE g.id = grant_id AND g.incarnation = begin_send.incarnation AND g.settled_at IS NULL AND g.account = known.account
      AND g.endpoint = fleet.endpoint_of(known.action)
      -- One grant is one request: no other send may stand on it.
      AND NOT EXISTS (SELECT 1 FROM fleet.intents i JOIN fleet.attempts a ON a.intent = i.id AND a.settled_at IS NULL
          WHERE i.state IN ('sending', 'unknown', 'parked') AND a.grant_id = g.id);
    IF NOT FOUND THEN
        PERFORM fleet.refuse('grant_id', grant_id::text,
            format('an open, unused %s grant of this incarnation for account %s', fleet.endpoint_of(known.action),
                known.account));
    END IF;
    at := fleet.now();
    IF known.deadline <= at THEN
        RETURN fleet.refuse_send(known, 'expired', worker_id, format('its deadline %s passed', known.deadline), grant_id);
    END IF;
    UPDATE fleet.intents i SET attempt = i.attempt + 1, claimed_until = lease.lease_expires_at WHERE i.id = known.id
    RETURNING * INTO known;
    PERFORM fleet.move_intent(known.id, 'sending', worker_id, NULL, begin_send.incarnation, token);
    INSERT INTO fleet.attempts (intent, attempt, incarnation, worker_id, fencing_token, grant_id, began_at, began_real_at)
    VALUES (known.id, known.attempt, begin_send.incarnation, begin_send.worker_id, token, begin_send.grant_id, at,
        clock_timestamp());
    RETURN jsonb_build_object('sending', true, 'attempt', known.attempt, 'text', known.text, 'fence', fence,
        'first_sent_at', (SELECT min(a.began_real_at) FROM fleet.attempts a WHERE a.intent = known.id));
END $$;

-- A no from begin_send, under its locks.
CREATE OR REPLACE FUNCTION fleet.refuse_send(known fleet.intents, to_state text, actor text, reason text, grant_id bigint)
RETURNS jsonb
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    PERFORM fleet.move_intent(known.id, to_state, actor, refuse_send.reason, known.incarnation, known.fencing_token);
    DELETE FROM fleet.engagement_locks l WHERE l.content = known.content AND l.fencing_token = known.fencing_token;
    PERFORM fleet.return_grant(known.incarnation, refuse_send.grant_id);
    PERFORM fleet.emit('warning', 'send_refused', actor,
        format('%s was not sent: %s', fleet.name_act(known), refuse_send.reason),
        jsonb_build_object('intent', known.id::text, 'state', to_state));
    RETURN jsonb_build_object('sending', false, 'state', to_state, 'reason', refuse_send.reason);
END $$;

-- What came of a send, in one transaction: result, history, grant with the answer's headers, lock. Open to the sender of that
-- attempt even after its incarnation ended, since it alone knows. An unknown outcome is parked for a person.
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
    UPDATE fleet.attempts a SET settled_at = fleet.now(), outcome = settle.outcome, status = settle.status,
        reason = left(settle.reason, 1000),
        headers = settle.response_headers || jsonb_strip_nulls(jsonb_build_object('platform_id', settle.platform_id))
    WHERE a.intent = settle.intent AND a.attempt = settle.attempt AND a.settled_at IS NULL;
    IF NOT FOUND THEN
        RETURN fleet.get_intent(known.id);  -- reported before: the same report twice changes nothing
    END IF;
    IF settle.outcome = 'not_written' OR (settle.outcome = 'retry_at' AND settle.status IS NULL) THEN
        DELETE FROM fleet.rate_grants g WHERE g.id = tried.grant_id AND g.settled_at IS NULL;
    ELSIF EXISTS (SELECT 1 FROM fleet.rate_grants g WHERE g.id = tried.grant_id) THEN
        PERFORM fleet.settle_grant(settle.incarnation, tried.grant_id, settle.outcome = 'posted',
            coalesce(settle.response_headers, '{}'), settle.status);
    END IF;
    IF known.state <> 'sending' OR known.attempt IS DISTINCT FROM settle.attempt THEN
        PERFORM fleet.emit('error', 'late_report', worker_id, format(
            '%s is %s, and its sender reports late: %s %s', fleet.name_act(known), known.state, settle.outcome,
            coalesce(settle.platform_id, settle.reason, '')), jsonb_build_object('intent', known.id::text));
        RETURN fleet.get_intent(known.id);
    END IF;
    IF settle.outcome = 'posted' THEN
        -- A post that is another intent's already is not this one's; the truth is not known, and never adopted.
        other := fleet.intent_posted_as(known, settle.platform_id);
        IF other IS NOT NULL THEN
            outcome := 'unknown';
            reason := format('the platform''s answer names post %s, which is intent %s''s', settle.platform_id, other);
        END IF;
    END IF;
    CASE settle.outcome
    WHEN 'posted' THEN
        PERFORM fleet.mark_posted(known, settle.platform_id, worker_id, settle.reason, settle.incarnation, tried.fencing_token);
        PERFORM fleet.emit('info', 'posted', worker_id, CASE known.action WHEN 'like' THEN 'done: ' || fleet.name_act(known)
            ELSE format('posted %s as %s%s', fleet.name_act(known), settle.platform_id, fleet.quote_text(known)) END,
            jsonb_build_object('intent', known.id::text, 'action', known.action, 'platform_id', settle.platform_id));
    WHEN 'rejected' THEN
        PERFORM fleet.move_intent(known.id, 'rejected', worker_id, settle.reason, settle.incarnation, tried.fencing_token);
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
    DELETE FROM fleet.engagement_locks l WHERE l.content = known.content AND l.fencing_token = tried.fencing_token;
    RETURN fleet.get_intent(known.id);
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

-- Parks one act whose sender lost its session lock and whose lease and grace are over, or that the caller itself began and
-- never settled (it asks between its sends); gives its id, or null when there is none.
CREATE OR REPLACE FUNCTION fleet.park_orphan(incarnation uuid, account text, grace_s double precision) RETURNS text
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET lock_timeout = '5s' AS $$
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
                PERFORM fleet.park(candidate.id, life.worker || '/' || life.slot,
                    'its sender ended between the send and the report');
                DELETE FROM fleet.engagement_locks l
                WHERE l.content = candidate.content AND l.fencing_token = candidate.fencing_token;
            END IF;
            RETURN candidate.id::text;  -- one content a transaction: the caller asks again
        END IF;
    END LOOP;
    RETURN NULL;
END $$;

-- One intent as the ledger knows it; null when there is none. Locks nothing.
CREATE OR REPLACE FUNCTION fleet.get_intent(intent bigint) RETURNS jsonb
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    RETURN (SELECT jsonb_build_object('id', i.id::text, 'account', i.account, 'action', i.action, 'target', i.target,
        'text', i.text, 'state', i.state, 'reason', i.reason, 'attempt', i.attempt, 'platform_id', i.platform_id,
        'not_before', i.not_before, 'deadline', i.deadline, 'retry_at', i.retry_at, 'proposed_by', i.proposed_by,
        'approved_by', i.approved_by, 'origin', i.origin, 'created_at', i.created_at, 'updated_at', i.updated_at)
        FROM fleet.intents i WHERE i.id = get_intent.intent);
END $$;

-- What a planner asks of its own targets (those that begin with `targets`): how many wait, until when they reach; and of the
-- whole account: which texts not to repeat. Locks nothing.
CREATE OR REPLACE FUNCTION fleet.get_queue(
    account text, targets text DEFAULT '', texts_of_days double precision DEFAULT 30
) RETURNS jsonb
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    now_at timestamptz;
BEGIN
    now_at := fleet.now();
    RETURN (SELECT jsonb_build_object(
        'waiting', count(*) FILTER (WHERE starts_with(i.target, targets)
            AND i.state IN ('draft', 'awaiting_approval', 'ready', 'claimed', 'retry_at')),
        'planned_until', max(i.not_before) FILTER (WHERE starts_with(i.target, targets)
            AND i.state IN ('draft', 'awaiting_approval', 'ready', 'claimed')),
        'last_posted_at', max(i.updated_at) FILTER (WHERE starts_with(i.target, targets) AND i.state = 'posted'),
        'now', now_at,
        'texts', coalesce(jsonb_agg(i.text) FILTER (WHERE i.action <> 'like'), '[]'))
        FROM fleet.intents i
        WHERE i.account = get_queue.account AND i.created_at > now_at - make_interval(secs => texts_of_days * 86400));
END $$;
