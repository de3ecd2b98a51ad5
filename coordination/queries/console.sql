-- What the console's page and metrics show beside status.sql. Every query reads a snapshot and locks nothing.

-- name: get_console_clock
-- Real and fleet time; reads the clock's row at most. Asked first on a connection, it tells whether one answers.
SELECT clock_timestamp() AS real_now, fleet.now() AS fleet_now, current_setting('server_version') AS server_version;

-- name: get_manager_age
-- Seconds since any manager reported, null when none ever did; reads all hosts.
SELECT extract(epoch FROM clock_timestamp() - max(h.seen_at))::double precision AS age_s FROM fleet.hosts h;

-- name: list_accounts
-- Every account; reads a table of a few rows.
SELECT name, platform, api_url, sandbox, tier, handle FROM fleet.accounts ORDER BY name;

-- name: list_latest_intents
-- The intents that changed last; reads `number` rows along intents_updated.
SELECT id::text, account, action, target, origin->>'handle' AS handle, state, text, platform_id, attempt, reason, not_before,
    retry_at, updated_at
FROM fleet.intents i ORDER BY i.updated_at DESC, i.id DESC LIMIT %(number)s;

-- name: list_latest_posts
-- What was posted, replied or quoted last, with its latest reading; reads as many intents along intents_updated as it takes
-- to find `number` posted ones, and one reading by key for each.
SELECT i.id::text AS intent, i.account, i.action, i.target, i.origin->>'handle' AS handle, i.platform_id, i.text,
    i.updated_at AS posted_at, a.api_url, a.sandbox,
    coalesce(t.readings, 0) AS readings, t.gone_at, r.metrics, r.read_at
FROM fleet.intents i
JOIN fleet.accounts a ON a.name = i.account
LEFT JOIN fleet.tracked_posts t ON t.account = i.account AND t.platform_id = i.platform_id
LEFT JOIN fleet.readings r ON r.account = t.account AND r.platform_id = t.platform_id AND r.number = t.readings
WHERE i.state = 'posted' AND i.action <> 'like' ORDER BY i.updated_at DESC, i.id DESC LIMIT %(number)s;

-- name: count_posts
-- How many posts and readings each account has; reads tracked_posts once, not the readings.
SELECT a.name AS account, count(t.platform_id) AS posts, coalesce(sum(t.readings), 0)::bigint AS readings
FROM fleet.accounts a LEFT JOIN fleet.tracked_posts t ON t.account = a.name GROUP BY a.name ORDER BY a.name;

-- name: list_latest_events
-- The newest events, newest first; reads `number` rows along the primary key.
SELECT id::text, at, severity, kind, source, message FROM fleet.events e ORDER BY e.id DESC LIMIT %(number)s;

-- name: count_events_after
-- How many events of each severity came after an id, and the newest id; reads those rows along the primary key.
SELECT severity, count(*) AS number, max(id) AS last_id FROM fleet.events WHERE id > %(last_id)s GROUP BY severity;

-- name: list_latest_errors
-- Steps that failed last and items that fail, newest first, at most `number`; reads the last 500 runs and failed_items.
SELECT * FROM (
    SELECT 'step' AS kind, r.worker || '/' || r.slot AS source, r.step AS what, r.error_class, r.error,
        r.ended_real_at AS at, true AS real_time, 1 AS attempts, false AS dead
    FROM (SELECT * FROM fleet.runs ORDER BY id DESC LIMIT 500) r WHERE r.outcome IN ('failed', 'cut')
    UNION ALL
    SELECT 'item', f.worker, f.item, f.error_class, f.error, f.last_failed_at, false, f.attempts, f.dead_at IS NOT NULL
    FROM fleet.failed_items f
) e ORDER BY e.at DESC LIMIT %(number)s;

-- name: list_transitions
-- Every state that an intent was in, oldest first; reads along intent_transitions_intent.
SELECT from_state AS "from", to_state AS "to", at, real_at, actor, reason, attempt, incarnation::text, fencing_token
FROM fleet.intent_transitions WHERE intent = %(intent)s ORDER BY id;

-- name: list_attempts
-- Every attempt to send an intent, first one first; reads along the primary key.
SELECT attempt, worker_id, incarnation::text, fencing_token, began_at, settled_at, outcome, status, reason
FROM fleet.attempts WHERE intent = %(intent)s ORDER BY attempt;

-- name: list_latest_mentions
-- Who named the accounts last, and what became of it; reads `number` rows along interactions_seen, one intent by key for each.
SELECT i.account, i.platform_id, i.handle, i.text, i.kind, i.request, i.state, i.reason, i.posted_at, i.intent::text AS intent,
    t.state AS intent_state, a.api_url, a.sandbox
FROM fleet.interactions i
JOIN fleet.accounts a ON a.name = i.account
LEFT JOIN fleet.intents t ON t.id = i.intent
ORDER BY i.seen_at DESC, i.platform_id DESC LIMIT %(number)s;

-- name: list_latest_commands
-- The commands asked for last, each with its first 50 parts and how many it has in each state; reads `number` commands along
-- the primary key and their parts. What parts put out is not here: get_command has it.
SELECT c.id::text, c.action, coalesce(c.selector, c.worker || coalesce('/' || c.slot, '')) AS selector, c.host, c.args,
    c.requested_by, c.reason, c.requested_at, c.expires_at, c.state, c.result, c.finished_at, coalesce(p.states, '{}') AS part_states, coalesce(f.parts, '[]') AS parts
FROM (
    SELECT * FROM fleet.commands k WHERE %(states)s::text[] IS NULL OR k.state = ANY(%(states)s::text[])
    ORDER BY k.id DESC LIMIT %(number)s
) c
LEFT JOIN LATERAL (
    SELECT jsonb_object_agg(s.state, s.number) AS states FROM (
        SELECT q.state, count(*) AS number FROM fleet.command_parts q WHERE q.command = c.id GROUP BY q.state) s
) p ON true
LEFT JOIN LATERAL (
    SELECT jsonb_agg(jsonb_build_object('worker', q.worker, 'slot', q.slot, 'host', q.host, 'state', q.state,
        'result', q.result) ORDER BY q.ordinal, q.id) AS parts
    FROM (SELECT * FROM fleet.command_parts t WHERE t.command = c.id ORDER BY t.ordinal, t.id LIMIT 50) q
) f ON true
ORDER BY c.id DESC;
