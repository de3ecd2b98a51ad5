-- A year of a busy account, into an empty database: what is kept for ever of a year, the rest of the days for which it is kept by
-- default. pg_temp.rows_of(n) is n at full size. Identities count from 1 here, so that a row's number is its id.

CREATE FUNCTION pg_temp.account(n bigint) RETURNS text LANGUAGE sql IMMUTABLE
RETURN CASE WHEN n % 20 < 16 THEN 'busy' WHEN n % 20 < 19 THEN 'second' ELSE 'third' END;
CREATE FUNCTION pg_temp.worker(n bigint) RETURNS text LANGUAGE sql IMMUTABLE
RETURN (ARRAY['planner', 'poster', 'engagement', 'discovery', 'mentions', 'metrics', 'monitoring', 'coordination'])[1 + n % 8];
-- A life of that worker's; lives follow one another through the days for which they are kept.
CREATE FUNCTION pg_temp.life(n bigint) RETURNS uuid LANGUAGE sql IMMUTABLE
RETURN md5('life ' || n % 2400)::uuid;
-- The n-th post that somebody else wrote, and the n-th of the fleet's own.
CREATE FUNCTION pg_temp.theirs(n bigint) RETURNS text LANGUAGE sql IMMUTABLE RETURN (1600000000000000000 + n * 7919)::text;
CREATE FUNCTION pg_temp.ours(n bigint) RETURNS text LANGUAGE sql IMMUTABLE RETURN (1800000000000000000 + n * 104729)::text;
-- The time of the n-th of so many that are spread over the last days, the last a few minutes ago.
CREATE FUNCTION pg_temp.spread(n bigint, total bigint, days double precision) RETURNS timestamptz LANGUAGE sql STABLE
RETURN now() - interval '5 minutes' - (total - n) * (make_interval(secs => days * 86400) / total);
-- A day's partition is made, as the program makes it, where a row of the day lies in the rest.
CREATE FUNCTION pg_temp.make_days(parent text, by_column text) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    PERFORM fleet.make_partitions(parent);
    EXECUTE format('DELETE FROM fleet.%I WHERE %I < now()', parent, by_column);
END $$;

INSERT INTO fleet.accounts (name, platform, api_url, sandbox, topics, changed_at, tier, platform_user_id, handle)
SELECT name, 'x', 'http://127.0.0.1:1', true, '{gardens,databases}', now(), 'enterprise', id, name
FROM (VALUES ('busy', '101'), ('second', '102'), ('third', '103')) a (name, id);
SELECT fleet.ensure_worker(pg_temp.worker(n), 'of a busy year') FROM generate_series(0, 7) n;

-- Processes: 30 days.
INSERT INTO fleet.incarnations (id, worker, slot, host, pid, pid_started, boot_id, pid_namespace, started_at, ended_at, end_reason, died_at,
    death)
SELECT pg_temp.life(n), pg_temp.worker(n), 1, 'host-' || n % 3, 1000 + n, n::text, 'boot', '1', at, at + interval '3 hours', 'closed',
    at + interval '3 hours', 'its host saw it end'
FROM (SELECT n, pg_temp.spread(n - 64, 2400, 30) AS at FROM generate_series(0, 2399) n) l;
INSERT INTO fleet.heartbeats (incarnation, worker, slot, state, progress, progressed_at, beat_at, healthy, health, memory_bytes)
SELECT i.id, i.worker, 1, 'DRAINING', 1000, i.ended_at, i.ended_at, true, '{}', 30000000
FROM fleet.incarnations i WHERE i.ended_at > now() - interval '1 day';
INSERT INTO fleet.process_ends (host, boot_id, pid_namespace, pid, pid_started, worker, slot, exit_code, how, ended_at)
SELECT i.host, i.boot_id, i.pid_namespace, i.pid, i.pid_started, i.worker, 1, 0, 'exit 0', i.ended_at FROM fleet.incarnations i;
INSERT INTO fleet.commands (action, worker, requested_by, reason, requested_at, state, result, taken_at, finished_at)
SELECT 'restart', pg_temp.worker(n), 'a person', 'an upgrade', at, 'done', 'is READY', at, at
FROM (SELECT n, pg_temp.spread(n, 2000, 30) AS at FROM generate_series(1, 2000) n) c;
INSERT INTO fleet.command_parts (command, ordinal, action, worker, slot, host, state, result, taken_at, finished_at)
SELECT c.id, 1, 'restart', c.worker, 1, 'host-0', 'done', 'is READY', c.taken_at, c.finished_at FROM fleet.commands c;
INSERT INTO fleet.alerts (key, severity, kind, source, message, raised_at, last_at, cleared_at)
SELECT 'alert ' || n, 'warning', 'job_overdue', pg_temp.worker(n), 'a job takes longer than expected', at, at, at + interval '1 minute'
FROM (SELECT n, pg_temp.spread(n, 2000, 90) AS at FROM generate_series(1, 2000) n) a;

