-- What the command line shows. Every query reads a snapshot and locks nothing.

-- name: get_schema_revision
-- Which program migrated the database last; one row.
SELECT version_num AS revision FROM fleet.schema_revision;

-- name: list_worker_names
-- The workers that the fleet knows, and how many slots each has; a few rows.
SELECT name, replicas FROM fleet.workers ORDER BY name;

-- name: list_flag_names
-- Every flag that there is: one a worker, and those that programs defined; a few rows.
SELECT w.name || '_enabled' AS name FROM fleet.workers w UNION SELECT f.name FROM fleet.flag_definitions f ORDER BY name;

-- name: list_workers
-- What should run of each worker, where, within which limits, and who said so; tens of rows.
SELECT w.name, w.description, w.enabled, f.enabled IS NOT FALSE AS flag_enabled, w.stopped_reason, w.paused, w.paused_reason,
    w.replicas, w.placement, w.memory_limit_mb, w.cpu_limit_percent, w.nice, w.singleton, w.roles, w.changed_by, w.reason, w.changed_at
FROM fleet.workers w LEFT JOIN fleet.flags f ON f.name = w.name || '_enabled' ORDER BY w.name;

-- name: list_commands
-- The newest commands, without their parts; backwards along the primary key.
SELECT c.id::text AS id, c.action, c.selector, c.host, c.args, c.state, c.result, c.requested_by, c.reason, c.requested_at, c.finished_at
FROM fleet.commands c ORDER BY c.id DESC LIMIT %(n)s::bigint;

-- name: list_intents
-- The newest intents, of one state and action or of all; the index on updated_at, backwards.
SELECT i.id::text AS id, i.account, i.action, i.target, i.state, i.text, i.platform_id, i.attempt, i.reason, i.not_before,
    i.deadline, i.proposed_by, i.approved_by, i.created_at, i.updated_at
FROM fleet.intents i WHERE (%(state)s::text IS NULL OR i.state = %(state)s::text)
    AND (%(action)s::text IS NULL OR i.action = %(action)s::text)
ORDER BY i.updated_at DESC, i.id DESC LIMIT %(number)s::bigint;

-- name: list_settings
-- Every live setting that was set; tens of rows.
SELECT key, value, version, changed_by, reason, changed_at FROM fleet.settings ORDER BY key;

-- name: list_setting_definitions
-- Every setting that there is, with its value where somebody set one; one or two hundred rows.
SELECT d.key, d.owner, d.type, d.nullable, d.lowest, d.highest, d.choices, d.default_value, d.unit, d.description,
    s.value, s.version, s.changed_by, s.reason, s.changed_at, s.key IS NOT NULL AS is_set
FROM fleet.setting_definitions d LEFT JOIN fleet.settings s ON s.key = d.key
WHERE %(key)s::text IS NULL OR d.key = %(key)s::text ORDER BY d.key;

-- name: list_configuration_history
-- The newest changes of a setting or flag, newest first; backwards along the primary key.
SELECT h.version, h.value, h.changed_by, h.reason, h.changed_at FROM fleet.configuration_history h
WHERE h.kind = %(kind)s AND h.name = %(name)s ORDER BY h.version DESC LIMIT %(n)s::bigint;

-- name: list_flags
-- Every flag that was set; tens of rows.
SELECT name, enabled, version, changed_by, reason, changed_at FROM fleet.flags ORDER BY name;

-- name: list_account_topics
-- Every account with what it talks about; a few rows.
SELECT name, platform, api_url, sandbox, tier, platform_user_id, handle, topics FROM fleet.accounts ORDER BY name;

-- name: list_attempts_with_ids
-- Every attempt to send an intent with what it was answered, first one first; reads along the primary key.
SELECT a.attempt, a.worker_id, a.began_at, a.settled_at, a.outcome, a.status, a.reason, a.headers->>'platform_id' AS platform_id
FROM fleet.attempts a WHERE a.intent = %(intent)s::bigint ORDER BY a.attempt;

-- name: get_fleet_clock
-- How fleet time runs where a rehearsal moved it; no row while it is the clock's own.
SELECT real0, fleet0, rate FROM fleet.clock;

-- name: get_fleet_time
-- What time it is for the fleet; one row.
SELECT fleet.now() AS fleet_now, fleet.real_now() AS real_now, c.rate IS NOT NULL AS moved, coalesce(c.rate, 1) AS rate
FROM (SELECT 1) one LEFT JOIN fleet.clock c ON true;
