-- Rate limits: never above N requests in any rolling window. One row an (account, endpoint) is the mutex; an exact log of
-- grants is the count. A grant occupies its unit until window_s after it was settled, since the platform counted it at some
-- time between the two.

-- The limiter's row for an account, made from the defaults ('*') at first use; locked. FL001 for an unknown endpoint.
CREATE OR REPLACE FUNCTION fleet.lock_rate_limit(account text, endpoint text) RETURNS fleet.rate_limits
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    rate_limit fleet.rate_limits;
BEGIN
    SELECT * INTO rate_limit FROM fleet.rate_limits r
    WHERE r.account = lock_rate_limit.account AND r.endpoint = lock_rate_limit.endpoint FOR UPDATE;
    IF NOT FOUND THEN
        INSERT INTO fleet.rate_limits (account, endpoint, requests, window_s)
        SELECT lock_rate_limit.account, r.endpoint, r.requests, r.window_s FROM fleet.rate_limits r
        WHERE r.account = '*' AND r.endpoint = lock_rate_limit.endpoint
        ON CONFLICT ON CONSTRAINT rate_limits_pkey DO NOTHING;
        SELECT * INTO rate_limit FROM fleet.rate_limits r
        WHERE r.account = lock_rate_limit.account AND r.endpoint = lock_rate_limit.endpoint FOR UPDATE;
        IF NOT FOUND THEN
            PERFORM fleet.refuse('endpoint', lock_rate_limit.endpoint,
                'one of ' || (SELECT string_agg(DISTINCT r.endpoint, ', ' ORDER BY r.endpoint) FROM fleet.rate_limits r)
                || ', or configure_rate_limit first');
        END IF;
    END IF;
    RETURN rate_limit;
END $$;

-- Sets the one window of an endpoint. Takes the endpoint's row.
CREATE OR REPLACE FUNCTION fleet.configure_rate_limit(account text, endpoint text, requests integer, window_s integer)
RETURNS void
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET lock_timeout = '5s' AS $$
BEGIN
    IF configure_rate_limit.requests IS NULL OR configure_rate_limit.requests NOT BETWEEN 1 AND 1000000 THEN
        PERFORM fleet.refuse('limit', configure_rate_limit.requests::text, 'a whole number from 1 to 1000000');
    END IF;
    IF configure_rate_limit.window_s IS NULL OR configure_rate_limit.window_s NOT BETWEEN 1 AND 604800 THEN
        PERFORM fleet.refuse('window_s', configure_rate_limit.window_s::text, 'a whole number of seconds from 1 to 604800');
    END IF;
    IF configure_rate_limit.endpoint IS NULL OR configure_rate_limit.endpoint !~ '^[a-z][a-z0-9_]{0,62}$' THEN
        PERFORM fleet.refuse('endpoint', configure_rate_limit.endpoint, 'lower-case letters, digits and _');
    END IF;
    PERFORM 1 FROM fleet.rate_limits r
    WHERE r.account = configure_rate_limit.account AND r.endpoint = configure_rate_limit.endpoint FOR UPDATE;
    -- A worker tightens, a person loosens: a bug in a worker must not lift what protects the account.
    IF session_user = 'fleet_worker' AND EXISTS (
        SELECT 1 FROM fleet.rate_limits r WHERE r.endpoint = configure_rate_limit.endpoint
          AND r.account IN ('*', configure_rate_limit.account)
          AND (configure_rate_limit.requests > r.requests OR configure_rate_limit.window_s < r.window_s)) THEN
        PERFORM fleet.refuse('limit', configure_rate_limit.requests || ' in ' || configure_rate_limit.window_s || ' s',
            'at most what is configured, for the worker role');
    END IF;
    INSERT INTO fleet.rate_limits (account, endpoint, requests, window_s)
    VALUES (configure_rate_limit.account, configure_rate_limit.endpoint, configure_rate_limit.requests,
        configure_rate_limit.window_s)
    ON CONFLICT ON CONSTRAINT rate_limits_pkey DO UPDATE SET requests = excluded.requests, window_s = excluded.window_s;
    -- A longer window keeps past requests for longer.
    UPDATE fleet.rate_grants g SET frees_at = g.settled_at + make_interval(secs => configure_rate_limit.window_s)
    WHERE g.account = configure_rate_limit.account AND g.endpoint = configure_rate_limit.endpoint
      AND g.settled_at IS NOT NULL AND g.settled_at > fleet.now() - interval '7 days';
