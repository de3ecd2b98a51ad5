-- API quotas: requests set aside for one worker. They are units of the rate limiter, held in one grant of its: there is no second
-- count. A request under a quota is drawn from it and settled as any other, so that what was not drawn cannot have been sent, and
-- goes back when the quota is released, its lease is over or its holder dies.

-- The limiter's row that a quota is of, by an operation (tweet, search, fetch), an endpoint's or a pool's own name; a pool of one
-- endpoint stands for that one. With a kind, of these only what it is for: request an operation, endpoint an endpoint, rate a pool;
-- priority any. FL001 for another. Locks nothing.
CREATE OR REPLACE FUNCTION fleet.quota_row(operation_type text, kind text) RETURNS text
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    operation text := CASE operation_type WHEN 'tweet' THEN 'post_tweet' WHEN 'search' THEN 'search_tweets' WHEN 'fetch' THEN 'fetch_mentions' END;
    known fleet.rate_limits;
    is_for text;
BEGIN
    SELECT * INTO known FROM fleet.rate_limits r WHERE r.endpoint = coalesce(operation, operation_type) ORDER BY r.account LIMIT 1;
    is_for := CASE WHEN known.endpoint IS NULL THEN 'nothing' WHEN operation IS NOT NULL THEN 'request' WHEN known.kind = 'pool' THEN 'rate'
        ELSE 'endpoint' END;
    IF is_for = 'nothing' OR is_for <> coalesce(nullif(quota_row.kind, 'priority'), is_for) THEN
        PERFORM fleet.refuse('operation_type', operation_type, CASE quota_row.kind WHEN 'request' THEN 'tweet, search or fetch'
            WHEN 'endpoint' THEN 'an endpoint with a configured limit, by its own name' WHEN 'rate' THEN 'a pool of the rate limiter'
            ELSE 'tweet, search, fetch, or an endpoint with a configured limit' END);
    END IF;
    RETURN CASE WHEN known.kind = 'pool' AND cardinality(known.members) = 1 AND known.members <> '{*}' THEN known.members[1]
        ELSE known.endpoint END;
END $$;

-- Sets n requests of an operation (tweet, search, fetch) or endpoint aside, all or none; says when to ask again where it can't. Asked
-- again with the caller's own ticket, it is the same request, as long as what it was granted is held; leave_queue gives it up. Locks the endpoint's row and its pools', as can_make_request. Flushed.
CREATE OR REPLACE FUNCTION fleet.reserve_api_quota(
    incarnation uuid, worker_id text, operation_type text, estimated_requests integer DEFAULT 1, priority text DEFAULT 'medium',
    account text DEFAULT 'default', duration_minutes double precision DEFAULT 30, ticket uuid DEFAULT NULL
) RETURNS jsonb
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET lock_timeout = '5s' AS $$
DECLARE
    named text;
    answer jsonb;
    held fleet.reservations;
    real timestamptz;
BEGIN
    PERFORM fleet.require_read_committed();
    PERFORM fleet.require_incarnation(incarnation);
    PERFORM fleet.priority_rank(priority);
    IF estimated_requests IS NULL OR estimated_requests NOT BETWEEN 1 AND 1000000 THEN
        PERFORM fleet.refuse('estimated_requests', estimated_requests::text, 'a whole number from 1 to 1000000');
    END IF;
    PERFORM fleet.check_reservation(worker_id, duration_minutes, 1, 0, 1);
    named := fleet.quota_row(operation_type, NULL);
    IF EXISTS (SELECT 1 FROM fleet.rate_limits r WHERE r.endpoint = named AND r.kind = 'pool') THEN
        PERFORM fleet.refuse('operation_type', operation_type, 'an operation, an endpoint, or a pool of one: a request is always of an endpoint');
    END IF;
    PERFORM fleet.require_quota_account(account);
    PERFORM fleet.hold_ticket(ticket);
    answer := fleet.tell_ticket(incarnation, ticket);
    IF (answer->>'granted')::boolean THEN
        RETURN answer;
    END IF;
    answer := fleet.grant_units(incarnation, named, worker_id, estimated_requests, priority, account);
    IF NOT (answer->>'allowed')::boolean AND fleet.end_lost_quotas(account, named, incarnation) > 0 THEN
        answer := fleet.grant_units(incarnation, named, worker_id, estimated_requests, priority, account);
    END IF;
    IF NOT (answer->>'allowed')::boolean THEN
        RETURN jsonb_build_object('granted', false, 'waits', false, 'reason', 'no_quota', 'why', answer->>'reason',
            'retry_after_seconds', answer->'retry_after_seconds');
    END IF;
    -- Flushed, unlike a single request of a large limit: it may be held for long.
    PERFORM set_config('synchronous_commit', 'on', true);
    real := clock_timestamp();
    INSERT INTO fleet.reservations (id, resource_type, resource_id, units, need, incarnation, worker_id, priority, reserved_at,
        lease_expires_at, account, grant_id, ticket)
    VALUES (nextval('fleet.fencing_token'), 'api_quota', named, estimated_requests, 1, reserve_api_quota.incarnation,
        reserve_api_quota.worker_id, reserve_api_quota.priority, real, real + make_interval(secs => duration_minutes * 60),
        reserve_api_quota.account, (answer->>'grant_id')::bigint, reserve_api_quota.ticket)
    RETURNING * INTO held;
    RETURN fleet.tell_reservation(held);
