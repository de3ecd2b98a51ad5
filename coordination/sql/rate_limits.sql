-- Rate limits: never above N requests in any rolling window. One row an account and endpoint is the mutex over all of its
-- windows; a pool is a row that several endpoints take from. This file: the rows, and what a person or a worker sets in them.

-- Fleet time, and how fast it runs. Locks nothing; one row read.
CREATE OR REPLACE FUNCTION fleet.read_clock(OUT at timestamptz, OUT rate double precision)
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    clock fleet.clock;
BEGIN
    SELECT * INTO clock FROM fleet.clock;
    IF FOUND THEN
        at := clock.fleet0 + (clock_timestamp() - clock.real0) * clock.rate;
        rate := clock.rate;
    ELSE
        at := clock_timestamp();
        rate := 1;
    END IF;
END $$;

-- Whether a row counts the requests of an endpoint: the endpoint's own, and its pools'. Pure. The planner puts it in its place; it
-- stays a text, on which no column of the table hangs.
CREATE OR REPLACE FUNCTION fleet.counts_requests(one fleet.rate_limits, endpoint text) RETURNS boolean
LANGUAGE sql IMMUTABLE AS $$
    SELECT one.endpoint = counts_requests.endpoint
        OR one.kind = 'pool' AND (one.members = '{*}' OR counts_requests.endpoint = ANY (one.members))
$$;

-- Makes an account's rows of an endpoint and of the pools that it belongs to from the defaults ('*'). FL001 for an endpoint
-- that nobody configured. At first use only, one at a time; inserts.
CREATE OR REPLACE FUNCTION fleet.make_rate_limit(account text, endpoint text) RETURNS void
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF coalesce(length(account), 0) NOT BETWEEN 1 AND 200 THEN
        PERFORM fleet.refuse('account', account, 'an account''s name of 1 to 200 characters');
    END IF;
    -- Flushed: a crash must not forget that there is a limit whose grants it may have forgotten.
    PERFORM set_config('synchronous_commit', 'on', true);
    PERFORM pg_advisory_xact_lock(fleet.lock_key('rate_limits', 'configure'));
    INSERT INTO fleet.rate_limits (account, endpoint, requests, window_s, kind, members, fair_share, longer_requests,
        longer_window_s, most_requests)
    SELECT make_rate_limit.account, d.endpoint, d.requests, d.window_s, d.kind, d.members, d.fair_share, d.longer_requests,
        d.longer_window_s, d.most_requests
    FROM fleet.rate_limits d
    WHERE d.account = '*' AND fleet.counts_requests(d, make_rate_limit.endpoint)
    ORDER BY d.endpoint
    ON CONFLICT ON CONSTRAINT rate_limits_pkey DO NOTHING;
    IF NOT EXISTS (SELECT 1 FROM fleet.rate_limits r
        WHERE r.account = make_rate_limit.account AND r.endpoint = make_rate_limit.endpoint) THEN
        PERFORM fleet.refuse('endpoint', make_rate_limit.endpoint,
            'one of ' || (SELECT string_agg(DISTINCT r.endpoint, ', ' ORDER BY r.endpoint) FROM fleet.rate_limits r
                WHERE r.kind = 'endpoint')
            || ', or configure_rate_limit first');
    END IF;
END $$;

-- FL001 unless requests can be asked for in these names: one of the endpoints of one account, for somebody. Reads one row by key.
CREATE OR REPLACE FUNCTION fleet.check_request(account text, endpoint text, worker_id text) RETURNS void
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF coalesce(length(account), 0) NOT BETWEEN 1 AND 200 OR account = '*' THEN
        PERFORM fleet.refuse('account', account, 'an account''s name of 1 to 200 characters');
    ELSIF coalesce(length(worker_id), 0) NOT BETWEEN 1 AND 200 THEN
        PERFORM fleet.refuse('worker_id', worker_id, 'a text of 1 to 200 characters');
    ELSIF EXISTS (SELECT 1 FROM fleet.rate_limits r
        WHERE r.account = '*' AND r.endpoint = check_request.endpoint AND r.kind = 'pool') THEN
        PERFORM fleet.refuse('endpoint', endpoint, 'an endpoint: ' || endpoint || ' is a pool, which requests to its members draw on');
    END IF;
END $$;