END $$;

-- How full an endpoint is. Under its row's lock for a decision, without it for a report.
CREATE OR REPLACE FUNCTION fleet.rate_usage(rate_limit fleet.rate_limits, at timestamptz) RETURNS jsonb
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    occupied integer;
    unsettled integer;
    next_free timestamptz;
    effective integer := least(rate_limit.requests, coalesce(rate_limit.header_limit, rate_limit.requests));
    used integer;
    by_headers boolean := coalesce(rate_limit.header_resets_at > at, false);
BEGIN
    SELECT count(*), count(*) FILTER (WHERE g.settled_at IS NULL), min(g.frees_at)
    INTO occupied, unsettled, next_free
    FROM fleet.rate_grants g
    WHERE g.account = rate_limit.account AND g.endpoint = rate_limit.endpoint AND g.frees_at > at;
    used := CASE WHEN by_headers THEN greatest(occupied, rate_limit.header_used + unsettled) ELSE occupied END;
    -- The time at which the next unit frees: never before the platform's own reset when its count is the binding one.
    IF by_headers AND rate_limit.header_used + unsettled >= effective THEN
        next_free := greatest(rate_limit.header_resets_at, CASE WHEN occupied >= effective THEN next_free END);
    END IF;
    RETURN jsonb_build_object('limit', effective, 'used', used, 'unsettled', unsettled, 'remaining', greatest(0, effective - used),
        'next_free_at', CASE WHEN isfinite(next_free) THEN next_free END);
END $$;

-- The permission, and the grant itself: one unit is taken when it says yes. Locks the endpoint's row; flushed, since a grant
-- that a crash forgets is a request too many.
CREATE OR REPLACE FUNCTION fleet.can_make_request(
    incarnation uuid, endpoint text, worker_id text, priority text DEFAULT 'medium', account text DEFAULT 'default'
) RETURNS jsonb
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET lock_timeout = '5s' AS $$
DECLARE
    rate_limit fleet.rate_limits;
    at timestamptz;
    usage jsonb;
    granted bigint;
    holder uuid;
    quiet interval := make_interval(secs => fleet.setting_number('quiet_time_s', 120));
BEGIN
    PERFORM fleet.require_read_committed();
    PERFORM set_config('synchronous_commit', 'on', true);
    PERFORM fleet.require_incarnation(incarnation);
    PERFORM fleet.priority_rank(priority);
    rate_limit := fleet.lock_rate_limit(account, endpoint);
    at := fleet.now();
    IF rate_limit.blocked_until > at THEN
        RETURN jsonb_build_object('allowed', false, 'reason', 'the platform refused an earlier request',
            'retry_after_seconds', ceil(extract(epoch FROM rate_limit.blocked_until - at)));
    END IF;
    usage := fleet.rate_usage(rate_limit, at);
    IF (usage->>'remaining')::integer = 0 AND (usage->>'unsettled')::integer > 0 THEN
        -- Grants whose holder is gone and whose quiet time is over count as used at their last possible moment.
        FOR holder IN
            SELECT DISTINCT g.incarnation FROM fleet.rate_grants g
            WHERE g.account = rate_limit.account AND g.endpoint = rate_limit.endpoint AND g.settled_at IS NULL
              AND g.granted_real_at < clock_timestamp() - quiet
        LOOP
            IF holder <> can_make_request.incarnation AND fleet.is_suspected(holder) THEN
                UPDATE fleet.rate_grants g SET settled_at = at, frees_at = at + make_interval(secs => rate_limit.window_s)
                WHERE g.account = rate_limit.account AND g.endpoint = rate_limit.endpoint AND g.incarnation = holder
                  AND g.settled_at IS NULL;
            END IF;
        END LOOP;
        usage := fleet.rate_usage(rate_limit, at);
    END IF;
    IF (usage->>'remaining')::integer = 0 THEN
        RETURN jsonb_build_object('allowed', false,
            'reason', format('%s of %s requests of %s used', usage->>'used', usage->>'limit', rate_limit.endpoint),
            'retry_after_seconds', ceil(greatest(1, coalesce(
                extract(epoch FROM (usage->>'next_free_at')::timestamptz - at), 15))));
    END IF;
    INSERT INTO fleet.rate_grants (account, endpoint, incarnation, worker_id, priority, granted_at, granted_real_at, frees_at)
    VALUES (rate_limit.account, rate_limit.endpoint, can_make_request.incarnation, can_make_request.worker_id,
        can_make_request.priority, at, clock_timestamp(), 'infinity')
    RETURNING id INTO granted;
    PERFORM fleet.report_crossing(rate_limit, (usage->>'used')::integer, (usage->>'limit')::integer);
    RETURN jsonb_build_object('allowed', true, 'grant_id', granted::text);
