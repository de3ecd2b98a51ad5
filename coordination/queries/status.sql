-- What the page, the CLI and the metrics show. Every query reads a snapshot and locks nothing.

-- name: list_worker_status
-- One row a slot that runs or should; reads slots, hosts, heartbeats and the last 100 runs of each worker. A slot whose host is silent
-- is LOST if it should run, and STOPPED if not; `assigned` says whether a host has it, `host` also where it still drains.
SELECT w.name, coalesce(s.slot, 1) AS slot, coalesce(s.leaving, s.host) AS host, s.host IS NOT NULL AS assigned, w.description,
    v.wanted AS enabled,
    CASE WHEN NOT v.wanted AND (v.silent OR s.host IS NULL AND s.leaving IS NULL) THEN 'STOPPED'
        WHEN s.host IS NULL AND s.leaving IS NULL THEN 'LOST'
        WHEN v.silent AND s.state <> 'STOPPED' THEN 'LOST'
        WHEN s.state = 'READY' THEN coalesce(h.state, 'READY')
        ELSE s.state END AS state,
    CASE WHEN NOT v.wanted AND (v.silent OR s.host IS NULL AND s.leaving IS NULL) THEN coalesce(fleet_why.why, '')
        WHEN s.host IS NULL AND s.leaving IS NULL THEN CASE
            WHEN NOT v.any_live THEN 'no manager runs it: no host is live'
            WHEN v.any_admits THEN 'a host is about to take it'
            WHEN NOT v.any_has THEN 'no live host admits it: the program of none has it'
            WHEN w.placement <> '{}' THEN 'no live host admits it: it is placed on ' || coalesce('host ' || (w.placement->>'host'),
                'hosts with ' || (SELECT string_agg(l.key || '=' || l.value, ', ' ORDER BY l.key) FROM jsonb_each_text(w.placement->'labels') l))
            ELSE 'no live host admits it: those that have it are being drained' END
        WHEN v.silent AND s.state <> 'STOPPED' THEN 'its manager is silent: host ' || coalesce(s.leaving, s.host) || ' since '
            || to_char(o.seen_at, 'HH24:MI:SS')
        WHEN s.leaving IS NOT NULL THEN 'it moves from ' || s.leaving || coalesce(' to ' || s.host, '')
        WHEN s.state IN ('READY', 'BUSY', 'PAUSED') THEN coalesce(nullif(h.reason, ''), nullif(s.reason, ''), h.health->>'reason', '')
        ELSE s.reason END AS reason,
    s.since, s.pid, coalesce(s.restart_count, 0) AS restart_count, coalesce(s.failures, 0) AS failures,
    h.healthy AS heartbeat_healthy, h.health, coalesce(s.step, h.step) AS step, h.progress,
    coalesce(s.memory_bytes, h.memory_bytes) AS memory_bytes, s.cpu_percent,
    extract(epoch FROM clock_timestamp() - h.beat_at)::double precision AS beat_age_s,
    r.last_run_at, r.last_outcome, coalesce(r.error_rate, 0)::double precision AS error_rate, r.runs,
    r.items_per_minute, r.last_error
FROM fleet.workers w
LEFT JOIN fleet.slots s ON s.worker = w.name AND (s.slot <= greatest(w.replicas, 1) OR s.leaving IS NOT NULL)
LEFT JOIN fleet.hosts o ON o.name = coalesce(s.leaving, s.host)
LEFT JOIN fleet.flags f ON f.name = w.name || '_enabled'
CROSS JOIN LATERAL (SELECT
    w.enabled AND NOT coalesce(s.stopped, false) AND coalesce(f.enabled, true)
        AND coalesce(s.slot, 1) <= w.replicas AS wanted,
    coalesce(o.state <> 'live' OR o.seen_at < clock_timestamp() - interval '10 seconds', s.host IS NOT NULL) AS silent,
    EXISTS (SELECT 1 FROM fleet.hosts l WHERE l.state = 'live' AND l.seen_at >= clock_timestamp() - interval '10 seconds') AS any_live,
    EXISTS (SELECT 1 FROM fleet.hosts l WHERE l.state = 'live' AND w.name = ANY(l.workers)) AS any_has,
    EXISTS (SELECT 1 FROM fleet.hosts l WHERE l.state = 'live' AND w.name = ANY(l.workers) AND NOT l.draining
        AND coalesce(w.placement->>'host', l.name) = l.name AND l.labels @> coalesce(w.placement->'labels', '{}')) AS any_admits
) v
CROSS JOIN LATERAL (SELECT CASE WHEN NOT w.enabled THEN coalesce(w.stopped_reason, 'stopped by ' || w.changed_by || ': ' || w.reason)
    WHEN s.stopped THEN s.stopped_reason
    WHEN NOT f.enabled THEN 'flag ' || f.name || ' is off: ' || f.changed_by || ': ' || f.reason
    WHEN w.replicas = 0 THEN 'none is wanted: ' || w.changed_by || ': ' || w.reason END AS why) fleet_why
