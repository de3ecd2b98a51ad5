-- How messages stand: what waits and for how long, how fast and how often they are delivered, what failed.

-- Counts of the open messages, and of those that ended within the last hours of fleet time. Locks nothing; reads the open ones and an
-- index range of the others.
CREATE OR REPLACE FUNCTION fleet.get_message_status(hours double precision DEFAULT 24) RETURNS jsonb
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    at timestamptz := fleet.now();
    since timestamptz;
BEGIN
    IF hours IS NULL OR NOT (hours > 0 AND hours <= 8784) THEN
        PERFORM fleet.refuse('hours', hours::text, 'more than 0, at most 8784 hours (366 days)');
    END IF;
    since := at - make_interval(secs => hours * 3600);
    RETURN (SELECT jsonb_build_object(
            'waiting', count(*) FILTER (WHERE m.state = 'waiting'),
            'claimed', count(*) FILTER (WHERE m.state = 'claimed'),
            'unrouted', count(*) FILTER (WHERE m.state = 'waiting' AND m.routed_to IS NULL),
            'escalated', count(*) FILTER (WHERE m.escalated_at IS NOT NULL),
            'oldest_waiting_s', coalesce(extract(epoch FROM at - min(m.due_at) FILTER (WHERE m.state = 'waiting' AND m.due_at <= at)), 0))
        FROM fleet.messages m WHERE m.state IN ('waiting', 'claimed') AND m.expires_at > at)
    || jsonb_build_object('recipients', (SELECT coalesce(jsonb_object_agg(r.recipient, r.open), '{}') FROM (
            SELECT coalesce(m.routed_to, 'role ' || m.recipient) AS recipient, count(*) AS open FROM fleet.messages m
            WHERE m.state IN ('waiting', 'claimed') AND m.expires_at > at GROUP BY 1) r))
    || (SELECT jsonb_build_object(
            'acknowledged', count(*) FILTER (WHERE m.state = 'acknowledged'),
            'dead', count(*) FILTER (WHERE m.state = 'dead' AND m.recipient_kind <> 'all'),
            'expired_broadcasts', count(*) FILTER (WHERE m.state = 'dead' AND m.recipient_kind = 'all'),
            'delivered', count(m.waited_s),
            'delivery_s_sum', coalesce(sum(m.waited_s), 0),
            'delivery_s_max', coalesce(max(m.waited_s), 0),
            'delivery_s_p95', percentile_cont(0.95) WITHIN GROUP (ORDER BY m.waited_s),
            'redeliveries', coalesce(sum(greatest(m.attempts - 1, 0)), 0),
            'late_reports', coalesce(sum(m.late_reports), 0))
        FROM fleet.messages m WHERE m.finished_at > since)
    || jsonb_build_object('broadcasts_living', (SELECT count(*) FROM fleet.broadcasts b WHERE b.expires_at > at))
    || (SELECT jsonb_build_object(
            'conflicts', count(*),
            'conflicts_open', count(*) FILTER (WHERE c.state = 'open'),
            'conflict_s_sum', coalesce(sum(c.took_s), 0),
            'conflict_s_max', coalesce(max(c.took_s), 0),
            'conflicts_by_strategy', (SELECT coalesce(jsonb_object_agg(s.strategy, s.n), '{}') FROM (
                SELECT k.strategy, count(*) AS n FROM fleet.conflicts k WHERE k.asked_at > since GROUP BY 1) s))
        FROM fleet.conflicts c WHERE c.asked_at > since);
END $$;
