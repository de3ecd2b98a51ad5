-- Grants: the permission to make a request is the unit itself. All windows of all rows that it belongs to are asked under
-- their locks, and all give a unit, or none.

-- Takes n units of an endpoint and of its pools, all or nothing, as one grant, and up to `more` where there is much room. Locks the rows
-- in the order of their names; flushed every k-th time, k at most 1% of the smallest window. Also what nobody calls from outside: see
-- can_make_request.
CREATE OR REPLACE FUNCTION fleet.take_units(
    incarnation uuid, endpoint text, worker_id text, n integer, priority text, account text, held boolean, ticket uuid DEFAULT NULL,
    more integer DEFAULT 0
) RETURNS jsonb
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    rank integer;
    limits fleet.rate_limits[];
    one fleet.rate_limits;
    own fleet.rate_limits;
    own_at integer;
    at timestamptz;
    rate double precision;
    room integer := 1000000;
    few boolean := false;
    place record;
    kept integer;
    flushed boolean := false;
    granted bigint;
    single boolean := n = 1 AND NOT held AND more = 0;
    prepaid fleet.rate_prepaid;
    taken_back record;
    spare integer := 0;
    flush_every integer;
BEGIN
    PERFORM fleet.require_read_committed();
    PERFORM set_config('synchronous_commit', 'off', true);
    PERFORM fleet.require_incarnation(take_units.incarnation);
    PERFORM fleet.check_request(take_units.account, take_units.endpoint, take_units.worker_id);
    rank := fleet.priority_rank(take_units.priority);
    IF n IS NULL OR n NOT BETWEEN 1 AND 1000000 THEN
        PERFORM fleet.refuse('estimated_requests', n::text, 'a whole number from 1 to 1000000');
    END IF;
    prepaid := fleet.lock_prepaid(take_units.account, take_units.endpoint);
    IF single AND prepaid.units > 0 THEN  -- prepaid while this call waited
        granted := fleet.draw_prepaid(take_units.incarnation, take_units.endpoint, take_units.worker_id, take_units.priority,
            take_units.account, take_units.ticket);
        IF granted IS NOT NULL THEN
            RETURN jsonb_build_object('allowed', true, 'grant_id', granted::text, 'units', 1);
        END IF;
    END IF;
    IF NOT EXISTS (SELECT 1 FROM fleet.rate_epoch) THEN
        PERFORM fleet.recover_rate_limits();
        flushed := true;
    END IF;
    limits := fleet.lock_rate_rows(take_units.account, take_units.endpoint);
    SELECT c.at, c.rate INTO at, rate FROM fleet.read_clock() c;
    IF fleet.take_back_idle(take_units.account, at) THEN
        prepaid := fleet.lock_prepaid(take_units.account, take_units.endpoint);
        SELECT fleet.lock_rate_rows(take_units.account, take_units.endpoint) INTO limits;
    END IF;
    IF prepaid.units > 0 THEN
        taken_back := fleet.take_back_prepaid(prepaid, limits, at);
        prepaid := taken_back.emptied;
        limits := taken_back.freed;
    END IF;
    FOR i IN 1 .. cardinality(limits) LOOP
        one := fleet.weigh(limits[i], at, rate, n);
        IF one.room < n AND one.kind = 'endpoint' AND one.unsettled > 0 THEN
            one := fleet.settle_abandoned(one, take_units.incarnation, at, rate, n);
        END IF;
        limits[i] := one;
        room := least(room, one.room);
        few := few OR fleet.few_left(one, at);
        IF one.endpoint = take_units.endpoint THEN
            own := one;
            own_at := i;
        END IF;
    END LOOP;
    IF n > 1 AND n > fleet.most_at_once(limits) THEN
        PERFORM fleet.refuse('estimated_requests', n::text, 'at most ' || fleet.most_at_once(limits) || ' at a time of this endpoint');
    END IF;
    IF own.blocked_until > at THEN
        own.refused := own.refused + 1;
        FOREACH one IN ARRAY limits LOOP  -- grants of the gone may have been settled, prepaid units taken back
            PERFORM fleet.keep_rate_limit(CASE WHEN one.endpoint = own.endpoint THEN own ELSE one END);
        END LOOP;
        RETURN jsonb_build_object('allowed', false, 'reason', 'the platform refused an earlier request',
            'retry_after_seconds', ceil(extract(epoch FROM own.blocked_until - at)));
    END IF;
    IF rank = 4 THEN
        own.critical_seen_at := at;
    ELSIF rank = 1 THEN
        own.low_seen_at := at;
    END IF;
    -- What is kept can't matter where half of the limit is free.
    IF own.line_until > at OR fleet.is_scarce(own, at) OR room < own.limits[1] / 2 + n THEN
        own := fleet.refresh_shares(own, at);
    END IF;
    kept := fleet.kept_for_others(own, rank, n, limits);
    place := fleet.find_place(own, limits, take_units.worker_id, rank, n, room - kept, few, at);
    IF NOT place.granted THEN
        RETURN fleet.refuse_units(limits, own, place, take_units.incarnation, take_units.worker_id, rank, n, room, kept, at);
    END IF;
    IF own.line_until <= at AND NOT place.shares AND fleet.most_prepaid(own) > 0 THEN
        IF single THEN
            spare := fleet.prepay(limits, prepaid, own);
        ELSIF more > 0 THEN
            n := n + fleet.units_to_prepay(limits, more);
        END IF;
    END IF;
    INSERT INTO fleet.rate_grants (account, endpoint, incarnation, worker_id, priority, granted_at, granted_real_at, frees_at,
        units, held, ticket)
    VALUES (own.account, own.endpoint, take_units.incarnation, take_units.worker_id, take_units.priority, at, clock_timestamp(),
        'infinity', n, take_units.held, take_units.ticket)
    RETURNING id INTO granted;
    own.since_flush := own.since_flush + n;
    SELECT min(l.flush_every) INTO flush_every FROM unnest(limits) l;
    IF own.since_flush + spare >= flush_every OR flushed THEN
        own.since_flush := 0;
        PERFORM set_config('synchronous_commit', 'on', true);
    END IF;
    own.since_flush := own.since_flush + spare;  -- given out unflushed
    own.granted := own.granted + n + spare;
    IF rank = 4 THEN
        own.kept_critical := greatest(0, own.kept_critical - n);
    ELSIF rank = 1 THEN
        own.kept_low := greatest(0, own.kept_low - n);
    END IF;
    IF place.mine IS NOT NULL OR place.shares THEN
        own := fleet.leave_rate_line(own, place, take_units.incarnation, take_units.worker_id, rank, n, at);
    END IF;
    limits[own_at] := own;
    FOREACH one IN ARRAY limits LOOP
        one.unsettled := one.unsettled + CASE WHEN one.kind = 'endpoint' THEN n + spare ELSE 0 END;
        FOR i IN 1 .. cardinality(one.limits) LOOP
            one.occupied[i] := one.occupied[i] + n + spare;
            IF one.spacing_us[i] > 0 THEN
                one.tat[i] := greatest(one.tat[i], at) + (n + spare) * (one.spacing_us[i] * interval '1 microsecond');
            END IF;
        END LOOP;
        PERFORM fleet.keep_rate_limit(fleet.report_crossing(one, at));
    END LOOP;
    RETURN jsonb_build_object('allowed', true, 'grant_id', granted::text, 'units', n);