-- The ledger: for ever. Of 25 acts 22 were posted, one was rejected, one expired and one was cancelled.
INSERT INTO fleet.intents (account, action, target, content, text, state, reason, not_before, deadline, proposed_by, by_person, origin,
    attempt, platform_id, created_at, updated_at)
SELECT account, action, target, CASE action WHEN 'post' THEN 'slot:' || account || ':' || target ELSE target END,
    CASE action WHEN 'like' THEN '' ELSE 'What I found on gardens and databases, part ' || n || repeat(' and so on', 6) END, state,
    CASE state WHEN 'rejected' THEN 'policy: its author asked to be left alone' END, at, at + interval '1 day', pg_temp.worker(n) || '/1',
    false, jsonb_build_object('author_id', (n % 50000)::text, 'score', n % 100), CASE WHEN state IN ('posted', 'rejected') THEN 1 ELSE 0 END,
    CASE WHEN state = 'posted' THEN CASE action WHEN 'like' THEN target ELSE pg_temp.ours(n) END END, at, at + interval '1 minute'
FROM (SELECT n, at, action, pg_temp.account(n / 10) AS account, CASE action WHEN 'post' THEN 'plan:' || n ELSE pg_temp.theirs(n) END AS target,
        CASE WHEN n % 25 < 22 THEN 'posted' WHEN n % 25 = 22 THEN 'rejected' WHEN n % 25 = 23 THEN 'expired' ELSE 'cancelled' END AS state
    FROM (SELECT n, pg_temp.spread(n, total, 365) AS at,
            CASE WHEN n % 10 < 2 THEN 'post' WHEN n % 10 < 7 THEN 'reply' WHEN n % 10 < 9 THEN 'like' ELSE 'quote' END AS action
        FROM (SELECT pg_temp.rows_of(360000) AS total) t, generate_series(1, t.total) n) a) i;
-- What waits: later today, for a person's approval, and for a person who looks on the platform.
INSERT INTO fleet.intents (account, action, target, content, text, state, not_before, proposed_by, by_person, origin, attempt, created_at,
    updated_at)
SELECT pg_temp.account(n), 'post', 'later:' || n, 'slot:' || pg_temp.account(n) || ':later:' || n, 'Good evening',
    CASE WHEN n <= 24 THEN 'ready' WHEN n <= 34 THEN 'awaiting_approval' ELSE 'parked' END, now() + n * interval '10 minutes', 'planner/1',
    false, '{}', (n > 34)::integer, now(), now()
FROM generate_series(1, 40) n;
INSERT INTO fleet.attempts (intent, attempt, incarnation, worker_id, fencing_token, grant_id, began_at, began_real_at, settled_at, outcome,
    status, headers)
SELECT i.id, 1, pg_temp.life(i.id), 'poster/1', i.id, i.id, i.created_at, i.created_at, i.updated_at, i.state,
    CASE i.state WHEN 'posted' THEN 201 ELSE 403 END,
    jsonb_build_object('x-rate-limit-limit', '100', 'x-rate-limit-remaining', (i.id % 100)::text, 'platform_id', i.platform_id)
FROM fleet.intents i WHERE i.state IN ('posted', 'rejected');
INSERT INTO fleet.intent_transitions (intent, from_state, to_state, at, real_at, incarnation, fencing_token, attempt, actor)
SELECT i.id, step.before, step.after, i.created_at, i.created_at, CASE WHEN step.after <> 'ready' THEN pg_temp.life(i.id) END,
    CASE WHEN step.after <> 'ready' THEN i.id END, i.attempt, i.proposed_by
FROM fleet.intents i, LATERAL (VALUES (NULL, 'ready', 0), ('ready', 'claimed', 1), ('claimed', 'sending', 1), ('sending', i.state, 1),
    ('ready', i.state, 2)) step (before, after, way)
