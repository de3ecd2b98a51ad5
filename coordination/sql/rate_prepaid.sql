-- Prepaid units: where an endpoint has much room and many ask, whoever decides under its row takes some for those who come next. They
-- count as used in every window from then on, and are given out by one narrow row, with no decision. So a hot limit costs its wide rows
-- and its pools' an update for each batch and not for each request. Whoever decides next takes back what is left of them.

-- The most that may be prepaid of a row: fewer than are flushed together, so that a crash forgets no more than it would without; nothing
-- where that is fewer than ten. Pure.
CREATE OR REPLACE FUNCTION fleet.most_prepaid(one fleet.rate_limits) RETURNS integer
LANGUAGE sql IMMUTABLE
RETURN CASE WHEN one.flush_every > 10 THEN one.flush_every - 1 ELSE 0 END;

-- How long prepaid units may be given out. A request takes 13 s at most, so that it is counted within the delay that windows allow for.
CREATE OR REPLACE FUNCTION fleet.prepaid_for() RETURNS interval
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN interval '1 second';

-- One prepaid unit as a grant; null where there is none, or the request is not one that can be made: whoever decides says why. The first
-- critical and low request in an hour is decided too, so that it is known that there are some. Waits for who takes of the same row, or
-- prepays; where that changes nothing in it, what holds at the call counts. The row may stay locked, as it is the first of those that a
-- decision takes. Not flushed: what was prepaid is counted.
CREATE OR REPLACE FUNCTION fleet.draw_prepaid(
    incarnation uuid, endpoint text, worker_id text, priority text, account text, ticket uuid
) RETURNS bigint
LANGUAGE plpgsql VOLATILE AS $$
DECLARE
    drawn bigint;
BEGIN
    IF (length(worker_id) BETWEEN 1 AND 200 AND priority IN ('low', 'medium', 'high', 'critical')
        AND current_setting('transaction_isolation') = 'read committed') IS NOT TRUE THEN
        RETURN NULL;
    END IF;
    -- One statement of few tables, for speed: the fleet's clock is known since the units were paid. Its times are read for the row that
    -- is inserted: after the wait for the unit.
    WITH unit AS (
        UPDATE fleet.rate_prepaid p SET units = p.units - 1
        WHERE p.account = draw_prepaid.account AND p.endpoint = draw_prepaid.endpoint AND p.units > 0
          AND p.paid_real_at > clock_timestamp() - fleet.prepaid_for()
          AND EXISTS (SELECT FROM fleet.incarnations i WHERE i.id = draw_prepaid.incarnation AND i.ended_at IS NULL)
          AND p.paid_real_at > (SELECT r.voided_at FROM fleet.rate_limits r
              WHERE r.account = draw_prepaid.account AND r.endpoint = draw_prepaid.endpoint
                AND (priority IN ('medium', 'high')
                  OR CASE priority WHEN 'low' THEN r.low_seen_at ELSE r.critical_seen_at END > fleet.now() - interval '1 hour'))
        RETURNING p.account, p.endpoint, p.paid_at, p.paid_real_at, p.rate
    )
    INSERT INTO fleet.rate_grants (account, endpoint, incarnation, worker_id, priority, granted_at, granted_real_at, frees_at, ticket)
    SELECT u.account, u.endpoint, draw_prepaid.incarnation, draw_prepaid.worker_id, draw_prepaid.priority,
        u.paid_at + (clock_timestamp() - u.paid_real_at) * u.rate, clock_timestamp(), 'infinity', draw_prepaid.ticket
    FROM unit u
    RETURNING id INTO drawn;
    RETURN drawn;
END $$;

-- An endpoint's row of prepaid units, locked; made where it is missing. Before the rows of limits, always: who draws of it may hold it
-- still, and go on to decide.
CREATE OR REPLACE FUNCTION fleet.lock_prepaid(account text, endpoint text) RETURNS fleet.rate_prepaid
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    prepaid fleet.rate_prepaid;
BEGIN
    FOR attempt IN 1 .. 2 LOOP
        SELECT * INTO prepaid FROM fleet.rate_prepaid p
        WHERE p.account = lock_prepaid.account AND p.endpoint = lock_prepaid.endpoint FOR UPDATE;
        EXIT WHEN FOUND;
        INSERT INTO fleet.rate_prepaid (account, endpoint, units, batch, paid_at, paid_real_at, rate)
        SELECT lock_prepaid.account, lock_prepaid.endpoint, 0, 1, '-infinity', '-infinity', 1
        WHERE lock_prepaid.account IS NOT NULL AND lock_prepaid.endpoint IS NOT NULL ON CONFLICT DO NOTHING;
    END LOOP;
    RETURN prepaid;
END $$;

