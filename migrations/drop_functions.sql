-- Drops every function of the schema, in one statement, since some stand on others. In the upgrade's own transaction: whoever
-- calls one meanwhile finds the old or the new.

DO $$
DECLARE
    found text;
BEGIN
    SELECT string_agg(p.oid::regprocedure::text, ', ') INTO found
    FROM pg_proc p WHERE p.pronamespace = 'fleet'::regnamespace;
    IF found IS NOT NULL THEN
        EXECUTE 'DROP ROUTINE ' || found;
    END IF;
END $$;