WHERE step.way IN (0, 2 - i.attempt) AND i.state IS DISTINCT FROM step.before ORDER BY i.id, step.way;
INSERT INTO fleet.engagements (content, action, account, worker_id, incarnation, intent, success, engaged_at)
SELECT i.content, i.action, i.account, 'poster/1', pg_temp.life(i.id), i.id, i.state = 'posted', i.updated_at
FROM fleet.intents i WHERE i.state IN ('posted', 'rejected') ORDER BY i.id;
INSERT INTO fleet.engagements (content, action, worker_id, incarnation, success, engaged_at)
SELECT pg_temp.theirs(n), 'analysis', 'engagement/1', pg_temp.life(n), true, pg_temp.spread(n, total, 365)
FROM (SELECT pg_temp.rows_of(360000) AS total) t, generate_series(1, t.total) n;
INSERT INTO fleet.tracked_posts (account, platform_id, intent, posted_at, readings, next_reading_at)
SELECT i.account, i.platform_id, i.id, i.created_at, 4, greatest(i.created_at + interval '90 days', now() + interval '1 hour')
FROM fleet.intents i WHERE i.platform_id IS NOT NULL AND i.action <> 'like';
INSERT INTO fleet.readings (account, platform_id, number, read_at, metrics)
SELECT t.account, t.platform_id, number, t.posted_at + number * interval '15 minutes', '{"like_count": 12, "reply_count": 3, "impression_count": 840}'
FROM fleet.tracked_posts t, generate_series(1, 4) number;
SELECT setval('fleet.fencing_token', 1000000000);

-- What happened: events and runs of 30 days, the audit for ever.
INSERT INTO fleet.audits (at, actor, login, action, target, reason, details)
SELECT pg_temp.spread(n, total, 365), 'a person', 'fleet_console', 'approve', 'intent ' || n, 'it is fine', '{}'
FROM (SELECT pg_temp.rows_of(30000) AS total) t, generate_series(1, t.total) n;
INSERT INTO fleet.events (at, severity, kind, source, message, data)
SELECT pg_temp.spread(n, total, 30), 'info', 'posted', pg_temp.worker(n) || '/1', 'posted reply ' || n || ' to ' || pg_temp.theirs(n),
    jsonb_build_object('intent', n::text)
FROM (SELECT pg_temp.rows_of(300000) AS total) t, generate_series(1, t.total) n;
INSERT INTO fleet.runs (worker, slot, incarnation, step, trace_id, started_at, started_real_at, outcome)
SELECT 'planner', 1, pg_temp.life(day), 'step', 'day', now() - day * interval '1 day', now(), 'done' FROM generate_series(1, 30) day;
SELECT pg_temp.make_days('runs', 'started_at');
INSERT INTO fleet.runs (worker, slot, incarnation, step, trace_id, started_at, started_real_at, ended_real_at, outcome, items,
    items_per_minute, job, attempt, wait_s)
SELECT pg_temp.worker(n), 1, pg_temp.life(n), CASE WHEN n % 3 = 0 THEN 'step' ELSE 'analyse' END, md5(n::text), at, at, at + interval '1 second',
    'done', 1, 60, CASE WHEN n % 3 > 0 THEN n END, CASE WHEN n % 3 > 0 THEN 1 END, CASE WHEN n % 3 > 0 THEN 0.1 END
FROM (SELECT n, pg_temp.spread(n, total, 30) AS at
    FROM (SELECT pg_temp.rows_of(450000) AS total) t, generate_series(1, t.total) n) r;
INSERT INTO fleet.failed_items (worker, item, attempts, error_class, error, first_failed_at, last_failed_at, dead_at)
SELECT pg_temp.worker(n), 'item ' || n, 3, 'ValueError', 'it could not be read', at, at, at
FROM (SELECT n, pg_temp.spread(n, 2000, 180) AS at FROM generate_series(1, 2000) n) f;
INSERT INTO fleet.health_snapshots (taken_at, status, report)
SELECT pg_temp.spread(n, 2160, 90), 'healthy', '{"workers": 8}' FROM generate_series(1, 2160) n;

-- Jobs: what ended within a week, and what waits, half of it for later.
INSERT INTO fleet.jobs_finished (id, kind, payload, priority, run_at, state, attempts, max_attempts, errors, created_at, finished_at)
SELECT 0, 'analyse', '{}', 'medium', now(), 'completed', 1, 5, '[]', now(), now() - day * interval '1 day' FROM generate_series(1, 7) day;
SELECT pg_temp.make_days('jobs_finished', 'finished_at');
INSERT INTO fleet.jobs_finished (id, kind, payload, priority, run_at, state, attempts, max_attempts, errors, created_at, finished_at)
SELECT n, 'analyse', jsonb_build_object('post', pg_temp.theirs(n)), 'medium', at, 'completed', 1, 5, '[]', at, at + interval '1 second'
FROM (SELECT n, pg_temp.spread(n, total, 7) AS at
    FROM (SELECT pg_temp.rows_of(150000) AS total) t, generate_series(1, t.total) n) j;
