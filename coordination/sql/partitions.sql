-- Partitions: what ended lies in one table a day of UTC, and goes as a whole. Rows of a day that has none lie in the default partition.

-- Makes the partitions of today and the next three days, and those of days whose rows lie in the default one, which move. Takes the
-- default partition alone while it does; gives how many it made. With nothing to make it is one look at the catalogue.
CREATE OR REPLACE FUNCTION fleet.make_partitions(parent text) RETURNS integer
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp SET lock_timeout = '2s' AS $$
DECLARE
    by_column text := CASE parent WHEN 'runs' THEN 'started_at' WHEN 'jobs_finished' THEN 'finished_at' END;
    today date;
    days date[];
    day date;
    part text;
    made integer := 0;
BEGIN
    PERFORM pg_advisory_xact_lock(fleet.lock_key('partitions', parent));
    today := (fleet.now() AT TIME ZONE 'UTC')::date;
    EXECUTE format('SELECT ARRAY(SELECT DISTINCT (%I AT TIME ZONE ''UTC'')::date FROM fleet.%I)', by_column, parent || '_rest') INTO days;
    IF EXISTS (SELECT 1 FROM unnest(days) d WHERE d >= today) THEN
        -- What is written there meanwhile would not fit the day that is taken out of it.
        EXECUTE format('LOCK TABLE fleet.%I IN ACCESS EXCLUSIVE MODE', parent || '_rest');
        EXECUTE format('SELECT ARRAY(SELECT DISTINCT (%I AT TIME ZONE ''UTC'')::date FROM fleet.%I)', by_column, parent || '_rest') INTO days;
    END IF;
    FOR day IN SELECT unnest(days) UNION SELECT today + n FROM generate_series(0, 3) n ORDER BY 1 LOOP
        part := parent || '_' || to_char(day, 'YYYYMMDD');
        CONTINUE WHEN to_regclass('fleet.' || part) IS NOT NULL;
        -- Made apart and attached: others go on writing to the other partitions.
        EXECUTE format('CREATE TABLE fleet.%I (LIKE fleet.%I INCLUDING ALL)', part, parent);
        EXECUTE format('GRANT SELECT ON fleet.%I TO fleet_console, fleet_reader, fleet_maintainer', part);
        IF day = ANY(days) THEN
            EXECUTE format('WITH moved AS (DELETE FROM fleet.%I WHERE %I >= %L AND %I < %L RETURNING *) INSERT INTO fleet.%I SELECT * FROM moved',
                parent || '_rest', by_column, day || ' 00:00:00+00', by_column, day + 1 || ' 00:00:00+00', part);
        END IF;
        EXECUTE format('ALTER TABLE fleet.%I ATTACH PARTITION fleet.%I FOR VALUES FROM (%L) TO (%L)', parent, part,
            day || ' 00:00:00+00', day + 1 || ' 00:00:00+00');
        made := made + 1;
    END LOOP;
    RETURN made;
END $$;

-- Drops the partitions of days that were over before `before`; gives how many rows went. Takes the whole table for a moment, and gives
-- up after two seconds of waiting for it: the next sweep tries again.
CREATE OR REPLACE FUNCTION fleet.drop_partitions(parent text, before timestamptz) RETURNS integer
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp SET lock_timeout = '2s' AS $$
DECLARE
    part text;
    number bigint;
    dropped bigint := 0;
BEGIN
    PERFORM pg_advisory_xact_lock(fleet.lock_key('partitions', parent));
    FOR part IN
        SELECT c.relname FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid
        WHERE i.inhparent = to_regclass('fleet.' || parent) AND c.relname ~ ('^' || parent || '_[0-9]{8}$')
          AND (to_date(right(c.relname, 8), 'YYYYMMDD') + 1)::timestamp AT TIME ZONE 'UTC' <= before
        ORDER BY c.relname
    LOOP
        EXECUTE format('SELECT count(*) FROM fleet.%I', part) INTO number;
        EXECUTE format('DROP TABLE fleet.%I', part);
        dropped := dropped + number;
    END LOOP;
    RETURN least(dropped, 2147483647);
END $$;
