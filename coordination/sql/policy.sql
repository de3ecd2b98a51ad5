-- The policy gate: what the platform lets an account do, by its tier. What no rule allows is denied. Asked when an act is
-- proposed and again when it is about to be sent.

-- Why the account may not do this, or null when it may. For what answers another's post the post's author counts too: as the
-- caller names it, and as the fleet has seen it; where neither knows, the answer is no. Locks nothing; a few rows by key.
CREATE OR REPLACE FUNCTION fleet.judge_act(owner fleet.accounts, action text, target text, author_id text) RETURNS text
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    known fleet.policy_rules;
    authors text[];
    ours text;
BEGIN
    IF judge_act.action = 'like' AND owner.sandbox IS NOT TRUE THEN
        RETURN 'X prohibits automated likes';
    END IF;
    SELECT * INTO known FROM fleet.policy_rules p
    WHERE p.platform = owner.platform AND p.tier = owner.tier AND p.action = judge_act.action;
    IF known.rule IS NULL THEN
        RETURN format('no rule lets tier %s %s', owner.tier, coalesce(judge_act.action, 'do that'));
    END IF;
    IF known.rule = 'summoned' THEN
        IF NOT EXISTS (SELECT 1 FROM fleet.interactions i
            WHERE i.account = owner.name AND i.platform_id = judge_act.target AND i.summons) THEN
            RETURN known.reason;
        END IF;
    ELSIF known.rule <> 'allow' THEN
        RETURN known.reason;
    END IF;
    IF judge_act.action NOT IN ('reply', 'quote', 'like') THEN
        RETURN NULL;
    END IF;
    SELECT array_agg(DISTINCT a.id) INTO authors FROM (
        SELECT nullif(judge_act.author_id, '') AS id
        UNION ALL SELECT i.author_id FROM fleet.interactions i JOIN fleet.accounts o ON o.name = i.account
            WHERE o.platform = owner.platform AND i.platform_id = judge_act.target
        UNION ALL SELECT c.author_id FROM fleet.candidates c JOIN fleet.accounts o ON o.name = c.account
            WHERE o.platform = owner.platform AND c.platform_id = judge_act.target) a
    WHERE a.id IS NOT NULL;
    IF authors IS NULL THEN
        RETURN 'nobody knows who wrote that post: its author may have asked to be left alone';
    END IF;
    IF EXISTS (SELECT 1 FROM fleet.opt_outs o WHERE o.platform = owner.platform AND o.author_id = ANY(authors)) THEN
        RETURN 'its author asked to be left alone';
    END IF;
    SELECT a.name INTO ours FROM fleet.accounts a
    WHERE a.platform = owner.platform AND (a.platform_user_id = ANY(authors) OR EXISTS (
        SELECT 1 FROM fleet.intents i WHERE i.account = a.name AND i.platform_id = judge_act.target AND i.action <> 'like'))
    ORDER BY a.name <> owner.name, a.name LIMIT 1;
    RETURN CASE WHEN ours = owner.name THEN 'it is the account''s own post'
        WHEN ours IS NOT NULL THEN format('it is a post of the fleet''s own account %s', ours) END;
END $$;

-- The rule for each action and why: {"reply": {"rule": "summoned", "reason": "..."}, ...}. Locks nothing.
CREATE OR REPLACE FUNCTION fleet.get_policy(account text) RETURNS jsonb
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    owner fleet.accounts := fleet.require_account(get_policy.account);
BEGIN
    RETURN (SELECT jsonb_object_agg(k.action, CASE
        WHEN k.action = 'like' AND owner.sandbox IS NOT TRUE
            THEN jsonb_build_object('rule', 'deny', 'reason', 'X prohibits automated likes')
        ELSE jsonb_build_object('rule', coalesce(p.rule, 'deny'),
            'reason', coalesce(p.reason, format('no rule lets tier %s %s', owner.tier, k.action))) END)
        FROM unnest(ARRAY['post', 'reply', 'quote', 'like', 'search', 'mentions']) AS k(action)
        LEFT JOIN fleet.policy_rules p ON p.platform = owner.platform AND p.tier = owner.tier AND p.action = k.action);
END $$;

-- Whether the account may do this now, and why not. Locks nothing: only begin_send decides.
CREATE OR REPLACE FUNCTION fleet.check_policy(account text, action text, target text DEFAULT NULL, author_id text DEFAULT NULL)
RETURNS jsonb
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    refusal text := fleet.judge_act(fleet.require_account(check_policy.account), check_policy.action, check_policy.target,
        check_policy.author_id);
BEGIN
    RETURN jsonb_build_object('allowed', refusal IS NULL, 'reason', coalesce(refusal, ''));
END $$;

