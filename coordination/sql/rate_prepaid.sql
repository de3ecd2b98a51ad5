-- Prepaid units: where an endpoint has much room and many ask, whoever decides under its row takes some for those who come next. They
-- count as used in every window from then on, and are given out by one narrow row, with no decision. So a hot limit costs its wide rows
-- and its pools' an update for each batch and not for each request. Whoever decides next takes back what is left of them.

-- The most that may be prepaid of a row: fewer than are flushed together, so that a crash forgets no more than it would without; nothing
-- where that is fewer than ten. Pure.
CREATE OR REPLACE FUNCTION fleet.most_prepaid(one fleet.rate_limits) RETURNS integer
LANGUAGE sql IMMUTABLE
RETURN CASE WHEN one.flush_every > 10 THEN one.flush_every - 1 ELSE 0 END;

-- Units of these endpoints that are prepaid now. Locks nothing.
CREATE OR REPLACE FUNCTION fleet.prepaid_units(account text, endpoints text[]) RETURNS integer
LANGUAGE sql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
    SELECT coalesce(sum(p.units), 0)::integer FROM fleet.rate_prepaid p
    WHERE p.account = prepaid_units.account AND p.endpoint = ANY (prepaid_units.endpoints)
$$;

-- How long prepaid units may be given out. A request takes 13 s at most, so that it is counted within the delay that windows allow for.
CREATE OR REPLACE FUNCTION fleet.prepaid_for() RETURNS interval
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN interval '1 second';

-- One prepaid unit as a grant; null where there is none, or the request is not one that can be made: whoever decides says why. Waits for
-- who takes of the same row, or prepays; the row may stay locked, as it is the first of those that a decision takes. Not flushed: what
-- was prepaid is counted.
CREATE OR REPLACE FUNCTION fleet.draw_prepaid(
    incarnation uuid, endpoint text, worker_id text, priority text, account text, ticket uuid
) RETURNS bigint
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    drawn bigint;
BEGIN
    IF length(worker_id) NOT BETWEEN 1 AND 200 OR priority NOT IN ('low', 'medium', 'high', 'critical') THEN
        RETURN NULL;
    END IF;
    -- One statement, for speed. Its times are read for the row that is inserted: after the wait for the unit.
    WITH unit AS (
        UPDATE fleet.rate_prepaid p SET units = p.units - 1
        WHERE p.account = draw_prepaid.account AND p.endpoint = draw_prepaid.endpoint AND p.units > 0
          AND p.paid_at > clock_timestamp() - fleet.prepaid_for()
          AND p.paid_at > (SELECT r.voided_at FROM fleet.rate_limits r
              WHERE r.account = draw_prepaid.account AND r.endpoint = draw_prepaid.endpoint)
        RETURNING p.account, p.endpoint
    )
    INSERT INTO fleet.rate_grants (account, endpoint, incarnation, worker_id, priority, granted_at, granted_real_at, frees_at, ticket)
    SELECT u.account, u.endpoint, draw_prepaid.incarnation, draw_prepaid.worker_id, draw_prepaid.priority,
        coalesce((SELECT c.fleet0 + (clock_timestamp() - c.real0) * c.rate FROM fleet.clock c WHERE u.account IS NOT NULL), clock_timestamp()),
        clock_timestamp(), 'infinity', draw_prepaid.ticket
    FROM unit u
    RETURNING id INTO drawn;
    RETURN drawn;
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
    RETURN CASE WHEN units > 1 THEN units ELSE 0 END;
END $$;

-- Prepays for who comes next; gives how many, which the caller counts in every row. Writes the row that it holds, or makes the first: to
-- wait for one that somebody else has made meanwhile would be against the order of locks.
CREATE OR REPLACE FUNCTION fleet.prepay(limits fleet.rate_limits[], was fleet.rate_prepaid, own fleet.rate_limits) RETURNS integer
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    real timestamptz;
    spare integer;
BEGIN
    real := clock_timestamp();
    IF was.account IS NULL THEN
        INSERT INTO fleet.rate_prepaid (account, endpoint, units, batch, paid_at) VALUES (own.account, own.endpoint, 0, 1, real)
        ON CONFLICT DO NOTHING;
        RETURN 0;
    END IF;
    spare := fleet.units_to_prepay(limits, CASE WHEN was.units = 0 AND was.paid_at > real - fleet.prepaid_for() THEN was.batch * 2
        ELSE was.batch - was.units END);
    UPDATE fleet.rate_prepaid p SET units = spare, batch = greatest(1, spare), paid_at = real
    WHERE p.account = own.account AND p.endpoint = own.endpoint;
    RETURN spare;
END $$;