LEFT JOIN LATERAL (
    SELECT b.* FROM fleet.heartbeats b JOIN fleet.incarnations i ON i.id = b.incarnation
    WHERE i.worker = w.name AND i.slot = s.slot AND i.host = coalesce(s.leaving, s.host) AND i.pid = s.pid AND i.ended_at IS NULL
    ORDER BY i.started_at DESC LIMIT 1
) h ON s.state IN ('READY', 'BUSY', 'PAUSED', 'DRAINING', 'STARTING')
LEFT JOIN LATERAL (
    SELECT max(l.ended_real_at) AS last_run_at, (array_agg(l.outcome ORDER BY l.id DESC))[1] AS last_outcome,
        avg((l.outcome <> 'done')::integer) AS error_rate, count(*) AS runs,
        sum(l.items) * 60 / greatest(60, extract(epoch FROM max(l.ended_real_at) - min(l.started_real_at)))::double precision
            AS items_per_minute,
        (array_agg(l.error ORDER BY l.id DESC) FILTER (WHERE l.error IS NOT NULL))[1] AS last_error
    FROM (SELECT * FROM fleet.runs l WHERE l.worker = w.name AND l.outcome <> 'running' ORDER BY l.id DESC LIMIT 100) l
) r ON true
ORDER BY w.name, slot;

-- name: list_hosts
-- Every host with the number of its slots; a few rows. One that says it lives and is silent is lost, though nobody has noticed yet.
SELECT h.name, CASE WHEN h.state = 'live' AND h.seen_at < clock_timestamp() - interval '10 seconds' THEN 'lost' ELSE h.state END AS state,
    h.draining, h.labels, h.version, h.wake_channel, h.started_at, h.seen_at, h.changed_by, h.reason, h.workers,
    extract(epoch FROM clock_timestamp() - h.seen_at)::double precision AS silent_s,
    (SELECT count(*) FROM fleet.slots s WHERE s.host = h.name) AS slots
FROM fleet.hosts h ORDER BY h.name;

-- name: list_alerts
-- What is open, the worst first, then what was, the newest first; the index of open ones, or all of them.
SELECT a.id::text AS id, a.key, a.severity, a.kind, a.source, a.message, a.data, a.raised_at, a.last_at, a.times, a.cleared_at,
    a.acknowledged_by, a.acknowledged_at
FROM fleet.alerts a WHERE a.cleared_at IS NULL OR NOT %(open_only)s::boolean
ORDER BY a.cleared_at IS NOT NULL, a.cleared_at DESC, array_position(ARRAY['critical', 'error', 'warning', 'info'], a.severity),
    a.last_at DESC LIMIT %(n)s::bigint;

-- name: count_open_alerts
-- How many alerts of each severity are open; the index of open ones.
SELECT a.severity, count(*) AS number FROM fleet.alerts a WHERE a.cleared_at IS NULL GROUP BY a.severity;

-- name: list_black_boxes
-- The newest without their reports; backwards along the index of time.
SELECT b.id::text AS id, b.at, b.host, b.worker, b.slot, b.incarnation::text AS incarnation, b.pid, b.reason
FROM fleet.black_boxes b WHERE %(worker)s::text IS NULL OR b.worker = %(worker)s::text ORDER BY b.at DESC LIMIT %(n)s::bigint;

-- name: get_black_box
-- One with its report, or no row.
SELECT b.id::text AS id, b.at, b.host, b.worker, b.slot, b.incarnation::text AS incarnation, b.pid, b.reason, b.report
FROM fleet.black_boxes b WHERE b.id = %(id)s::bigint;

-- name: list_process_ends
-- How processes ended, the newest first; backwards along the index of time.
SELECT e.host, e.worker, e.slot, e.pid, e.exit_code, e.how, e.ended_at
FROM fleet.process_ends e WHERE %(worker)s::text IS NULL OR e.worker = %(worker)s::text ORDER BY e.ended_at DESC LIMIT %(n)s::bigint;

-- name: list_events_after
-- Events newer than an id, and those of the ids that were missing before it, oldest first.
SELECT id, at, severity, kind, source, message, data FROM fleet.events
WHERE id > %(last_id)s OR id = ANY (%(missing)s::bigint[]) ORDER BY id LIMIT 200;

-- name: get_last_event_id
-- The newest event's id; 0 when there is none.
SELECT coalesce(max(id), 0) AS id FROM fleet.events;

-- name: count_intents
-- How many intents each account has in each state.
SELECT account, state, count(*) AS number FROM fleet.intents GROUP BY account, state ORDER BY account, state;

-- name: list_health_snapshots
-- The monitor's newest reports, newest first.
SELECT id, taken_at, status, report FROM fleet.health_snapshots ORDER BY id DESC LIMIT %(n)s;
