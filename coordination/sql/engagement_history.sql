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

-- The same for callers: a jsonb boolean. With an account, its own engagements only; an intent that asks (besides) ignores itself.
-- Locks nothing; two reads by index.
CREATE OR REPLACE FUNCTION fleet.has_recent_engagement(
    incarnation uuid, tweet_id text, hours double precision DEFAULT 24, account text DEFAULT NULL, besides bigint DEFAULT NULL
) RETURNS jsonb
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    RETURN to_jsonb(fleet.is_engaged(tweet_id, hours, besides, coalesce(account, '')));
END $$;

-- Fleet seconds until the account may engage with somebody's content again; 0 where it may now, or has no interval to keep. Its
-- history counts, and an act of it that is being sent, but for the intent that asks. Locks nothing; two reads by index.
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
    interval_s := fleet.setting_number('engagement_spacing_s', 0);
    IF interval_s = 0 THEN
        RETURN 0;
    END IF;
    at := fleet.now();
    IF EXISTS (SELECT 1 FROM fleet.intents i WHERE i.account = interval_left_s.account AND i.state = 'sending'
        AND fleet.is_engaging(i.action) AND (besides IS NULL OR i.id <> besides)) THEN
        RETURN interval_s;
    END IF;
    last_at := (SELECT max(e.engaged_at) FROM fleet.engagements e WHERE e.account = interval_left_s.account
        AND e.engaged_at > at - make_interval(secs => interval_s) AND e.success AND fleet.is_engaging(e.action)
        AND (besides IS NULL OR e.intent IS DISTINCT FROM besides));
    RETURN coalesce(greatest(0, interval_s - extract(epoch FROM at - last_at)), 0);
END $$;

-- Counts over so many hours of fleet time that end at `until` (now), of one account or all; a person's reader gives a null
-- incarnation. Locks nothing; one range read.
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
