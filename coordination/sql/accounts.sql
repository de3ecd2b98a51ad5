-- Accounts: on whose behalf the fleet acts.

-- Makes or renews an account's row. Whether it is the sandbox's can't change: a rehearsal's acts must never reach a real
-- platform, so the sandbox and the real account are two rows. Without a tier one that is there keeps its own; a new one has
-- everything in the sandbox, and what X sells to anybody elsewhere.
CREATE OR REPLACE FUNCTION fleet.ensure_account(
    name text, platform text, api_url text, sandbox boolean, topics text[], tier text DEFAULT NULL
) RETURNS jsonb
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET lock_timeout = '5s' AS $$
DECLARE
    account fleet.accounts;
    host fleet.hosts;
BEGIN
    IF ensure_account.name IS NULL OR ensure_account.name !~ '^[a-z][a-z0-9_-]{0,62}$' THEN
        PERFORM fleet.refuse('account', ensure_account.name, 'a lower-case name of 1 to 63 letters, digits, _ or -');
    END IF;
    SELECT * INTO account FROM fleet.accounts a WHERE a.name = ensure_account.name FOR UPDATE;
    IF FOUND AND account.sandbox <> ensure_account.sandbox THEN
        PERFORM fleet.refuse('account', ensure_account.name, CASE WHEN account.sandbox THEN 'a name that is not the sandbox''s'
            ELSE 'a name that is not a real account''s' END);
    END IF;
    IF account.api_url <> ensure_account.api_url THEN
        -- Its workers would refuse the account from their next start on.
        FOR host IN SELECT * FROM fleet.hosts h WHERE h.state = 'live' ORDER BY h.name LOOP
            IF NOT fleet.is_abandoned(host.session) THEN
                PERFORM fleet.refuse('api_url of account ' || ensure_account.name, ensure_account.api_url, account.api_url
                    || ', at which host ' || host.name || ' works with it now: set X_API_URL to that, or stop that host first');
            END IF;
        END LOOP;
    END IF;
    IF ensure_account.sandbox AND ensure_account.api_url !~ '^http://(127\.0\.0\.1|localhost|\[::1\])(:[0-9]{1,5})?(/|$)' THEN
        PERFORM fleet.refuse('api_url of account ' || ensure_account.name, ensure_account.api_url,
            'a loopback http address: a sandbox is on this host');
    END IF;
    IF ensure_account.tier IS NOT NULL THEN
        PERFORM fleet.require_tier(ensure_account.tier);
    END IF;
    INSERT INTO fleet.accounts AS a (name, platform, api_url, sandbox, topics, changed_at, tier)
    VALUES (ensure_account.name, ensure_account.platform, ensure_account.api_url, ensure_account.sandbox,
        ensure_account.topics, fleet.now(),
        coalesce(ensure_account.tier, CASE WHEN ensure_account.sandbox THEN 'enterprise' ELSE 'pay_per_use' END))
    ON CONFLICT ON CONSTRAINT accounts_pkey DO UPDATE SET api_url = excluded.api_url
        WHERE a.sandbox = excluded.sandbox;
    IF ensure_account.tier IS NOT NULL THEN
        PERFORM fleet.change_tier(ensure_account.name, ensure_account.tier, 'up');
    END IF;
    RETURN fleet.get_account(ensure_account.name);
END $$;

-- An account as its workers need it; null when there is none. Locks nothing; one row read.
CREATE OR REPLACE FUNCTION fleet.get_account(name text) RETURNS jsonb
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    RETURN (SELECT to_jsonb(a) FROM fleet.accounts a WHERE a.name = get_account.name);
END $$;

-- The account's row; FL001 when there is none. Locks nothing.
CREATE OR REPLACE FUNCTION fleet.require_account(name text) RETURNS fleet.accounts
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    account fleet.accounts;
BEGIN
    SELECT * INTO account FROM fleet.accounts a WHERE a.name = require_account.name;
    IF NOT FOUND THEN
        PERFORM fleet.refuse('account', require_account.name,
            'one of ' || coalesce((SELECT string_agg(a.name, ', ' ORDER BY a.name) FROM fleet.accounts a), '(no account yet)'));
    END IF;
    RETURN account;
END $$;

-- What the account talks about; audited.
CREATE OR REPLACE FUNCTION fleet.set_topics(account text, topics text[], actor text, reason text) RETURNS jsonb
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET lock_timeout = '5s' AS $$
DECLARE
    topic text;
    changed fleet.accounts;