-- Units that were prepaid are given out no more until somebody has decided anew. Under the endpoint's row.
CREATE OR REPLACE FUNCTION fleet.void_prepaid(account text, endpoint text) RETURNS void
LANGUAGE sql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
    UPDATE fleet.rate_limits r SET voided_at = clock_timestamp()
    WHERE r.account = void_prepaid.account AND r.endpoint = void_prepaid.endpoint
$$;

-- What is left of prepaid units goes back to the rows' copies, which the caller holds and keeps: see with_units_back. The row that it
-- gives has none, and as many as were used for the next batch. Writes the one row.
CREATE OR REPLACE FUNCTION fleet.take_back_prepaid(
    prepaid fleet.rate_prepaid, limits fleet.rate_limits[], at timestamptz,
    OUT emptied fleet.rate_prepaid, OUT freed fleet.rate_limits[]
)
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    UPDATE fleet.rate_prepaid p SET units = 0, batch = greatest(1, p.batch - p.units), paid_real_at = '-infinity'
    WHERE p.account = prepaid.account AND p.endpoint = prepaid.endpoint RETURNING * INTO emptied;
    freed := fleet.with_units_back(limits, prepaid.units, prepaid.paid_at, at);
END $$;

-- The same for the other endpoints of an account whose prepaid units nobody came for: they stand in the way in pools. Waits for nobody:
-- what others hold is left to them. Says whether there were any. The caller holds rows of limits, and reads them anew.
CREATE OR REPLACE FUNCTION fleet.take_back_idle(account text, at timestamptz) RETURNS boolean
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    idle fleet.rate_prepaid;
    limits fleet.rate_limits[];
    one fleet.rate_limits;
    found_some boolean := false;
BEGIN
    FOR idle IN
        WITH free AS MATERIALIZED (
            SELECT * FROM fleet.rate_prepaid p
            WHERE p.account = take_back_idle.account AND p.units > 0 AND p.paid_real_at < clock_timestamp() - fleet.prepaid_for()
            FOR UPDATE SKIP LOCKED)
        SELECT * FROM free ORDER BY free.endpoint
    LOOP
        WITH free AS MATERIALIZED (
            SELECT l AS whole FROM fleet.rate_limits l
            WHERE l.account = idle.account AND fleet.counts_requests(l, idle.endpoint) FOR UPDATE SKIP LOCKED)
        SELECT array_agg(f.whole) INTO limits FROM free f;
        CONTINUE WHEN coalesce(cardinality(limits), 0) < (SELECT count(*) FROM fleet.rate_limits l
            WHERE l.account = idle.account AND fleet.counts_requests(l, idle.endpoint));
        FOREACH one IN ARRAY (fleet.take_back_prepaid(idle, limits, at)).freed LOOP
            PERFORM fleet.keep_rate_limit(one);
        END LOOP;
        found_some := true;
    END LOOP;
    RETURN found_some;
END $$;

-- How many units to prepay for who comes next, in rows that gave a unit just now: as many as were asked for within the last second, or
-- twice as many as they lasted for; none unless all windows are less than half used then, and have room for four times as many. Pure.
CREATE OR REPLACE FUNCTION fleet.units_to_prepay(limits fleet.rate_limits[], batch integer) RETURNS integer
LANGUAGE plpgsql IMMUTABLE AS $$
DECLARE
    one fleet.rate_limits;
    units integer := batch;
BEGIN
    FOREACH one IN ARRAY limits LOOP
        units := least(units, fleet.most_prepaid(one), one.room / 4);
        FOR i IN 1 .. cardinality(one.limits) LOOP
            units := least(units, one.limits[i] / 2 - one.occupied[i] - 1);
        END LOOP;
    END LOOP;
    RETURN greatest(0, units);
END $$;

-- Prepays for who comes next; gives how many, which the caller counts in every row. Writes the row that it holds.
CREATE OR REPLACE FUNCTION fleet.prepay(
    limits fleet.rate_limits[], was fleet.rate_prepaid, own fleet.rate_limits
) RETURNS integer
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    spare integer;
    clock record;
BEGIN
    SELECT c.at, c.rate, clock_timestamp() AS real INTO clock FROM fleet.read_clock() c;
    spare := fleet.units_to_prepay(limits, CASE WHEN was.units = 0 AND was.paid_real_at > clock.real - fleet.prepaid_for() THEN was.batch * 2
        ELSE was.batch - was.units END);
    spare := CASE WHEN spare > 1 THEN spare ELSE 0 END;
    UPDATE fleet.rate_prepaid p SET units = spare, batch = greatest(1, spare), paid_at = clock.at, paid_real_at = clock.real, rate = clock.rate
    WHERE p.account = own.account AND p.endpoint = own.endpoint;
    RETURN spare;
END $$;
