-- Shared state: values that processes share, each with a version that rises with every change of anything and is never given twice. Who
-- read a version changes the value only while it is that version.

-- FL001 unless the two can name a value. Locks nothing.
CREATE OR REPLACE FUNCTION fleet.require_state_key(namespace text, key text) RETURNS void
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF namespace IS NULL OR namespace !~ '^[a-z][a-z0-9_.-]{0,62}$' THEN
        PERFORM fleet.refuse('namespace', namespace, 'a lower-case name of 1 to 63 letters, digits and _.-');
    END IF;
    IF key IS NULL OR length(key) NOT BETWEEN 1 AND 300 THEN
        PERFORM fleet.refuse('key', key, '1 to 300 characters');
    END IF;
END $$;

-- FL001 unless a value may be shared. Locks nothing.
CREATE OR REPLACE FUNCTION fleet.require_shared_value(value jsonb) RETURNS void
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF value IS NULL THEN
        PERFORM fleet.refuse('value', NULL, 'a JSON value');
    END IF;
    IF octet_length(value::text) > 262144 THEN
        PERFORM fleet.refuse('value', value::text, 'JSON of at most 262144 bytes');
    END IF;
END $$;

-- One value as its readers see it. Locks nothing.
CREATE OR REPLACE FUNCTION fleet.show_state(known fleet.state) RETURNS jsonb
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN jsonb_build_object('namespace', known.namespace, 'key', known.key, 'value', known.value, 'version', known.version,
    'changed_by', known.changed_by, 'changed_at', known.changed_at);

-- One value with its version; null when there is none. Locks nothing; one row read.
CREATE OR REPLACE FUNCTION fleet.get_state(incarnation uuid, namespace text, key text) RETURNS jsonb
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    RETURN (SELECT fleet.show_state(s) FROM fleet.state s WHERE s.namespace = get_state.namespace AND s.key = get_state.key);
END $$;

-- Sets a value, whatever it was; gives it with its new version. One upsert, flushed.
CREATE OR REPLACE FUNCTION fleet.set_state(incarnation uuid, namespace text, key text, value jsonb) RETURNS jsonb
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET lock_timeout = '5s' AS $$
DECLARE
    life fleet.incarnations;
    changed fleet.state;
BEGIN
    PERFORM fleet.require_read_committed();
    life := fleet.require_incarnation(incarnation);
    PERFORM fleet.require_state_key(set_state.namespace, set_state.key);
    PERFORM fleet.require_shared_value(set_state.value);
    PERFORM set_config('synchronous_commit', 'on', true);
    -- The row's lock first, then the version: so that of two changes the later one has the higher.
    PERFORM 1 FROM fleet.state s WHERE s.namespace = set_state.namespace AND s.key = set_state.key FOR UPDATE;
    INSERT INTO fleet.state (namespace, key, value, version, changed_by, incarnation, changed_at)
    VALUES (set_state.namespace, set_state.key, set_state.value, nextval('fleet.state_version'), life.worker || '/' || life.slot, life.id,
        fleet.now())
    ON CONFLICT ON CONSTRAINT state_pkey DO UPDATE SET value = excluded.value, version = nextval('fleet.state_version'),
        changed_by = excluded.changed_by, incarnation = excluded.incarnation, changed_at = excluded.changed_at
    RETURNING * INTO changed;
    RETURN fleet.show_state(changed);
END $$;

-- Sets a value if its version is the expected one; 0 expects that there is none. Gives {"changed", "state"}: the new value, or the one that
-- is there instead. Takes the row for one update; flushed.
CREATE OR REPLACE FUNCTION fleet.compare_and_set_state(incarnation uuid, namespace text, key text, expected_version bigint, value jsonb)
RETURNS jsonb
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET lock_timeout = '5s' AS $$
DECLARE
    life fleet.incarnations;
    changed fleet.state;
BEGIN
    PERFORM fleet.require_read_committed();
    life := fleet.require_incarnation(incarnation);
    PERFORM fleet.require_state_key(compare_and_set_state.namespace, compare_and_set_state.key);
    PERFORM fleet.require_shared_value(compare_and_set_state.value);
    IF expected_version IS NULL OR expected_version < 0 THEN
        PERFORM fleet.refuse('expected_version', expected_version::text, 'the version that was read, or 0 where there is no value');
    END IF;
    PERFORM set_config('synchronous_commit', 'on', true);
    IF expected_version = 0 THEN
        INSERT INTO fleet.state (namespace, key, value, version, changed_by, incarnation, changed_at)
        VALUES (compare_and_set_state.namespace, compare_and_set_state.key, compare_and_set_state.value, nextval('fleet.state_version'),
            life.worker || '/' || life.slot, life.id, fleet.now())
        ON CONFLICT ON CONSTRAINT state_pkey DO NOTHING RETURNING * INTO changed;
    ELSE
        UPDATE fleet.state s SET value = compare_and_set_state.value, version = nextval('fleet.state_version'),
            changed_by = life.worker || '/' || life.slot, incarnation = life.id, changed_at = fleet.now()
        WHERE s.namespace = compare_and_set_state.namespace AND s.key = compare_and_set_state.key AND s.version = expected_version
        RETURNING * INTO changed;
    END IF;
    RETURN jsonb_build_object('changed', changed.key IS NOT NULL, 'state', CASE WHEN changed.key IS NOT NULL THEN fleet.show_state(changed)
        ELSE fleet.get_state(incarnation, compare_and_set_state.namespace, compare_and_set_state.key) END);
END $$;

-- Deletes a value, if its version is the expected one where one is given; whether it did. One row, flushed.
CREATE OR REPLACE FUNCTION fleet.delete_state(incarnation uuid, namespace text, key text, expected_version bigint DEFAULT NULL) RETURNS boolean
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET lock_timeout = '5s' AS $$
BEGIN
    PERFORM fleet.require_read_committed();
    PERFORM fleet.require_incarnation(incarnation);
    PERFORM fleet.require_state_key(delete_state.namespace, delete_state.key);
    PERFORM set_config('synchronous_commit', 'on', true);
    DELETE FROM fleet.state s WHERE s.namespace = delete_state.namespace AND s.key = delete_state.key
      AND (delete_state.expected_version IS NULL OR s.version = delete_state.expected_version);
    RETURN FOUND;
END $$;

-- The values of a namespace whose keys begin with a prefix, in key order, up to n behind a key; all from one snapshot. Locks nothing; one
-- range read.
CREATE OR REPLACE FUNCTION fleet.list_state(
    incarnation uuid, namespace text, prefix text DEFAULT '', after_key text DEFAULT NULL, n integer DEFAULT 100
) RETURNS jsonb
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    PERFORM fleet.require_batch(n);
    RETURN coalesce((SELECT jsonb_agg(shown.state ORDER BY shown.key) FROM (
        SELECT s.key, fleet.show_state(s) AS state FROM fleet.state s WHERE s.namespace = list_state.namespace AND starts_with(s.key, coalesce(prefix, ''))
          AND (after_key IS NULL OR s.key > after_key) ORDER BY s.key LIMIT n) shown), '[]');
END $$;