-- The row of one endpoint, or of a pool, locked; made where it is missing.
CREATE OR REPLACE FUNCTION fleet.lock_rate_limit(account text, endpoint text) RETURNS fleet.rate_limits
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    rate_limit fleet.rate_limits;
BEGIN
    FOR attempt IN 1 .. 2 LOOP
        SELECT * INTO rate_limit FROM fleet.rate_limits r
        WHERE r.account = lock_rate_limit.account AND r.endpoint = lock_rate_limit.endpoint FOR UPDATE;
        EXIT WHEN FOUND;
        PERFORM fleet.make_rate_limit(lock_rate_limit.account, lock_rate_limit.endpoint);
    END LOOP;
    RETURN rate_limit;
END $$;

-- All rows that a request takes a unit of, locked in the order of their names: the endpoint's own and its pools'.
CREATE OR REPLACE FUNCTION fleet.lock_rate_rows(account text, endpoint text) RETURNS fleet.rate_limits[]
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    locked fleet.rate_limits[];
    own boolean;
BEGIN
    FOR attempt IN 1 .. 2 LOOP
        SELECT array_agg(r.whole), bool_or(r.endpoint = lock_rate_rows.endpoint) INTO locked, own FROM (
            SELECT l AS whole, l.endpoint FROM fleet.rate_limits l
            WHERE l.account = lock_rate_rows.account AND fleet.counts_requests(l, lock_rate_rows.endpoint)
            ORDER BY l.endpoint FOR UPDATE) r;
        EXIT WHEN own;
        PERFORM fleet.make_rate_limit(lock_rate_rows.account, lock_rate_rows.endpoint);
    END LOOP;
    RETURN locked;
END $$;

-- Writes back what decisions change in a row that the caller holds. One update by key.
CREATE OR REPLACE FUNCTION fleet.keep_rate_limit(one fleet.rate_limits) RETURNS void
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    UPDATE fleet.rate_limits r SET limits = one.limits, windows_s = one.windows_s, burst = one.burst, spacing_us = one.spacing_us,
        tat = one.tat, occupied = one.occupied, header_window = one.header_window, counted_to = one.counted_to, told = one.told,
        unsettled = one.unsettled, room = one.room, delay_s = one.delay_s, patience_s = one.patience_s, clock_rate = one.clock_rate,
        refreshed_at = one.refreshed_at, next_charge_at = one.next_charge_at, since_flush = one.since_flush, flush_every = one.flush_every,
        line_until = one.line_until, lacked_at = one.lacked_at, kept_critical = one.kept_critical, kept_low = one.kept_low,
        critical_seen_at = one.critical_seen_at, low_seen_at = one.low_seen_at, shares_at = one.shares_at,
        granted = one.granted, refused = one.refused, waited = one.waited, waited_s = one.waited_s,
        longest_wait_s = one.longest_wait_s
    WHERE r.account = one.account AND r.endpoint = one.endpoint;
END $$;

