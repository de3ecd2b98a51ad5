-- A due act's way to its sender, up to the last gate: who claims it, and whether it may be written to the socket.

-- Before claiming: what is overdue expires, claims of the dead and retries that are due become ready; up to 200, gives how many. Skips
-- what others hold.
CREATE OR REPLACE FUNCTION fleet.tidy_intents(incarnation uuid, account text) RETURNS integer
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET lock_timeout = '5s'
SET plan_cache_mode = force_generic_plan AS $$  -- to plan it anew takes longer than to run it (ADR-0052)
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
        ORDER BY i.id FOR UPDATE SKIP LOCKED
    LOOP
        EXIT WHEN moved = 200;  -- a claim of the living is not one of them
        IF candidate.state = 'claimed' THEN
            IF candidate.claimed_until <= clock_timestamp() OR (candidate.incarnation <> tidy_intents.incarnation
                AND fleet.is_suspected(candidate.incarnation)) THEN
                PERFORM fleet.move_intent(candidate.id, 'ready', life.worker || '/' || life.slot,
                    'its claimant ended or ran out of time before it sent anything');
                PERFORM fleet.free_lock(candidate.content, candidate.fencing_token);
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

-- What an act's score is worth in the line of its account's acts: the whole of worth_s for 100. Locks nothing.
CREATE OR REPLACE FUNCTION fleet.score_worth(origin jsonb, worth_s double precision) RETURNS interval
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    RETURN make_interval(secs => CASE WHEN jsonb_typeof(origin->'score') = 'number'
        THEN worth_s * least(100, greatest(0, (origin->>'score')::numeric))::double precision / 100 ELSE 0 END);
END $$;

-- The next due intent, claimed, with the lock on its content, and what the breaker of posting says to it: one transaction, one content.
-- {"intent": null} when none is due; with `again` when another claim was faster, and the next may be had. The oldest goes first; where
-- the account has an interval to keep, its contents compete, and a better score is worth so much time. One that can't have its content
-- now is passed over, which costs a look; of those that wait for the account's turn the first look is enough for all behind it.
CREATE OR REPLACE FUNCTION fleet.claim_intent(
    incarnation uuid, account text, worker_id text, lease_s double precision, besides text[] DEFAULT '{}'
) RETURNS jsonb
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET lock_timeout = '5s'
SET plan_cache_mode = force_generic_plan AS $$  -- to plan it anew takes longer than to run it (ADR-0052)
DECLARE
    candidate fleet.intents;
    ask fleet.lock_waiters;
    obstacle jsonb;
    lease jsonb;
    at timestamptz;
    real timestamptz;
    scope text;
    rate double precision;
    spaced boolean;
    turn_ends timestamptz := 'infinity';  -- fleet time: an engaging act that is due then or later waits for its account's turn
    worth_s double precision;
    passed bigint[] := '{}';
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
    real := clock_timestamp();
    scope := fleet.act_scope(claim_intent.account);
    rate := coalesce((SELECT c.rate FROM fleet.clock c), 1);
    spaced := fleet.engagement_spacing_s(claim_intent.account) > 0;
    IF spaced THEN
        worth_s := fleet.setting_number('engagement_score_worth_s', 3600);
        -- Whether even the first in the account's line could engage.
        ask := fleet.ask_for_lock('', incarnation, worker_id, 'reply', make_interval(secs => lease_s), 'medium', scope,
            claim_intent.account, stands_since => '-infinity');
        turn_ends := CASE WHEN fleet.account_obstacle(ask, incarnation) IS NULL THEN turn_ends ELSE '-infinity' END;
    END IF;
    LOOP
        SELECT * INTO candidate FROM (
            SELECT * FROM fleet.intents i
            WHERE i.account = claim_intent.account AND i.state = 'ready' AND i.not_before <= at AND i.id <> ALL (passed)
              AND fleet.endpoint_of(i.action) <> ALL (besides)
              AND (greatest(i.not_before, i.updated_at) < turn_ends OR NOT fleet.is_engaging(i.action))
            ORDER BY i.not_before, i.id LIMIT CASE WHEN spaced THEN NULL ELSE 1 END
        ) i
        ORDER BY i.not_before - CASE WHEN spaced AND fleet.is_engaging(i.action) THEN fleet.score_worth(i.origin, worth_s)
            ELSE interval '0' END, i.id LIMIT 1;
        IF NOT FOUND THEN
            RETURN jsonb_build_object('intent', NULL, 'blocked', NULL);
        END IF;
        ask := fleet.ask_for_lock(candidate.content, incarnation, worker_id, candidate.action, make_interval(secs => lease_s), 'medium',
            scope, candidate.account, NULL, candidate.id,
            real - (at - greatest(candidate.not_before, candidate.updated_at)) / rate);
        obstacle := fleet.lock_obstacle(ask);
        EXIT WHEN obstacle IS NULL;
        IF obstacle->>'reason' = 'interval' THEN
            turn_ends := greatest(candidate.not_before, candidate.updated_at);
        ELSE
            passed := passed || candidate.id;
        END IF;
    END LOOP;
    PERFORM pg_advisory_xact_lock(fleet.lock_key('content', candidate.content));
    IF spaced THEN  -- before the intent, as everywhere: the grant would ask for it afterwards
        PERFORM 1 FROM fleet.accounts a WHERE a.name = claim_intent.account FOR UPDATE;
    END IF;
    SELECT * INTO candidate FROM fleet.intents i WHERE i.id = candidate.id AND i.state = 'ready' FOR UPDATE;
    IF NOT FOUND THEN
        RETURN jsonb_build_object('intent', NULL, 'blocked', 'another poster was faster', 'again', true);
    END IF;
    lease := fleet.grant_lock(ask);
    IF NOT (lease->>'granted')::boolean THEN
        RETURN jsonb_build_object('intent', NULL, 'blocked', 'another poster was faster', 'again', true);
    END IF;
    UPDATE fleet.intents i SET claimed_until = (lease->>'lease_expires_at')::timestamptz WHERE i.id = candidate.id;
    PERFORM fleet.move_intent(candidate.id, 'claimed', worker_id, NULL, incarnation, (lease->>'fencing_token')::bigint);
    RETURN jsonb_build_object('intent', fleet.get_intent(candidate.id), 'blocked', NULL, 'content', candidate.content,
        'fencing_token', lease->'fencing_token', 'lease_expires_at', lease->'lease_expires_at',
        'user_id', (SELECT a.platform_user_id FROM fleet.accounts a WHERE a.name = candidate.account),
        'passage', fleet.ask_breaker(incarnation, candidate.account, 'posting'));