END $$;

-- An event from the granting call itself when one more request crosses 80, 95 or 100%.
CREATE OR REPLACE FUNCTION fleet.report_crossing(rate_limit fleet.rate_limits, used_before integer, effective integer) RETURNS void
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    mark integer;
BEGIN
    FOREACH mark IN ARRAY ARRAY[100, 95, 80] LOOP
        IF (used_before + 1) * 100 >= mark * effective AND used_before * 100 < mark * effective THEN
            PERFORM fleet.emit(CASE mark WHEN 80 THEN 'warning' ELSE 'error' END, 'rate_limit', rate_limit.endpoint,
                format('%s of %s requests of %s in %s s are used (%s%%)', used_before + 1, effective, rate_limit.endpoint,
                    rate_limit.window_s, mark),
                jsonb_build_object('account', rate_limit.account, 'percent', mark));
            RETURN;
        END IF;
    END LOOP;
END $$;

-- A header's whole number, or null where it is absent or out of any sane range.
CREATE OR REPLACE FUNCTION fleet.header_number(headers jsonb, name text) RETURNS bigint
LANGUAGE plpgsql IMMUTABLE AS $$
DECLARE
    found text := headers->>name;
BEGIN
    RETURN CASE WHEN found ~ '^[0-9]{1,11}$' THEN found::bigint END;
END $$;

-- Seconds from the answer's own Date to the reset that it names, within 0 to 25 hours; null where either is unusable.
CREATE OR REPLACE FUNCTION fleet.header_reset_in_s(headers jsonb) RETURNS double precision
LANGUAGE plpgsql VOLATILE AS $$
DECLARE
    answered timestamptz;
    reset_in double precision;
BEGIN
    BEGIN
        answered := (headers->>'date')::timestamptz;
    EXCEPTION WHEN data_exception THEN
        answered := NULL;
    END;
    reset_in := fleet.header_number(headers, 'x-rate-limit-reset')
        - extract(epoch FROM coalesce(answered, clock_timestamp()));
    RETURN CASE WHEN reset_in BETWEEN 0 AND 90000 THEN reset_in END;
END $$;

