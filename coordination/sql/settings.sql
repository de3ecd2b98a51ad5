-- Settings and flags: live values that persons change, of defined types, versioned, with author and reason.

-- The version of a change of settings or flags. One change at a time until its commit: with versions out of order a worker that
-- has seen the higher one would never read what the lower one changed.
CREATE OR REPLACE FUNCTION fleet.next_configuration_version() RETURNS bigint
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    PERFORM pg_advisory_xact_lock(fleet.lock_key('configuration', 'version'));
    RETURN nextval('fleet.configuration_version');
END $$;

-- The version of the newest change, 0 before the first. Locks nothing; the end of an index.
CREATE OR REPLACE FUNCTION fleet.configuration_version() RETURNS bigint
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    RETURN coalesce((SELECT max(h.version) FROM fleet.configuration_history h), 0);
END $$;

-- Keeps a change for good and calls the worker that it concerns, once it is committed: changes are rare, and a call that goes out with the
-- commit is lost by nobody who changes a value by hand. Inside its caller's transaction.
CREATE OR REPLACE FUNCTION fleet.keep_configuration(
    kind text, name text, version bigint, value jsonb, actor text, reason text, owner text
) RETURNS void
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    INSERT INTO fleet.configuration_history (kind, name, version, value, changed_by, reason, changed_at)
    VALUES (keep_configuration.kind, keep_configuration.name, keep_configuration.version, keep_configuration.value, left(actor, 200),
        left(keep_configuration.reason, 1000), fleet.now());
    IF keep_configuration.owner IS NOT NULL AND keep_configuration.owner <> 'fleet' THEN
        PERFORM pg_notify('fleet_wake', keep_configuration.owner || '/settings');
    END IF;
END $$;

-- Those of the known words that are most like one: by the pairs of letters they share. Locks nothing.
CREATE OR REPLACE FUNCTION fleet.near_words(word text, known text[]) RETURNS text
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    pairs text[] := ARRAY(SELECT DISTINCT substr(word, i, 2) FROM generate_series(1, length(word) - 1) i);
BEGIN
    RETURN (SELECT string_agg(n.k, ', ' ORDER BY n.likeness DESC, n.k) FROM (
        SELECT k, 2.0 * (SELECT count(*) FROM (SELECT DISTINCT substr(k, i, 2) AS pair FROM generate_series(1, length(k) - 1) i) p
            WHERE p.pair = ANY(pairs)) / (cardinality(pairs) + length(k)) AS likeness
        FROM unnest(known) k ORDER BY 2 DESC, 1 LIMIT 3) n WHERE n.likeness >= 0.4);
END $$;

