-- Engagements: what the fleet did to which content, for which account, and with what success. The ledger writes the history of
-- acts, the lock's release that of analyses; here it is read.

-- The fleet time so many hours ago, read once: asked for each row it would keep every query from its index. Locks nothing.
CREATE OR REPLACE FUNCTION fleet.hours_ago(hours double precision, until timestamptz DEFAULT NULL) RETURNS timestamptz
LANGUAGE plpgsql VOLATILE AS $$
BEGIN
    IF hours IS NULL OR NOT (hours >= 0 AND hours <= 1000000) THEN
        PERFORM fleet.refuse('hours', hours::text, 'from 0 to 1000000');
    END IF;
    IF until IS NOT NULL AND NOT (isfinite(until) AND until > 'epoch') THEN
        PERFORM fleet.refuse('until', until::text, 'no value (now), or a time after 1970');
    END IF;
    RETURN coalesce(until, fleet.now()) - make_interval(secs => hours * 3600);
END $$;

-- Whether an act engages with somebody else's content, which takes an account's interval. Locks nothing.
CREATE OR REPLACE FUNCTION fleet.is_engaging(action text) RETURNS boolean
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN action IN ('quote', 'reply', 'like');

-- What an act of the ledger locks: '' (its content, for the whole fleet), or the account where each keeps its own. Locks nothing.
CREATE OR REPLACE FUNCTION fleet.act_scope(account text) RETURNS text
LANGUAGE plpgsql VOLATILE AS $$
BEGIN
    RETURN CASE WHEN fleet.setting_number('engagement_per_account', 0) >= 1 THEN account ELSE '' END;
END $$;

-- FL001 unless it can name a content. Locks nothing.
CREATE OR REPLACE FUNCTION fleet.check_content(tweet_id text) RETURNS void
LANGUAGE plpgsql AS $$
BEGIN
    IF coalesce(length(tweet_id), 0) NOT BETWEEN 1 AND 512 THEN
        PERFORM fleet.refuse('tweet_id', tweet_id, 'a text of 1 to 512 characters');
    END IF;
END $$;

-- Whether the content was engaged within the window; also while an act on it is under way or undecided. With a scope, by that
-- account only. An intent that asks ignores itself. Locks nothing.
CREATE OR REPLACE FUNCTION fleet.is_engaged(
    tweet_id text, hours double precision, besides bigint DEFAULT NULL, scope text DEFAULT ''
) RETURNS boolean
LANGUAGE plpgsql VOLATILE AS $$
DECLARE
    since timestamptz := fleet.hours_ago(hours);
BEGIN
    RETURN EXISTS (
        SELECT 1 FROM fleet.engagements e
        WHERE e.content = is_engaged.tweet_id AND e.success AND e.action <> 'analysis' AND e.engaged_at > since
          AND (is_engaged.scope = '' OR e.account = is_engaged.scope)
          AND (besides IS NULL OR e.intent IS DISTINCT FROM besides)
    ) OR EXISTS (
        SELECT 1 FROM fleet.intents i
        WHERE i.content = is_engaged.tweet_id AND i.state IN ('sending', 'unknown', 'parked')
          AND (is_engaged.scope = '' OR i.account = is_engaged.scope)
          AND (besides IS NULL OR i.id <> besides)
    );
END $$;

-- The oldest fleet time that the history of engagements must reach back to: the window of the locks, and a week, as far as the fleet's
-- own reports look back; an account's interval is no longer than a day. Locks nothing.
CREATE OR REPLACE FUNCTION fleet.history_since() RETURNS timestamptz
LANGUAGE plpgsql VOLATILE AS $$
BEGIN
    RETURN fleet.hours_ago(greatest(fleet.setting_number('engagement_window_hours', 24), 168));
END $$;

-- The same for callers: a jsonb boolean. With an account, its own engagements only; an intent that asks (besides) ignores itself.
-- Locks nothing; two reads by index.
CREATE OR REPLACE FUNCTION fleet.has_recent_engagement(
    incarnation uuid, tweet_id text, hours double precision DEFAULT 24, account text DEFAULT NULL, besides bigint DEFAULT NULL
) RETURNS jsonb
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    PERFORM fleet.check_content(tweet_id);
    RETURN to_jsonb(fleet.is_engaged(tweet_id, hours, besides, coalesce(account, '')));
END $$;

-- Fleet seconds that an account lets pass between two engagements: its own, or the fleet's; 0 is none. Locks nothing; one row read.
CREATE OR REPLACE FUNCTION fleet.engagement_spacing_s(account text) RETURNS double precision
LANGUAGE plpgsql VOLATILE AS $$
BEGIN
    RETURN coalesce((SELECT a.engagement_spacing_s FROM fleet.accounts a WHERE a.name = engagement_spacing_s.account),
        fleet.setting_number('engagement_spacing_s', 0));
END $$;

-- Whether an account lets time pass before such an act, so that its contents compete for its turn. Locks nothing.
CREATE OR REPLACE FUNCTION fleet.is_spaced(account text, action text) RETURNS boolean
LANGUAGE sql VOLATILE
RETURN account IS NOT NULL AND fleet.is_engaging(action) AND fleet.engagement_spacing_s(account) > 0;

-- A person gives an account an interval of its own; null: the fleet's again. Audited; takes the account's row, as every grant under
-- an interval does.
CREATE OR REPLACE FUNCTION fleet.set_engagement_interval(account text, interval_s double precision, actor text, reason text)
RETURNS jsonb
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET lock_timeout = '5s' AS $$
DECLARE
    before fleet.accounts;
