-- Retention: what is over and nobody needs any more is deleted, a batch a call. The ledger's own rows and the audit stay.

-- Deletes up to n rows of one kind that ended more than keep_s seconds of fleet time ago; gives how many. Locks those rows,
-- and passes over what others hold. Engagements stay as long as locks and reports look back. Finished jobs and runs go by whole days, whose tables it also makes ahead.
CREATE OR REPLACE FUNCTION fleet.sweep(incarnation uuid, kind text, keep_s double precision, n integer DEFAULT 1000) RETURNS integer
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET lock_timeout = '5s' AS $$
DECLARE
    -- What "over" means for each kind; $1 is the time before which it goes.
    over constant jsonb := '{
        "rate_grants": "frees_at < least($1, $2 - interval ''1 day'') AND settled_at < $1 AND (account, endpoint) IN (SELECT r.account, r.endpoint FROM fleet.rate_limits r)",
        "engagement_locks": "lease_expires_at < clock_timestamp() - ($2 - $1)",
        "lock_waiters": "deadline_at < clock_timestamp() - ($2 - $1)",
        "lock_measures": "counted_at < $1",
        "engagements": "engaged_at < least($1, (SELECT fleet.history_since()))",
        "events": "at < $1",
        "runs": "in days: see partitions.sql",
        "jobs": "in days: see partitions.sql",
        "messages": "finished_at < $1 AND NOT EXISTS (SELECT 1 FROM fleet.broadcasts b WHERE b.id = broadcast AND b.expires_at > $2)",
        "conflicts": "decided_at < $1",
        "candidates": "found_at < $1 AND state NOT IN (''waiting'', ''taken'')",
        "interactions": "settled_at < $1",
        "reservations": "ended_at < clock_timestamp() - ($2 - $1)",
        "failed_items": "dead_at < $1",
        "commands": "finished_at < clock_timestamp() - ($2 - $1)",
        "command_parts": "finished_at < clock_timestamp() - ($2 - $1)",
        "alerts": "cleared_at < clock_timestamp() - ($2 - $1)",
        "budget_holds": "ended_at < $1",
        "budget_periods": "ends_at < $1 AND NOT EXISTS (SELECT 1 FROM fleet.budget_hold_periods l JOIN fleet.budget_holds h ON h.id = l.hold WHERE h.ended_at IS NULL AND h.account = budget_periods.account AND (l.kind, l.name, l.period, l.starts_at) = (budget_periods.kind, budget_periods.name, budget_periods.period, budget_periods.starts_at))",
        "cache": "stale_until < clock_timestamp() - ($2 - $1) AND coalesce(computing_until < clock_timestamp(), true)",
        "black_boxes": "at < clock_timestamp() - ($2 - $1)",
        "process_ends": "ended_at < clock_timestamp() - ($2 - $1)",
        "hosts": "state <> ''live'' AND seen_at < clock_timestamp() - ($2 - $1) AND NOT EXISTS (SELECT 1 FROM fleet.slots s WHERE hosts.name IN (s.host, s.leaving))",
        "heartbeats": "beat_at < clock_timestamp() - ($2 - $1)",
        "incarnations": "ended_at < clock_timestamp() - ($2 - $1)",
        "health_snapshots": "taken_at < $1"
    }';
    at timestamptz;
    swept integer;
