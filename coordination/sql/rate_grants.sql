-- Grants: the permission to make a request is the unit itself. All windows of all rows that it belongs to are asked under
-- their locks, and all give a unit, or none.

-- Takes n units of an endpoint and of its pools, all or nothing, as one grant. Locks the rows in the order of their names;
-- flushed every k-th time, k at most 1% of the smallest window. Also what nobody calls from outside: see can_make_request.
CREATE OR REPLACE FUNCTION fleet.take_units(
    incarnation uuid, endpoint text, worker_id text, n integer, priority text, account text, held boolean, ticket uuid DEFAULT NULL
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
BEGIN
    PERFORM fleet.require_read_committed();
    PERFORM set_config('synchronous_commit', 'off', true);
    PERFORM fleet.require_incarnation(take_units.incarnation);
    PERFORM fleet.check_request(take_units.account, take_units.endpoint, take_units.worker_id);
    rank := fleet.priority_rank(take_units.priority);
    IF n IS NULL OR n NOT BETWEEN 1 AND 1000000 THEN
        PERFORM fleet.refuse('estimated_requests', n::text, 'a whole number from 1 to 1000000');
    END IF;
    IF NOT EXISTS (SELECT 1 FROM fleet.rate_epoch) THEN
        PERFORM fleet.recover_rate_limits();
        flushed := true;
    END IF;
    limits := fleet.lock_rate_rows(take_units.account, take_units.endpoint);
    SELECT c.at, c.rate INTO at, rate FROM fleet.read_clock() c;
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
        PERFORM fleet.keep_rate_limit(own);  -- grants of the gone may have been settled
        RETURN jsonb_build_object('allowed', false, 'reason', 'the platform refused an earlier request',
            'retry_after_seconds', ceil(extract(epoch FROM own.blocked_until - at)));
    END IF;
    IF rank = 4 THEN
        own.critical_seen_at := at;
    ELSIF rank = 1 THEN
        own.low_seen_at := at;
    END IF;
    IF own.line_until > at OR own.kept_critical + own.kept_low > 0 OR fleet.is_scarce(own)
        OR greatest(own.critical_seen_at, own.low_seen_at) > at - interval '1 day' THEN
        own := fleet.refresh_shares(own, at);
    END IF;
    kept := fleet.kept_for_others(own, rank, n, limits);
    SELECT * INTO place FROM fleet.find_place(own, take_units.worker_id, rank, n, room - kept, few, at);
    IF NOT place.granted THEN
        RETURN fleet.refuse_units(limits, own, place, take_units.incarnation, take_units.worker_id, rank, n, room, kept, at);
    END IF;
    INSERT INTO fleet.rate_grants (account, endpoint, incarnation, worker_id, priority, granted_at, granted_real_at, frees_at,
        units, held, ticket)
    VALUES (own.account, own.endpoint, take_units.incarnation, take_units.worker_id, take_units.priority, at, clock_timestamp(),
        'infinity', n, take_units.held, take_units.ticket)
    RETURNING id INTO granted;
    own.since_flush := own.since_flush + n;
    IF own.since_flush >= own.flush_every OR flushed THEN
        own.since_flush := 0;
        PERFORM set_config('synchronous_commit', 'on', true);
    END IF;
    own.granted := own.granted + n;
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
        one.unsettled := one.unsettled + CASE WHEN one.kind = 'endpoint' THEN n ELSE 0 END;
        FOR i IN 1 .. cardinality(one.limits) LOOP
            one.occupied[i] := one.occupied[i] + n;
            IF one.spacing_us[i] > 0 THEN
                one.tat[i] := greatest(one.tat[i], at) + n * (one.spacing_us[i] * interval '1 microsecond');
            END IF;
        END LOOP;
        PERFORM fleet.keep_rate_limit(fleet.report_crossing(one, at));
    END LOOP;
    RETURN jsonb_build_object('allowed', true, 'grant_id', granted::text);
END $$;

-- What rows that were weighed ever grant at once, however long one waits: a spread window gives a burst at most. Pure.
CREATE OR REPLACE FUNCTION fleet.most_at_once(limits fleet.rate_limits[]) RETURNS integer
LANGUAGE plpgsql IMMUTABLE AS $$
BEGIN
    RETURN (SELECT min(CASE WHEN w.spacing_us > 0 THEN w.burst ELSE w.requests END)
        FROM unnest(limits) l, unnest(l.limits, l.burst, l.spacing_us) w(requests, burst, spacing_us));
END $$;

-- The permission, and the grant itself: one unit is taken when it says yes. The caller's own ticket names the grant where its
-- answer is lost (return_lost_grant). Locks the endpoint's row and its pools'; small limits are flushed, since a grant that a
-- crash forgets is a request too many.
CREATE OR REPLACE FUNCTION fleet.can_make_request(
    incarnation uuid, endpoint text, worker_id text, priority text DEFAULT 'medium', account text DEFAULT 'default',
    ticket uuid DEFAULT NULL
) RETURNS jsonb
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET lock_timeout = '5s' AS $$
BEGIN
    RETURN fleet.take_units(incarnation, endpoint, worker_id, 1, priority, account, false, ticket);
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

-- One request out of a held grant, as a grant of its own that is settled as any other. In an exact log it always may be made;
-- under GCRA it is charged at the time of the request, before all who wait. Locks as can_make_request.
CREATE OR REPLACE FUNCTION fleet.draw_unit(incarnation uuid, grant_id bigint, worker_id text) RETURNS jsonb
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    quota fleet.rate_grants;
    one fleet.rate_limits;
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
        FOR j IN 1 .. cardinality(one.limits) LOOP
            IF one.spacing_us[j] > 0 AND quota.granted_at < at - make_interval(secs => one.delay_s) THEN
                opens := greatest(opens, one.tat[j] - (one.burst[j] - 1) * (one.spacing_us[j] * interval '1 microsecond'));
                one.tat[j] := greatest(one.tat[j], at) + one.spacing_us[j] * interval '1 microsecond';
            END IF;
        END LOOP;
        opens := greatest(opens, one.blocked_until);
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
    expected timestamptz;
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
            IF one.endpoint = own.endpoint THEN
                one := own;
                expected := fleet.frees_when(one, at, wanted + kept);
                IF expected IS NULL AND kept > 0 THEN
                    expected := fleet.frees_when(one, at, wanted);
                END IF;
            ELSE
                expected := fleet.frees_when(one, at, n);
            END IF;
            opens := greatest(opens, coalesce(expected, at + interval '15 seconds'));
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

-- Since when (real time) a life certainly sends nothing any more; null where nobody knows. Its process is proven dead, or reported
-- it over itself: closed it in good order, or goes on as another life. A lost session or long silence proves nothing: a process that
-- was stopped may go on. The caller asks of no life of its own. A few rows read; tries the life's lock.
CREATE OR REPLACE FUNCTION fleet.silent_since(incarnation uuid) RETURNS timestamptz
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    life fleet.incarnations;
    free boolean;
BEGIN
    SELECT * INTO life FROM fleet.incarnations i WHERE i.id = silent_since.incarnation;
    IF NOT FOUND THEN
        RETURN '-infinity';  -- so long ago that nothing else is known of it
    ELSIF life.died_at IS NOT NULL OR life.end_reason <> fleet.fell_silent() THEN
        RETURN coalesce(life.died_at, life.ended_at);
    END IF;
    free := fleet.is_suspected(life.id);
    RETURN (SELECT min(n.started_at) FROM fleet.incarnations n
        WHERE free AND (n.host, n.boot_id, n.pid_namespace, n.pid, n.pid_started, n.worker, n.slot)
            = (life.host, life.boot_id, life.pid_namespace, life.pid, life.pid_started, life.worker, life.slot)
          AND n.started_at > life.started_at);
END $$;

-- The reason that is written of a life whose end nobody told. Pure.
CREATE OR REPLACE FUNCTION fleet.fell_silent() RETURNS text
LANGUAGE sql IMMUTABLE
RETURN 'it fell silent without a word';

-- Units that the platform may have counted, and that no answer will tell of: more in each of its counts that holds. Under the row.
CREATE OR REPLACE FUNCTION fleet.count_untold(one fleet.rate_limits, units integer, at timestamptz) RETURNS fleet.rate_limits
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF one.header_resets_at > at THEN
        one.header_used := one.header_used + units;
    END IF;
    SELECT coalesce(jsonb_object_agg(h.key, CASE WHEN (h.value->>'resets_at')::timestamptz > at
        THEN h.value || jsonb_build_object('used', (h.value->>'used')::integer + units) ELSE h.value END), '{}')
    INTO one.day_headers FROM jsonb_each(one.day_headers) h;
    UPDATE fleet.rate_limits r SET header_used = one.header_used, day_headers = one.day_headers
    WHERE r.account = one.account AND r.endpoint = one.endpoint;
    RETURN one;
END $$;

-- Grants that certainly send nothing any more count as used at their last possible moment: now. They are those whose holder has
-- been silent for the quiet time at least, and those of a living holder that are ten times as old as a request can get: their
-- answer, or their settlement, was lost. Each holder is asked in a statement of its own. Gives the row weighed anew.
CREATE OR REPLACE FUNCTION fleet.settle_abandoned(
    one fleet.rate_limits, me uuid, at timestamptz, rate double precision, n integer
) RETURNS fleet.rate_limits
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    quiet_since timestamptz := clock_timestamp() - make_interval(secs => fleet.setting_number('quiet_time_s', 120));
    outlasted timestamptz := clock_timestamp() - make_interval(secs => 10 * fleet.setting_number('request_delay_s', 15));
    holder uuid;
    since timestamptz;
    granted_by timestamptz;
    longest interval := make_interval(secs => greatest(one.window_s, one.longer_window_s[cardinality(one.longer_window_s)]));
    units integer;
    settled integer := 0;
BEGIN
    FOR holder IN
        SELECT DISTINCT g.incarnation FROM fleet.rate_grants g
        WHERE g.account = one.account AND g.endpoint = one.endpoint AND g.settled_at IS NULL AND NOT g.held
          AND g.granted_real_at < CASE WHEN g.incarnation = me THEN outlasted ELSE greatest(quiet_since, outlasted) END
    LOOP
        granted_by := outlasted;
        IF holder <> me THEN
            since := fleet.silent_since(holder);
            IF since < quiet_since THEN
                granted_by := 'infinity';
            ELSIF since IS NOT NULL OR fleet.is_suspected(holder) THEN
                CONTINUE;
            END IF;
        END IF;
        WITH gone AS (
            UPDATE fleet.rate_grants g SET settled_at = at, frees_at = at + longest
            WHERE g.account = one.account AND g.endpoint = one.endpoint AND g.incarnation = holder AND g.settled_at IS NULL
              AND NOT g.held AND g.granted_real_at < granted_by
            RETURNING g.units)
        SELECT coalesce(sum(gone.units), 0) INTO units FROM gone;
        settled := settled + units;
    END LOOP;
    IF settled = 0 THEN
        RETURN one;
    END IF;
    one.unsettled := greatest(0, one.unsettled - settled);
    RETURN fleet.weigh(fleet.count_untold(one, settled, at), at, rate, n);
END $$;

-- The same for all endpoints, also those that nobody asks any more: their pools wait for them. Locks the rows that have such
-- grants, in the order of their names.
CREATE OR REPLACE FUNCTION fleet.settle_all_abandoned(me uuid) RETURNS void
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    one fleet.rate_limits;
    clock record;
BEGIN
    FOR one IN
        SELECT * FROM fleet.rate_limits r
        WHERE r.kind = 'endpoint' AND r.unsettled > 0 AND EXISTS (SELECT 1 FROM fleet.rate_grants g
            WHERE g.account = r.account AND g.endpoint = r.endpoint AND g.settled_at IS NULL AND NOT g.held
              AND g.granted_real_at < clock_timestamp() - make_interval(secs => fleet.setting_number('quiet_time_s', 120)))
        ORDER BY r.account, r.endpoint FOR UPDATE
    LOOP
        SELECT * INTO clock FROM fleet.read_clock();
        PERFORM fleet.keep_rate_limit(fleet.settle_abandoned(fleet.weigh(one, clock.at, clock.rate, 1), me, clock.at, clock.rate, 1));
    END LOOP;
END $$;

-- Takes a grant back whose request was never made, from every row that it took of. Locks them in the order of their names;
-- under GCRA reads the log since the grant. False where it is settled or gone.
CREATE OR REPLACE FUNCTION fleet.drop_grant(grant_id bigint) RETURNS boolean
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    dropped fleet.rate_grants;
    one fleet.rate_limits;
    limits fleet.rate_limits[];
    at timestamptz;
BEGIN
    SELECT * INTO dropped FROM fleet.rate_grants g WHERE g.id = drop_grant.grant_id AND g.settled_at IS NULL;
    IF NOT FOUND THEN
        RETURN false;
    END IF;
    limits := fleet.lock_rate_rows(dropped.account, dropped.endpoint);
    at := fleet.now();
    DELETE FROM fleet.rate_grants g WHERE g.id = drop_grant.grant_id AND g.settled_at IS NULL RETURNING * INTO dropped;
    IF NOT FOUND THEN
        RETURN false;
    END IF;
    FOREACH one IN ARRAY limits LOOP
        IF one.kind = 'endpoint' THEN
            one.unsettled := greatest(0, one.unsettled - dropped.units);
        END IF;
        FOR i IN 1 .. cardinality(one.occupied) LOOP
            one.occupied[i] := greatest(0, one.occupied[i] - dropped.units);
            IF one.spacing_us[i] > 0 THEN
                -- What was there before the grant is in the arrival time less the grant; what came since is in the log.
                one.tat[i] := least(one.tat[i], greatest(
                    one.tat[i] - dropped.units * (one.spacing_us[i] * interval '1 microsecond'),
                    fleet.replay(one, dropped.granted_at, one.spacing_us[i], at)));
            END IF;
        END LOOP;
        PERFORM fleet.keep_rate_limit(one);
    END LOOP;
    RETURN true;
END $$;

-- An unused grant goes back: unsettled, this incarnation's, and no attempt to send stands on it; all others stay. Locks as
-- drop_grant.
CREATE OR REPLACE FUNCTION fleet.return_grant(incarnation uuid, grant_id bigint) RETURNS boolean
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    -- The rows of limits before the grant's, as everywhere.
    PERFORM fleet.lock_rate_rows(g.account, g.endpoint) FROM fleet.rate_grants g
    WHERE g.id = return_grant.grant_id AND g.incarnation = return_grant.incarnation AND g.settled_at IS NULL;
    PERFORM 1 FROM fleet.rate_grants g
    WHERE g.id = return_grant.grant_id AND g.incarnation = return_grant.incarnation AND g.settled_at IS NULL FOR UPDATE;
    IF NOT FOUND THEN
        RETURN false;
    END IF;
    -- Its own statement: an attempt that began while this waited is seen.
    IF EXISTS (SELECT 1 FROM fleet.attempts a WHERE a.grant_id = return_grant.grant_id AND a.settled_at IS NULL) THEN
        RETURN false;
    END IF;
    RETURN fleet.drop_grant(return_grant.grant_id);
END $$;

-- An unused grant goes back, for callers that were granted a request and don't make it. False where there was nothing to give
-- back. Locks as return_grant.
CREATE OR REPLACE FUNCTION fleet.release_grant(incarnation uuid, grant_id bigint) RETURNS jsonb
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET lock_timeout = '5s' AS $$
BEGIN
    PERFORM fleet.require_read_committed();
    PERFORM fleet.require_incarnation(incarnation);
    RETURN jsonb_build_object('released', fleet.return_grant(incarnation, release_grant.grant_id));
END $$;

-- The same for a grant whose answer was lost: its ticket names it. False too where no such grant came about. Waits for a request
-- that is still under way; locks as return_grant.
CREATE OR REPLACE FUNCTION fleet.return_lost_grant(incarnation uuid, endpoint text, account text, ticket uuid) RETURNS jsonb
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET lock_timeout = '5s' AS $$
BEGIN
    PERFORM fleet.require_read_committed();
    PERFORM fleet.require_incarnation(incarnation);
    PERFORM fleet.lock_rate_rows(return_lost_grant.account, return_lost_grant.endpoint);
    RETURN jsonb_build_object('released', EXISTS (SELECT 1 FROM fleet.rate_grants g
        WHERE g.account = return_lost_grant.account AND g.endpoint = return_lost_grant.endpoint AND g.settled_at IS NULL
          AND g.ticket = return_lost_grant.ticket AND fleet.return_grant(return_lost_grant.incarnation, g.id)));
END $$;

-- After a crash of the server: up to k - 1 grants of each endpoint may be forgotten that were not flushed, so that k are
-- taken of each, and of its pools. The epoch's row is unlogged: a crash empties it. Locks all rows of limits, once a crash.
CREATE OR REPLACE FUNCTION fleet.recover_rate_limits() RETURNS void
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    lost fleet.rate_limits;
    units integer;
    at timestamptz;
BEGIN
    PERFORM pg_advisory_xact_lock(fleet.lock_key('rate_limits', 'epoch'));
    IF EXISTS (SELECT 1 FROM fleet.rate_epoch) THEN
        RETURN;
    END IF;
    PERFORM set_config('synchronous_commit', 'on', true);
    PERFORM 1 FROM fleet.rate_limits r ORDER BY r.account, r.endpoint FOR UPDATE;
    at := fleet.now();
    FOR lost IN SELECT * FROM fleet.rate_limits r WHERE r.kind = 'endpoint' AND r.account <> '*' LOOP
        -- From what was configured: what the row held of it may be forgotten too.
        units := greatest(lost.flush_every, least(100, (SELECT min(n) FROM unnest(lost.requests || lost.longer_requests) n) / 100));
        IF units > 1 THEN
            INSERT INTO fleet.rate_grants (account, endpoint, incarnation, worker_id, priority, granted_at, granted_real_at, settled_at,
                frees_at, units)
            VALUES (lost.account, lost.endpoint, '00000000-0000-0000-0000-000000000000', 'lost in a crash', 'medium', at,
                clock_timestamp(), at, at + make_interval(secs => greatest(lost.window_s,
                    lost.longer_window_s[cardinality(lost.longer_window_s)])), units);
            PERFORM fleet.count_untold(lost, units, at);
        END IF;
    END LOOP;
    -- Counts and arrival times are made anew from the log, of the pools too.
    UPDATE fleet.rate_limits r SET occupied = '{}', counted_to = '{}', told = '{}', refreshed_at = '-infinity'
    WHERE r.account <> '*';
    INSERT INTO fleet.rate_epoch (started_at) VALUES (clock_timestamp());
END $$;
