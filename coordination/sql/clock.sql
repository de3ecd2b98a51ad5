-- Time. Real time is the server's clock; fleet time follows fleet.clock, in rehearsals only (ADR-0005).

-- Locks nothing; reads no table.
CREATE OR REPLACE FUNCTION fleet.real_now() RETURNS timestamptz
LANGUAGE sql VOLATILE PARALLEL SAFE
RETURN clock_timestamp();

-- Locks nothing; one row read. With no fleet.clock row fleet time is real time.
CREATE OR REPLACE FUNCTION fleet.now() RETURNS timestamptz
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    RETURN coalesce((SELECT c.fleet0 + (clock_timestamp() - c.real0) * c.rate FROM fleet.clock c), clock_timestamp());
END $$;

-- Owner only. Moves fleet time on by `advance` and lets it run at `rate` from here; it never runs backwards. Readers wait for
-- the move: one who still saw a faster clock while it was made would be ahead of the time that follows.
CREATE OR REPLACE FUNCTION fleet.move_clock(advance interval, rate double precision DEFAULT 1) RETURNS timestamptz
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    moved timestamptz;
BEGIN
    IF advance < interval '0' THEN
        PERFORM fleet.refuse('advance', advance::text, 'an interval of zero or more: fleet time never runs backwards');
    END IF;
    -- Prepaid units carry the time by which they were paid: none is given out any more. Their table is before the clock, as with who
    -- decides: its rows are the first that it takes.
    LOCK TABLE fleet.rate_prepaid IN EXCLUSIVE MODE;
    LOCK TABLE fleet.clock IN ACCESS EXCLUSIVE MODE;
    UPDATE fleet.rate_prepaid SET paid_real_at = '-infinity';
    moved := fleet.now() + advance;
    INSERT INTO fleet.clock (real0, fleet0, rate) VALUES (clock_timestamp(), moved, move_clock.rate)
    ON CONFLICT (only_row) DO UPDATE SET real0 = excluded.real0, fleet0 = excluded.fleet0, rate = excluded.rate;
    RETURN moved;
END $$;