INSERT INTO fleet.jobs (id, kind, payload, priority, rank, run_at, state, max_attempts, created_at, order_at)
OVERRIDING SYSTEM VALUE
SELECT 10000000 + n, 'report', '{}', 'medium', 2, at, 'available', 5, now(), fleet.job_order(at, 2)
FROM (SELECT n, now() + (n - 2500) * interval '1 minute' AS at FROM generate_series(1, 5000) n) j;
SELECT setval(pg_get_serial_sequence('fleet.jobs', 'id'), 20000000);

-- Messages of a week, mentions of 90 days, candidates of a week.
INSERT INTO fleet.messages (type, sender, recipient_kind, recipient, routed_to, priority, rank, payload, sent_at, expires_at, state,
    attempts, max_attempts, due_at, finished_at, waited_s, dedupe_key)
SELECT 'TASK_DELEGATION', 'mentions', 'worker', 'engagement', 'engagement', 'medium', 2, '{"kind": "analyse_post", "post": "1"}', at,
    at + interval '1 hour', 'acknowledged', 1, 5, at, at + interval '1 second', 0.01, 'mention:' || n
FROM (SELECT n, pg_temp.spread(n, total, 7) AS at
    FROM (SELECT pg_temp.rows_of(40000) AS total) t, generate_series(1, t.total) n) m;
INSERT INTO fleet.interactions (account, platform_id, author_id, handle, text, conversation_id, kind, summons, request, state, reason,
    posted_at, seen_at, due_at, settled_at)
SELECT pg_temp.account(n), pg_temp.theirs(n), (n % 5000)::text, 'someone', '@busy what do you think?', pg_temp.theirs(n / 3), 'direct', true,
    'answer', CASE WHEN n % 2 = 0 THEN 'answered' ELSE 'ignored' END, 'done', at, at, at, at + interval '1 minute'
FROM (SELECT n, pg_temp.spread(n, total, 90) AS at
    FROM (SELECT pg_temp.rows_of(40000) AS total) t, generate_series(1, t.total) n) i;
INSERT INTO fleet.candidates (account, platform_id, author_id, handle, text, topic, origin, posted_at, found_at, scored_at, metrics, score,
    parts, state, decided_at)
SELECT pg_temp.account(n), pg_temp.theirs(n), (n % 5000)::text, 'someone', 'On gardens and databases', 'gardens', 'search', at, at, at, '{}',
    n % 101, '{}', CASE WHEN n > total - 100 THEN 'waiting' WHEN n % 10 = 0 THEN 'proposed' ELSE 'given_up' END,
    CASE WHEN n <= total - 100 THEN at END
FROM (SELECT n, total, pg_temp.spread(n, total, 7) AS at
    FROM (SELECT pg_temp.rows_of(40000) AS total) t, generate_series(1, t.total) n) c;
INSERT INTO fleet.opt_outs (platform, author_id, handle, account, platform_id, words, opted_out_at)
SELECT 'x', (1000000 + n)::text, 'someone', 'busy', pg_temp.theirs(n), 'leave me alone', pg_temp.spread(n, 2000, 365)
FROM generate_series(1, 2000) n;
INSERT INTO fleet.conflicts (key, kind, thing, contenders, strategy, state, winner, reason, asked_by, asked_at, decided_by, decided_at, took_s)
SELECT 'conflict ' || n, 'resource', 'content 1', '[]', 'priority', 'decided', 'poster', 'it came first', 'poster', at, 'coordination', at, 0.1
FROM (SELECT n, pg_temp.spread(n, 2000, 90) AS at FROM generate_series(1, 2000) n) c;

-- Requests of a week, money of a year, reservations of a week.
INSERT INTO fleet.rate_grants (account, endpoint, incarnation, worker_id, priority, granted_at, granted_real_at, settled_at, success, frees_at)
SELECT 'busy', (ARRAY['search_tweets', 'fetch_mentions', 'post_tweet', 'get_tweets'])[1 + n % 4], pg_temp.life(n), pg_temp.worker(n) || '/1',
    'medium', at, at, at + interval '1 second', true, at + interval '1 day'
FROM (SELECT n, pg_temp.spread(n, total, 7) AS at
    FROM (SELECT pg_temp.rows_of(40000) AS total) t, generate_series(1, t.total) n) g;
INSERT INTO fleet.budget_holds (account, endpoint, amount_usd, actual_usd, purpose, incarnation, worker_id, state, held_at, expires_at,
    ended_at, ended_by)