BEGIN
    PERFORM fleet.require_read_committed();
    PERFORM set_config('synchronous_commit', 'on', true);
    IF interval_s IS NOT NULL AND NOT (interval_s >= 0 AND interval_s <= 86400) THEN
        PERFORM fleet.refuse('interval_s', interval_s::text, 'no value (as the fleet), or from 0 to 86400 seconds');
    END IF;
    PERFORM fleet.require_account(account);
    SELECT * INTO before FROM fleet.accounts a WHERE a.name = set_engagement_interval.account FOR UPDATE;
    PERFORM fleet.write_audit(actor, 'set_engagement_interval', before.name, set_engagement_interval.reason,
        jsonb_build_object('interval_s', interval_s, 'before', before.engagement_spacing_s));
    UPDATE fleet.accounts a SET engagement_spacing_s = interval_s, changed_at = fleet.now() WHERE a.name = before.name;
    RETURN jsonb_build_object('account', before.name, 'interval_s', fleet.engagement_spacing_s(before.name), 'own', interval_s IS NOT NULL);
END $$;

-- Fleet seconds until the account may engage with somebody's content again; 0 where it may now, or has no interval to keep. Its
-- history counts, and what may become history: an act that is being sent as one of now, one of which nobody knows what came of it as
-- one of when that was found out. An intent that asks ignores itself. Locks nothing; two reads by index.
CREATE OR REPLACE FUNCTION fleet.interval_left_s(account text, action text, besides bigint DEFAULT NULL) RETURNS double precision
LANGUAGE plpgsql VOLATILE AS $$
DECLARE
    interval_s double precision;
    at timestamptz;
    last_at timestamptz;
BEGIN
    IF account IS NULL OR NOT fleet.is_engaging(action) THEN
        RETURN 0;
    END IF;
    interval_s := fleet.engagement_spacing_s(account);
    IF interval_s = 0 THEN
        RETURN 0;
    END IF;
    at := fleet.now();
    last_at := greatest(
        (SELECT max(CASE i.state WHEN 'sending' THEN at ELSE i.updated_at END) FROM fleet.intents i
            WHERE i.account = interval_left_s.account AND i.state IN ('sending', 'unknown', 'parked') AND fleet.is_engaging(i.action)
              AND (besides IS NULL OR i.id <> besides)),
        (SELECT max(e.engaged_at) FROM fleet.engagements e WHERE e.account = interval_left_s.account
            AND e.engaged_at > at - make_interval(secs => interval_s) AND e.success AND fleet.is_engaging(e.action)
            AND (besides IS NULL OR e.intent IS DISTINCT FROM besides)));
    RETURN coalesce(greatest(0, interval_s - extract(epoch FROM at - last_at)), 0);
END $$;

-- Counts over so many hours of fleet time that end at `until` (now), of one account or all; a person's reader gives a null
-- incarnation. Of what maintenance swept it counts nothing: a week at least is there. Locks nothing; one range read.
CREATE OR REPLACE FUNCTION fleet.get_engagement_stats(
    incarnation uuid, hours double precision DEFAULT 24, until timestamptz DEFAULT NULL, account text DEFAULT NULL
) RETURNS jsonb
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    since timestamptz := fleet.hours_ago(hours, until);
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
        WHERE e.action <> 'analysis' AND e.engaged_at > since AND (until IS NULL OR e.engaged_at <= until)
          AND (get_engagement_stats.account IS NULL OR e.account = get_engagement_stats.account));
END $$;

-- Patterns of success over so many hours of fleet time: how many engagements, and which part of them succeeded, by action, by hour
-- of the day (UTC) and by account. Locks nothing; three passes over one range.
CREATE OR REPLACE FUNCTION fleet.get_engagement_patterns(
    incarnation uuid, hours double precision DEFAULT 24, until timestamptz DEFAULT NULL, account text DEFAULT NULL
) RETURNS jsonb
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    since timestamptz := fleet.hours_ago(hours, until);
BEGIN
    RETURN (
        WITH done AS MATERIALIZED (
            SELECT e.action, e.account, extract(hour FROM e.engaged_at AT TIME ZONE 'UTC')::integer AS hour, e.success
            FROM fleet.engagements e
            WHERE e.action <> 'analysis' AND e.engaged_at > since AND (until IS NULL OR e.engaged_at <= until)
              AND (get_engagement_patterns.account IS NULL OR e.account = get_engagement_patterns.account)
        ), grouped AS (
            SELECT d.action, d.hour, d.account, grouping(d.action, d.hour, d.account) AS by, jsonb_build_object(
                'total', count(*), 'successful', count(*) FILTER (WHERE d.success),
                'success_rate', round(count(*) FILTER (WHERE d.success)::numeric / count(*), 4)) AS counts
            FROM done d GROUP BY GROUPING SETS ((d.action), (d.hour), (d.account))
        )
        SELECT jsonb_build_object(
            'by_action', coalesce(jsonb_object_agg(g.action, g.counts) FILTER (WHERE g.by = 3), '{}'),
            'by_hour', coalesce(jsonb_object_agg(g.hour::text, g.counts) FILTER (WHERE g.by = 5), '{}'),
            'by_account', coalesce(jsonb_object_agg(g.account, g.counts) FILTER (WHERE g.by = 6 AND g.account IS NOT NULL), '{}'))
        FROM grouped g);
END $$;
