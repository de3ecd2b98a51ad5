-- The ledger of outside acts: never twice, never lost. An act is an intent; every transition is a compare-and-set, and leaves
-- a row. Forbidden transitions are refused with FL005. Here: the states, and how an act gets in; sending.sql and settling.sql
-- have the rest of its life.

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
    now_at timestamptz;
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
    now_at := fleet.now();
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
        now_at := fleet.now();  -- the wait may have been long
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
-- whole account: which texts not to repeat; all among what was proposed in the last texts_of_days. Locks nothing.
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