SELECT 'busy', 'search_tweets', 0.01, 0.01, 'a search', pg_temp.life(n), 'discovery/1', 'spent', at, at + interval '2 minutes', at, 'discovery/1'
FROM (SELECT n, pg_temp.spread(n, total, 365) AS at
    FROM (SELECT pg_temp.rows_of(250000) AS total) t, generate_series(1, t.total) n) h;
INSERT INTO fleet.budget_hold_periods (hold, kind, name, period, starts_at)
SELECT h.id, b.kind, b.name, p.period, fleet.budget_start(p.period, h.held_at)
FROM fleet.budget_holds h, (VALUES ('total', ''), ('endpoint', 'search_tweets')) b (kind, name), (VALUES ('day'), ('month')) p (period);
INSERT INTO fleet.budgets (account, kind, name, period, limit_usd, changed_by, reason, changed_at)
SELECT 'busy', b.kind, b.name, p.period, 1000000, 'a person', 'a year of searches', now()
FROM (VALUES ('total', ''), ('endpoint', 'search_tweets'), ('endpoint', 'post_tweet'), ('model', 'small'), ('model', 'large')) b (kind, name),
    (VALUES ('day'), ('month')) p (period);
INSERT INTO fleet.budget_periods (account, kind, name, period, starts_at, ends_at, spent_usd)
SELECT DISTINCT b.account, b.kind, b.name, b.period, at, fleet.budget_end(b.period, at), 1
FROM fleet.budgets b, generate_series(0, 365) day, fleet.budget_start(b.period, now() - day * interval '1 day') at;
INSERT INTO fleet.reservations (id, resource_type, resource_id, units, need, incarnation, worker_id, priority, reserved_at, lease_expires_at,
    waited_s, estimated_s, ended_at, end_reason)
SELECT n, 'content', 'content_pipeline', 1, 1, pg_temp.life(n), 'engagement/1', 'medium', at, at + interval '30 minutes', 1, 1,
    at + interval '1 minute', 'released'
FROM (SELECT n, pg_temp.spread(n, total, 7) AS at
    FROM (SELECT pg_temp.rows_of(20000) AS total) t, generate_series(1, t.total) n) r;

-- Locks: how requests for them ended in 30 days, and leases that ran out and were not swept yet.
INSERT INTO fleet.lock_measures (counted_at, incarnation, granted, acquire_s)
SELECT date_bin('5 minutes', pg_temp.spread(n / 8, total / 8 + 1, 30), 'epoch'), md5('life ' || n % 8)::uuid, 12, 0.1
FROM (SELECT pg_temp.rows_of(70000) AS total) t, generate_series(1, t.total) n
ON CONFLICT DO NOTHING;
INSERT INTO fleet.engagement_locks (content, lock_type, priority, incarnation, worker_id, fencing_token, acquired_at, lease_expires_at)
SELECT pg_temp.theirs(n), 'reply', 'medium', pg_temp.life(n), 'engagement/1', n, now() - interval '1 hour', now() - interval '45 minutes'
FROM generate_series(1, 2000) n;

-- Schedules keep 40 days of slots; settings and flags every change; the cache what is fresh.
INSERT INTO fleet.schedules (name, interval_s, last_slot_at, next_slot_at, fired, worker)
SELECT pg_temp.worker(n), 600, now(), now() + interval '10 minutes', 5760, pg_temp.worker(n) FROM generate_series(0, 7) n;
INSERT INTO fleet.schedule_slots (schedule, slot_at, incarnation, fired_at, skipped_before)
SELECT pg_temp.worker(n), at, pg_temp.life(n), at, 0
FROM (SELECT n, pg_temp.spread(n, total, 40) AS at
    FROM (SELECT pg_temp.rows_of(46000) AS total) t, generate_series(1, t.total) n) s;
INSERT INTO fleet.configuration_history (kind, name, version, value, changed_by, reason, changed_at)
SELECT 'setting', 'engagement_window_hours', nextval('fleet.configuration_version'), '24', 'a person', 'to see', pg_temp.spread(n, 2000, 365)
FROM generate_series(1, 2000) n;
INSERT INTO fleet.state (namespace, key, value, version, changed_by, incarnation, changed_at)
SELECT 'fleet', 'key ' || n, '{"n": 1}', nextval('fleet.state_version'), 'planner/1', pg_temp.life(n), now() FROM generate_series(1, 5000) n;
INSERT INTO fleet.cache (namespace, key, value, bytes, stored_at, expires_at, stale_until)
SELECT 'posts', 'post ' || n, '{"text": "On gardens"}', 22, now(), now() + interval '1 day', now() + interval '1 day'
FROM generate_series(1, 5000) n;