END $$;

-- The account that an api_quota's id names: all that is after its first @; without one the default. Pure.
CREATE OR REPLACE FUNCTION fleet.quota_account(resource_id text) RETURNS text
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN CASE WHEN strpos(resource_id, '@') > 0 THEN substr(resource_id, strpos(resource_id, '@') + 1) ELSE 'default' END;

-- FL001 unless the account is one that there is, or the default one, which has its limits whether anybody made it or not. Locks nothing.
CREATE OR REPLACE FUNCTION fleet.require_quota_account(account text) RETURNS void
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF account IS DISTINCT FROM 'default' THEN
        PERFORM fleet.require_account(account);
    END IF;
END $$;

-- One request out of a quota that is still one's own: a grant, to be settled with record_usage; else says why it is lost. Locks the
-- quota's row, then the endpoint's and its pools'. Flushed.
CREATE OR REPLACE FUNCTION fleet.use_api_quota(incarnation uuid, reservation_id bigint) RETURNS jsonb
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET lock_timeout = '5s' AS $$
DECLARE
    held fleet.reservations;
    answer jsonb;
BEGIN
    PERFORM fleet.require_read_committed();
    PERFORM fleet.require_incarnation(incarnation);
    SELECT * INTO held FROM fleet.reservations r
    WHERE r.id = use_api_quota.reservation_id AND r.resource_type = 'api_quota' AND r.incarnation = use_api_quota.incarnation
      AND r.ended_at IS NULL FOR UPDATE;
    IF NOT FOUND OR held.lease_expires_at <= clock_timestamp()
        OR NOT EXISTS (SELECT 1 FROM fleet.rate_grants g WHERE g.id = held.grant_id AND g.settled_at IS NULL) THEN
        RETURN fleet.note_late(incarnation, reservation_id);
    END IF;
    answer := fleet.draw_unit(incarnation, held.grant_id, held.worker_id);
    IF NOT EXISTS (SELECT 1 FROM fleet.rate_grants g WHERE g.id = held.grant_id) THEN
        UPDATE fleet.reservations r SET ended_at = clock_timestamp(), end_reason = 'used_up' WHERE r.id = held.id;
    END IF;
    RETURN answer || jsonb_build_object('lost', false);
END $$;

-- Ends a quota whose row the caller holds, and gives back what was not drawn. Locks the endpoint's row and its pools'.
CREATE OR REPLACE FUNCTION fleet.end_quota(held fleet.reservations, why text) RETURNS void
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    PERFORM set_config('synchronous_commit', 'on', true);
    UPDATE fleet.reservations r SET ended_at = clock_timestamp(), end_reason = end_quota.why WHERE r.id = held.id;
    PERFORM fleet.drop_grant(held.grant_id);
END $$;

-- Ends quotas that outstayed their lease, or whose holder, the caller apart, lost its session lock: of one endpoint, or of all. Gives
-- how many. Passes over those in use; each lock is tried in a statement of its own. Then locks the rows that the requests go back to, all
-- at once in the order of their names: quota by quota it would come from a pool back to an endpoint before it, against who asks.
CREATE OR REPLACE FUNCTION fleet.end_lost_quotas(account text, endpoint text, me uuid) RETURNS integer
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    held fleet.reservations;
    lost fleet.reservations[] := '{}';