-- Settles a grant inside another transaction (the ledger's settle) or for record_usage. Locks the endpoint's row.
CREATE OR REPLACE FUNCTION fleet.settle_grant(
    incarnation uuid, grant_id bigint, success boolean, headers jsonb, status integer
) RETURNS void
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    held fleet.rate_grants;
    rate_limit fleet.rate_limits;
    at timestamptz;
    told_limit bigint := fleet.header_number(headers, 'x-rate-limit-limit');
    told_remaining bigint := fleet.header_number(headers, 'x-rate-limit-remaining');
    told_reset bigint := fleet.header_number(headers, 'x-rate-limit-reset');
    reset_in double precision := fleet.header_reset_in_s(headers);
    told_used integer;
BEGIN
    SELECT * INTO held FROM fleet.rate_grants g WHERE g.id = grant_id;
    IF NOT FOUND OR held.incarnation <> settle_grant.incarnation THEN
        PERFORM fleet.refuse('grant_id', grant_id::text, 'a grant that this incarnation was given');
    END IF;
    rate_limit := fleet.lock_rate_limit(held.account, held.endpoint);
    at := fleet.now();
    UPDATE fleet.rate_grants g
    SET settled_at = at, success = settle_grant.success, frees_at = at + make_interval(secs => rate_limit.window_s)
    WHERE g.id = grant_id AND g.settled_at IS NULL;
    IF NOT FOUND THEN
        RETURN;  -- settled before: the same answer twice changes nothing
    END IF;
    IF told_limit BETWEEN 1 AND 1000000 AND told_remaining BETWEEN 0 AND told_limit AND reset_in IS NOT NULL THEN
        told_used := told_limit - told_remaining;
        IF rate_limit.header_reset IS NULL OR told_reset > rate_limit.header_reset
            OR rate_limit.header_resets_at <= at THEN
            UPDATE fleet.rate_limits r SET header_limit = told_limit, header_used = told_used, header_reset = told_reset,
                header_resets_at = at + make_interval(secs => reset_in)
            WHERE r.account = held.account AND r.endpoint = held.endpoint;
        ELSIF told_reset = rate_limit.header_reset THEN
            UPDATE fleet.rate_limits r SET header_limit = least(r.header_limit, told_limit),
                header_used = greatest(r.header_used, told_used)
            WHERE r.account = held.account AND r.endpoint = held.endpoint;
        END IF;  -- an answer of an older epoch that arrived late says nothing about this one
    ELSIF rate_limit.header_resets_at > at THEN
        UPDATE fleet.rate_limits r SET header_used = r.header_used + 1
        WHERE r.account = held.account AND r.endpoint = held.endpoint;
    END IF;
    IF status = 429 THEN
        UPDATE fleet.rate_limits r SET violations = r.violations + 1,
            -- An older refusal that arrives late doesn't shorten what a newer one said.
            blocked_until = greatest(r.blocked_until, at + make_interval(secs => coalesce(
                CASE WHEN told_remaining = 0 THEN reset_in END, rate_limit.window_s)))
        WHERE r.account = held.account AND r.endpoint = held.endpoint;
        PERFORM fleet.emit('error', 'rate_limit', held.worker_id,
            format('%s was refused with 429: no more requests for a while', held.endpoint),
            jsonb_build_object('account', held.account));
    END IF;
END $$;

-- Settles a grant with what came of it and the answer's headers (lower-case names). Once settled, again is a no-op.
CREATE OR REPLACE FUNCTION fleet.record_usage(
    incarnation uuid, grant_id bigint, success boolean, response_headers jsonb DEFAULT '{}', status integer DEFAULT NULL
) RETURNS jsonb
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET lock_timeout = '5s' AS $$
BEGIN
    PERFORM fleet.require_read_committed();
    PERFORM fleet.require_incarnation(incarnation);
    PERFORM fleet.settle_grant(incarnation, grant_id, success, coalesce(response_headers, '{}'), status);
    RETURN jsonb_build_object('settled', true);
END $$;

-- An unused grant goes back: unsettled, this incarnation's, and no attempt to send stands on it; all others stay. One row
-- by key.
CREATE OR REPLACE FUNCTION fleet.return_grant(incarnation uuid, grant_id bigint) RETURNS boolean
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    DELETE FROM fleet.rate_grants g
    WHERE g.id = return_grant.grant_id AND g.incarnation = return_grant.incarnation AND g.settled_at IS NULL
      AND NOT EXISTS (SELECT 1 FROM fleet.attempts a WHERE a.grant_id = g.id AND a.settled_at IS NULL);
    RETURN FOUND;
END $$;

-- The same for callers that were granted a request and don't make it. False where there was nothing to give back.
CREATE OR REPLACE FUNCTION fleet.release_grant(incarnation uuid, grant_id bigint) RETURNS jsonb
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET lock_timeout = '5s' AS $$
BEGIN
    PERFORM fleet.require_read_committed();
    PERFORM fleet.require_incarnation(incarnation);
    RETURN jsonb_build_object('released', fleet.return_grant(incarnation, release_grant.grant_id));
END $$;

-- What is left, and when the next unit frees. Locks nothing.
CREATE OR REPLACE FUNCTION fleet.get_remaining_capacity(incarnation uuid, endpoint text, account text DEFAULT 'default') RETURNS jsonb
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    rate_limit fleet.rate_limits;
    at timestamptz := fleet.now();
    usage jsonb;
BEGIN
    SELECT * INTO rate_limit FROM fleet.rate_limits r
    WHERE r.endpoint = get_remaining_capacity.endpoint AND r.account IN (get_remaining_capacity.account, '*')
    ORDER BY r.account = '*' LIMIT 1;
    IF NOT FOUND THEN
        PERFORM fleet.refuse('endpoint', get_remaining_capacity.endpoint, 'an endpoint with a configured limit');
    END IF;
    rate_limit.account := get_remaining_capacity.account;
    usage := fleet.rate_usage(rate_limit, at);
    RETURN jsonb_build_object('limit', usage->'limit', 'window_s', rate_limit.window_s, 'used', usage->'used',
        'remaining', usage->'remaining', 'resets_at', coalesce((usage->>'next_free_at')::timestamptz, at));
END $$;

-- A person takes back what the platform's answers blocked an endpoint until: they know that it answers again. Audited, flushed; takes
-- the endpoint's row. The window's own count stays.
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
                WHERE r.account = unblock_endpoint.account), '(it uses none)'));
    END IF;
    PERFORM fleet.write_audit(actor, 'unblock_endpoint', known.account || ' ' || known.endpoint, unblock_endpoint.reason,
        jsonb_build_object('blocked_until', known.blocked_until, 'violations', known.violations));
    UPDATE fleet.rate_limits r SET blocked_until = NULL
    WHERE r.account = known.account AND r.endpoint = known.endpoint;
    RETURN jsonb_build_object('account', known.account, 'endpoint', known.endpoint,
        'was_blocked_until', CASE WHEN known.blocked_until > fleet.now() THEN known.blocked_until END);