-- A whole number from 1 on out of JSON. FL001, with the field's name, for anything else. Locks nothing.
CREATE OR REPLACE FUNCTION fleet.whole_number(field text, given jsonb, most integer, allowed text) RETURNS integer
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    found numeric := CASE WHEN jsonb_typeof(given) = 'number' THEN given::numeric END;
BEGIN
    IF found IS NULL OR found NOT BETWEEN 1 AND most OR found <> trunc(found) THEN
        PERFORM fleet.refuse(field, left(given #>> '{}', 200), allowed);
    END IF;
    RETURN found;
END $$;

-- Sets the windows of an endpoint, or of a pool, as [[requests, seconds], ...]: at most 8. A person's replace those that were there;
-- a worker's are added to them, none may be looser than one that holds, and the defaults ('*') are not its to set. One at a time; locks
-- the row; rewrites the window's grants.
CREATE OR REPLACE FUNCTION fleet.configure_rate_windows(
    account text, endpoint text, windows jsonb, fair_share boolean DEFAULT NULL
) RETURNS void
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET lock_timeout = '5s' AS $$
DECLARE
    pair jsonb;
    span integer;
    numbers integer[];
    spans integer[];
BEGIN
    PERFORM fleet.require_read_committed();
    IF configure_rate_windows.account IS NULL OR length(configure_rate_windows.account) NOT BETWEEN 1 AND 200 THEN
        PERFORM fleet.refuse('account', configure_rate_windows.account, 'an account''s name of 1 to 200 characters, or * for the defaults');
    ELSIF configure_rate_windows.account = '*' AND session_user = 'fleet_worker' THEN
        PERFORM fleet.refuse('account', '*', 'an account''s name, for the worker role: a person sets what accounts begin with');
    END IF;
    IF jsonb_typeof(windows) IS DISTINCT FROM 'array' OR jsonb_array_length(windows) NOT BETWEEN 1 AND 8 THEN
        PERFORM fleet.refuse('windows', left(windows::text, 200), '1 to 8 pairs of requests and seconds');
    END IF;
    FOR pair IN SELECT p FROM jsonb_array_elements(windows) p LOOP
        IF jsonb_typeof(pair) <> 'array' OR jsonb_array_length(pair) <> 2 THEN
            PERFORM fleet.refuse('windows', left(windows::text, 200), '1 to 8 pairs of requests and seconds');
        END IF;
        numbers := numbers || fleet.whole_number('limit', pair->0, 1000000000, 'a whole number from 1 to 1000000000');
        span := fleet.whole_number('window_s', pair->1, 604800, 'a whole number of seconds from 1 to 604800');
        IF span = ANY (spans) THEN
            PERFORM fleet.refuse('windows', left(windows::text, 200), 'one limit a window: ' || span || ' s stands there twice');
        END IF;
        spans := spans || span;
    END LOOP;
    IF configure_rate_windows.endpoint IS NULL OR configure_rate_windows.endpoint !~ '^[a-z][a-z0-9_]{0,62}$' THEN
        PERFORM fleet.refuse('endpoint', configure_rate_windows.endpoint, 'lower-case letters, digits and _');
    END IF;
    -- The row before the mutex, as whoever asks for a first request holds its pools' rows and waits for it. The mutex also while there is
    -- no row: of two that make it, the second adds to what the first set.
    PERFORM 1 FROM fleet.rate_limits r
    WHERE r.account = configure_rate_windows.account AND r.endpoint = configure_rate_windows.endpoint FOR UPDATE;
    PERFORM pg_advisory_xact_lock(fleet.lock_key('rate_limits', 'configure'));
    -- A worker tightens, a person loosens: a bug in a worker must not lift what protects the account.
    IF session_user = 'fleet_worker' THEN
        FOR i IN 1 .. cardinality(spans) LOOP
            IF EXISTS (
                SELECT 1 FROM fleet.rate_limits r, unnest(r.requests || r.longer_requests, r.window_s || r.longer_window_s) w(n, s)
                WHERE r.endpoint = configure_rate_windows.endpoint AND r.account = configure_rate_windows.account
                  AND numbers[i] >= w.n AND spans[i] <= w.s AND (numbers[i], spans[i]) <> (w.n, w.s)
                UNION ALL
                SELECT 1 FROM fleet.rate_limits r, unnest(r.requests || r.longer_requests, r.window_s || r.longer_window_s) w(n, s)
                WHERE r.endpoint = configure_rate_windows.endpoint AND r.account = '*' AND numbers[i] > w.n AND spans[i] <= w.s) THEN
                PERFORM fleet.refuse('limit', numbers[i] || ' in ' || spans[i] || ' s',
                    'at most what is configured, for the worker role');
            END IF;
        END LOOP;
        -- What held before goes on to hold, unless one of the new windows says more.
        SELECT numbers || array_agg(w.n), spans || array_agg(w.s) INTO numbers, spans
        FROM (SELECT * FROM fleet.rate_limits r WHERE r.endpoint = configure_rate_windows.endpoint
                AND r.account IN ('*', configure_rate_windows.account) ORDER BY r.account = '*' LIMIT 1) r,
            unnest(r.requests || r.longer_requests, r.window_s || r.longer_window_s) w(n, s)
        WHERE NOT EXISTS (SELECT 1 FROM unnest(numbers, spans) g(n, s) WHERE g.n <= w.n AND g.s >= w.s);
        IF cardinality(spans) > 8 THEN
            PERFORM fleet.refuse('windows', left(windows::text, 200),
                'at most 8 windows of an endpoint: with these it would have ' || cardinality(spans));
        END IF;
    END IF;
    SELECT array_agg(w.n ORDER BY w.s), array_agg(w.s ORDER BY w.s) INTO numbers, spans FROM unnest(numbers, spans) w(n, s);
    INSERT INTO fleet.rate_limits AS r (account, endpoint, requests, window_s, longer_requests, longer_window_s, fair_share, kind, members)
    SELECT configure_rate_windows.account, configure_rate_windows.endpoint, numbers[1], spans[1], numbers[2:], spans[2:],
        coalesce(configure_rate_windows.fair_share, d.fair_share, true), coalesce(d.kind, 'endpoint'), coalesce(d.members, '{}')
    FROM (SELECT 1) always LEFT JOIN fleet.rate_limits d ON d.account = '*' AND d.endpoint = configure_rate_windows.endpoint
    ON CONFLICT ON CONSTRAINT rate_limits_pkey DO UPDATE SET requests = excluded.requests, window_s = excluded.window_s,
        longer_requests = excluded.longer_requests, longer_window_s = excluded.longer_window_s, most_requests = '{}',
        fair_share = coalesce(configure_rate_windows.fair_share, r.fair_share),
        limits = '{}', windows_s = '{}', burst = '{}', spacing_us = '{}', tat = '{}', occupied = '{}', counted_to = '{}',
        told = '{}', refreshed_at = '-infinity', next_charge_at = '-infinity', voided_at = clock_timestamp();
    IF configure_rate_windows.account <> '*' THEN
        PERFORM fleet.make_rate_limit(configure_rate_windows.account, configure_rate_windows.endpoint);  -- the pools that it is in
    END IF;
    -- A longer window keeps past requests for longer.
    UPDATE fleet.rate_grants g SET frees_at = g.settled_at + make_interval(secs => spans[cardinality(spans)])
    WHERE g.account = configure_rate_windows.account AND g.endpoint = configure_rate_windows.endpoint
      AND g.settled_at > fleet.now() - interval '7 days';
END $$;

-- Sets the one window of an endpoint. Locks as configure_rate_windows.
CREATE OR REPLACE FUNCTION fleet.configure_rate_limit(account text, endpoint text, requests integer, window_s integer)
RETURNS void
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET lock_timeout = '5s' AS $$
BEGIN
    PERFORM fleet.configure_rate_windows(configure_rate_limit.account, configure_rate_limit.endpoint,
        jsonb_build_array(jsonb_build_array(configure_rate_limit.requests, configure_rate_limit.window_s)));
END $$;

-- A person takes back what the platform's answers blocked an endpoint until: they know that it answers again. Audited, flushed;
-- takes the endpoint's row. The windows' own counts stay.
CREATE OR REPLACE FUNCTION fleet.unblock_endpoint(account text, endpoint text, actor text, reason text) RETURNS jsonb
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET lock_timeout = '5s' AS $$
DECLARE
    known fleet.rate_limits;
BEGIN
    PERFORM fleet.require_read_committed();
    PERFORM set_config('synchronous_commit', 'on', true);
    SELECT * INTO known FROM fleet.rate_limits r
    WHERE r.account = unblock_endpoint.account AND r.endpoint = unblock_endpoint.endpoint FOR UPDATE;
    IF NOT FOUND THEN
        PERFORM fleet.refuse('endpoint', unblock_endpoint.endpoint, 'one that the account uses: '
            || coalesce((SELECT string_agg(r.endpoint, ', ' ORDER BY r.endpoint) FROM fleet.rate_limits r
                WHERE r.account = unblock_endpoint.account AND r.kind = 'endpoint'), '(it uses none)'));
    END IF;
    PERFORM fleet.write_audit(actor, 'unblock_endpoint', known.account || ' ' || known.endpoint, unblock_endpoint.reason,
        jsonb_build_object('blocked_until', known.blocked_until, 'violations', known.violations));
    UPDATE fleet.rate_limits r SET blocked_until = NULL, refusals_in_row = 0
    WHERE r.account = known.account AND r.endpoint = known.endpoint;
    PERFORM fleet.clear_alert(fleet.rate_alert_key(known.account, known.endpoint));
    RETURN jsonb_build_object('account', known.account, 'endpoint', known.endpoint,
        'was_blocked_until', CASE WHEN known.blocked_until > fleet.now() THEN known.blocked_until END);
END $$;