END $$;

-- What rows that were weighed ever grant at once, however long one waits: a spread window gives a burst at most. Pure.
CREATE OR REPLACE FUNCTION fleet.most_at_once(limits fleet.rate_limits[]) RETURNS integer
LANGUAGE plpgsql IMMUTABLE AS $$
BEGIN
    RETURN (SELECT min(CASE WHEN w.spacing_us > 0 THEN w.burst ELSE w.requests END)
        FROM unnest(limits) l, unnest(l.limits, l.burst, l.spacing_us) w(requests, burst, spacing_us));
END $$;

-- The permission, and the grant itself: one unit is taken when it says yes. The caller's own ticket names the grant where its
-- answer is lost (return_lost_grant). Locks the endpoint's row and its pools', or where many ask and there is much room the one row of
-- its prepaid units; small limits are flushed, since a grant that a crash forgets is a request too many.
CREATE OR REPLACE FUNCTION fleet.can_make_request(
    incarnation uuid, endpoint text, worker_id text, priority text DEFAULT 'medium', account text DEFAULT 'default',
    ticket uuid DEFAULT NULL
) RETURNS jsonb
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET lock_timeout = '5s' AS $$
DECLARE
    flushing text := set_config('synchronous_commit', 'off', true);  -- a value costs a third of a statement
    drawn bigint;
BEGIN
    drawn := fleet.draw_prepaid(incarnation, endpoint, worker_id, priority, account, ticket);
    IF drawn IS NOT NULL THEN
        RETURN jsonb_build_object('allowed', true, 'grant_id', drawn::text);
    END IF;
    RETURN fleet.take_units(incarnation, endpoint, worker_id, 1, priority, account, false, ticket) - 'units';
