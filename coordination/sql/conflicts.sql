-- Conflicts: where workers got in each other's way.

-- What is contended now, and what happened since a time of fleet time (the last hour where none is given): sends refused since
-- the content had been engaged, reports that came late, messages delivered again. Locks nothing; a range read of the events.
CREATE OR REPLACE FUNCTION fleet.count_conflicts(incarnation uuid, since timestamptz DEFAULT NULL) RETURNS jsonb
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    counted_at timestamptz := fleet.now();
    started timestamptz := coalesce(since, counted_at - interval '1 hour');
BEGIN
    PERFORM fleet.require_incarnation(incarnation);
    RETURN (SELECT jsonb_build_object('at', counted_at, 'real_at', clock_timestamp(),
        'engaged_before', count(*) FILTER (WHERE e.kind = 'send_refused' AND e.message LIKE '%recent_engagement'),
        'late_reports', count(*) FILTER (WHERE e.kind = 'late_report'),
        'redelivered', (SELECT count(*) FROM fleet.messages m WHERE m.state IN ('waiting', 'claimed')
            AND (m.errors->-1->>'at')::timestamptz > started AND m.errors->-1->>'error' LIKE 'its holder ended%'),
        'locks_held', (SELECT count(*) FROM fleet.engagement_locks l WHERE l.lease_expires_at > clock_timestamp()))
        FROM fleet.events e WHERE e.at > started);
END $$;
