-- What the page, the CLI and the metrics show. Every query reads a snapshot and locks nothing.

-- name: list_worker_status
-- One row a slot that runs or should; reads slots, heartbeats and the last 100 runs of each worker. A host that went away
-- shows no longer once another one reports the slot, and what should not run is STOPPED when its host went away.
SELECT w.name, coalesce(s.slot, 1) AS slot, s.host, w.description,
    w.enabled AND w.replicas > 0 AND coalesce(f.enabled, true) AS enabled,
    CASE WHEN s.worker IS NULL THEN CASE WHEN w.enabled THEN 'LOST' ELSE 'STOPPED' END
        WHEN s.seen_at < clock_timestamp() - interval '60 seconds' AND NOT (w.enabled AND w.replicas > 0) THEN 'STOPPED'
        WHEN s.seen_at < clock_timestamp() - interval '15 seconds' AND s.state <> 'STOPPED' THEN 'LOST'
        WHEN s.state = 'READY' THEN coalesce(h.state, 'STARTING')
        ELSE s.state END AS state,
    CASE WHEN s.worker IS NULL THEN 'no manager runs it'
        WHEN s.seen_at < clock_timestamp() - interval '15 seconds' AND s.state <> 'STOPPED' THEN 'its manager is silent'
        WHEN s.state = 'READY' THEN coalesce(nullif(h.reason, ''), h.health->>'reason', '')
        ELSE s.reason END AS reason,
    s.since, s.pid, coalesce(s.restart_count, 0) AS restart_count,
    h.healthy AS heartbeat_healthy, h.health, h.step, h.progress, h.memory_bytes,
    extract(epoch FROM clock_timestamp() - h.beat_at)::double precision AS beat_age_s,
    r.last_run_at, r.last_outcome, coalesce(r.error_rate, 0)::double precision AS error_rate, r.runs,
    r.items_per_minute, r.last_error
FROM fleet.workers w
LEFT JOIN fleet.slots s ON s.worker = w.name AND s.slot <= greatest(w.replicas, 1)
    AND (s.seen_at >= clock_timestamp() - interval '60 seconds' OR NOT EXISTS (
        SELECT 1 FROM fleet.slots o WHERE o.worker = s.worker AND o.slot = s.slot AND o.host <> s.host
        AND o.seen_at >= clock_timestamp() - interval '15 seconds'))
LEFT JOIN fleet.flags f ON f.name = w.name || '_enabled'
LEFT JOIN LATERAL (
    SELECT h.* FROM fleet.heartbeats h JOIN fleet.incarnations i ON i.id = h.incarnation
    WHERE i.worker = w.name AND i.slot = s.slot AND i.host = s.host AND i.pid = s.pid AND i.ended_at IS NULL
    ORDER BY i.started_at DESC LIMIT 1
) h ON s.state IN ('READY', 'DRAINING', 'STARTING')
LEFT JOIN LATERAL (
    SELECT max(l.ended_real_at) AS last_run_at, (array_agg(l.outcome ORDER BY l.id DESC))[1] AS last_outcome,
        avg((l.outcome <> 'done')::integer) AS error_rate, count(*) AS runs,
        sum(l.items) * 60 / greatest(60, extract(epoch FROM max(l.ended_real_at) - min(l.started_real_at)))::double precision
            AS items_per_minute,
        (array_agg(l.error ORDER BY l.id DESC) FILTER (WHERE l.error IS NOT NULL))[1] AS last_error
    FROM (SELECT * FROM fleet.runs l WHERE l.worker = w.name AND l.outcome <> 'running' ORDER BY l.id DESC LIMIT 100) l
) r ON true
ORDER BY w.name, slot;

-- name: list_events_after
-- Events newer than an id, oldest first.
SELECT id, at, severity, kind, source, message, data FROM fleet.events WHERE id > %(last_id)s ORDER BY id LIMIT 200;

-- name: get_last_event_id
-- The newest event's id; 0 when there is none.
SELECT coalesce(max(id), 0) AS id FROM fleet.events;

-- name: count_intents
-- How many intents each account has in each state.
SELECT account, state, count(*) AS number FROM fleet.intents GROUP BY account, state ORDER BY account, state;

-- name: list_health_snapshots
-- The monitor's newest reports, newest first.
SELECT id, taken_at, status, report FROM fleet.health_snapshots ORDER BY id DESC LIMIT %(n)s;
