-- Measures of the engagement locks: how requests ended, how long it took, what is held and who waits.

-- Counts one outcome for one life, in a row of the present five minutes that nobody else writes: no counter is waited for. A grant
-- also has the time that it took, none where that was less than a millisecond: of acquire_within only what is above it counts, the
-- rest of the granted were faster. The end of a wait, however it ended, is a conflict resolved. One row; flushed only if the caller's
-- commit is.
CREATE OR REPLACE FUNCTION fleet.count_lock(
    incarnation uuid, outcome text, took_s double precision DEFAULT NULL, overtakes boolean DEFAULT false
) RETURNS void
LANGUAGE plpgsql VOLATILE AS $$
DECLARE
    at timestamptz := date_bin('5 minutes', fleet.now(), 'epoch');
    is_grant boolean;
    bucket integer;
BEGIN
    LOOP
        IF outcome = 'granted' AND took_s < 0.001 AND NOT overtakes THEN
            UPDATE fleet.lock_measures m SET granted = m.granted + 1
            WHERE m.counted_at = at AND m.incarnation = count_lock.incarnation;
        ELSE
            is_grant := outcome IN ('granted', 'granted_after_waiting');
            bucket := width_bucket(took_s, ARRAY[0.001, 0.01, 0.1, 1, 5, 30, 120]::double precision[]) + 1;
            UPDATE fleet.lock_measures m SET refused_held = m.refused_held + (outcome = 'refused_held')::integer,
                refused_engaged = m.refused_engaged + (outcome = 'refused_engaged')::integer,
                refused_interval = m.refused_interval + (outcome = 'refused_interval')::integer,
                granted = m.granted + is_grant::integer,
                granted_after_waiting = m.granted_after_waiting + (outcome = 'granted_after_waiting')::integer,
                taken_over = m.taken_over + overtakes::integer, timed_out = m.timed_out + (outcome = 'timed_out')::integer,
                given_up = m.given_up + (outcome = 'given_up')::integer, escalated = m.escalated + (outcome = 'escalated')::integer,
                acquire_s = m.acquire_s + CASE WHEN is_grant THEN took_s ELSE 0 END,
                acquire_max_s = greatest(m.acquire_max_s, CASE WHEN is_grant THEN took_s END),
                acquire_within[coalesce(bucket, 1)] = m.acquire_within[coalesce(bucket, 1)] + is_grant::integer,
                resolved = m.resolved + (took_s IS NOT NULL AND outcome <> 'granted')::integer,
                resolve_s = m.resolve_s + CASE WHEN outcome <> 'granted' THEN coalesce(took_s, 0) ELSE 0 END,
                resolve_max_s = greatest(m.resolve_max_s, CASE WHEN outcome <> 'granted' THEN took_s END)
            WHERE m.counted_at = at AND m.incarnation = count_lock.incarnation;
        END IF;
        EXIT WHEN FOUND;
        INSERT INTO fleet.lock_measures (counted_at, incarnation) VALUES (at, count_lock.incarnation)
        ON CONFLICT ON CONSTRAINT lock_measures_pkey DO NOTHING;
    END LOOP;
END $$;

