-- Settings and flags: live values that persons change, versioned, with author and reason.

-- The version of a change of settings or flags. One change at a time until its commit: with versions out of order a worker that
-- has seen the higher one would never read what the lower one changed.
CREATE OR REPLACE FUNCTION fleet.next_configuration_version() RETURNS bigint
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    PERFORM pg_advisory_xact_lock(fleet.lock_key('configuration', 'version'));
    RETURN nextval('fleet.configuration_version');
END $$;

-- One upsert and its audit row, flushed. Waits for other changes of settings and flags.
CREATE OR REPLACE FUNCTION fleet.set_setting(key text, value jsonb, actor text, reason text) RETURNS jsonb
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET lock_timeout = '5s' AS $$
DECLARE
    changed fleet.settings;
    version bigint;
BEGIN
    IF set_setting.key IS NULL OR set_setting.key !~ '^[a-z][a-z0-9_-]{0,126}$' THEN
        PERFORM fleet.refuse('key', set_setting.key, 'lower-case letters, digits, _ and -, beginning with a letter');
    END IF;
    IF set_setting.value IS NULL THEN
        PERFORM fleet.refuse('value', NULL, 'a JSON value');
    END IF;
    version := fleet.next_configuration_version();
    PERFORM fleet.write_audit(actor, 'set_setting', set_setting.key, set_setting.reason,
        jsonb_build_object('value', set_setting.value,
            'before', (SELECT s.value FROM fleet.settings s WHERE s.key = set_setting.key)));
    INSERT INTO fleet.settings (key, value, version, changed_by, reason, changed_at)
    VALUES (set_setting.key, set_setting.value, version, actor, set_setting.reason, fleet.now())
    ON CONFLICT ON CONSTRAINT settings_pkey DO UPDATE SET value = excluded.value, version = excluded.version,
        changed_by = excluded.changed_by, reason = excluded.reason, changed_at = excluded.changed_at
    RETURNING * INTO changed;
    RETURN to_jsonb(changed);
END $$;

-- Gives a setting its first value and leaves one that is there alone.
CREATE OR REPLACE FUNCTION fleet.seed_setting(key text, value jsonb, actor text, reason text) RETURNS boolean
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET lock_timeout = '5s' AS $$
BEGIN
    PERFORM pg_advisory_xact_lock(fleet.lock_key('setting', seed_setting.key));
    IF EXISTS (SELECT 1 FROM fleet.settings s WHERE s.key = seed_setting.key) THEN
        RETURN false;
    END IF;
    PERFORM fleet.set_setting(seed_setting.key, seed_setting.value, seed_setting.actor, seed_setting.reason);
    RETURN true;
END $$;

-- Takes back what an actor seeded and nobody changed since; gives how many.
CREATE OR REPLACE FUNCTION fleet.unseed_settings(actor text, reason text) RETURNS integer
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET lock_timeout = '5s' AS $$
DECLARE
    seeded fleet.settings;
    taken integer := 0;
BEGIN
    FOR seeded IN SELECT * FROM fleet.settings s WHERE s.changed_by = unseed_settings.actor ORDER BY s.key FOR UPDATE LOOP
        PERFORM fleet.write_audit(actor, 'unseed_setting', seeded.key, unseed_settings.reason,
            jsonb_build_object('before', seeded.value));
        DELETE FROM fleet.settings s WHERE s.key = seeded.key;
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

-- One upsert and its audit row, flushed. Waits for other changes of settings and flags.
CREATE OR REPLACE FUNCTION fleet.set_flag(name text, enabled boolean, actor text, reason text) RETURNS jsonb
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET lock_timeout = '5s' AS $$
DECLARE
    changed fleet.flags;
    version bigint;
BEGIN
    IF set_flag.name IS NULL OR set_flag.name !~ '^[a-z][a-z0-9_-]{0,126}$' THEN
        PERFORM fleet.refuse('name', set_flag.name, 'lower-case letters, digits, _ and -, beginning with a letter');
    END IF;
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
    RETURN to_jsonb(changed);
END $$;

-- A flag that nobody has set is on. Locks nothing; one row read.
CREATE OR REPLACE FUNCTION fleet.flag_enabled(name text) RETURNS boolean
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    RETURN coalesce((SELECT f.enabled FROM fleet.flags f WHERE f.name = flag_enabled.name), true);
END $$;