END $$;

-- For reservations: n units as one grant that is held, with no request under way yet; draw_unit takes single requests out of
-- it. All or nothing. Locks as can_make_request.
CREATE OR REPLACE FUNCTION fleet.grant_units(
    incarnation uuid, endpoint text, worker_id text, n integer, priority text DEFAULT 'medium', account text DEFAULT 'default'
) RETURNS jsonb
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    RETURN fleet.take_units(incarnation, endpoint, worker_id, n, priority, account, true);
END $$;

-- One request out of a held grant, as a grant of its own that is settled as any other. It is before all who wait, and is made
-- unless its limit was lowered since, or used up by the platform's count; under GCRA it is charged at the time of the request. Locks
-- as can_make_request; reads what is held.
CREATE OR REPLACE FUNCTION fleet.draw_unit(incarnation uuid, grant_id bigint, worker_id text) RETURNS jsonb
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    quota fleet.rate_grants;
    one fleet.rate_limits;
    unheld fleet.rate_limits;
    held integer;
    limits fleet.rate_limits[];
    at timestamptz;
    rate double precision;
    opens timestamptz := '-infinity';
    drawn bigint;
BEGIN
    PERFORM fleet.require_read_committed();
    PERFORM set_config('synchronous_commit', 'on', true);
    SELECT * INTO quota FROM fleet.rate_grants g WHERE g.id = draw_unit.grant_id;
    IF NOT FOUND OR quota.incarnation <> draw_unit.incarnation OR NOT quota.held OR quota.settled_at IS NOT NULL THEN
        PERFORM fleet.refuse('grant_id', grant_id::text, 'a quota that this incarnation holds');
    END IF;
    limits := fleet.lock_rate_rows(quota.account, quota.endpoint);
    SELECT c.at, c.rate INTO at, rate FROM fleet.read_clock() c;
    FOR i IN 1 .. cardinality(limits) LOOP
        one := fleet.weigh(limits[i], at, rate, 1);
        -- What is set aside stands in no draw's way.
        held := fleet.held_units(one);
        unheld := one;
        unheld.unsettled := one.unsettled - held;
        FOR j IN 1 .. cardinality(one.limits) LOOP
            unheld.occupied[j] := one.occupied[j] - held;
            IF one.spacing_us[j] > 0 AND quota.granted_at < at - make_interval(secs => one.delay_s) THEN
                one.tat[j] := greatest(one.tat[j], at) + one.spacing_us[j] * interval '1 microsecond';
            ELSE
                unheld.tat[j] := one.tat[j] - one.spacing_us[j] * interval '1 microsecond';  -- charged with the quota
            END IF;
        END LOOP;
        opens := greatest(opens, coalesce(fleet.frees_when(unheld, at, 1), at + interval '15 seconds'));
        limits[i] := one;
    END LOOP;
    IF opens > at THEN
        RETURN jsonb_build_object('allowed', false, 'reason', 'a reserved request waits for its turn',
            'retry_after_seconds', round(extract(epoch FROM opens - at) + 0.001, 3));
    END IF;
    UPDATE fleet.rate_grants g SET units = g.units - 1 WHERE g.id = quota.id AND g.settled_at IS NULL AND g.units > 1;
    IF NOT FOUND THEN
        DELETE FROM fleet.rate_grants g WHERE g.id = quota.id AND g.settled_at IS NULL;
        IF NOT FOUND THEN
            PERFORM fleet.refuse('grant_id', grant_id::text, 'a quota that is not used up');
        END IF;
    END IF;
    INSERT INTO fleet.rate_grants (account, endpoint, incarnation, worker_id, priority, granted_at, granted_real_at, frees_at)
    VALUES (quota.account, quota.endpoint, quota.incarnation, draw_unit.worker_id, quota.priority, at, clock_timestamp(), 'infinity')
    RETURNING id INTO drawn;
    FOREACH one IN ARRAY limits LOOP
        PERFORM fleet.keep_rate_limit(one);
    END LOOP;
    RETURN jsonb_build_object('allowed', true, 'grant_id', drawn::text);
END $$;

