-- What there is to know of limits: what is left, how full they are and will be, how well they are used. Nothing here locks.

-- An account's row of an endpoint or a pool, or what it would be made of. FL001 where there is none. Locks nothing.
CREATE OR REPLACE FUNCTION fleet.peek_rate_limit(account text, endpoint text) RETURNS fleet.rate_limits
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    one fleet.rate_limits;
BEGIN
    IF coalesce(length(peek_rate_limit.account), 0) NOT BETWEEN 1 AND 200 THEN
        PERFORM fleet.refuse('account', peek_rate_limit.account, 'an account''s name of 1 to 200 characters, or * for the defaults');
    END IF;
    SELECT * INTO one FROM fleet.rate_limits r
    WHERE r.endpoint = peek_rate_limit.endpoint AND r.account IN (peek_rate_limit.account, '*')
    ORDER BY r.account = '*' LIMIT 1;
    IF NOT FOUND THEN
        PERFORM fleet.refuse('endpoint', peek_rate_limit.endpoint, 'an endpoint with a configured limit');
    END IF;
    one.account := peek_rate_limit.account;
    RETURN one;
END $$;

-- Each window of a row: limit, used, remaining, percent, when the next unit frees. `used` is the greater of the log's count
-- and the platform's own with what is under way. Locks nothing; reads what left the windows.
CREATE OR REPLACE FUNCTION fleet.rate_windows(one fleet.rate_limits, at timestamptz, rate double precision) RETURNS jsonb
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    windows jsonb := '[]';
    used integer;
    next_free timestamptz;
    resets timestamptz;
BEGIN
    one := fleet.weigh(one, at, rate, 1000000000);
    FOR i IN 1 .. cardinality(one.limits) LOOP
        used := fleet.used_of(one, i, at);
        IF one.spacing_us[i] > 0 THEN
            next_free := CASE WHEN one.occupied[i] > 0 THEN greatest(at, one.tat[i] - (one.burst[i] - 1) * (one.spacing_us[i] * interval '1 microsecond')) END;
        ELSE
            SELECT min(g.settled_at) + make_interval(secs => one.windows_s[i]) INTO next_free FROM fleet.rate_grants g
            WHERE g.account = one.account AND g.endpoint = ANY ((SELECT fleet.endpoints_of(one))::text[])
              AND g.settled_at > at - make_interval(secs => one.windows_s[i]);
        END IF;
        resets := NULL;
        IF i = one.header_window AND one.header_resets_at > at THEN
            IF fleet.header_room(one, at) <= 0 THEN
                resets := one.header_resets_at;
            END IF;
        ELSIF one.windows_s[i] = 86400 AND fleet.day_room(one.day_headers, one.unsettled, at) <= 0 THEN
            SELECT max((h.value->>'resets_at')::timestamptz) INTO resets FROM jsonb_each(one.day_headers) h
            WHERE (h.value->>'told')::integer - (h.value->>'used')::integer <= one.unsettled;
        END IF;
        -- Never before the platform's own reset when its count is the binding one.
        next_free := CASE WHEN resets IS NULL THEN next_free
            ELSE greatest(resets, CASE WHEN one.occupied[i] >= one.limits[i] THEN next_free END) END;
        -- Where all is under way nobody knows: to be asked again in as long as a request may take.
        IF used >= one.limits[i] AND (next_free IS NULL OR next_free <= at) THEN
            next_free := at + make_interval(secs => one.delay_s);
        END IF;
        windows := windows || jsonb_build_object('window_s', one.windows_s[i], 'limit', one.limits[i], 'used', used,
            'remaining', greatest(0, one.limits[i] - used), 'next_free_at', next_free,
            'percent', round(100.0 * used / one.limits[i], 1), 'spread', one.spacing_us[i] > 0);
    END LOOP;
    RETURN windows;
END $$;

-- What the platform counts in a window that none of the row's stands for, as a tighter one makes it needless: like one of rate_windows,
-- or an empty list. Pure.
CREATE OR REPLACE FUNCTION fleet.platform_window(one fleet.rate_limits, at timestamptz, span_s integer) RETURNS jsonb
LANGUAGE plpgsql IMMUTABLE AS $$
DECLARE
    used integer := one.header_used + one.unsettled;
BEGIN
    RETURN CASE WHEN one.header_window IS NULL AND one.header_limit IS NOT NULL AND one.header_resets_at > at
        THEN jsonb_build_array(jsonb_build_object('window_s', span_s, 'limit', one.header_limit, 'used', used,
            'remaining', greatest(0, one.header_limit - used), 'next_free_at', one.header_resets_at,
            'percent', round(100.0 * used / one.header_limit, 1), 'spread', false))
        ELSE '[]' END;
END $$;

