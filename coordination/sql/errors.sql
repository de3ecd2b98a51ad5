-- How a function says no. Each refusal has a SQLSTATE of its own and a JSON detail; coordination/errors.py is its mirror.

-- FL001: a value that can't be used. Locks nothing.
CREATE OR REPLACE FUNCTION fleet.refuse(field text, value text, allowed text) RETURNS void
LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION '% is %: allowed is %', field, coalesce(quote_literal(left(value, 200)), 'missing'), allowed
        USING ERRCODE = 'FL001', DETAIL = json_build_object('field', field, 'value', left(value, 200), 'allowed', allowed);
END $$;

-- FL006: every primitive reads after it waited, which only READ COMMITTED allows. Locks nothing.
CREATE OR REPLACE FUNCTION fleet.require_read_committed() RETURNS void
LANGUAGE plpgsql AS $$
BEGIN
    IF current_setting('transaction_isolation') <> 'read committed' THEN
        RAISE EXCEPTION 'transaction_isolation is %: allowed is read committed', current_setting('transaction_isolation')
            USING ERRCODE = 'FL006', HINT = 'call fleet functions in autocommit, at the default isolation level';
    END IF;
END $$;

-- Turns a priority's name into its rank; refuses any other word. Locks nothing.
CREATE OR REPLACE FUNCTION fleet.priority_rank(priority text) RETURNS integer
LANGUAGE plpgsql AS $$
DECLARE
    rank integer := array_position(ARRAY['low', 'medium', 'high', 'critical'], priority);
BEGIN
    IF rank IS NULL THEN
        PERFORM fleet.refuse('priority', priority, 'low, medium, high or critical');
    END IF;
    RETURN rank;
END $$;

-- FL001 unless so many rows may be taken in one call. Locks nothing.
CREATE OR REPLACE FUNCTION fleet.require_batch(n integer) RETURNS void
LANGUAGE plpgsql AS $$
BEGIN
    IF n IS NULL OR n NOT BETWEEN 1 AND 1000 THEN
        PERFORM fleet.refuse('n', n::text, 'a whole number from 1 to 1000');
    END IF;
END $$;

-- FL001 unless work may be held for so long. Locks nothing.
CREATE OR REPLACE FUNCTION fleet.require_lease_s(lease_s double precision) RETURNS void
LANGUAGE plpgsql AS $$
BEGIN
    IF lease_s IS NULL OR NOT (lease_s > 0 AND lease_s <= 86400) THEN
        PERFORM fleet.refuse('lease_s', lease_s::text, 'more than 0, at most 86400 seconds');
    END IF;
END $$;