END $$;

-- Every endpoint in use: healthy below 80%, warning below 95%, critical from there on. Locks nothing.
CREATE OR REPLACE FUNCTION fleet.get_system_status(incarnation uuid) RETURNS jsonb
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    at timestamptz := fleet.now();
BEGIN
    RETURN coalesce((
        SELECT jsonb_agg(jsonb_build_object(
            'account', r.account, 'endpoint', r.endpoint, 'limit', u->'limit', 'used', u->'used',
            'remaining', u->'remaining', 'window_s', r.window_s, 'next_free_at', u->'next_free_at',
            'blocked_until', CASE WHEN r.blocked_until > at THEN r.blocked_until END, 'violations', r.violations,
            'utilization_percent', percent,
            'active_workers', (SELECT count(DISTINCT g.incarnation) FROM fleet.rate_grants g
                WHERE g.account = r.account AND g.endpoint = r.endpoint AND g.frees_at > at),
            'health', CASE WHEN percent < 80 THEN 'healthy' WHEN percent < 95 THEN 'warning' ELSE 'critical' END)
            ORDER BY r.account, r.endpoint)
        FROM fleet.rate_limits r, LATERAL fleet.rate_usage(r, at) u,
            LATERAL (SELECT round(100.0 * (u->>'used')::numeric / (u->>'limit')::numeric, 1) AS percent) p
        WHERE r.account <> '*'), '[]');
END $$;