-- The rows that a request takes a unit of, as they are: the endpoint's own and its pools'; a pool's name gives its row alone. FL001
-- where there is none. Locks nothing.
CREATE OR REPLACE FUNCTION fleet.peek_rate_rows(account text, endpoint text) RETURNS SETOF fleet.rate_limits
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    own fleet.rate_limits := fleet.peek_rate_limit(account, endpoint);
    pool text;
BEGIN
    RETURN NEXT own;
    FOR pool IN
        SELECT DISTINCT r.endpoint FROM fleet.rate_limits r
        WHERE own.kind = 'endpoint' AND r.kind = 'pool' AND r.account IN (own.account, '*')
          AND fleet.counts_requests(r, own.endpoint)
    LOOP
        RETURN NEXT fleet.peek_rate_limit(account, pool);
    END LOOP;
END $$;

-- What is left of an endpoint now, by all of its windows, its pools and what the platform told and refused, and when there will be more;
-- beside it the shortest window's figures, those of 15 minutes, hour and day by name (null where there is no such window), and all
-- of its own windows as a list. Locks nothing.
CREATE OR REPLACE FUNCTION fleet.get_remaining_capacity(incarnation uuid, endpoint text, account text DEFAULT 'default') RETURNS jsonb
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    clock record;
    one fleet.rate_limits;
    windows jsonb;
    told jsonb;
    least_left integer;
    more_at timestamptz;
    closed_until timestamptz;
BEGIN
    SELECT * INTO clock FROM fleet.read_clock();
    FOR one IN SELECT * FROM fleet.peek_rate_rows(get_remaining_capacity.account, get_remaining_capacity.endpoint) LOOP
        SELECT jsonb_agg(jsonb_build_object('window_s', w->'window_s', 'limit', w->'limit', 'used', w->'used', 'remaining', w->'remaining',
            'resets_at', coalesce((w->>'next_free_at')::timestamptz, clock.at)) ORDER BY (w->>'window_s')::integer)
        INTO windows FROM jsonb_array_elements(fleet.rate_windows(one, clock.at, clock.rate)) w;
        IF told IS NULL THEN
            told := windows;
            closed_until := CASE WHEN one.blocked_until > clock.at THEN one.blocked_until END;
        END IF;
        SELECT l.n, max(l.more_at) INTO least_left, more_at FROM (
            SELECT least_left AS n, more_at
            UNION ALL SELECT (w->>'remaining')::integer, (w->>'resets_at')::timestamptz FROM jsonb_array_elements(windows) w
            UNION ALL SELECT greatest(0, fleet.header_room(one, clock.at)), one.header_resets_at WHERE one.header_resets_at > clock.at) l
        WHERE l.n IS NOT NULL GROUP BY l.n ORDER BY l.n LIMIT 1;
    END LOOP;
    RETURN (told->0) || jsonb_build_object('windows', told,
        'remaining', CASE WHEN closed_until IS NULL THEN least_left ELSE 0 END,
        'resets_at', CASE WHEN closed_until IS NULL THEN more_at
            ELSE greatest(closed_until, CASE WHEN least_left = 0 THEN more_at END) END,
        'blocked_until', closed_until,
        'per_15min', (SELECT jsonb_build_object('remaining', w->'remaining', 'resets_at', w->'resets_at')
            FROM jsonb_array_elements(told) w WHERE w->>'window_s' = '900'),
        'per_hour', (SELECT jsonb_build_object('remaining', w->'remaining', 'resets_at', w->'resets_at')
            FROM jsonb_array_elements(told) w WHERE w->>'window_s' = '3600'),
        'per_day', (SELECT jsonb_build_object('remaining', w->'remaining', 'resets_at', w->'resets_at')
            FROM jsonb_array_elements(told) w WHERE w->>'window_s' = '86400'));
END $$;

-- Every endpoint and pool in use, by its fullest window or the platform's count: healthy below 80%, warning up to 95%, critical above, and while
-- the platform's refusals close it; what is left also by its pools; who waits; and when it will be full at the pace of the last third
-- of that window (null: not in this one). Locks nothing.
CREATE OR REPLACE FUNCTION fleet.get_system_status(incarnation uuid) RETURNS jsonb
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    clock record;
    one fleet.rate_limits;
    windows jsonb;
    fullest jsonb;
    pool jsonb;
    percent numeric;
    pace double precision;
    full_in_s double precision;
    free_at timestamptz;
    closed boolean;
    pools jsonb := '[]';
    endpoints jsonb := '[]';
    told jsonb;
