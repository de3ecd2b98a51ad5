-- Refusals: the no to who asks for units, with its reason and the time at which they can be expected.

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