END $$;

-- A claim given back before anything was sent: the intent is ready again (or waits until retry_after_s), its lock is free,
-- its grant returned. `wake` is the life that waits for the lock, to be woken afterwards.
CREATE OR REPLACE FUNCTION fleet.unclaim_intent(
    incarnation uuid, intent bigint, token bigint, worker_id text, reason text, retry_after_s double precision DEFAULT NULL,
    grant_id bigint DEFAULT NULL
) RETURNS jsonb
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET lock_timeout = '5s' AS $$
DECLARE
    known fleet.intents;
    sleeper uuid;
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
        sleeper := fleet.free_lock(known.content, token);
    END IF;
    -- Not one that an attempt began with, which may have used it: that one is the settlement's.
    PERFORM fleet.return_grant(unclaim_intent.incarnation, grant_id);
    RETURN fleet.get_intent(unclaim_intent.intent) || jsonb_build_object('wake', sleeper);
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
    left_s double precision;
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
    SELECT * INTO lease FROM fleet.engagement_locks l WHERE l.content = known.content AND l.fencing_token = token FOR UPDATE;
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
    IF fleet.is_engaged(known.content, fleet.setting_number('engagement_window_hours', 24), known.id, fleet.act_scope(known.account))
    THEN
        RETURN fleet.refuse_send(known, 'rejected', worker_id, 'recent_engagement', grant_id);
    END IF;
    left_s := fleet.interval_left_s(known.account, known.action, known.id);
    IF left_s > 0 THEN
        RETURN fleet.refuse_send(known, 'retry_at', worker_id, 'the account keeps an interval between its engagements', grant_id, left_s);
    END IF;
    -- Before the grant is locked: a refusal gives it back, and locks the limit's row first.
    at := fleet.now();
    IF known.deadline <= at THEN
        RETURN fleet.refuse_send(known, 'expired', worker_id, format('its deadline %s passed', known.deadline), grant_id);
    END IF;
    PERFORM 1 FROM fleet.rate_grants g
    WHERE g.id = grant_id AND g.incarnation = begin_send.incarnation AND g.settled_at IS NULL AND g.account = known.account
      AND g.endpoint = fleet.endpoint_of(known.action) AND NOT g.held
      -- One grant is one request: no other send may stand on it.
      AND NOT EXISTS (SELECT 1 FROM fleet.intents i JOIN fleet.attempts a ON a.intent = i.id AND a.settled_at IS NULL
          WHERE i.state IN ('sending', 'unknown', 'parked') AND a.grant_id = g.id)
    FOR UPDATE;
    IF NOT FOUND THEN
        PERFORM fleet.refuse('grant_id', grant_id::text,
            format('an open, unused %s grant of this incarnation for account %s', fleet.endpoint_of(known.action),
                known.account));
    END IF;
    at := fleet.now();
    UPDATE fleet.intents i SET attempt = i.attempt + 1, claimed_until = lease.lease_expires_at WHERE i.id = known.id
    RETURNING * INTO known;
    PERFORM fleet.move_intent(known.id, 'sending', worker_id, NULL, begin_send.incarnation, token);
    INSERT INTO fleet.attempts (intent, attempt, incarnation, worker_id, fencing_token, grant_id, began_at, began_real_at)
    VALUES (known.id, known.attempt, begin_send.incarnation, begin_send.worker_id, token, begin_send.grant_id, at,
        clock_timestamp());
    RETURN jsonb_build_object('sending', true, 'attempt', known.attempt, 'text', known.text, 'fence', fence,
        'first_sent_at', (SELECT min(a.began_real_at) FROM fleet.attempts a WHERE a.intent = known.id));
END $$;

-- A no from begin_send, under its locks; with retry_after_s of fleet time the intent is tried again then. `wake` is the life that
-- waits for the lock, to be woken afterwards.
CREATE OR REPLACE FUNCTION fleet.refuse_send(
    known fleet.intents, to_state text, actor text, reason text, grant_id bigint, retry_after_s double precision DEFAULT NULL
) RETURNS jsonb
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    sleeper uuid;
BEGIN
    PERFORM fleet.move_intent(known.id, to_state, actor, refuse_send.reason, known.incarnation, known.fencing_token, NULL,
        fleet.now() + make_interval(secs => retry_after_s));
    sleeper := fleet.free_lock(known.content, known.fencing_token);
    PERFORM fleet.return_grant(known.incarnation, refuse_send.grant_id);
    PERFORM fleet.emit('warning', 'send_refused', actor,
        format('%s was not sent: %s', fleet.name_act(known), refuse_send.reason),
        jsonb_build_object('intent', known.id::text, 'state', to_state));
    RETURN jsonb_build_object('sending', false, 'state', to_state, 'reason', refuse_send.reason, 'wake', sleeper);
END $$;