BEGIN
    PERFORM fleet.require_read_committed();
    PERFORM fleet.require_incarnation(incarnation);
    IF kind IS NULL OR NOT over ? kind THEN
        PERFORM fleet.refuse('kind', kind, 'one of ' || (SELECT string_agg(k, ', ' ORDER BY k) FROM jsonb_object_keys(over) k));
    END IF;
    IF keep_s IS NULL OR NOT (keep_s >= 0 AND keep_s <= 316224000) THEN
        PERFORM fleet.refuse('keep_s', keep_s::text, 'from 0 to 316224000 seconds');
    END IF;
    IF n IS NULL OR n NOT BETWEEN 1 AND 10000 THEN
        PERFORM fleet.refuse('n', n::text, 'a whole number from 1 to 10000');
    END IF;
    -- A crash that forgets a deletion costs one more sweep.
    PERFORM set_config('synchronous_commit', 'off', true);
    at := fleet.now();
    IF kind IN ('runs', 'jobs') THEN
        IF kind = 'runs' THEN
            -- What lives left open that ended long since, in slots that nobody has any more.
            PERFORM fleet.cut_runs(o.incarnation) FROM (SELECT DISTINCT r.incarnation FROM fleet.open_runs r
                JOIN fleet.incarnations i ON i.id = r.incarnation
                WHERE i.ended_at < clock_timestamp() - interval '1 day') o;
        END IF;
        PERFORM fleet.make_partitions(CASE kind WHEN 'jobs' THEN 'jobs_finished' ELSE kind END);
        RETURN fleet.drop_partitions(CASE kind WHEN 'jobs' THEN 'jobs_finished' ELSE kind END, at - make_interval(secs => keep_s));
    END IF;
    EXECUTE format('WITH old AS MATERIALIZED (SELECT ctid FROM fleet.%I WHERE %s LIMIT %s FOR UPDATE SKIP LOCKED)
        DELETE FROM fleet.%I t USING old WHERE t.ctid = old.ctid', kind, over->>kind, n, kind)
    USING at - make_interval(secs => keep_s), at;
    GET DIAGNOSTICS swept = ROW_COUNT;
    IF kind = 'rate_grants' THEN
        PERFORM fleet.settle_all_abandoned(incarnation);
    END IF;
    IF kind = 'hosts' AND swept > 0 THEN
        PERFORM fleet.clear_alert(a.key) FROM fleet.alerts a WHERE a.kind = 'host_lost' AND a.cleared_at IS NULL
          AND NOT EXISTS (SELECT 1 FROM fleet.hosts h WHERE h.name = a.source);
    END IF;
    RETURN swept;
END $$;

-- Closes the rows of lives that ended without saying so: silent for keep_s real seconds and without their session lock. Gives
-- how many. Each lock is tried in a statement of its own. The marks of those who died asleep go too, or each sender would wake them.
CREATE OR REPLACE FUNCTION fleet.close_silent_incarnations(incarnation uuid, keep_s double precision, n integer DEFAULT 100)
RETURNS integer
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET lock_timeout = '5s' AS $$
DECLARE
    silent uuid;
    closed integer := 0;
BEGIN
    PERFORM fleet.require_read_committed();
    PERFORM fleet.require_incarnation(incarnation);
    FOR silent IN
        SELECT i.id FROM fleet.incarnations i
        WHERE i.ended_at IS NULL AND i.id <> close_silent_incarnations.incarnation
          AND i.started_at < clock_timestamp() - make_interval(secs => keep_s)
          AND NOT EXISTS (SELECT 1 FROM fleet.heartbeats h WHERE h.incarnation = i.id
              AND h.beat_at > clock_timestamp() - make_interval(secs => keep_s))
        ORDER BY i.started_at LIMIT n FOR UPDATE SKIP LOCKED
    LOOP
        IF fleet.is_suspected(silent) THEN
            UPDATE fleet.incarnations i SET ended_at = clock_timestamp(), end_reason = fleet.fell_silent()
            WHERE i.id = silent;
            closed := closed + 1;
        END IF;
    END LOOP;
    WITH gone AS MATERIALIZED (
        SELECT s.name, s.incarnation FROM fleet.sleepers s
        WHERE NOT EXISTS (SELECT 1 FROM fleet.incarnations i WHERE i.id = s.incarnation AND i.ended_at IS NULL)
        ORDER BY s.name, s.incarnation FOR UPDATE OF s SKIP LOCKED
    )
    DELETE FROM fleet.sleepers s USING gone WHERE s.name = gone.name AND s.incarnation = gone.incarnation;
    RETURN closed;
END $$;