BEGIN
    IF coalesce(cardinality(set_topics.topics), 0) NOT BETWEEN 1 AND 100 THEN
        PERFORM fleet.refuse('topics', set_topics.topics::text, '1 to 100 topics');
    END IF;
    FOREACH topic IN ARRAY set_topics.topics LOOP
        IF topic IS NULL OR topic !~ '^[^[:cntrl:]]{1,60}$' OR trim(topic) = '' THEN
            PERFORM fleet.refuse('topics', topic, 'topics of 1 to 60 characters without control characters');
        END IF;
    END LOOP;
    PERFORM fleet.write_audit(actor, 'set_topics', set_topics.account, set_topics.reason,
        jsonb_build_object('topics', set_topics.topics));
    UPDATE fleet.accounts a SET topics = set_topics.topics, changed_at = fleet.now()
    WHERE a.name = set_topics.account RETURNING * INTO changed;
    IF NOT FOUND THEN
        PERFORM fleet.refuse('account', set_topics.account, 'the name of an account that is there');
    END IF;
    RETURN to_jsonb(changed);
END $$;

-- The platform says who the credentials belong to. The first answer is kept. Another one later is refused, since acting on
-- with somebody else's credentials would repeat or leak what this account planned; except in the sandbox, where it means that
-- a new sandbox was made: there the account begins anew. Locks the account's row.
CREATE OR REPLACE FUNCTION fleet.confirm_identity(incarnation uuid, account text, platform_user_id text, handle text)
RETURNS jsonb
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET lock_timeout = '5s' AS $$
DECLARE
    known fleet.accounts;
BEGIN
    PERFORM fleet.require_read_committed();
    PERFORM fleet.require_incarnation(incarnation);
    SELECT * INTO known FROM fleet.accounts a WHERE a.name = confirm_identity.account FOR UPDATE;
    IF NOT FOUND THEN
        PERFORM fleet.refuse('account', confirm_identity.account, 'the name of an account that is there');
    END IF;
    IF coalesce(confirm_identity.platform_user_id, '') = '' THEN
        PERFORM fleet.refuse('platform_user_id', confirm_identity.platform_user_id, 'the id that the platform gave the account');
    END IF;
    IF known.platform_user_id <> confirm_identity.platform_user_id THEN
        IF NOT known.sandbox THEN
            PERFORM fleet.refuse('credentials of account ' || known.name, confirm_identity.handle || ' (' ||
                confirm_identity.platform_user_id || ')', known.handle || ' (' || known.platform_user_id || ')');
        END IF;
        PERFORM fleet.forget_sandbox(known, confirm_identity.platform_user_id);
    END IF;
    UPDATE fleet.accounts a SET platform_user_id = confirm_identity.platform_user_id, handle = confirm_identity.handle
    WHERE a.name = confirm_identity.account
      AND (a.platform_user_id, a.handle) IS DISTINCT FROM (confirm_identity.platform_user_id, confirm_identity.handle);
    RETURN fleet.get_account(confirm_identity.account);
END $$;

-- The account's sandbox is another one now, and the ids of the old one mean nothing there: what would read on from them, or
-- act on them, ends. The ledger's history and the opt-outs stay. Under the account's row, as begin_send takes it.
CREATE OR REPLACE FUNCTION fleet.forget_sandbox(known fleet.accounts, platform_user_id text) RETURNS void
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    waiting bigint;
    cancelled integer := 0;
BEGIN
    DELETE FROM fleet.cursors c WHERE c.account = known.name;
    DELETE FROM fleet.interactions i WHERE i.account = known.name;
    DELETE FROM fleet.candidates c WHERE c.account = known.name;
    UPDATE fleet.tracked_posts t SET gone_at = fleet.now() WHERE t.account = known.name AND t.gone_at IS NULL;
    FOR waiting IN
        SELECT i.id FROM fleet.intents i WHERE i.account = known.name AND i.action <> 'post'
          AND i.state IN ('draft', 'awaiting_approval', 'ready', 'retry_at') ORDER BY i.id FOR UPDATE SKIP LOCKED
    LOOP
        PERFORM fleet.move_intent(waiting, 'cancelled', 'confirm_identity', 'its target was in a sandbox that is no more');
        cancelled := cancelled + 1;
    END LOOP;
    PERFORM fleet.emit('warning', 'identity', 'confirm_identity', format(
        'account %s is %s now, it was %s: a new sandbox. It reads from the start, and %s acts that waited are cancelled',
        known.name, forget_sandbox.platform_user_id, known.platform_user_id, cancelled),
        jsonb_build_object('account', known.name, 'before', known.platform_user_id, 'now', forget_sandbox.platform_user_id));
END $$;