-- A person says which access the platform gave the account; audited. Takes the account's row: sends under way go first.
CREATE OR REPLACE FUNCTION fleet.set_tier(account text, tier text, actor text, reason text) RETURNS jsonb
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET lock_timeout = '5s' AS $$
DECLARE
    owner fleet.accounts;
BEGIN
    PERFORM fleet.require_read_committed();
    PERFORM set_config('synchronous_commit', 'on', true);
    PERFORM fleet.require_tier(set_tier.tier);
    owner := fleet.require_account(set_tier.account);
    PERFORM fleet.write_audit(actor, 'set_tier', owner.name, set_tier.reason, jsonb_build_object('tier', set_tier.tier));
    PERFORM fleet.change_tier(owner.name, set_tier.tier, actor);
    RETURN fleet.get_account(owner.name);
END $$;

-- The change itself, with its event; nothing where the tier is that already.
CREATE OR REPLACE FUNCTION fleet.change_tier(account text, tier text, actor text) RETURNS void
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    before text;
BEGIN
    SELECT a.tier INTO before FROM fleet.accounts a WHERE a.name = change_tier.account FOR UPDATE;
    IF before <> change_tier.tier THEN
        UPDATE fleet.accounts a SET tier = change_tier.tier, changed_at = fleet.now() WHERE a.name = change_tier.account;
        PERFORM fleet.emit('warning', 'tier', actor, format('account %s is %s now, it was %s', change_tier.account,
            change_tier.tier, before), jsonb_build_object('account', change_tier.account, 'tier', change_tier.tier,
            'before', before));
    END IF;
END $$;

-- FL001 unless the tier is one that there is. Locks nothing.
CREATE OR REPLACE FUNCTION fleet.require_tier(tier text) RETURNS void
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF require_tier.tier IS NULL OR require_tier.tier NOT IN ('free', 'pay_per_use', 'enterprise') THEN
        PERFORM fleet.refuse('tier', require_tier.tier, 'free, pay_per_use or enterprise');
    END IF;
END $$;

-- Whoever wrote these words in that post is left alone by the whole fleet, for ever; the first word counts. Flushed. When it
-- has answered, no act towards that author is let through any more: begin_send takes the same key shared.
CREATE OR REPLACE FUNCTION fleet.record_opt_out(
    incarnation uuid, account text, author_id text, handle text, platform_id text, words text
) RETURNS jsonb
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET lock_timeout = '5s' AS $$
DECLARE
    life fleet.incarnations;
    owner fleet.accounts;
    added fleet.opt_outs;
BEGIN
    PERFORM fleet.require_read_committed();
    PERFORM set_config('synchronous_commit', 'on', true);
    life := fleet.require_incarnation(incarnation);
    owner := fleet.require_account(record_opt_out.account);
    IF record_opt_out.author_id IS NULL OR record_opt_out.author_id !~ '^[0-9]{1,19}$' THEN
        PERFORM fleet.refuse('author_id', record_opt_out.author_id, 'the id that X gave the author: 1 to 19 digits');
    END IF;
    PERFORM pg_advisory_xact_lock(fleet.lock_key('author', owner.platform || ':' || record_opt_out.author_id));
    INSERT INTO fleet.opt_outs (platform, author_id, handle, account, platform_id, words, opted_out_at)
    VALUES (owner.platform, record_opt_out.author_id, left(coalesce(record_opt_out.handle, ''), 100), owner.name,
        left(coalesce(record_opt_out.platform_id, ''), 100), left(coalesce(record_opt_out.words, ''), 1000), fleet.now())
    ON CONFLICT ON CONSTRAINT opt_outs_pkey DO NOTHING
    RETURNING * INTO added;
    IF FOUND THEN
        PERFORM fleet.emit('warning', 'opt_out', life.worker || '/' || life.slot, format(
            '@%s asked to be left alone (%s): the fleet never answers them again', added.handle, fleet.shorten(added.words, 160)),
            jsonb_build_object('author_id', added.author_id, 'account', added.account, 'platform_id', added.platform_id));
    END IF;
    RETURN jsonb_build_object('recorded', added.author_id IS NOT NULL);
END $$;

-- Which of these authors asked to be left alone, as a list. Locks nothing; one key each.
CREATE OR REPLACE FUNCTION fleet.has_opted_out(account text, author_ids text[]) RETURNS jsonb
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    owner fleet.accounts := fleet.require_account(has_opted_out.account);
BEGIN
    RETURN coalesce((SELECT jsonb_agg(o.author_id ORDER BY o.author_id) FROM fleet.opt_outs o
        WHERE o.platform = owner.platform AND o.author_id = ANY(has_opted_out.author_ids)), '[]');
END $$;
