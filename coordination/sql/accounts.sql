-- Accounts: on whose behalf the fleet acts.

-- Makes or renews an account's row. Whether it is the sandbox's can't change: a rehearsal's acts must never reach a real
-- platform, so the sandbox and the real account are two rows.
CREATE OR REPLACE FUNCTION fleet.ensure_account(name text, platform text, api_url text, sandbox boolean, topics text[])
RETURNS jsonb
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET lock_timeout = '5s' AS $$
DECLARE
    account fleet.accounts;
BEGIN
    IF ensure_account.name IS NULL OR ensure_account.name !~ '^[a-z][a-z0-9_-]{0,62}$' THEN
        PERFORM fleet.refuse('account', ensure_account.name, 'a lower-case name of 1 to 63 letters, digits, _ or -');
    END IF;
    SELECT * INTO account FROM fleet.accounts a WHERE a.name = ensure_account.name FOR UPDATE;
    IF FOUND AND account.sandbox <> ensure_account.sandbox THEN
        PERFORM fleet.refuse('account', ensure_account.name, CASE WHEN account.sandbox THEN 'a name that is not the sandbox''s'
            ELSE 'a name that is not a real account''s' END);
    END IF;
    IF ensure_account.sandbox AND ensure_account.api_url !~ '^http://(127\.0\.0\.1|localhost|\[::1\])(:[0-9]{1,5})?(/|$)' THEN
        PERFORM fleet.refuse('api_url of account ' || ensure_account.name, ensure_account.api_url,
            'a loopback http address: a sandbox is on this host');
    END IF;
    INSERT INTO fleet.accounts AS a (name, platform, api_url, sandbox, topics, changed_at)
    VALUES (ensure_account.name, ensure_account.platform, ensure_account.api_url, ensure_account.sandbox,
        ensure_account.topics, fleet.now())
    ON CONFLICT ON CONSTRAINT accounts_pkey DO UPDATE SET api_url = excluded.api_url
        WHERE a.sandbox = excluded.sandbox
    RETURNING * INTO account;
    RETURN to_jsonb(account);
END $$;

CREATE OR REPLACE FUNCTION fleet.get_account(name text) RETURNS jsonb
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    RETURN (SELECT to_jsonb(a) FROM fleet.accounts a WHERE a.name = get_account.name);
END $$;

-- What the account talks about; audited.
CREATE OR REPLACE FUNCTION fleet.set_topics(account text, topics text[], actor text, reason text) RETURNS jsonb
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
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

-- The platform says who the credentials belong to. The first answer is kept; another one later is refused, since acting on
-- with somebody else's credentials would repeat or leak what this account planned.
CREATE OR REPLACE FUNCTION fleet.confirm_identity(incarnation uuid, account text, platform_user_id text, handle text)
RETURNS jsonb
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET lock_timeout = '5s' AS $$
DECLARE
    known fleet.accounts;
BEGIN
    PERFORM fleet.require_incarnation(incarnation);
    SELECT * INTO known FROM fleet.accounts a WHERE a.name = confirm_identity.account FOR UPDATE;
    IF NOT FOUND THEN
        PERFORM fleet.refuse('account', confirm_identity.account, 'the name of an account that is there');
    END IF;
    IF coalesce(confirm_identity.platform_user_id, '') = '' THEN
        PERFORM fleet.refuse('platform_user_id', confirm_identity.platform_user_id, 'the id that the platform gave the account');
    END IF;
    IF known.platform_user_id IS NOT NULL AND known.platform_user_id <> confirm_identity.platform_user_id THEN
        PERFORM fleet.refuse('credentials of account ' || known.name, confirm_identity.handle || ' (' ||
            confirm_identity.platform_user_id || ')', known.handle || ' (' || known.platform_user_id || ')');
    END IF;
    UPDATE fleet.accounts a SET platform_user_id = confirm_identity.platform_user_id, handle = confirm_identity.handle
    WHERE a.name = confirm_identity.account
      AND (a.platform_user_id, a.handle) IS DISTINCT FROM (confirm_identity.platform_user_id, confirm_identity.handle)
    RETURNING * INTO known;
    RETURN (SELECT to_jsonb(a) FROM fleet.accounts a WHERE a.name = confirm_identity.account);
END $$;