BEGIN
    FOR held IN
        SELECT * FROM fleet.reservations r
        WHERE r.resource_type = 'api_quota' AND r.ended_at IS NULL
          AND (end_lost_quotas.endpoint IS NULL OR r.resource_id = end_lost_quotas.endpoint AND r.account = end_lost_quotas.account)
        ORDER BY r.account, r.resource_id, r.id FOR UPDATE SKIP LOCKED
    LOOP
        IF held.lease_expires_at <= clock_timestamp() THEN
            held.end_reason := 'expired';
            lost := lost || held;
        ELSIF held.incarnation <> me AND fleet.is_suspected(held.incarnation) THEN
            held.end_reason := 'holder_died';
            lost := lost || held;
        END IF;
    END LOOP;
    PERFORM 1 FROM fleet.rate_limits l
    WHERE EXISTS (SELECT 1 FROM unnest(lost) q WHERE q.account = l.account AND fleet.counts_requests(l, q.resource_id))
    ORDER BY l.account, l.endpoint FOR UPDATE;
    FOREACH held IN ARRAY lost LOOP
        PERFORM fleet.end_quota(held, held.end_reason);
    END LOOP;
    RETURN cardinality(lost);
END $$;

-- The requests that are set aside of an endpoint and would go back to who asks: of leases that are over, and of holders, the caller
-- apart, that lost their session lock. Each lock is tried in a statement of its own.
CREATE OR REPLACE FUNCTION fleet.lost_quota_units(account text, endpoint text, me uuid) RETURNS integer
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    held record;
    lost integer := 0;
BEGIN
    FOR held IN
        SELECT r.incarnation, r.lease_expires_at, g.units FROM fleet.reservations r JOIN fleet.rate_grants g ON g.id = r.grant_id
        WHERE r.resource_type = 'api_quota' AND r.resource_id = lost_quota_units.endpoint AND r.account = lost_quota_units.account
          AND r.ended_at IS NULL AND g.settled_at IS NULL
    LOOP
        IF held.lease_expires_at <= clock_timestamp() THEN
            lost := lost + held.units;
        ELSIF held.incarnation <> me AND fleet.is_suspected(held.incarnation) THEN
            lost := lost + held.units;
        END IF;
    END LOOP;
    RETURN lost;
END $$;

-- Whether so many requests of an endpoint would be granted to a worker now, judged as the limiter judges a request; else its place and
-- when they would be, as far as that is known. Of a pool its row alone counts. For more than are ever granted at once, the most that are. Locks nothing.
CREATE OR REPLACE FUNCTION fleet.check_quota(
    incarnation uuid, endpoint text, account text, worker_id text, rank integer, units integer
) RETURNS jsonb
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    clock record;
    one fleet.rate_limits;
    own fleet.rate_limits;
    limits fleet.rate_limits[] := '{}';
    room integer := 1000000;
    few boolean := false;
    lost integer;
    kept integer;
    place record;
    expected record;
BEGIN
    SELECT * INTO clock FROM fleet.read_clock();
    FOR one IN SELECT * FROM fleet.peek_rate_rows(check_quota.account, check_quota.endpoint) LOOP
        one := fleet.weigh(one, clock.at, clock.rate, units);
        IF one.room < units THEN
            lost := fleet.lost_quota_units(one.account, check_quota.endpoint, check_quota.incarnation);
            one.unsettled := one.unsettled - lost;
            one.occupied := ARRAY(SELECT o - lost FROM unnest(one.occupied) o);
            one := fleet.weigh(one, clock.at, clock.rate, units);
        END IF;
        limits := limits || one;
        room := least(room, one.room);
        few := few OR fleet.few_left(one, clock.at);
    END LOOP;
    IF units > fleet.most_at_once(limits) THEN
        RETURN jsonb_build_object('most', fleet.most_at_once(limits));
    END IF;
    own := limits[1];
    own.critical_seen_at := CASE WHEN rank = 4 THEN clock.at ELSE own.critical_seen_at END;
    own.low_seen_at := CASE WHEN rank = 1 THEN clock.at ELSE own.low_seen_at END;
    own := fleet.count_kept(own, clock.at);
    -- Nobody stands in line for a pool as such, and nothing of it is kept.
    kept := CASE own.kind WHEN 'endpoint' THEN fleet.kept_for_others(own, rank, units, limits) ELSE 0 END;
    place := fleet.find_place(own, limits, check_quota.worker_id, rank, units, room - kept, few AND own.kind = 'endpoint', clock.at);
    IF place.granted AND NOT coalesce(own.blocked_until > clock.at, false) THEN
        RETURN jsonb_build_object('available', true, 'resource_id', own.endpoint);
    END IF;
    expected := fleet.expect_units(limits, own, place, units, room, kept, clock.at);
    RETURN jsonb_build_object('available', false, 'resource_id', own.endpoint, 'queue_position', place.requests_ahead + 1,
        'estimated_wait_minutes', round(greatest(0, extract(epoch FROM
            CASE WHEN own.blocked_until > clock.at THEN own.blocked_until ELSE expected.opens END - clock.at) / 60)::numeric, 6));
