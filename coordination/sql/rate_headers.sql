-- What the platform's answers tell: its own count, its limits, its refusals. A grant is settled with them.

-- A header's whole number, or null where it is absent or out of any sane range.
CREATE OR REPLACE FUNCTION fleet.header_number(headers jsonb, name text) RETURNS bigint
LANGUAGE plpgsql IMMUTABLE AS $$
DECLARE
    found text := headers->>name;
BEGIN
    RETURN CASE WHEN found ~ '^[0-9]{1,11}$' THEN found::bigint END;
END $$;

-- The span of the window that x-rate-limit-* headers speak of. One row read.
CREATE OR REPLACE FUNCTION fleet.header_window_s() RETURNS integer
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    RETURN fleet.setting_number('header_window_s', 900);
END $$;

-- Seconds from the answer's own Date to the reset that it names, within 0 to 25 hours; null where either is unusable.
CREATE OR REPLACE FUNCTION fleet.header_reset_in_s(headers jsonb, stem text DEFAULT 'x-rate-limit') RETURNS double precision
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
    reset_in := fleet.header_number(headers, stem || '-reset')
        - extract(epoch FROM coalesce(answered, clock_timestamp()));
    RETURN CASE WHEN reset_in BETWEEN 0 AND 90000 THEN reset_in END;
END $$;

-- What is known of one of the platform's counts after one more answer: {limit, told, used, reset, resets_at, raise, raise_reset}.
-- Within an epoch the use only rises, and one without usable headers counts as one more; an answer of an older epoch says
-- nothing, nor does one whose reset is further away than its window is long (a minute more; days: an hour): it would be believed
-- until then. `told` is the limit as told last, `limit` the one to keep: a limit is lowered at once, and raised when two epochs told the same. Locks nothing.
CREATE OR REPLACE FUNCTION fleet.learn_headers(
    known jsonb, configured integer, headers jsonb, stem text, window_s integer, units integer, at timestamptz
) RETURNS jsonb
LANGUAGE plpgsql VOLATILE AS $$
DECLARE
    told_limit bigint := fleet.header_number(headers, stem || '-limit');
    told_remaining bigint := fleet.header_number(headers, stem || '-remaining');
    told_reset bigint := fleet.header_number(headers, stem || '-reset');
    reset_in double precision := fleet.header_reset_in_s(headers, stem);
    resets_at timestamptz := (known->>'resets_at')::timestamptz;
    epoch bigint := (known->>'reset')::bigint;
    used integer := coalesce((known->>'used')::integer, 0);
    told_used integer;
    holds integer := (known->>'limit')::integer;
BEGIN
    IF told_limit IS NULL OR told_limit NOT BETWEEN 1 AND 1000000000 OR told_remaining IS NULL
        OR told_remaining NOT BETWEEN 0 AND told_limit OR reset_in IS NULL
        OR reset_in > window_s + 60 AND window_s < 86400 THEN
        RETURN CASE WHEN resets_at > at THEN known || jsonb_build_object('used', used + units) ELSE known END;
    END IF;
    told_used := told_limit - told_remaining;
    IF epoch IS NULL OR told_reset >= epoch THEN
        known := known || jsonb_build_object('told', told_limit);
    END IF;
    IF epoch IS NULL OR told_reset > epoch OR resets_at < at - make_interval(secs => window_s) THEN
        known := known || jsonb_build_object('used', told_used, 'reset', told_reset, 'resets_at', at + make_interval(secs => reset_in));
    ELSIF told_reset = epoch THEN
        known := known || jsonb_build_object('used', greatest(used, told_used));
    ELSE
        RETURN known;
    END IF;
    IF told_limit <= coalesce(holds, configured, told_limit) THEN
        RETURN known - 'raise' - 'raise_reset' || jsonb_build_object('limit', told_limit);
    ELSIF (known->>'raise')::bigint = told_limit AND (known->>'raise_reset')::bigint <> told_reset THEN
        RETURN known - 'raise' - 'raise_reset' || jsonb_build_object('limit', told_limit);
    ELSIF (known->>'raise')::bigint IS DISTINCT FROM told_limit THEN
        RETURN known || jsonb_build_object('raise', told_limit, 'raise_reset', told_reset);
    END IF;
    RETURN known;
END $$;

-- What is configured for a window of that span; null where there is none. Pure.
CREATE OR REPLACE FUNCTION fleet.configured_for(one fleet.rate_limits, span_s integer) RETURNS integer
LANGUAGE plpgsql IMMUTABLE AS $$
BEGIN
    RETURN (SELECT w.n FROM unnest(one.requests || one.longer_requests, one.window_s || one.longer_window_s) w(n, s)
        WHERE w.s = span_s);
END $$;

