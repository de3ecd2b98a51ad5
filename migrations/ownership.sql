-- Gives what the migrator made to the owner: SECURITY DEFINER functions run with that role's rights alone.
-- Takes each object's own lock; idempotent.

DO $$
DECLARE
    item record;
BEGIN
    FOR item IN
        SELECT format('ALTER %s %s OWNER TO fleet_owner', CASE c.relkind WHEN 'S' THEN 'SEQUENCE' ELSE 'TABLE' END,
            c.oid::regclass) AS statement
        FROM pg_class c WHERE c.relnamespace = 'fleet'::regnamespace AND c.relkind IN ('r', 'p', 'S')
          AND c.relowner <> 'fleet_owner'::regrole
          AND NOT EXISTS (SELECT 1 FROM pg_depend d WHERE d.objid = c.oid AND d.deptype IN ('a', 'i')
              AND c.relkind = 'S')
        UNION ALL
        SELECT format('ALTER FUNCTION %s OWNER TO fleet_owner', p.oid::regprocedure)
        FROM pg_proc p WHERE p.pronamespace = 'fleet'::regnamespace AND p.proowner <> 'fleet_owner'::regrole
    LOOP
        EXECUTE item.statement;
    END LOOP;
END $$;
