-- Workers: the desired state, one row a worker that some host's program has.

-- Makes the row of a worker that was found in a program; leaves what persons set. A singleton has one slot at most.
CREATE OR REPLACE FUNCTION fleet.ensure_worker(
    name text, description text, enabled boolean DEFAULT true, roles text[] DEFAULT '{}', singleton boolean DEFAULT false
) RETURNS void
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET lock_timeout = '5s' AS $$
BEGIN
    INSERT INTO fleet.workers AS w (name, enabled, replicas, description, roles, singleton, changed_by, reason, changed_at)
    VALUES (ensure_worker.name, ensure_worker.enabled, 1, ensure_worker.description, ensure_worker.roles, ensure_worker.singleton,
        'manager', 'found in the program', fleet.now())
    ON CONFLICT ON CONSTRAINT workers_pkey DO UPDATE SET description = excluded.description, roles = excluded.roles,
        singleton = excluded.singleton, replicas = CASE WHEN excluded.singleton THEN least(w.replicas, 1) ELSE w.replicas END
        WHERE (w.description, w.roles, w.singleton) IS DISTINCT FROM (excluded.description, excluded.roles, excluded.singleton);
END $$;

-- FL001 unless it says where a worker may run: {} anywhere, {"host": one that the fleet knows}, {"labels": {name: value}}.
CREATE OR REPLACE FUNCTION fleet.require_placement(placement jsonb) RETURNS void
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    labels jsonb := require_placement.placement->'labels';
    is_fine boolean;
BEGIN
    is_fine := CASE WHEN require_placement.placement = '{}' THEN true
        WHEN require_placement.placement - 'host' = '{}' THEN jsonb_typeof(require_placement.placement->'host') = 'string'
        WHEN require_placement.placement - 'labels' = '{}' AND jsonb_typeof(labels) = 'object' THEN labels <> '{}'
            AND NOT EXISTS (SELECT 1 FROM jsonb_each(labels) l WHERE jsonb_typeof(l.value) <> 'string'
                OR l.key !~ '^[A-Za-z][A-Za-z0-9._/-]{0,62}$' OR l.value #>> '{}' !~ '^[A-Za-z0-9._/-]{0,63}$')
        ELSE false END;
    IF is_fine IS NOT TRUE THEN
        PERFORM fleet.refuse('placement', require_placement.placement::text,
            '{} for any host, {"host": "its name"} or {"labels": {"name": "value"}}');
    END IF;
    IF placement ? 'host' AND NOT EXISTS (SELECT 1 FROM fleet.hosts h WHERE h.name = placement->>'host') THEN
        PERFORM fleet.refuse('host', placement->>'host',
            'one of ' || coalesce((SELECT string_agg(h.name, ', ' ORDER BY h.name) FROM fleet.hosts h), '(none is known yet)'));
    END IF;
END $$;

-- FL001 unless it is null, which takes a limit away where it may be, or a whole number in a range.
CREATE OR REPLACE FUNCTION fleet.require_limit(args jsonb, name text, lowest integer, highest integer, may_be_none boolean) RETURNS void
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    given jsonb := require_limit.args->require_limit.name;
BEGIN
    IF given IS NULL OR (jsonb_typeof(given) = 'null' AND may_be_none) THEN
        RETURN;
    END IF;
    IF jsonb_typeof(given) <> 'number' OR given::text !~ '^-?[0-9]{1,9}$' OR given::text::integer NOT BETWEEN lowest AND highest THEN
        PERFORM fleet.refuse(require_limit.name, given #>> '{}', format('a whole number from %s to %s%s', lowest, highest,
            CASE WHEN may_be_none THEN ', or none' ELSE '' END));
    END IF;
END $$;