-- No from take_units, with the time at which this worker can expect its units. It stands in line from now on. One upsert, and
-- the endpoint's row and its pools'.
CREATE OR REPLACE FUNCTION fleet.refuse_units(
    limits fleet.rate_limits[], own fleet.rate_limits, place record, incarnation uuid, worker_id text, rank integer, n integer,
    room integer, kept integer, at timestamptz
) RETURNS jsonb
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    one fleet.rate_limits;
    expected record;
    retry_s numeric;
BEGIN
    expected := fleet.expect_units(limits, own, place, n, room, kept, at);
    -- Whoever is told a time is told one after it, never before; a line comes a little apart.
    retry_s := greatest(0.001, ceil(extract(epoch FROM expected.opens - at) * 1000) / 1000);
    IF place.ahead > 0 THEN
        retry_s := retry_s + round((random() * least(0.02 * own.clock_rate, 0.01 * retry_s))::numeric, 3);
    END IF;
    IF retry_s <= 0.001 THEN
        retry_s := greatest(retry_s, round((0.02 * own.clock_rate)::numeric, 3));
    END IF;
    own := fleet.stand_in_line(own, place, incarnation, worker_id, rank, n, retry_s, at);
    own.refused := own.refused + 1;
    IF NOT place.had_share AND NOT place.rests THEN
        own.lacked_at := at;
    END IF;
    FOREACH one IN ARRAY limits LOOP  -- the pools too: what was counted need not be counted again
        PERFORM fleet.keep_rate_limit(CASE WHEN one.endpoint = own.endpoint THEN own ELSE one END);
    END LOOP;
    RETURN jsonb_build_object('allowed', false, 'reason', expected.reason, 'retry_after_seconds', retry_s);
END $$;

-- Why units that are refused can't be had now, and when they can. Locks nothing; reads the windows' logs.
CREATE OR REPLACE FUNCTION fleet.expect_units(
    limits fleet.rate_limits[], own fleet.rate_limits, place record, n integer, room integer, kept integer, at timestamptz,
    OUT opens timestamptz, OUT reason text
)
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    one fleet.rate_limits;
    wanted integer := n + place.ahead;
BEGIN
    opens := at;
    IF place.had_share THEN
        opens := at + make_interval(secs => own.patience_s);
        reason := format('this worker had its share of %s, and others want theirs', own.endpoint);
    ELSIF place.rests THEN
        opens := place.rests_until;
        reason := format('fewer than 10 requests of %s are left: they go to who comes back in a minute', own.endpoint);
    ELSE
        FOREACH one IN ARRAY limits LOOP
            -- Those before take of the pools too, and what is kept is kept of them.
            -- Not known when, and now only but for what is kept: to be asked again in as long as a request may take.
            opens := greatest(opens, coalesce(fleet.frees_when(one, at, wanted + kept),
                nullif(fleet.frees_when(one, at, wanted), at), at + interval '15 seconds'));
            IF one.room < n THEN
                reason := coalesce(reason, fleet.tell_full(one, at, n));
            END IF;
        END LOOP;
        reason := coalesce(reason, CASE
            WHEN room - kept < n THEN format('the last %s requests of %s are kept for other priorities', room, own.endpoint)
            ELSE format('%s wait for requests of %s before', place.ahead, own.endpoint) END);
    END IF;
END $$;

-- Which window of a row has no n units free, in words. Pure.
CREATE OR REPLACE FUNCTION fleet.tell_full(one fleet.rate_limits, at timestamptz, n integer) RETURNS text
LANGUAGE plpgsql IMMUTABLE AS $$
DECLARE
    most integer;
BEGIN
    FOR i IN 1 .. cardinality(one.limits) LOOP
        IF one.spacing_us[i] = 0 AND one.occupied[i] + n > one.limits[i] THEN
            RETURN format('%s of %s requests of %s used', one.occupied[i], one.limits[i], one.endpoint)
                || CASE WHEN i > 1 THEN format(' in %s s', one.windows_s[i]) ELSE '' END;
        ELSIF one.spacing_us[i] > 0 AND fleet.conforming(one.tat[i], at, one.burst[i], one.spacing_us[i]) < n THEN
            RETURN format('%s requests of %s in %s s are spread: the next one opens soon', one.limits[i], one.endpoint, one.windows_s[i]);
        END IF;
    END LOOP;
    IF fleet.header_room(one, at) < n THEN
        most := coalesce(one.limits[one.header_window], one.header_limit);
        RETURN format('%s of %s requests of %s used, by the platform''s count', least(most, one.header_used + one.unsettled), most,
            one.endpoint);
    END IF;
    RETURN format('the requests of %s of 24 hours are used, by the platform''s count', one.endpoint);
END $$;
