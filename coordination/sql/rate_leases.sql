-- Token leases: several requests of one endpoint as one grant, for who makes many in a second. Every token counts as used from the
-- grant on; who holds the lease hands them out without a round trip, and tells at its end how many were.

-- Takes tokens for requests that are made within a second: one, and up to `most` where there is much room, at most a hundredth of the
-- smallest limit. Else as can_make_request. Ends a former lease of the caller in the same commit: see end_lease. Locks as can_make_request.
CREATE OR REPLACE FUNCTION fleet.lease_requests(
    incarnation uuid, endpoint text, worker_id text, most integer, priority text DEFAULT 'medium', account text DEFAULT 'default',
    ticket uuid DEFAULT NULL, former bigint DEFAULT NULL, used integer DEFAULT 0, answered boolean DEFAULT true,
    response_headers jsonb DEFAULT '{}'
) RETURNS jsonb
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET lock_timeout = '5s' AS $$
DECLARE
    answer jsonb;
BEGIN
    PERFORM fleet.require_read_committed();
    PERFORM fleet.require_incarnation(incarnation);
    IF most IS NULL OR most NOT BETWEEN 1 AND 10000 THEN
        PERFORM fleet.refuse('most', most::text, 'a whole number from 1 to 10000');
    END IF;
    IF former IS NOT NULL THEN
        PERFORM fleet.settle_lease(incarnation, former, used, answered, response_headers);
    END IF;
    -- A request takes 13 s at most, so that a token that is used within a second is counted within the delay that windows allow for.
    answer := fleet.take_units(incarnation, endpoint, worker_id, 1, priority, account, false, ticket, most - 1);
    RETURN CASE WHEN (answer->>'allowed')::boolean THEN answer || '{"valid_s": 1}' ELSE answer END;
END $$;

-- Ends a lease: the tokens that were used stay counted, as of now where every request was answered, else for as long as one may take; the
-- others are free again. Ended before: nothing changes. Locks the endpoint's row and its pools'; not flushed.
CREATE OR REPLACE FUNCTION fleet.end_lease(
    incarnation uuid, grant_id bigint, used integer, answered boolean DEFAULT true, response_headers jsonb DEFAULT '{}'
) RETURNS jsonb
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET lock_timeout = '5s' AS $$
BEGIN
    PERFORM fleet.require_read_committed();
    PERFORM fleet.require_incarnation(incarnation);
    PERFORM set_config('synchronous_commit', 'off', true);
    PERFORM fleet.settle_lease(incarnation, grant_id, used, answered, response_headers);
    RETURN jsonb_build_object('settled', true);
END $$;

-- The same within another transaction.
CREATE OR REPLACE FUNCTION fleet.settle_lease(
    incarnation uuid, grant_id bigint, used integer, answered boolean, response_headers jsonb
) RETURNS void
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    lease fleet.rate_grants;
BEGIN
    SELECT * INTO lease FROM fleet.rate_grants g WHERE g.id = settle_lease.grant_id AND g.incarnation = settle_lease.incarnation;
    IF NOT FOUND OR lease.held THEN
        PERFORM fleet.refuse('grant_id', grant_id::text, 'a lease that this incarnation was given');
    ELSIF used IS NULL OR used NOT BETWEEN 0 AND lease.units THEN
        PERFORM fleet.refuse('used', used::text, 'a whole number from 0 to the ' || lease.units || ' tokens of the lease');
    ELSIF jsonb_typeof(response_headers) IS DISTINCT FROM 'object' THEN
        PERFORM fleet.refuse('response_headers', response_headers::text, 'an object of the headers'' lower-case names');
    END IF;
    IF used = 0 THEN
        PERFORM fleet.return_grant(incarnation, grant_id);
        RETURN;
    END IF;
    IF used < lease.units THEN
        PERFORM fleet.shrink_grant(lease, used);
    END IF;
    PERFORM fleet.settle_grant(incarnation, grant_id, coalesce(answered, false), response_headers, NULL);
END $$;