BEGIN
    SELECT * INTO clock FROM fleet.read_clock();
    FOR one IN SELECT * FROM fleet.rate_limits r WHERE r.account <> '*' ORDER BY r.kind = 'endpoint', r.account, r.endpoint LOOP
        windows := fleet.rate_windows(one, clock.at, clock.rate);
        SELECT w INTO fullest FROM jsonb_array_elements(windows || fleet.platform_window(one, clock.at, fleet.header_window_s())) w
        ORDER BY (w->>'percent')::numeric DESC, (w->>'window_s')::integer LIMIT 1;
        percent := 100.0 * (fullest->>'used')::integer / (fullest->>'limit')::integer;  -- not rounded: levels are judged by it
        pace := (SELECT coalesce(sum(g.units), 0) FROM fleet.rate_grants g
            WHERE g.account = one.account AND g.endpoint = ANY ((SELECT fleet.endpoints_of(one))::text[])
              AND (g.settled_at > clock.at - make_interval(secs => (fullest->>'window_s')::integer / 3.0)
                OR g.settled_at IS NULL)) / ((fullest->>'window_s')::integer / 3.0);
        full_in_s := CASE WHEN pace > 0 THEN (fullest->>'remaining')::integer / pace END;
        SELECT p INTO pool FROM jsonb_array_elements(pools) p JOIN fleet.rate_limits r
            ON (r.account, r.endpoint) = (p->>'account', p->>'endpoint')
        WHERE one.kind = 'endpoint' AND r.account = one.account AND fleet.counts_requests(r, one.endpoint)
          AND (p->>'remaining')::integer < (fullest->>'remaining')::integer
        ORDER BY (p->>'remaining')::integer LIMIT 1;
        closed := coalesce(one.blocked_until > clock.at, false);
        free_at := greatest((coalesce(pool, fullest)->>'next_free_at')::timestamptz, CASE WHEN closed THEN one.blocked_until END);
        told := jsonb_build_object(
            'account', one.account, 'endpoint', one.endpoint, 'kind', one.kind, 'limit', fullest->'limit', 'used', fullest->'used',
            'remaining', CASE WHEN closed THEN '0' ELSE coalesce(pool, fullest)->'remaining' END, 'bound_by', pool->'endpoint',
            'window_s', fullest->'window_s', 'next_free_at', free_at,
            'blocked_until', CASE WHEN closed THEN one.blocked_until END, 'violations', one.violations,
            'utilization_percent', fullest->'percent',
            'active_workers', (SELECT count(DISTINCT g.incarnation) FROM fleet.rate_grants g
                WHERE g.account = one.account AND g.endpoint = ANY ((SELECT fleet.endpoints_of(one))::text[])
                  AND (g.settled_at > clock.at - make_interval(secs => one.window_s) OR g.settled_at IS NULL)),
            'requests_queued', (SELECT count(*) FROM fleet.rate_demands d
                WHERE d.account = one.account AND d.endpoint = ANY ((SELECT fleet.endpoints_of(one))::text[]) AND d.waiting
                  AND d.keep_until > clock.at),
            'predicted_full_at', CASE WHEN full_in_s < (fullest->>'window_s')::integer
                THEN clock.at + make_interval(secs => full_in_s) END,
            'windows', windows,
            'health', CASE WHEN closed OR percent > 95 THEN 'critical' WHEN percent < 80 THEN 'healthy' ELSE 'warning' END);
        IF one.kind = 'pool' THEN
            pools := pools || told;
        ELSE
            endpoints := endpoints || told;
        END IF;
    END LOOP;
    RETURN endpoints || pools;
END $$;

-- How well each limit is used since it is kept: requests granted and refused by the fleet, refused by the platform, how long
-- those waited that waited, and of the last full window the part that was used and the pace. Locks nothing.
CREATE OR REPLACE FUNCTION fleet.get_rate_measures(incarnation uuid) RETURNS jsonb
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    clock record;
BEGIN
    SELECT * INTO clock FROM fleet.read_clock();
    RETURN coalesce((SELECT jsonb_agg(jsonb_build_object(
            'account', r.account, 'endpoint', r.endpoint, 'granted', r.granted, 'refused', r.refused,
            'errors', r.violations, 'waited', r.waited, 'longest_wait_s', round(r.longest_wait_s::numeric, 3),
            'average_wait_s', CASE WHEN r.waited > 0 THEN round((r.waited_s / r.waited)::numeric, 3) END,
            'granted_at_once_percent', CASE WHEN r.granted > 0 THEN round(100.0 * greatest(0, r.granted - r.waited) / r.granted, 1) END,
            'efficiency_percent', round(100.0 * u.units / r.requests, 1),
            'requests_per_minute', round(u.units * 60.0 / r.window_s, 2)) ORDER BY r.account, r.endpoint)
        FROM fleet.rate_limits r, LATERAL (SELECT coalesce(sum(g.units), 0) AS units FROM fleet.rate_grants g
            WHERE g.account = r.account AND g.endpoint = r.endpoint
              AND g.settled_at > clock.at - make_interval(secs => r.window_s)) u
        WHERE r.account <> '*' AND r.kind = 'endpoint'), '[]');
END $$;