END $$;

-- The same for what an api_quota's id names, see reserve_resource; without one for whichever endpoint of the default account, or pool
-- for the kind rate, has them soonest. FL001 for more than are ever granted at once. Locks nothing.
CREATE OR REPLACE FUNCTION fleet.check_quotas(
    incarnation uuid, resource_id text, kind text, worker_id text, rank integer, units integer
) RETURNS jsonb
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    account text := fleet.quota_account(resource_id);
    named text;
    answer jsonb;
    soonest jsonb;
    most integer := 0;
BEGIN
    PERFORM fleet.require_quota_account(account);
    FOR named IN
        SELECT fleet.quota_row(split_part(check_quotas.resource_id, '@', 1), check_quotas.kind) WHERE check_quotas.resource_id IS NOT NULL
        UNION
        SELECT fleet.quota_row(r.endpoint, NULL) FROM fleet.rate_limits r
        WHERE check_quotas.resource_id IS NULL AND r.account IN ('default', '*')
          AND r.kind = CASE check_quotas.kind WHEN 'rate' THEN 'pool' ELSE 'endpoint' END
        ORDER BY 1
    LOOP
        answer := fleet.check_quota(check_quotas.incarnation, named, account, check_quotas.worker_id,
            CASE check_quotas.kind WHEN 'priority' THEN 4 ELSE check_quotas.rank END, check_quotas.units);
        IF (answer->>'available')::boolean THEN
            RETURN answer;
        ELSIF answer ? 'most' THEN
            most := greatest(most, (answer->>'most')::integer);
        ELSIF soonest IS NULL OR (answer->>'estimated_wait_minutes')::numeric < (soonest->>'estimated_wait_minutes')::numeric THEN
            soonest := answer;
        END IF;
    END LOOP;
    IF soonest IS NULL THEN
        PERFORM fleet.refuse('units', units::text, 'at most ' || most || ' at a time');
    END IF;
    RETURN soonest;
END $$;

-- The pools of the rate limiter, as pools: each account's, also before its first request. Locks nothing.
CREATE OR REPLACE FUNCTION fleet.describe_api_pools(incarnation uuid, resource_id text) RETURNS jsonb
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    RETURN coalesce((
        SELECT jsonb_agg(p.told ORDER BY p.told->>'account', p.told->>'resource_id') FROM (
        SELECT jsonb_build_object('resource_type', 'api_quota', 'resource_id', s->'endpoint', 'account', s->'account',
            'kind', 'rate', 'window_s', s->'window_s', 'total_capacity', s->'limit', 'available_capacity', s->'remaining',
            'reserved_capacity', s->'used', 'waiting_queue', s->'requests_queued', 'utilization_percent', s->'utilization_percent',
            'health', s->'health', 'held', h.units) AS told
        FROM jsonb_array_elements(fleet.get_system_status(incarnation)) s
        JOIN fleet.rate_limits r ON r.account = s->>'account' AND r.endpoint = s->>'endpoint' AND r.kind = 'pool',
            LATERAL (SELECT fleet.held_units(r) AS units) h
        UNION ALL
        SELECT jsonb_build_object('resource_type', 'api_quota', 'resource_id', d.endpoint, 'account', a.name,
            'kind', 'rate', 'window_s', d.window_s, 'total_capacity', d.requests, 'available_capacity', d.requests,
            'reserved_capacity', 0, 'waiting_queue', 0, 'utilization_percent', 0, 'health', 'healthy', 'held', 0)
        FROM fleet.rate_limits d CROSS JOIN fleet.accounts a
        WHERE d.account = '*' AND d.kind = 'pool'
          AND NOT EXISTS (SELECT 1 FROM fleet.rate_limits r WHERE r.account = a.name AND r.endpoint = d.endpoint)) p
        WHERE describe_api_pools.resource_id IS NULL OR p.told->>'resource_id' = describe_api_pools.resource_id), '[]');
END $$;
