-- Black boxes: what was seen of a process before it was killed. The stacks and the log are the host's part; this is the database's.

-- A slot's sessions with their current queries, the locks that they hold or wait for, and what its life has in hand. Reads the server's
-- own tables; locks nothing, and gives up after 2 s behind another's table lock. A query shows where this schema's owner has the worker's
-- role (see the migration).
CREATE OR REPLACE FUNCTION fleet.look_into(worker text, slot integer, incarnation uuid) RETURNS jsonb
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET lock_timeout = '2s' AS $$
DECLARE
    name text := 'socialfleet ' || look_into.worker || '/' || look_into.slot;
    key bigint := fleet.lock_key('incarnation', look_into.incarnation::text);
    mine integer[];
BEGIN
    -- The incarnation's own session by its lock; the work's by its name.
    mine := ARRAY(
        SELECT a.pid FROM pg_stat_activity a WHERE a.datname = current_database()
            AND (a.application_name = name OR starts_with(a.application_name, name || ' '))
        UNION
        SELECT l.pid FROM pg_locks l WHERE l.locktype = 'advisory' AND l.objsubid = 1 AND l.granted
            AND l.database = (SELECT d.oid FROM pg_database d WHERE d.datname = current_database())
            AND (l.classid::bigint << 32) + l.objid::bigint = key);
    RETURN jsonb_build_object(
        'sessions', coalesce((SELECT jsonb_agg(jsonb_build_object('pid', a.pid, 'name', a.application_name, 'state', a.state,
                'query', left(a.query, 4000), 'wait', a.wait_event_type || ' ' || a.wait_event, 'blocked_by', pg_blocking_pids(a.pid),
                'query_s', round(extract(epoch FROM clock_timestamp() - a.query_start)::numeric, 3),
                'transaction_s', round(extract(epoch FROM clock_timestamp() - a.xact_start)::numeric, 3)) ORDER BY a.application_name)
            FROM pg_stat_activity a WHERE a.pid = ANY(mine)), '[]'),
        'locks', coalesce((SELECT jsonb_agg(jsonb_build_object('pid', l.pid, 'type', l.locktype, 'mode', l.mode, 'granted', l.granted,
                'on', coalesce(l.relation::regclass::text, CASE l.locktype WHEN 'advisory'
                    THEN ((l.classid::bigint << 32) + l.objid::bigint)::text WHEN 'transactionid' THEN l.transactionid::text END)))
            FROM pg_locks l WHERE l.pid = ANY(mine) AND l.locktype <> 'virtualxid'), '[]'),
        'intents', coalesce((SELECT jsonb_agg(jsonb_build_object('id', i.id::text, 'account', i.account, 'action', i.action,
                'target', i.target, 'state', i.state, 'attempt', i.attempt) ORDER BY i.id)
            FROM fleet.intents i WHERE i.incarnation = look_into.incarnation AND i.state IN ('claimed', 'sending')), '[]'),
        'leases', coalesce((SELECT jsonb_agg(jsonb_build_object('content', e.content, 'lock_type', e.lock_type,
                'fencing_token', e.fencing_token, 'expires_at', e.lease_expires_at) ORDER BY e.content)
            FROM fleet.engagement_locks e WHERE e.incarnation = look_into.incarnation), '[]'));
END $$;

-- Keeps one; gives its id. One insert. Of a report above 1 MB only its size is kept: the host's file has it whole.
CREATE OR REPLACE FUNCTION fleet.keep_black_box(
    host text, worker text, slot integer, incarnation uuid, pid integer, reason text, report jsonb
) RETURNS bigint
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET lock_timeout = '5s' AS $$
DECLARE
    kept bigint;
    size integer := length(keep_black_box.report::text);
BEGIN
    INSERT INTO fleet.black_boxes (at, host, worker, slot, incarnation, pid, reason, report)
    VALUES (clock_timestamp(), keep_black_box.host, keep_black_box.worker, keep_black_box.slot, keep_black_box.incarnation,
        keep_black_box.pid, left(keep_black_box.reason, 1000),
        CASE WHEN size > 1048576 THEN jsonb_build_object('too_large', size) ELSE keep_black_box.report END)
    RETURNING id INTO kept;
    RETURN kept;
END $$;