-- The locks' measures over so many hours of fleet time (in steps of five minutes): requests by outcome, time to acquire a lock, time
-- to resolve a conflict, conflicts a request, waiters now. `misses` and `late_words` (calls of lives that have
-- ended) count since the beginning. Locks nothing; one range read.
CREATE OR REPLACE FUNCTION fleet.get_lock_measures(incarnation uuid, hours double precision DEFAULT 24) RETURNS jsonb
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    since timestamptz := fleet.hours_ago(hours);
BEGIN
    RETURN (
        SELECT jsonb_build_object(
            'requests', t.granted - t.granted_after_waiting + t.held + t.engaged + t.spaced,
            'granted', t.granted, 'granted_after_waiting', t.granted_after_waiting, 'refused_held', t.held,
            'refused_engaged', t.engaged, 'refused_interval', t.spaced, 'taken_over', t.taken_over, 'timed_out', t.timed_out,
            'given_up', t.given_up, 'escalated', t.escalated,
            'misses', (SELECT CASE WHEN s.is_called THEN s.last_value ELSE 0 END FROM fleet.lock_misses s),
            'late_words', (SELECT CASE WHEN s.is_called THEN s.last_value ELSE 0 END FROM fleet.late_words s),
            'acquisition_s', CASE WHEN t.granted > 0 THEN t.acquire_s / t.granted END,
            'acquisition_max_s', CASE WHEN t.granted > 0 THEN t.acquire_max_s END,
            'acquisition_sum_s', t.acquire_s,
            'acquisition_within', jsonb_build_object(
                '0.001', t.granted - (SELECT sum(slower.n) FROM unnest(t.within[2:]) AS slower(n)), '0.01', t.within[2],
                '0.1', t.within[3], '1', t.within[4], '5', t.within[5], '30', t.within[6], '120', t.within[7], '+Inf', t.within[8]),
            'conflicts_resolved', t.resolved,
            'conflict_resolution_s', CASE WHEN t.resolved > 0 THEN t.resolve_s / t.resolved END,
            'conflict_resolution_max_s', CASE WHEN t.resolved > 0 THEN t.resolve_max_s END,
            'conflict_frequency', CASE WHEN t.granted - t.granted_after_waiting + t.held + t.engaged + t.spaced > 0 THEN
                round((t.held + t.engaged + t.spaced)::numeric
                    / (t.granted - t.granted_after_waiting + t.held + t.engaged + t.spaced), 4) END,
            'queue_depth', (SELECT count(*) FROM fleet.lock_waiters w
                WHERE w.poll_by > clock_timestamp() AND w.deadline_at > clock_timestamp()),
            'held', (SELECT count(*) FROM fleet.engagement_locks l WHERE l.lease_expires_at > clock_timestamp()))
        FROM (
            SELECT coalesce(sum(m.granted), 0) AS granted, coalesce(sum(m.granted_after_waiting), 0) AS granted_after_waiting,
                coalesce(sum(m.refused_held), 0) AS held, coalesce(sum(m.refused_engaged), 0) AS engaged,
                coalesce(sum(m.refused_interval), 0) AS spaced, coalesce(sum(m.taken_over), 0) AS taken_over,
                coalesce(sum(m.timed_out), 0) AS timed_out, coalesce(sum(m.given_up), 0) AS given_up,
                coalesce(sum(m.escalated), 0) AS escalated, coalesce(sum(m.acquire_s), 0) AS acquire_s,
                max(m.acquire_max_s) AS acquire_max_s, coalesce(sum(m.resolved), 0) AS resolved,
                coalesce(sum(m.resolve_s), 0) AS resolve_s, max(m.resolve_max_s) AS resolve_max_s,
                ARRAY(SELECT coalesce(sum(i.acquire_within[n]) , 0) FROM generate_series(1, 8) n
                    LEFT JOIN fleet.lock_measures i ON i.counted_at > since - interval '5 minutes' GROUP BY n ORDER BY n) AS within
            FROM fleet.lock_measures m WHERE m.counted_at > since - interval '5 minutes') t);
END $$;

-- What is held now and who waits for it, at most n of each: of one content, or of all. Locks nothing; reads both tables.
CREATE OR REPLACE FUNCTION fleet.get_lock_status(incarnation uuid, tweet_id text DEFAULT NULL, n integer DEFAULT 100) RETURNS jsonb
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    real timestamptz;
BEGIN
    PERFORM fleet.require_batch(n);
    real := clock_timestamp();
    RETURN jsonb_build_object(
        'held', coalesce((SELECT jsonb_agg(jsonb_build_object('content', l.content, 'scope', CASE l.scope WHEN '' THEN 'fleet' ELSE 'account' END,
                'account', l.account, 'lock_type', l.lock_type, 'priority', l.priority, 'holder', l.worker_id,
                'fencing_token', l.fencing_token, 'acquired_at', l.acquired_at, 'lease_expires_at', l.lease_expires_at)
                ORDER BY l.acquired_at, l.content)
            FROM (SELECT * FROM fleet.engagement_locks h WHERE h.lease_expires_at > real
                AND (get_lock_status.tweet_id IS NULL OR h.content = get_lock_status.tweet_id)
                ORDER BY h.acquired_at LIMIT n) l), '[]'),
        'waiting', coalesce((SELECT jsonb_agg(jsonb_build_object('waiter', w.id::text, 'content', w.content,
                'scope', CASE w.scope WHEN '' THEN 'fleet' ELSE 'account' END, 'account', w.account, 'lock_type', w.lock_type,
                'priority', w.priority, 'score', w.score, 'worker_id', w.worker_id, 'position', w.place,
                'waited_s', round(extract(epoch FROM real - w.waits_since), 3), 'escalated', w.escalated_at IS NOT NULL)
                ORDER BY w.content, w.place)
            FROM (SELECT q.*, row_number() OVER (PARTITION BY q.content ORDER BY q.stands_at, q.id) AS place FROM fleet.lock_waiters q
                WHERE q.poll_by > real AND q.deadline_at > real
                  AND (get_lock_status.tweet_id IS NULL OR q.content = get_lock_status.tweet_id)
                ORDER BY q.content, q.stands_at, q.id LIMIT n) w), '[]'));
END $$;
