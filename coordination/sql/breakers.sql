-- Breakers: one per (account, service). Closed lets through; open refuses until the time of its next probe; half open while exactly one
-- leased probe is under way. What a service answers with 4xx is an answer: only what gives none, or 5xx, counts as a failure.

-- FL001 unless the two can name a breaker. Locks nothing.
CREATE OR REPLACE FUNCTION fleet.require_breaker(account text, service text) RETURNS void
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF account IS NULL OR length(account) NOT BETWEEN 1 AND 100 OR account = '*' THEN
        PERFORM fleet.refuse('account', account, '1 to 100 characters: the account that the service is used for');
    END IF;
    IF service IS NULL OR service !~ '^[a-z][a-z0-9_.:-]{0,62}$' THEN
        PERFORM fleet.refuse('service', service, 'a lower-case name such as posting, of 1 to 63 letters, digits and _.:-');
    END IF;
END $$;

-- The rule of a breaker: the account's own, the service's, or the one for all. Locks nothing; one small index read.
CREATE OR REPLACE FUNCTION fleet.breaker_rule(account text, service text) RETURNS fleet.breaker_rules
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    rule fleet.breaker_rules;
BEGIN
    SELECT * INTO rule FROM fleet.breaker_rules r
    WHERE r.account IN (breaker_rule.account, '*') AND r.service IN (breaker_rule.service, '*')
    ORDER BY r.service = '*', r.account = '*' LIMIT 1;
    IF NOT FOUND THEN
        rule := ROW('*', '*', 10, 30, 900, 60, 3600)::fleet.breaker_rules;
    END IF;
    RETURN rule;
END $$;

-- Seconds until the next probe after so many openings in a row: doubling, capped, and spread over the upper half, so that the
-- breakers of one outage don't probe in step. Locks nothing.
CREATE OR REPLACE FUNCTION fleet.breaker_backoff_s(rule fleet.breaker_rules, opens integer) RETURNS double precision
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    RETURN least(rule.longest_backoff_s, rule.first_backoff_s * power(2, least(opens, 40) - 1)) * (0.5 + random() / 2);
END $$;

-- The name that a breaker's alert has. Locks nothing.
CREATE OR REPLACE FUNCTION fleet.breaker_key(account text, service text) RETURNS text
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN 'breaker:' || account || ':' || service;

-- Opens a breaker, for the first time or after a probe that failed, with its alert. Inside its caller's transaction, under the row's lock.
CREATE OR REPLACE FUNCTION fleet.open_breaker(known fleet.breakers, rule fleet.breaker_rules, source text) RETURNS fleet.breakers
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    at timestamptz;
    opened fleet.breakers;