-- What a definition allows, in words. Locks nothing.
CREATE OR REPLACE FUNCTION fleet.describe_setting(d fleet.setting_definitions) RETURNS text
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    bounds text := CASE WHEN d.lowest IS NOT NULL AND d.highest IS NOT NULL THEN format(' from %s to %s', d.lowest, d.highest)
        WHEN d.lowest IS NOT NULL THEN format(' of at least %s', d.lowest) WHEN d.highest IS NOT NULL THEN format(' of at most %s', d.highest)
        ELSE '' END;
    chosen text := (SELECT string_agg(c #>> '{}', ', ') FROM jsonb_array_elements(d.choices) c);
BEGIN
    RETURN CASE d.type WHEN 'int' THEN 'a whole number' || bounds WHEN 'number' THEN 'a number' || bounds WHEN 'bool' THEN 'true or false'
        WHEN 'text' THEN coalesce('one of ' || chosen, 'a text' || replace(bounds, ' from', ' with a length from'))
        WHEN 'list' THEN 'a list' || CASE bounds WHEN '' THEN '' ELSE ' with' || regexp_replace(bounds, '^ (from|of)', '') || ' items' END
            || coalesce(' among ' || chosen, '')
        ELSE 'JSON' END || CASE WHEN d.unit <> '' AND d.type IN ('int', 'number') THEN ' ' || d.unit ELSE '' END
        || CASE WHEN d.nullable THEN ', or null' ELSE '' END;
END $$;

-- The definition of a setting that may have this value. FL001 for a key that nobody defined, with those that are like it, and for a value
-- that it does not allow. Locks nothing.
CREATE OR REPLACE FUNCTION fleet.require_setting(key text, value jsonb) RETURNS fleet.setting_definitions
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    d fleet.setting_definitions;
    size numeric;
    is_allowed boolean;
BEGIN
    IF require_setting.key IS NULL OR require_setting.key !~ '^[a-z][a-z0-9_-]{0,126}$' THEN
        PERFORM fleet.refuse('key', require_setting.key, 'lower-case letters, digits, _ and -, beginning with a letter');
    END IF;
    SELECT * INTO d FROM fleet.setting_definitions s WHERE s.key = require_setting.key;
    IF NOT FOUND THEN
        PERFORM fleet.refuse('key', require_setting.key, coalesce('a setting that there is, such as '
            || fleet.near_words(require_setting.key, ARRAY(SELECT s.key FROM fleet.setting_definitions s)),
            'a setting that there is: see socialfleet settings list --all'));
    END IF;
    IF require_setting.value IS NULL THEN
        PERFORM fleet.refuse(require_setting.key, NULL, fleet.describe_setting(d));
    END IF;
    size := CASE WHEN d.type IN ('int', 'number') AND jsonb_typeof(value) = 'number' THEN (value #>> '{}')::numeric
        WHEN d.type = 'text' AND jsonb_typeof(value) = 'string' THEN length(value #>> '{}')
        WHEN d.type = 'list' AND jsonb_typeof(value) = 'array' THEN jsonb_array_length(value) END;
    is_allowed := CASE WHEN jsonb_typeof(value) = 'null' THEN d.nullable OR d.type = 'json'
        WHEN d.type = 'bool' THEN jsonb_typeof(value) = 'boolean' WHEN d.type = 'json' THEN true
        WHEN size IS NULL THEN false
        WHEN size < d.lowest OR size > d.highest THEN false
        WHEN d.type = 'int' THEN size = trunc(size)
        WHEN d.choices IS NULL THEN true
        WHEN d.type = 'list' THEN NOT EXISTS (SELECT 1 FROM jsonb_array_elements(require_setting.value) AS i(item)
            WHERE NOT d.choices @> jsonb_build_array(item))
        ELSE d.choices @> jsonb_build_array(require_setting.value) END;
    IF NOT is_allowed THEN
        PERFORM fleet.refuse(require_setting.key, require_setting.value::text, fleet.describe_setting(d));
    END IF;
    RETURN d;
END $$;

-- The worker that a flag is about. FL001 for a flag that nobody defined and no worker has, with those that are like it. Locks nothing.
CREATE OR REPLACE FUNCTION fleet.require_flag(name text) RETURNS text
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    owner text;
BEGIN
    IF require_flag.name IS NULL OR require_flag.name !~ '^[a-z][a-z0-9_-]{0,126}$' THEN
        PERFORM fleet.refuse('name', require_flag.name, 'lower-case letters, digits, _ and -, beginning with a letter');
    END IF;
    SELECT coalesce((SELECT f.owner FROM fleet.flag_definitions f WHERE f.name = require_flag.name),
        (SELECT w.name FROM fleet.workers w WHERE w.name || '_enabled' = require_flag.name)) INTO owner;
    IF owner IS NULL THEN
        PERFORM fleet.refuse('name', require_flag.name, coalesce('a flag that there is, such as '
            || fleet.near_words(require_flag.name, ARRAY(SELECT f.name FROM fleet.flag_definitions f
                UNION SELECT w.name || '_enabled' FROM fleet.workers w)), 'a flag that there is: a worker''s name and _enabled'));
    END IF;
    RETURN owner;
END $$;

-- A program says which settings and flags it has: [{"key", "owner", "type", ...}] as fleet.setting_definitions has them. What another
-- program has stays. Takes one lock, writes what changed, flushed; gives how many were new or other than before.
CREATE OR REPLACE FUNCTION fleet.register_settings(definitions jsonb, flags jsonb DEFAULT '[]') RETURNS integer
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET lock_timeout = '5s' AS $$
DECLARE
    changed integer;
    others integer;
BEGIN
    PERFORM fleet.require_read_committed();
    PERFORM pg_advisory_xact_lock(fleet.lock_key('configuration', 'definitions'));
    INSERT INTO fleet.setting_definitions AS s (key, owner, type, nullable, lowest, highest, choices, default_value, unit, description)
    SELECT d.key, d.owner, d.type, coalesce(d.nullable, false), d.lowest, d.highest, nullif(d.choices, 'null'),
        coalesce(d.default_value, 'null'), coalesce(d.unit, ''), coalesce(d.description, '')
    FROM jsonb_to_recordset(register_settings.definitions) AS d(key text, owner text, type text, nullable boolean, lowest double precision,
        highest double precision, choices jsonb, default_value jsonb, unit text, description text)
    ORDER BY d.key
    ON CONFLICT ON CONSTRAINT setting_definitions_pkey DO UPDATE SET owner = excluded.owner, type = excluded.type,
        nullable = excluded.nullable, lowest = excluded.lowest, highest = excluded.highest, choices = excluded.choices,
        default_value = excluded.default_value, unit = excluded.unit, description = excluded.description
    WHERE (s.owner, s.type, s.nullable, s.lowest, s.highest, s.choices, s.default_value, s.unit, s.description) IS DISTINCT FROM
        (excluded.owner, excluded.type, excluded.nullable, excluded.lowest, excluded.highest, excluded.choices, excluded.default_value,
            excluded.unit, excluded.description);
    GET DIAGNOSTICS changed = ROW_COUNT;
    INSERT INTO fleet.flag_definitions AS f (name, owner, description)
    SELECT d.name, d.owner, coalesce(d.description, '')
    FROM jsonb_to_recordset(register_settings.flags) AS d(name text, owner text, description text) ORDER BY d.name
    ON CONFLICT ON CONSTRAINT flag_definitions_pkey DO UPDATE SET owner = excluded.owner, description = excluded.description
    WHERE (f.owner, f.description) IS DISTINCT FROM (excluded.owner, excluded.description);
    GET DIAGNOSTICS others = ROW_COUNT;
    RETURN changed + others;
END $$;

-- One upsert with its version and its audit row, flushed; the worker that it belongs to is called. FL001 for a key that nobody defined and
-- a value that it does not allow. Waits for other changes of settings and flags.
CREATE OR REPLACE FUNCTION fleet.set_setting(key text, value jsonb, actor text, reason text) RETURNS jsonb
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET lock_timeout = '5s' AS $$
DECLARE
    d fleet.setting_definitions;
    changed fleet.settings;
    version bigint;
BEGIN
    PERFORM fleet.require_read_committed();
    PERFORM set_config('synchronous_commit', 'on', true);
    d := fleet.require_setting(set_setting.key, set_setting.value);
    version := fleet.next_configuration_version();
    PERFORM fleet.write_audit(actor, 'set_setting', set_setting.key, set_setting.reason,
        jsonb_build_object('value', set_setting.value,
            'before', (SELECT s.value FROM fleet.settings s WHERE s.key = set_setting.key)));
    INSERT INTO fleet.settings (key, value, version, changed_by, reason, changed_at)
    VALUES (set_setting.key, set_setting.value, version, actor, set_setting.reason, fleet.now())
    ON CONFLICT ON CONSTRAINT settings_pkey DO UPDATE SET value = excluded.value, version = excluded.version,
        changed_by = excluded.changed_by, reason = excluded.reason, changed_at = excluded.changed_at
    RETURNING * INTO changed;
    PERFORM fleet.keep_configuration('setting', changed.key, version, changed.value, actor, set_setting.reason, d.owner);
    RETURN to_jsonb(changed);
END $$;

-- Takes a setting back to its default; false where it had it. Audited, versioned, flushed; waits for other changes.
CREATE OR REPLACE FUNCTION fleet.unset_setting(key text, actor text, reason text) RETURNS boolean
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET lock_timeout = '5s' AS $$
DECLARE
    version bigint;
    gone fleet.settings;
BEGIN
    PERFORM fleet.require_read_committed();
    PERFORM set_config('synchronous_commit', 'on', true);
    version := fleet.next_configuration_version();
    DELETE FROM fleet.settings s WHERE s.key = unset_setting.key RETURNING * INTO gone;
    IF NOT FOUND THEN
        RETURN false;
    END IF;
    PERFORM fleet.write_audit(actor, 'unset_setting', gone.key, unset_setting.reason, jsonb_build_object('before', gone.value));
    PERFORM fleet.keep_configuration('setting', gone.key, version, NULL, actor, unset_setting.reason,
        (SELECT d.owner FROM fleet.setting_definitions d WHERE d.key = gone.key));
    RETURN true;
END $$;

-- The change that had a version. FL001 where the name had no such version. Locks nothing.
CREATE OR REPLACE FUNCTION fleet.require_version(kind text, name text, version bigint) RETURNS fleet.configuration_history
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    past fleet.configuration_history;
BEGIN
    SELECT * INTO past FROM fleet.configuration_history h
    WHERE h.kind = require_version.kind AND h.name = require_version.name AND h.version = require_version.version;
    IF NOT FOUND THEN
        PERFORM fleet.refuse('version', require_version.version::text, format('a version that %s had: %s', require_version.name,
            coalesce((SELECT string_agg(v.version::text, ', ' ORDER BY v.version DESC) FROM (SELECT h.version FROM fleet.configuration_history h
                WHERE h.kind = require_version.kind AND h.name = require_version.name ORDER BY h.version DESC LIMIT 10) v), 'it was never set')));
    END IF;
    RETURN past;
END $$;

-- Sets a setting back to what it was in a version: that value as a new version, or the default. As set_setting and unset_setting.
CREATE OR REPLACE FUNCTION fleet.revert_setting(key text, version bigint, actor text, reason text) RETURNS jsonb
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET lock_timeout = '5s' AS $$
DECLARE
    past fleet.configuration_history := fleet.require_version('setting', revert_setting.key, revert_setting.version);
BEGIN
    IF past.value IS NULL THEN
        PERFORM fleet.unset_setting(past.name, actor, revert_setting.reason);
    ELSE
        PERFORM fleet.set_setting(past.name, past.value, actor, revert_setting.reason);
    END IF;
    RETURN jsonb_build_object('key', past.name, 'value', past.value, 'is_default', past.value IS NULL);
END $$;

-- Gives a setting its first value and leaves one that is there alone.
CREATE OR REPLACE FUNCTION fleet.seed_setting(key text, value jsonb, actor text, reason text) RETURNS boolean
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET lock_timeout = '5s' AS $$
BEGIN
    PERFORM fleet.require_read_committed();
    PERFORM pg_advisory_xact_lock(fleet.lock_key('setting', seed_setting.key));
    IF EXISTS (SELECT 1 FROM fleet.settings s WHERE s.key = seed_setting.key) THEN
        RETURN false;
    END IF;
    PERFORM fleet.set_setting(seed_setting.key, seed_setting.value, seed_setting.actor, seed_setting.reason);
    RETURN true;
END $$;

-- Takes back what an actor seeded and nobody changed since, under one version; gives how many. Waits for other changes.
CREATE OR REPLACE FUNCTION fleet.unseed_settings(actor text, reason text) RETURNS integer
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET lock_timeout = '5s' AS $$
DECLARE
    seeded fleet.settings;
    version bigint;
    taken integer := 0;
BEGIN
    PERFORM fleet.require_read_committed();
    IF NOT EXISTS (SELECT 1 FROM fleet.settings s WHERE s.changed_by = unseed_settings.actor) THEN
        RETURN 0;
    END IF;
    PERFORM set_config('synchronous_commit', 'on', true);
    version := fleet.next_configuration_version();
    FOR seeded IN SELECT * FROM fleet.settings s WHERE s.changed_by = unseed_settings.actor ORDER BY s.key FOR UPDATE LOOP
        PERFORM fleet.write_audit(actor, 'unseed_setting', seeded.key, unseed_settings.reason,
            jsonb_build_object('before', seeded.value));
        DELETE FROM fleet.settings s WHERE s.key = seeded.key;
        PERFORM fleet.keep_configuration('setting', seeded.key, version, NULL, actor, unseed_settings.reason,
            (SELECT d.owner FROM fleet.setting_definitions d WHERE d.key = seeded.key));
        taken := taken + 1;
    END LOOP;
    RETURN taken;
END $$;

-- All settings under a prefix as one object. Locks nothing; one range read.
CREATE OR REPLACE FUNCTION fleet.get_settings(prefix text) RETURNS jsonb
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    RETURN coalesce((SELECT jsonb_object_agg(s.key, s.value) FROM fleet.settings s WHERE starts_with(s.key, prefix)), '{}');
END $$;

-- A number from a setting for use inside other functions: the default where it is absent, no number, or none that a span of
-- time can have, so that no setting can stop every lock and every send.
CREATE OR REPLACE FUNCTION fleet.setting_number(key text, fallback double precision) RETURNS double precision
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    found jsonb;
BEGIN
    SELECT s.value INTO found FROM fleet.settings s WHERE s.key = setting_number.key;
    RETURN CASE WHEN jsonb_typeof(found) <> 'number' THEN fallback
        WHEN found::numeric BETWEEN 0 AND 1000000 THEN found::double precision ELSE fallback END;
END $$;

-- One upsert with its version and its audit row, flushed; the worker that it is about is called. FL001 for a flag that nobody defined.
-- Waits for other changes of settings and flags.
CREATE OR REPLACE FUNCTION fleet.set_flag(name text, enabled boolean, actor text, reason text) RETURNS jsonb
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET lock_timeout = '5s' AS $$
DECLARE
    changed fleet.flags;
    version bigint;
    owner text;
BEGIN
    PERFORM fleet.require_read_committed();
    PERFORM set_config('synchronous_commit', 'on', true);
    owner := fleet.require_flag(set_flag.name);
    IF set_flag.enabled IS NULL THEN
        PERFORM fleet.refuse('enabled', NULL, 'true or false');
    END IF;
    version := fleet.next_configuration_version();
    PERFORM fleet.write_audit(actor, 'set_flag', set_flag.name, set_flag.reason,
        jsonb_build_object('enabled', set_flag.enabled));
    INSERT INTO fleet.flags (name, enabled, version, changed_by, reason, changed_at)
    VALUES (set_flag.name, set_flag.enabled, version, actor, set_flag.reason, fleet.now())
    ON CONFLICT ON CONSTRAINT flags_pkey DO UPDATE SET enabled = excluded.enabled, version = excluded.version,
        changed_by = excluded.changed_by, reason = excluded.reason, changed_at = excluded.changed_at
    RETURNING * INTO changed;
    PERFORM fleet.keep_configuration('flag', changed.name, version, to_jsonb(changed.enabled), actor, set_flag.reason, owner);
    RETURN to_jsonb(changed);
END $$;

-- Sets a flag back to what it was in a version, as a new version. As set_flag.
CREATE OR REPLACE FUNCTION fleet.revert_flag(name text, version bigint, actor text, reason text) RETURNS jsonb
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET lock_timeout = '5s' AS $$
DECLARE
    past fleet.configuration_history := fleet.require_version('flag', revert_flag.name, revert_flag.version);
BEGIN
    RETURN fleet.set_flag(past.name, (past.value #>> '{}')::boolean, actor, revert_flag.reason);
END $$;

-- A flag that nobody has set is on. Locks nothing; one row read.
CREATE OR REPLACE FUNCTION fleet.flag_enabled(name text) RETURNS boolean
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    RETURN coalesce((SELECT f.enabled FROM fleet.flags f WHERE f.name = flag_enabled.name), true);
END $$;