-- The key of the alert about an endpoint that the platform refuses again and again. Pure.
CREATE OR REPLACE FUNCTION fleet.rate_alert_key(account text, endpoint text) RETURNS text
LANGUAGE sql IMMUTABLE
RETURN 'rate_limit:' || account || ':' || endpoint;

-- Settles a grant inside another transaction (the ledger's settle) or for record_usage. A request that nobody answered may be
-- counted for as long as one may take: it is settled as of then. Locks the endpoint's row; its pools' too where it tells late of a grant
-- that counted as used.
CREATE OR REPLACE FUNCTION fleet.settle_grant(
    incarnation uuid, grant_id bigint, success boolean, headers jsonb, status integer
) RETURNS void
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    held fleet.rate_grants;
    one fleet.rate_limits;
    at timestamptz;
    counted_by timestamptz;
    known jsonb;
    day jsonb;
    stem text;
    longest integer;
    told_s integer := fleet.header_window_s();
BEGIN
    SELECT * INTO held FROM fleet.rate_grants g WHERE g.id = settle_grant.grant_id;
    IF NOT FOUND OR held.incarnation <> settle_grant.incarnation THEN
        PERFORM fleet.refuse('grant_id', grant_id::text, 'a grant that this incarnation was given');
    END IF;
    IF held.settled_at IS NOT NULL AND held.success IS NULL THEN
        PERFORM fleet.recall_grant(held);
    END IF;
    one := fleet.lock_rate_limit(held.account, held.endpoint);
    at := fleet.now();
    counted_by := at + CASE WHEN coalesce(settle_grant.success OR settle_grant.status < 500
        OR fleet.header_number(headers, 'x-rate-limit-remaining') IS NOT NULL, false) THEN interval '0'
        ELSE make_interval(secs => one.delay_s) END;
    longest := greatest(one.window_s, one.longer_window_s[cardinality(one.longer_window_s)]);
    UPDATE fleet.rate_grants g
    SET settled_at = counted_by, success = settle_grant.success, frees_at = counted_by + make_interval(secs => longest)
    WHERE g.id = settle_grant.grant_id AND g.settled_at IS NULL RETURNING * INTO held;
    IF NOT FOUND THEN
        RETURN;  -- settled before: the same answer twice changes nothing
    END IF;
    known := jsonb_strip_nulls(jsonb_build_object('limit', one.header_limit, 'used', one.header_used, 'reset', one.header_reset,
        'resets_at', one.header_resets_at, 'raise', one.header_raise, 'raise_reset', one.header_raise_reset));
    known := fleet.learn_headers(known, fleet.configured_for(one, told_s), headers, 'x-rate-limit', told_s, held.units, at);
    FOREACH stem IN ARRAY ARRAY['user', 'app'] LOOP
        IF one.day_headers ? stem OR headers ? format('x-%s-limit-24hour-remaining', stem) THEN
            day := fleet.learn_headers(coalesce(one.day_headers->stem, '{}'),
                fleet.configured_for(one, 86400),
                headers, format('x-%s-limit-24hour', stem), 86400, held.units, at);
            IF day <> '{}' THEN
                one.day_headers := one.day_headers || jsonb_build_object(stem, day);
            END IF;
        END IF;
    END LOOP;
    UPDATE fleet.rate_limits r SET unsettled = greatest(0, r.unsettled - held.units),
        header_limit = (known->>'limit')::integer, header_used = coalesce((known->>'used')::integer, 0),
        header_reset = (known->>'reset')::bigint, header_resets_at = (known->>'resets_at')::timestamptz,
        header_raise = (known->>'raise')::integer, header_raise_reset = (known->>'raise_reset')::bigint,
        day_headers = one.day_headers,
        -- A limit that changed is in force at the next decision.
        refreshed_at = CASE WHEN r.header_limit IS DISTINCT FROM (known->>'limit')::integer OR r.day_headers <> one.day_headers
            THEN '-infinity' ELSE r.refreshed_at END,
        -- Others than the fleet use the same limit, or it is another one: who asks next is to be decided about.
        voided_at = CASE WHEN settle_grant.status = 429 OR r.header_limit IS DISTINCT FROM (known->>'limit')::integer
            OR fleet.header_number(headers, 'x-rate-limit-remaining') * 10 < (known->>'limit')::integer THEN clock_timestamp()
            ELSE r.voided_at END
    WHERE r.account = held.account AND r.endpoint = held.endpoint;
    IF settle_grant.status = 429 THEN
        PERFORM fleet.note_refusal(one, held, headers, at);
    ELSIF settle_grant.success AND one.refusals_in_row > 0 AND held.granted_at > one.refused_at THEN
        UPDATE fleet.rate_limits r SET refusals_in_row = 0 WHERE r.account = held.account AND r.endpoint = held.endpoint;
        PERFORM fleet.emit('info', 'rate_limit_recovered', held.worker_id,
            format('%s answers again after %s refusals', held.endpoint, one.refusals_in_row), jsonb_build_object('account', held.account));
        PERFORM fleet.clear_alert(fleet.rate_alert_key(held.account, held.endpoint));
    END IF;
END $$;

-- A 429 closes the endpoint: until the reset where its window is used up, for a window where the answer doesn't say, for an hour
-- where the window has room (a usage cap, which no reset lifts). Each further one on a request granted after the last doubles
-- the time, up to a day, and the second is an alert. Under the endpoint's row.
CREATE OR REPLACE FUNCTION fleet.note_refusal(one fleet.rate_limits, held fleet.rate_grants, headers jsonb, at timestamptz) RETURNS void
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    remaining bigint := fleet.header_number(headers, 'x-rate-limit-remaining');
    reset_in double precision := fleet.header_reset_in_s(headers);
    is_new boolean := one.refused_at IS NULL OR held.granted_at > one.refused_at;
    in_row integer := one.refusals_in_row + CASE WHEN one.refused_at IS NULL OR held.granted_at > one.refused_at THEN 1 ELSE 0 END;
    day record;
    window_s integer := greatest(one.window_s, fleet.header_window_s());
    wait_s double precision;
BEGIN
    SELECT h.stem, fleet.header_reset_in_s(headers, h.stem) AS reset_in INTO day
    FROM unnest(ARRAY['x-user-limit-24hour', 'x-app-limit-24hour']) h(stem)
    WHERE fleet.header_number(headers, h.stem || '-remaining') = 0 AND fleet.header_reset_in_s(headers, h.stem) IS NOT NULL
    ORDER BY 2 DESC LIMIT 1;
    wait_s := CASE WHEN day.reset_in IS NOT NULL THEN day.reset_in
        WHEN remaining = 0 AND reset_in <= window_s + 60 THEN reset_in  -- a later one is no reset of that window
        WHEN remaining > 0 AND reset_in IS NOT NULL THEN greatest(3600, window_s)
        ELSE window_s END;
    wait_s := least(greatest(86400, wait_s), wait_s * 2 ^ least(20, greatest(0, in_row - 1)));
    UPDATE fleet.rate_limits r SET violations = r.violations + 1, refusals_in_row = in_row,
        refused_at = CASE WHEN is_new THEN at ELSE r.refused_at END,
        -- An older refusal that arrives late doesn't shorten what a newer one said.
        blocked_until = greatest(r.blocked_until, at + make_interval(secs => wait_s))
    WHERE r.account = one.account AND r.endpoint = one.endpoint;
    PERFORM set_config('synchronous_commit', 'on', true);
    PERFORM fleet.emit('error', 'rate_limit', held.worker_id,
        format('%s was refused with 429: no more requests for a while', held.endpoint),
        jsonb_build_object('account', held.account, 'wait_s', round(wait_s), 'in_row', in_row));
    IF in_row > 1 THEN
        PERFORM fleet.raise_alert(fleet.rate_alert_key(one.account, one.endpoint), 'error', 'rate_limit', held.worker_id,
            format('the platform refused %s of %s %s times in a row', one.endpoint, one.account, in_row),
            jsonb_build_object('account', one.account, 'endpoint', one.endpoint, 'in_row', in_row));
    END IF;
END $$;

-- Settles a grant with what came of it and the answer's headers (lower-case names). Once settled, again is a no-op. Locks the
-- endpoint's row; not flushed but for a refusal: a settlement that a crash forgets leaves its unit taken.
CREATE OR REPLACE FUNCTION fleet.record_usage(
    incarnation uuid, grant_id bigint, success boolean, response_headers jsonb DEFAULT '{}', status integer DEFAULT NULL
) RETURNS jsonb
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET lock_timeout = '5s' AS $$
BEGIN
    PERFORM fleet.require_read_committed();
    PERFORM set_config('synchronous_commit', 'off', true);
    PERFORM fleet.require_incarnation(incarnation);
    response_headers := coalesce(response_headers, '{}');
    IF success IS NULL THEN
        PERFORM fleet.refuse('success', NULL, 'true or false');
    ELSIF jsonb_typeof(response_headers) <> 'object' THEN
        PERFORM fleet.refuse('response_headers', response_headers::text, 'an object of the headers'' lower-case names');
    ELSIF status NOT BETWEEN 100 AND 599 THEN
        PERFORM fleet.refuse('status', status::text, 'an HTTP status from 100 to 599, or nothing');
    END IF;
    PERFORM fleet.settle_grant(incarnation, grant_id, success, response_headers, status);
    RETURN jsonb_build_object('settled', true);
END $$;