BEGIN
    at := fleet.now();
    PERFORM set_config('synchronous_commit', 'on', true);
    UPDATE fleet.breakers b SET state = 'open', opens = known.opens + 1, opens_total = b.opens_total + 1, changed_at = at,
        opened_at = coalesce(known.opened_at, at), probe_incarnation = NULL, probe_expires_at = NULL,
        next_probe_at = at + make_interval(secs => fleet.breaker_backoff_s(rule, known.opens + 1))
    WHERE b.account = known.account AND b.service = known.service RETURNING * INTO opened;
    PERFORM fleet.raise_alert(fleet.breaker_key(known.account, known.service), 'error', 'breaker_open', open_breaker.source,
        format('%s of account %s is cut off after %s failures in a row (%s): the next probe is due at %s', known.service, known.account,
            opened.failures, fleet.breaker_cause(opened), to_char(opened.next_probe_at AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:MI:SS "UTC"')),
        jsonb_build_object('account', known.account, 'service', known.service, 'failures', opened.failures, 'opens', opened.opens));
    PERFORM fleet.emit('error', 'breaker_open', open_breaker.source, format('the breaker of %s for account %s is open: %s',
            known.service, known.account, fleet.breaker_cause(opened)),
        jsonb_build_object('account', known.account, 'service', known.service, 'opens', opened.opens));
    RETURN opened;
END $$;

-- What the newest failure was, in words. Locks nothing.
CREATE OR REPLACE FUNCTION fleet.breaker_cause(known fleet.breakers) RETURNS text
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    RETURN coalesce(known.last_error, 'status ' || known.last_status, 'no answer');
END $$;

-- Tells, once an opening, that a breaker was not closed for too long. Inside its caller's transaction, under the row's lock.
CREATE OR REPLACE FUNCTION fleet.tell_stuck_breaker(known fleet.breakers, rule fleet.breaker_rules, source text) RETURNS boolean
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF known.state = 'closed' OR known.is_stuck OR fleet.now() < known.opened_at + make_interval(secs => rule.stuck_after_s) THEN
        RETURN false;
    END IF;
    UPDATE fleet.breakers b SET is_stuck = true WHERE b.account = known.account AND b.service = known.service;
    PERFORM fleet.raise_alert(fleet.breaker_key(known.account, known.service) || ':stuck', 'critical', 'breaker_stuck',
        tell_stuck_breaker.source, format(
            '%s of account %s has been cut off since %s (%s): look at the service, then: socialfleet breakers reset %s %s',
            known.service, known.account, to_char(known.opened_at AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:MI:SS "UTC"'),
            fleet.breaker_cause(known), known.account, known.service),
        jsonb_build_object('account', known.account, 'service', known.service));
    RETURN true;
END $$;

-- Closes a breaker and takes its alerts back. Inside its caller's transaction, under the row's lock.
CREATE OR REPLACE FUNCTION fleet.close_breaker(known fleet.breakers, source text, why text) RETURNS fleet.breakers
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    closed fleet.breakers;
BEGIN
    PERFORM set_config('synchronous_commit', 'on', true);
    UPDATE fleet.breakers b SET state = 'closed', failures = 0, opens = 0, opened_at = NULL, next_probe_at = NULL,
        probe_incarnation = NULL, probe_expires_at = NULL, is_stuck = false, changed_at = fleet.now()
    WHERE b.account = known.account AND b.service = known.service RETURNING * INTO closed;
    PERFORM fleet.clear_alert(fleet.breaker_key(known.account, known.service));
    PERFORM fleet.clear_alert(fleet.breaker_key(known.account, known.service) || ':stuck');
    IF known.state <> 'closed' THEN
        PERFORM fleet.emit('info', 'breaker_closed', close_breaker.source, format('the breaker of %s for account %s is closed: %s',
            known.service, known.account, close_breaker.why), jsonb_build_object('account', known.account, 'service', known.service));
    END IF;
    RETURN closed;
END $$;

-- A yes to a call. Locks nothing.
CREATE OR REPLACE FUNCTION fleet.allow_call(state text, failures integer, probe bigint) RETURNS jsonb
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN jsonb_build_object('allowed', true, 'state', state, 'failures', failures, 'probe', probe, 'retry_after_s', NULL, 'reason', NULL);

-- A no to a call, with the time to ask again in seconds of fleet time, never less than one. Locks nothing.
CREATE OR REPLACE FUNCTION fleet.refuse_call(known fleet.breakers) RETURNS jsonb
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    wait_s double precision;
BEGIN
    wait_s := CASE known.state WHEN 'open' THEN extract(epoch FROM known.next_probe_at - fleet.now())
        ELSE extract(epoch FROM known.probe_expires_at - clock_timestamp()) * coalesce((SELECT c.rate FROM fleet.clock c), 1) END;
    RETURN jsonb_build_object('allowed', false, 'state', known.state, 'failures', known.failures, 'probe', NULL,
        'retry_after_s', greatest(1, ceil(wait_s)), 'reason', format('the breaker of %s is %s after %s failures (%s)', known.service,
            CASE known.state WHEN 'open' THEN 'open' ELSE 'half open, its probe under way,' END, known.failures,
            fleet.breaker_cause(known)));
END $$;

-- Whether a call may be made now. A closed breaker costs one read and locks nothing; an open one whose probe is due gives it to the caller,
-- with its row locked, flushed. A probe whose lease is over, or whose holder lost its session, passes on.
CREATE OR REPLACE FUNCTION fleet.ask_breaker(incarnation uuid, account text, service text) RETURNS jsonb
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET lock_timeout = '5s' AS $$
DECLARE
    life fleet.incarnations;
    known fleet.breakers;
    rule fleet.breaker_rules;
    at timestamptz;
    abandoned boolean := false;
BEGIN
    PERFORM fleet.require_read_committed();
    life := fleet.require_incarnation(incarnation);
    PERFORM fleet.require_breaker(ask_breaker.account, ask_breaker.service);
    SELECT * INTO known FROM fleet.breakers b WHERE b.account = ask_breaker.account AND b.service = ask_breaker.service;
    IF NOT FOUND OR known.state = 'closed' THEN
        RETURN fleet.allow_call('closed', coalesce(known.failures, 0), NULL);
    END IF;
    rule := fleet.breaker_rule(ask_breaker.account, ask_breaker.service);
    at := fleet.now();
    IF known.state = 'open' AND at < known.next_probe_at
        AND (known.is_stuck OR at < known.opened_at + make_interval(secs => rule.stuck_after_s)) THEN
        RETURN fleet.refuse_call(known);
    END IF;
    SELECT * INTO known FROM fleet.breakers b WHERE b.account = ask_breaker.account AND b.service = ask_breaker.service FOR UPDATE;
    IF known.state = 'closed' THEN
        RETURN fleet.allow_call('closed', known.failures, NULL);
    END IF;
    PERFORM fleet.tell_stuck_breaker(known, rule, life.worker || '/' || life.slot);
    IF known.state = 'half_open' AND known.probe_incarnation <> incarnation AND known.probe_expires_at > clock_timestamp() THEN
        abandoned := fleet.is_suspected(known.probe_incarnation);
    END IF;
    at := fleet.now();
    IF known.state = 'open' AND at < known.next_probe_at
        OR known.state = 'half_open' AND NOT abandoned AND known.probe_expires_at > clock_timestamp() THEN
        RETURN fleet.refuse_call(known);
    END IF;
    PERFORM set_config('synchronous_commit', 'on', true);
    UPDATE fleet.breakers b SET state = 'half_open', probe = b.probe + 1, probe_incarnation = ask_breaker.incarnation,
        probe_expires_at = clock_timestamp() + make_interval(secs => rule.probe_lease_s), changed_at = at
    WHERE b.account = known.account AND b.service = known.service RETURNING * INTO known;
    RETURN fleet.allow_call('half_open', known.failures, known.probe);
END $$;

-- What a caller is told of a breaker after its report. Locks nothing.
CREATE OR REPLACE FUNCTION fleet.breaker_state(state text, failures integer, counted boolean) RETURNS jsonb
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN jsonb_build_object('state', state, 'failures', failures, 'counted', counted);

-- What came of a call: succeeded true or false, null where nothing was tried (a probe is given back then). An answer of 4xx is neither
-- success nor failure, and closes after a probe: the service answers. Of a breaker that is not closed only the newest probe decides, told
-- by who has it. A success without failures before it writes nothing; a failure takes the row; what opens or closes is flushed.
CREATE OR REPLACE FUNCTION fleet.record_call(
    incarnation uuid, account text, service text, succeeded boolean, status integer DEFAULT NULL, error text DEFAULT NULL,
    probe bigint DEFAULT NULL
) RETURNS jsonb
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET lock_timeout = '5s' AS $$
DECLARE
    life fleet.incarnations;
    known fleet.breakers;
    rule fleet.breaker_rules;
    source text;
    verdict text;
    is_probes boolean;
    at timestamptz;
BEGIN
    PERFORM fleet.require_read_committed();
    life := fleet.require_incarnation(incarnation);
    PERFORM fleet.require_breaker(record_call.account, record_call.service);
    IF record_call.status NOT BETWEEN 100 AND 999 THEN
        PERFORM fleet.refuse('status', record_call.status::text, 'an HTTP status, or nothing where no answer came');
    END IF;
    source := life.worker || '/' || life.slot;
    verdict := CASE WHEN record_call.succeeded IS NULL THEN 'untried' WHEN record_call.status BETWEEN 400 AND 499 THEN 'answered'
        WHEN record_call.succeeded THEN 'succeeded' ELSE 'failed' END;
    SELECT * INTO known FROM fleet.breakers b WHERE b.account = record_call.account AND b.service = record_call.service;
    IF verdict <> 'failed' AND (known.state IS NULL OR known.state = 'closed' AND (known.failures = 0 OR verdict <> 'succeeded')
        OR known.state <> 'closed' AND record_call.probe IS NULL) THEN
        RETURN fleet.breaker_state(coalesce(known.state, 'closed'), coalesce(known.failures, 0), false);
    END IF;
    -- A crash of the server may lose a count; what opens or closes turns this on again.
    PERFORM set_config('synchronous_commit', 'off', true);
    IF verdict = 'failed' THEN
        INSERT INTO fleet.breakers (account, service, state, changed_at)
        VALUES (record_call.account, record_call.service, 'closed', fleet.now())
        ON CONFLICT ON CONSTRAINT breakers_pkey DO NOTHING;
    END IF;
    SELECT * INTO known FROM fleet.breakers b WHERE b.account = record_call.account AND b.service = record_call.service FOR UPDATE;
    at := fleet.now();
    rule := fleet.breaker_rule(record_call.account, record_call.service);
    is_probes := known.state = 'half_open' AND known.probe IS NOT DISTINCT FROM record_call.probe
        AND known.probe_incarnation IS NOT DISTINCT FROM record_call.incarnation;
    IF verdict = 'failed' THEN
        UPDATE fleet.breakers b SET failures_total = b.failures_total + 1, last_failed_at = at, last_status = record_call.status,
            last_error = left(record_call.error, 500),
            failures = b.failures + CASE WHEN is_probes OR b.state = 'closed' AND record_call.probe IS NULL THEN 1 ELSE 0 END
        WHERE b.account = known.account AND b.service = known.service RETURNING * INTO known;
    END IF;
    IF known.state = 'closed' THEN
        IF verdict = 'failed' AND known.failures >= rule.opens_after THEN
            known := fleet.open_breaker(known, rule, source);
        ELSIF verdict = 'succeeded' AND known.failures > 0 THEN
            UPDATE fleet.breakers b SET failures = 0 WHERE b.account = known.account AND b.service = known.service RETURNING * INTO known;
        END IF;
        RETURN fleet.breaker_state(known.state, known.failures, true);
    END IF;
    IF NOT is_probes THEN
        RETURN fleet.breaker_state(known.state, known.failures, false);  -- a late word: the newest probe decides
    END IF;
    CASE verdict
    WHEN 'failed' THEN
        known := fleet.open_breaker(known, rule, source);
        PERFORM fleet.tell_stuck_breaker(known, rule, source);
    WHEN 'untried' THEN
        PERFORM set_config('synchronous_commit', 'on', true);
        UPDATE fleet.breakers b SET state = 'open', next_probe_at = at, probe_incarnation = NULL, probe_expires_at = NULL, changed_at = at
        WHERE b.account = known.account AND b.service = known.service RETURNING * INTO known;
    ELSE
        known := fleet.close_breaker(known, source, 'its probe was answered');
    END CASE;
    RETURN fleet.breaker_state(known.state, known.failures, true);
END $$;

-- A person closes a breaker. Audited, counted, flushed; takes its row. A probe under way decides nothing any more.
CREATE OR REPLACE FUNCTION fleet.reset_breaker(account text, service text, actor text, reason text) RETURNS jsonb
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET lock_timeout = '5s' AS $$
DECLARE
    known fleet.breakers;
    was text;
BEGIN
    PERFORM fleet.require_read_committed();
    PERFORM set_config('synchronous_commit', 'on', true);
    PERFORM fleet.require_breaker(reset_breaker.account, reset_breaker.service);
    SELECT * INTO known FROM fleet.breakers b WHERE b.account = reset_breaker.account AND b.service = reset_breaker.service FOR UPDATE;
    IF NOT FOUND THEN
        PERFORM fleet.refuse('service', reset_breaker.service, format('one that has failed: for account %s %s', reset_breaker.account,
            coalesce((SELECT string_agg(b.service, ', ' ORDER BY b.service) FROM fleet.breakers b
                WHERE b.account = reset_breaker.account), 'none has')));
    END IF;
    was := known.state;
    PERFORM fleet.write_audit(actor, 'reset_breaker', reset_breaker.account || ' ' || reset_breaker.service, reset_breaker.reason,
        jsonb_build_object('was', was, 'failures', known.failures, 'opens', known.opens));
    UPDATE fleet.breakers b SET reset_attempts = b.reset_attempts + 1 WHERE b.account = known.account AND b.service = known.service;
    known := fleet.close_breaker(known, actor, 'reset by ' || actor || ': ' || reset_breaker.reason);
    RETURN jsonb_build_object('account', known.account, 'service', known.service, 'was', was, 'state', known.state,
        'reset_attempts', known.reset_attempts);
END $$;

-- A person sets when a breaker opens and how it comes back; account or service '*' means all that have no rule of their own. Audited,
-- flushed; one upsert.
CREATE OR REPLACE FUNCTION fleet.configure_breaker(
    account text, service text, opens_after integer, first_backoff_s double precision, longest_backoff_s double precision,
    probe_lease_s double precision, stuck_after_s double precision, actor text, reason text
) RETURNS jsonb
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET lock_timeout = '5s' AS $$
DECLARE
    changed fleet.breaker_rules;
BEGIN
    PERFORM fleet.require_read_committed();
    PERFORM set_config('synchronous_commit', 'on', true);
    PERFORM fleet.require_breaker(CASE configure_breaker.account WHEN '*' THEN 'all' ELSE configure_breaker.account END,
        CASE configure_breaker.service WHEN '*' THEN 'all' ELSE configure_breaker.service END);
    IF opens_after IS NULL OR opens_after NOT BETWEEN 1 AND 10000 THEN
        PERFORM fleet.refuse('opens_after', opens_after::text, 'a whole number from 1 to 10000');
    END IF;
    IF first_backoff_s IS NULL OR NOT (first_backoff_s > 0 AND first_backoff_s <= 86400) THEN
        PERFORM fleet.refuse('first_backoff_s', first_backoff_s::text, 'more than 0, at most 86400 seconds');
    END IF;
    IF longest_backoff_s IS NULL OR NOT (longest_backoff_s >= first_backoff_s AND longest_backoff_s <= 86400) THEN
        PERFORM fleet.refuse('longest_backoff_s', longest_backoff_s::text, 'from first_backoff_s to 86400 seconds');
    END IF;
    IF probe_lease_s IS NULL OR NOT (probe_lease_s > 0 AND probe_lease_s <= 3600) THEN
        PERFORM fleet.refuse('probe_lease_s', probe_lease_s::text, 'more than 0, at most 3600 seconds');
    END IF;
    IF stuck_after_s IS NULL OR NOT (stuck_after_s > 0 AND stuck_after_s <= 604800) THEN
        PERFORM fleet.refuse('stuck_after_s', stuck_after_s::text, 'more than 0, at most 604800 seconds');
    END IF;
    INSERT INTO fleet.breaker_rules (account, service, opens_after, first_backoff_s, longest_backoff_s, probe_lease_s, stuck_after_s)
    VALUES (configure_breaker.account, configure_breaker.service, configure_breaker.opens_after, configure_breaker.first_backoff_s,
        configure_breaker.longest_backoff_s, configure_breaker.probe_lease_s, configure_breaker.stuck_after_s)
    ON CONFLICT ON CONSTRAINT breaker_rules_pkey DO UPDATE SET opens_after = excluded.opens_after,
        first_backoff_s = excluded.first_backoff_s, longest_backoff_s = excluded.longest_backoff_s,
        probe_lease_s = excluded.probe_lease_s, stuck_after_s = excluded.stuck_after_s
    RETURNING * INTO changed;
    PERFORM fleet.write_audit(actor, 'configure_breaker', changed.account || ' ' || changed.service, configure_breaker.reason,
        to_jsonb(changed));
    RETURN to_jsonb(changed);
END $$;

-- Tells of every breaker that has not been closed for too long, also where nobody asks it any more; gives how many. Locks the rows of
-- those, in key order, and passes over what others hold.
CREATE OR REPLACE FUNCTION fleet.watch_breakers(incarnation uuid) RETURNS integer
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET lock_timeout = '5s' AS $$
DECLARE
    life fleet.incarnations;
    known fleet.breakers;
    told integer := 0;
BEGIN
    PERFORM fleet.require_read_committed();
    life := fleet.require_incarnation(incarnation);
    FOR known IN SELECT * FROM fleet.breakers b WHERE b.state <> 'closed' AND NOT b.is_stuck
        ORDER BY b.account, b.service FOR UPDATE SKIP LOCKED
    LOOP
        IF fleet.tell_stuck_breaker(known, fleet.breaker_rule(known.account, known.service), life.worker || '/' || life.slot) THEN
            told := told + 1;
        END IF;
    END LOOP;
    RETURN told;
END $$;

-- Every breaker that ever counted a failure, with the rule it follows. Reads a snapshot and locks nothing; a few rows.
CREATE OR REPLACE FUNCTION fleet.get_breaker_status(incarnation uuid DEFAULT NULL) RETURNS jsonb
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    RETURN coalesce((SELECT jsonb_agg(jsonb_build_object('account', b.account, 'service', b.service, 'state', b.state,
            'failures', b.failures, 'opens_after', r.opens_after, 'opens', b.opens, 'opened_at', b.opened_at,
            'next_probe_at', b.next_probe_at, 'probes', b.probe, 'last_failed_at', b.last_failed_at, 'last_error', b.last_error,
            'last_status', b.last_status, 'is_stuck', b.is_stuck, 'failures_total', b.failures_total, 'opens_total', b.opens_total,
            'reset_attempts', b.reset_attempts) ORDER BY b.account, b.service)
        FROM fleet.breakers b, LATERAL fleet.breaker_rule(b.account, b.service) r), '[]');
END $$;
