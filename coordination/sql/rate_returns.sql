-- Grants that go back: no request was made with them, and their units are free again at once.

-- Copies of rows with fewer units taken, which were charged since then at the earliest. Locks nothing; under GCRA reads the log since.
CREATE OR REPLACE FUNCTION fleet.with_units_back(limits fleet.rate_limits[], units integer, since timestamptz, at timestamptz)
RETURNS fleet.rate_limits[]
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    one fleet.rate_limits;
BEGIN
    FOR i IN 1 .. cardinality(limits) LOOP
        one := limits[i];
        FOR j IN 1 .. cardinality(one.occupied) LOOP
            one.occupied[j] := greatest(0, one.occupied[j] - units);
            IF one.spacing_us[j] > 0 THEN
                -- What was there before is in the arrival time less these units; what came since is in the log.
                one.tat[j] := least(one.tat[j], greatest(one.tat[j] - units * (one.spacing_us[j] * interval '1 microsecond'),
                    fleet.replay(one, j, since, at)));
            END IF;
        END LOOP;
        IF one.kind = 'endpoint' THEN
            one.unsettled := greatest(0, one.unsettled - units);
            one.granted := greatest(0, one.granted - units);
        END IF;
        limits[i] := one;
    END LOOP;
    RETURN limits;
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
    -- One that was drawn of prepaid units was charged before it was granted.
    FOREACH one IN ARRAY fleet.with_units_back(limits, dropped.units, dropped.granted_at - fleet.prepaid_for() * limits[1].clock_rate, at) LOOP
        PERFORM fleet.keep_rate_limit(one);
    END LOOP;
    RETURN true;
END $$;

-- A grant of several units keeps so many; the others are free again. Nothing where it is settled. Locks the endpoint's row and its pools'.
CREATE OR REPLACE FUNCTION fleet.shrink_grant(shrunk fleet.rate_grants, units integer) RETURNS void
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    limits fleet.rate_limits[];
    one fleet.rate_limits;
BEGIN
    limits := fleet.lock_rate_rows(shrunk.account, shrunk.endpoint);
    UPDATE fleet.rate_grants g SET units = shrink_grant.units
    WHERE g.id = shrunk.id AND g.settled_at IS NULL AND g.units = shrunk.units;
    IF FOUND THEN
        FOREACH one IN ARRAY fleet.with_units_back(limits, shrunk.units - shrink_grant.units, shrunk.granted_at, fleet.now()) LOOP
            PERFORM fleet.keep_rate_limit(one);
        END LOOP;
    END IF;
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
    PERFORM fleet.lock_prepaid(return_lost_grant.account, return_lost_grant.endpoint);
    PERFORM fleet.lock_rate_rows(return_lost_grant.account, return_lost_grant.endpoint);
    RETURN jsonb_build_object('released', EXISTS (SELECT 1 FROM fleet.rate_grants g
        WHERE g.account = return_lost_grant.account AND g.endpoint = return_lost_grant.endpoint AND g.settled_at IS NULL
          AND g.ticket = return_lost_grant.ticket AND fleet.return_grant(return_lost_grant.incarnation, g.id)));
END $$;
