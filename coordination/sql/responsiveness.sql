-- Responsiveness: how soon the whole fleet takes up what is due.

-- Of all messages, jobs and engagement locks that were taken up within the last hours of fleet time, or have waited longer than
-- that, the part that was within five real seconds (a beat: what an idle process that nobody woke takes). Quotas don't count: what
-- they wait for is the platform. percent is null where there was nothing. Locks nothing; range reads, and the open messages and jobs.
CREATE OR REPLACE FUNCTION fleet.get_responsiveness(hours double precision DEFAULT 1) RETURNS jsonb
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    within_s constant double precision := 5;
    since timestamptz := fleet.hours_ago(hours);
    clock record;
    late_since timestamptz;
BEGIN
    SELECT * INTO clock FROM fleet.read_clock();
    late_since := clock.at - make_interval(secs => within_s * clock.rate);
    RETURN (SELECT jsonb_build_object('within_s', within_s, 'promptly', sum(w.promptly), 'all', sum(w.number),
            'percent', round(100.0 * sum(w.promptly) / nullif(sum(w.number), 0), 1))
        FROM (
            SELECT count(*) AS number, count(*) FILTER (WHERE m.waited_s <= within_s) AS promptly
            FROM fleet.messages m WHERE m.waited_s IS NOT NULL AND (m.finished_at > since OR m.state IN ('waiting', 'claimed'))
            UNION ALL
            SELECT count(*), 0 FROM fleet.messages m
            WHERE m.state = 'waiting' AND m.waited_s IS NULL AND m.due_at < late_since AND m.expires_at > clock.at
            UNION ALL
            SELECT count(*), count(*) FILTER (WHERE r.wait_s <= within_s * clock.rate)
            FROM (SELECT l.wait_s FROM fleet.runs l WHERE l.started_at > since AND l.wait_s IS NOT NULL
                UNION ALL SELECT date_part('epoch', j.claimed_at - j.run_at) FROM fleet.jobs j WHERE j.state = 'running' AND j.claimed_at > since) r
            UNION ALL
            SELECT count(*), 0 FROM fleet.jobs j WHERE j.state <> 'running' AND j.waits_for = '{}' AND j.run_at < late_since
            UNION ALL
            SELECT coalesce(sum(k.granted + k.timed_out), 0), coalesce(sum(k.granted - (SELECT sum(n) FROM unnest(k.acquire_within[6:]) n)), 0)
            FROM fleet.lock_measures k WHERE k.counted_at > since - interval '5 minutes'
        ) w);
END $$;
