-- Health: what the whole fleet looks like at one moment, and the reports that are kept of it.

-- Everything that the monitor judges, as one object. What is ready and never beat is silent since it became ready. Reads a snapshot and locks nothing; cost: range reads of the window.
CREATE OR REPLACE FUNCTION fleet.gather_health(incarnation uuid, window_s double precision DEFAULT 3600) RETURNS jsonb
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET lock_timeout = '5s' AS $$
DECLARE
    at timestamptz := fleet.now();
    since timestamptz;
    real timestamptz := clock_timestamp();
BEGIN
    PERFORM fleet.require_incarnation(incarnation);
    IF window_s IS NULL OR NOT (window_s > 0 AND window_s <= 604800) THEN
        PERFORM fleet.refuse('window_s', window_s::text, 'more than 0, at most 604800 seconds');
    END IF;
    since := at - make_interval(secs => window_s);
    RETURN jsonb_build_object(
        'window_s', window_s,
        'workers', coalesce((SELECT jsonb_agg(jsonb_build_object('worker', w.name, 'slot', coalesce(s.slot, 1),
                'state', CASE WHEN s.worker IS NULL OR s.host IS NULL AND s.leaving IS NULL OR o.state <> 'live' THEN 'LOST' ELSE s.state END,
                'reason', coalesce(nullif(s.reason, ''), h.reason, ''),
                'healthy', h.healthy,
                'silent_s', round(extract(epoch FROM real - coalesce(h.beat_at, CASE WHEN s.state = 'READY' THEN s.since END))::numeric, 1),
                'stands_still_s', CASE WHEN h.state = 'BUSY' THEN round(extract(epoch FROM real - h.progressed_at)::numeric, 1) END,
                'memory_mb', round(h.memory_bytes / 1048576.0, 1), 'restarts', coalesce(s.restart_count, 0))
                ORDER BY w.name, s.slot)
            FROM fleet.workers w
            LEFT JOIN fleet.flags f ON f.name = w.name || '_enabled'
            LEFT JOIN fleet.slots s ON s.worker = w.name AND s.slot <= w.replicas
            LEFT JOIN fleet.hosts o ON o.name = s.host
            LEFT JOIN LATERAL (SELECT b.* FROM fleet.heartbeats b JOIN fleet.incarnations i ON i.id = b.incarnation
                WHERE i.worker = w.name AND i.slot = s.slot AND i.pid = s.pid AND i.host = s.host AND i.ended_at IS NULL
                ORDER BY b.beat_at DESC LIMIT 1) h ON true
            WHERE w.enabled AND w.replicas > 0 AND coalesce(f.enabled, true) AND NOT coalesce(s.stopped, false)), '[]'),
        'runs', coalesce((SELECT jsonb_agg(jsonb_build_object('worker', r.worker, 'runs', r.runs, 'failed', r.failed,
                'items', r.items, 'item_errors', r.item_errors, 'longest_s', r.longest_s, 'error', r.error) ORDER BY r.worker)
            FROM (SELECT l.worker, count(*) AS runs, count(*) FILTER (WHERE l.outcome <> 'done') AS failed,
                    sum(l.items) AS items, sum(l.item_errors) AS item_errors,
                    round(max(extract(epoch FROM l.ended_real_at - l.started_real_at))::numeric, 2) AS longest_s,
                    (array_agg(l.error ORDER BY l.id DESC) FILTER (WHERE l.error IS NOT NULL))[1] AS error
                FROM fleet.runs l WHERE l.started_at > since AND l.outcome <> 'running' GROUP BY l.worker) r), '[]'),
        'limits', fleet.get_system_status(incarnation),
        'database', jsonb_build_object('size_mb', round(pg_database_size(current_database()) / 1048576.0, 1),
            'connections', (SELECT count(*) FROM pg_stat_activity a WHERE a.datname = current_database()),
            'most_connections', current_setting('max_connections')::integer),
        'queues', jsonb_build_object(
            'intents', coalesce((SELECT jsonb_object_agg(i.state, i.number) FROM
                (SELECT state, count(*) AS number FROM fleet.intents WHERE state NOT IN ('posted', 'rejected', 'expired', 'cancelled',
                    'dry_run') GROUP BY state) i), '{}'),
            'overdue_intents', (SELECT count(*) FROM fleet.intents i WHERE i.state = 'ready' AND i.not_before < at - interval '10 minutes'),
            'messages', (SELECT count(*) FROM fleet.messages m WHERE m.state IN ('waiting', 'claimed')),
            'jobs', (SELECT count(*) FROM fleet.jobs j WHERE j.state IN ('available', 'retryable', 'running')),
            'candidates', (SELECT count(*) FROM fleet.candidates c WHERE c.state = 'waiting'),
            'interactions', (SELECT count(*) FROM fleet.interactions n WHERE n.state IN ('seen', 'delegated')),
            'dead_messages', (SELECT count(*) FROM fleet.messages m WHERE m.state = 'dead' AND m.recipient_kind <> 'all'
                AND m.finished_at > since),
            'dead_items', (SELECT count(*) FROM fleet.failed_items d WHERE d.dead_at > since)),
        'engagements', fleet.get_engagement_stats(incarnation, window_s / 3600),
        'kill_switch', fleet.get_kill_switch(),
        'before', (SELECT s.report->'findings' FROM fleet.health_snapshots s ORDER BY s.id DESC LIMIT 1));
END $$;

-- Keeps one report. One insert.
CREATE OR REPLACE FUNCTION fleet.take_snapshot(incarnation uuid, status text, report jsonb) RETURNS bigint
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET lock_timeout = '5s' AS $$
DECLARE
    taken bigint;
BEGIN
    PERFORM fleet.require_incarnation(incarnation);
    IF status IS NULL OR status NOT IN ('healthy', 'warning', 'critical') THEN
        PERFORM fleet.refuse('status', status, 'healthy, warning or critical');
    END IF;
    INSERT INTO fleet.health_snapshots (taken_at, status, report)
    VALUES (fleet.now(), take_snapshot.status, take_snapshot.report) RETURNING id INTO taken;
    RETURN taken;
END $$;
